from agentkit import Agent


def get_weather(city: str) -> str:
    return f"sunny in {city}"


print(Agent(tools=[get_weather]).run_sync("What is the weather in Paris?").output)
