"""OpenAI Agents SDK: `session=SQLiteSession("ann", "chats.db")`. Here a conversation is a file, saved and loaded."""

from agentkit import Agent, load_messages

agent = Agent(instructions="You remember what people like.")
for said in ("I like trains.", "What do I like?"):
    result = agent.run_sync(said, messages=load_messages("ann.json"))  # none, as long as there is no such file
    result.save("ann.json")
    print(result.output)
