from agentkit import Agent
from agentkit.team import handoff

refunds = handoff(Agent(name="refunds", instructions="You give money back."), when="money")
orders = handoff(Agent(name="orders", instructions="You know where orders are."), when="a delivery")
triage = Agent(instructions="Hand over to the right team.", tools=[refunds, orders])
print(triage.run_sync("I want my money back.").output)
