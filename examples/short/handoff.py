from agentkit import Agent
from agentkit.team import handoff

refunds = Agent(name="refunds", instructions="You give money back.")
orders = Agent(name="orders", instructions="You know where orders are.")
teams = [handoff(refunds, when="money"), handoff(orders, when="a delivery")]
triage = Agent(name="triage", instructions="Hand over to the right team.", tools=teams)
print(triage.run_sync("I want my money back.").output)
