from agentkit import Agent

for item in Agent(instructions="Translate to French.").map_sync(["tea", "milk"]):
    print(item.input, item.output)
