"""OpenAI Agents SDK: `agent.as_tool(...)` of an orchestrator. Here what the inner agents spend counts in the outer run."""

from agentkit import Agent, Limits

cook = Agent(instructions="You know recipes. Answer with a list of ingredients.")
shopper = Agent(instructions="You know prices. Answer with the price of each thing.")

planner = Agent(
    instructions="Plan a meal. Ask the cook what is needed, and the shopper what it costs.",
    tools=[cook.as_tool("ask_cook", "Ingredients of a dish."), shopper.as_tool("ask_shopper", "Prices of things.")],
    limits=Limits(output_tokens=10_000),
)

result = planner.run_sync("What does an omelette cost?")
print(result.output)
print(result.usage.requests, "requests of all three agents")
