from hello_tool import get_weather

from agentkit import Agent, ScriptedModel
from agentkit.testing import call


def test_weather():
    result = Agent(ScriptedModel([call("get_weather", city="Paris"), "Sunny."]), tools=[get_weather]).run_sync("Paris?")
    assert result.output == "Sunny." and result.messages[2].content == "sunny in Paris"
