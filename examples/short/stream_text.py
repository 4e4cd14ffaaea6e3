from agentkit import Agent

for text in Agent().stream_text_sync("Tell me a story."):
    print(text, end="", flush=True)
