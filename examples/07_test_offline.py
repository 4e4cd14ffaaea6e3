"""Testing an agent offline: a strict simulator of the API answers over real HTTP, by a script.

Run: python -m pytest examples/07_test_offline.py
"""

from agentkit import Agent, tool
from agentkit.testing import Failure, call


@tool
def get_weather(city: str) -> str:
    """Current weather in a city."""
    return f"18 °C and sunny in {city}"


def make_agent() -> Agent:
    """The agent under test; it reads the server's address from the environment, which the fixture sets."""
    return Agent(tools=[get_weather])


def test_the_tool_is_called_and_its_result_is_used(deepseek):
    simulator = deepseek([call("get_weather", city="Paris"), "Sunny, 18 °C."])
    result = make_agent().run_sync("Weather in Paris?")
    assert result.output == "Sunny, 18 °C."
    assert simulator.requests[1].messages[-1]["content"] == "18 °C and sunny in Paris"


def test_a_busy_server_is_asked_again(deepseek):
    simulator = deepseek([Failure(status=503, message="Service is too busy."), "Here I am."])
    assert make_agent().run_sync("Hello?").output == "Here I am."
    assert len(simulator.requests) == 2
