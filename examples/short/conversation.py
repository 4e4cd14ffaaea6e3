from agentkit import Agent, load_messages

result = Agent().run_sync(input("> "), messages=load_messages("chat.json"))
print(result.output)
result.save("chat.json")
