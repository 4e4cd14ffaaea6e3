"""OpenAI Agents SDK: `handoffs=[...]` of a triage agent. Here a hand-off is a tool, and `when` says in which cases."""

from agentkit import Agent
from agentkit.team import handoff

plumber = Agent(name="plumber", instructions="You answer questions about water and heating.")
electrician = Agent(name="electrician", instructions="You answer questions about lamps and sockets.")
triage = Agent(
    name="triage",
    instructions="Hand over to the craftsman who knows.",
    tools=[handoff(plumber, when="water or heating"), handoff(electrician, when="electricity")],
)

result = triage.run_sync("My tap drips.")
print(result.output)
