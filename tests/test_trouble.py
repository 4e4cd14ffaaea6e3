"""The trouble matrix: what goes wrong every day, against the simulator over HTTP, streamed and not."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import Agent, Assistant, ChatModel, EndpointWarning, Limits, Retry, RunResult, ToolCall, ToolFinished, tool
from agentkit.models.profiles import DEEPSEEK, Profile
from agentkit.testing import DeepSeekSimulator, Failure, Raw, Reply, call
from tests.kit import How, Simulate

SECRET = "sk-" + "a1B2" * 8
ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@tool
async def weather(city: str, unit: str = "c") -> str:
    """Current weather in a city."""
    ran.append(city)
    return f"18 degrees {unit} in {city}"


@tool
def clock() -> str:
    """The time."""
    ran.append("clock")
    return "noon"


@tool
def broken() -> str:
    """Always fails."""
    raise RuntimeError(f"cannot open https://bob:{SECRET}@db.example/x")


def agent_for(sim: DeepSeekSimulator, *, profile: Profile | None = None, **options: Any) -> Agent[Any]:
    options.setdefault("tools", [weather, clock, broken])
    options.setdefault("retry", Retry(first=0, longest=0))
    return Agent(ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile=profile or DEEPSEEK), **options)


def raw_call(text: str, name: str = "weather") -> Assistant:
    return Assistant("", "I need it.", (ToolCall("", name, text),))


def told(result: RunResult[Any]) -> list[str]:
    return [event.result.content for event in result.events if isinstance(event, ToolFinished)]


def repairs(result: RunResult[Any]) -> list[str]:
    return [repair for event in result.events if isinstance(event, ToolFinished) for repair in event.repairs]


def test_thinking_text_goes_back_after_calls(how: How, simulate: Simulate) -> None:
    sim = simulate([Assistant("", "First the clock.", (call("clock"),)), "Noon."])
    assert how(agent_for(sim), "Time?").output == "Noon."
    assert sim.requests[1].body["messages"][-2]["reasoning_content"] == "First the clock."


def test_an_unknown_tool_is_told_with_the_nearest_name_first(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate([call("wether", city="Paris"), call("weather", city="Paris"), "18."])), "?")
    assert told(result)[0] == "error: there is no tool 'wether'; the tools are: weather, clock, broken"
    assert (result.output, ran) == ("18.", ["Paris"])


def test_a_tool_name_with_the_prefix_of_a_template_is_the_tool(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate([call("functions.weather", city="Paris"), "18."])), "?")
    assert (result.output, ran) == ("18.", ["Paris"])


def test_a_trailing_comma_is_mended_and_recorded(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate([raw_call('{"city": "Paris",}'), "18."])), "?")
    assert (result.output, ran, repairs(result)) == ("18.", ["Paris"], ["trailing comma"])


def test_a_wrong_argument_name_is_told_with_the_known_ones(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate([call("weather", town="Paris"), call("weather", city="Paris"), "18."])), "?")
    assert "town: unknown parameter; known: city, unit" in told(result)[0] and ran == ["Paris"]


def test_empty_arguments_for_a_tool_without_parameters(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate([raw_call("", "clock"), "Noon."])), "?")
    assert (result.output, ran) == ("Noon.", ["clock"])


def test_an_exception_is_told_without_its_secret(how: How, simulate: Simulate) -> None:
    sim = simulate([call("broken"), "It does not work."])
    result = how(agent_for(sim), "?")
    assert result.output == "It does not work."
    assert told(result)[0].startswith("error: RuntimeError: cannot open")
    assert SECRET not in json.dumps(sim.requests[1].body)
    finished = next(event for event in result.events if isinstance(event, ToolFinished))
    assert finished.error and SECRET not in finished.error, "nor is anybody else"
    assert "Traceback" in finished.error and "RuntimeError: cannot open https://[redacted]@db.example/x" in finished.error


def test_endless_calls_end_at_the_limit_with_the_work_kept(how: How, simulate: Simulate) -> None:
    sim = simulate(lambda request: call("weather", city=f"city {len(request.messages)}"))
    result = how(agent_for(sim, limits=Limits(steps=4)), "?")
    assert (result.stop_reason, result.steps) == ("limit:steps", 4)
    assert [m.role for m in result.messages] == ["user", *["assistant", "tool"] * 4]


class City(BaseModel):
    name: str
    people: int


def test_typed_output_where_json_schema_is_refused(how: How, simulate: Simulate) -> None:
    sim = simulate([call("final_answer", name="Paris", people="2")])
    result = how(agent_for(sim, output_type=City), "?")
    assert result.output == City(name="Paris", people=2)


def test_429_with_retry_after(how: How, simulate: Simulate) -> None:
    busy = Failure(429, "Too many requests.", type="rate_limit_error", headers={"Retry-After": "0"})
    assert how(agent_for(simulate([busy, busy, "Here."])), "?").output == "Here."


@pytest.mark.parametrize("choice", ["required", "weather"])
def test_a_forced_choice_is_met_and_then_free(how: How, simulate: Simulate, choice: str) -> None:
    sim = simulate([call("weather", city="Paris"), "18."])
    assert how(agent_for(sim, tool_choice=choice), "?").output == "18."
    assert sim.requests[0].body["thinking"] == {"type": "disabled"}, "DeepSeek refuses a forced choice while thinking"
    assert sim.requests[1].body["tool_choice"] == "auto"


def test_a_forced_choice_that_the_server_does_not_enforce_is_asked_for_once(how: How, simulate: Simulate) -> None:
    sim = simulate(["No.", call("weather", city="Paris"), "18."])
    result = how(agent_for(sim, tool_choice="weather"), "?")
    assert (result.output, ran) == ("18.", ["Paris"])
    assert sim.requests[1].body["messages"][-1]["content"] == "Call the tool weather now."


def test_cache_hits_and_usage_are_counted(how: How, simulate: Simulate) -> None:
    sim = simulate([call("weather", city="Paris"), "18."])
    usage = how(agent_for(sim, instructions="Be exact. " * 100), "?").usage
    assert usage.requests == 2 and usage.input_tokens > usage.cache_read_tokens > 0 and usage.output_tokens > 0


def test_repeated_ids_become_unique_and_answers_stay_with_their_calls(how: How, simulate: Simulate) -> None:
    same = [Assistant("", "", (ToolCall("call_0", "weather", json.dumps({"city": city})),)) for city in ("Paris", "Rome")]
    sim = simulate([*same, "Done."])
    result = how(agent_for(sim), "?")
    ids = [c.id for m in result.messages if isinstance(m, Assistant) for c in m.tool_calls]
    assert len(set(ids)) == 2 and ran == ["Paris", "Rome"]
    assert [content.rpartition(" ")[2] for content in told(result)] == ["Paris", "Rome"]


def test_calls_with_finish_reason_stop_are_run(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate([Reply(call("weather", city="Paris"), "stop"), "18."])), "?")
    assert (result.output, ran) == ("18.", ["Paris"])


@pytest.mark.parametrize("style", ["in_turn", "interleaved", "index_zero", "empty_ids", "objects"])
def test_parallel_calls_in_every_style(how: How, simulate: Simulate, style: Any) -> None:
    both = Reply([call("weather", city="Paris"), call("weather", city="Rome", unit="f")], calls=style)
    result = how(agent_for(simulate([both, "Done."])), "?")
    assert told(result) == ["18 degrees c in Paris", "18 degrees f in Rome"]


def test_text_and_calls_together(how: How, simulate: Simulate) -> None:
    sim = simulate([Assistant("Let me see.", "", (call("weather", city="Paris"),)), "18."])
    result = how(agent_for(sim), "?")
    assert result.output == "18." and sim.requests[1].body["messages"][1]["content"] == "Let me see."


def test_thinking_without_an_answer_is_asked_again(how: How, simulate: Simulate) -> None:
    sim = simulate([Assistant("", "I could answer now."), "Here."])
    assert how(agent_for(sim), "?").output == "Here." and len(sim.requests) == 2


def test_calls_as_markup_in_the_text_are_calls(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate("dsml"), tools=[weather]), "?")
    assert result.output == "The answer is: 18 degrees c in Paris"
    first = next(m for m in result.messages if isinstance(m, Assistant))
    assert "DSML" not in first.text and len(first.tool_calls) == 1


def test_markup_that_does_not_end_is_asked_again_and_never_run(how: How, simulate: Simulate) -> None:
    open_end = '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">Par'
    sim = simulate([open_end, "No call."])
    result = how(agent_for(sim), "?")
    assert (result.output, ran, len(sim.requests)) == ("No call.", [], 2)


def test_a_call_as_json_in_the_text_is_never_run_and_hints_at_the_template(how: How, simulate: Simulate) -> None:
    text = '{"name": "weather", "arguments": {"city": "Paris"}}'
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = how(agent_for(simulate([text])), "?")
    assert (result.output, ran) == (text, [])
    assert [w.category for w in seen] == [EndpointWarning] and "chat template" in str(seen[0].message)


def test_a_call_that_was_cut_is_not_run(how: How, simulate: Simulate) -> None:
    cut = Reply(ToolCall("", "weather", '{"city": "Paris"}'), "length")
    result = how(agent_for(simulate([cut, "Never mind."])), "?")
    assert (result.output, ran) == ("Never mind.", [])


def test_a_name_that_servers_do_not_take_goes_there_and_back(how: How, simulate: Simulate) -> None:
    odd = tool(weather, name="maps/weather now")
    sim = simulate(lambda request: call(request.tools[0]["name"], city="Paris") if request.last["role"] == "user" else "18.")
    result = how(agent_for(sim, tools=[odd]), "?")
    assert (result.output, ran) == ("18.", ["Paris"])
    assert sim.requests[0].tools[0]["name"].startswith("maps_weather_now_")
    assert [c.name for m in result.messages if isinstance(m, Assistant) for c in m.tool_calls] == ["maps/weather now"]


def test_a_stream_that_ends_after_the_name_of_a_call_is_no_call(simulate: Simulate) -> None:
    chunk = {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "clock", "arguments": ""}}]}}]}
    cut = Raw(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")
    sim = simulate([cut, "Nothing."])
    result = list(agent_for(sim).stream_sync("?"))[-1]
    assert (result.result.output, ran) == ("Nothing.", [])  # type: ignore[union-attr]


@tool(max_output=1000)
def report(size: int) -> str:
    """A long report."""
    return "a" * (size // 2) + "z" * (size // 2)


def test_a_result_that_is_too_large_is_told_by_its_ends_and_kept_whole(how: How, simulate: Simulate) -> None:
    result = how(agent_for(simulate([call("report", size=1000), call("report", size=50_000), "Long."]), tools=[report]), "?")
    short, long = [event for event in result.events if isinstance(event, ToolFinished)]
    assert (len(short.result.content), short.output) == (1000, None)
    assert long.output == report(50_000)
    marker = "\n[... 49,000 of 50,000 characters are left out here ...]\n"
    assert long.result.content == "a" * 750 + marker + "z" * 250


def test_an_answer_is_not_rewritten_by_a_later_call_that_changes_the_object(how: How, simulate: Simulate) -> None:
    basket: list[str] = []

    @tool
    def put(item: str) -> list[str]:
        """Put it in."""
        basket.append(item)
        return basket

    both = [call("put", item="a"), call("put", item="b")]
    result = how(agent_for(simulate([both, "Done."]), tools=[put]), "?")
    assert told(result) == ['["a"]', '["a","b"]']


def test_a_result_that_json_cannot_hold_is_told_and_the_run_goes_on(how: How, simulate: Simulate) -> None:
    @tool
    def handle() -> Any:
        """An open thing."""
        return object()

    @tool
    def ratio() -> float:
        """Not a number."""
        return float("nan")

    result = how(agent_for(simulate([[call("handle"), call("ratio")], "Hm."]), tools=[handle, ratio]), "?")
    assert result.output == "Hm." and "returned an object, which JSON cannot hold" in told(result)[0]
    assert told(result)[1] == '"NaN"'
