"""A function becomes a tool, and an agent calls it.

Run: AGENTKIT_API_KEY=... python examples/01_hello_tool.py
"""

from agentkit import Agent, tool


@tool
def get_weather(city: str) -> str:
    """Current weather in a city.

    Args:
        city: Name of the city, in English.
    """
    return f"18 °C and sunny in {city}"


if __name__ == "__main__":
    agent = Agent(instructions="You answer in one sentence.", tools=[get_weather])
    result = agent.run_sync("What is the weather in Paris?")
    print(result.output)
    print(f"{result.steps} steps, {result.usage.tool_calls} tool call, {result.usage.input_tokens} prompt tokens")
