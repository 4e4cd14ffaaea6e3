from agentkit import Agent, tool


def pay(amount: int) -> str:
    return f"paid {amount}"


agent = Agent(tools=[tool(pay, approval=True)])
paused = agent.run_sync("Pay 7 euros.")
print(agent.resume_sync(paused.state, {call.id: input(f"{call.arguments}? ") == "y" for call in paused.pending}).output)
