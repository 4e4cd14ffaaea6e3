"""LangChain: a checkpointer with a `thread_id`, and trimmed messages. Here the messages of the last result, and `KeepTurns`."""

from agentkit import Agent, Image, KeepTurns, Message

agent = Agent("deepseek-flash", instructions="You are a pen friend.", history=KeepTurns(20))
messages: list[Message] = []
while said := input("> "):
    photo = [Image.from_path(said)] if said.endswith(".png") else []  # content blocks: text and images in a list
    result = agent.run_sync([said, *photo], messages=messages)
    print(result.output)
    messages = list(result.messages)
