"""Limits: what is refused, and what stops the next call."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    Limits,
    ModelReplied,
    ModelRetry,
    RunStarted,
    RunState,
    ScriptedModel,
    SettingsError,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    User,
    tool,
)
from agentkit.events import ToolFinished, ToolStarted
from agentkit.models.scripted import call
from agentkit.run.limits import Limits as SameLimits
from tests.kit import tool_texts


def after(*replies: ModelReplied) -> RunState:
    return RunState.replay([RunStarted("r", (User("hi"),)), *replies])


def looping(*results: str) -> RunState:
    """A state after one call per result, all with the same arguments."""
    state = RunState.replay([RunStarted("r", (User("hi"),))])
    for number, text in enumerate(results):
        call = ToolCall(f"c{number}", "f", '{"x": 1}')
        state.apply(ModelReplied(Assistant(tool_calls=(call,)), Usage(requests=1)))
        state.apply(ToolStarted(call, number))
        state.apply(ToolFinished(call, ToolResult(call.id, "f", text)))
    return state


REPLY = ModelReplied(Assistant("x"), Usage(1, 100, 10), cost=0.5)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(), None),
        (Limits(steps=1), "limit:steps"),
        (Limits(steps=2), None),
        (Limits(steps=None), None),
        (Limits(input_tokens=210), "limit:input_tokens"),  # 100 used, and a next prompt of at least 110
        (Limits(input_tokens=211), None),
        (Limits(output_tokens=10), "limit:output_tokens"),
        (Limits(output_tokens=11), None),
        (Limits(cost=0.5), "limit:cost"),
        (Limits(cost=0.51), None),
        (Limits(repeats=1), None),
        (Limits(steps=1, cost=0), "limit:steps"),
    ],
    ids=str,
)
def test_a_limit_is_checked_before_the_call_that_breaks_it(limits: Limits, reason: str | None) -> None:
    assert limits.before_model_call(after(REPLY)) == reason


def test_zero_allows_no_model_call_at_all() -> None:
    zero = {"steps": Limits(steps=0), "input_tokens": Limits(input_tokens=0), "cost": Limits(cost=0)}
    assert {name: limits.before_model_call(after()) for name, limits in zero.items()} == {n: f"limit:{n}" for n in zero}


def test_an_unknown_price_counts_as_nothing() -> None:
    unknown = after(ModelReplied(Assistant("x"), Usage(1, 100, 10), cost=None))
    assert unknown.cost is None
    assert Limits(cost=0.01).before_model_call(unknown) is None


@pytest.mark.parametrize(
    ("results", "repeats"),
    [
        ([], 0),
        (["a"], 1),
        (["a", "a"], 2),
        (["a", "a", "a"], 3),
        (["a", "a", "b"], 2),  # another result is another exchange
        (["a", "b", "c"], 1),
        (["a", "b", "a", "b"], 2),  # a loop of two
    ],
)
def test_the_loop_detector_counts_the_same_call_with_the_same_result(results: list[str], repeats: int) -> None:
    state = looping(*results)
    assert state.repeats == repeats
    assert Limits(repeats=repeats + 1).before_model_call(state) is None
    if repeats:
        assert Limits(repeats=repeats).before_model_call(state) == "limit:repeats"


@pytest.mark.parametrize("other", [ToolCall("z", "g", '{"x": 1}'), ToolCall("z", "f", '{"x": 2}')])
def test_another_call_does_not_count(other: ToolCall) -> None:
    state = looping("a", "a")
    state.apply(ModelReplied(Assistant(tool_calls=(other,)), Usage(requests=1)))
    state.apply(ToolFinished(other, ToolResult("z", other.name, "a")))
    assert state.repeats == 2


def test_the_loop_detector_sees_parallel_calls_and_other_white_space() -> None:
    model = ScriptedModel(
        [[ToolCall("", "look", '{"x":1,"y":2}'), call("other")], [ToolCall("", "look", '{ "y": 2, "x": 1 }'), call("other")]]
        * 5
    )

    def look(x: int, y: int) -> str:
        return "seen"

    def other() -> str:
        return "same"

    result = Agent(model, tools=[look, other], limits=Limits(repeats=3)).run_sync("go")
    assert (result.stop_reason, result.steps) == ("limit:repeats", 3)


@pytest.mark.parametrize(("limit", "left"), [(None, None), (5, 3), (2, 0), (1, 0)])
def test_tool_calls_left(limit: int | None, left: int | None) -> None:
    assert Limits(tool_calls=limit).tool_calls_left(looping("a", "b")) == left


@pytest.mark.parametrize("name", ["steps", "tool_calls", "input_tokens", "output_tokens", "cost", "seconds", "repeats"])
@pytest.mark.parametrize("value", [-1, -0.5, True, "3", float("nan")])
def test_a_value_that_is_no_limit_is_refused(name: str, value: Any) -> None:
    kind = "number" if name in ("cost", "seconds") else "whole number"
    with pytest.raises(SettingsError, match=re.escape(f"limits: {name} is {value!r}; allowed: None or a {kind} of at least 0")):
        SameLimits(**{name: value})


@pytest.mark.parametrize("name", ["steps", "tool_calls", "calls_per_reply", "concurrent_calls", "depth", "repeats", "refusals"])
@pytest.mark.parametrize("value", [1.5, 2.0, float("inf")])
def test_counts_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"limits: {name} is .*allowed: None or a whole number of at least [01]$"):
        SameLimits(**{name: value})


def test_an_unknown_way_to_end_is_refused() -> None:
    with pytest.raises(SettingsError, match="on_limit is 'explode'; allowed: stop, answer, raise"):
        Limits(on_limit="explode")  # type: ignore[arg-type]


@pytest.mark.parametrize("on_limit", ["stop", "answer"])
def test_a_refused_answer_beside_calls_beyond_the_limit_is_the_end_from_each_prefix(on_limit: Any) -> None:
    @tool(read_only=True)
    def look() -> str:
        """Look."""
        return "seen"

    def made() -> Agent[int]:
        script: list[Any] = [[call("look"), call("look"), call("final_answer", answer=1)], call("final_answer", answer=2)]
        said = ScriptedModel(lambda request: script[sum(m.role == "assistant" for m in request.messages)])
        agent = Agent(said, tools=[look], output_type=int, limits=Limits(tool_calls=1, on_limit=on_limit))

        @agent.output_validator
        def large(value: int) -> int:
            if value < 2:
                raise ModelRetry("too small")
            return value

        return agent

    whole = made().run_sync("go")
    answered = (2, 2) if on_limit == "answer" else (None, 1)
    assert (whole.stop_reason, whole.output, whole.steps) == ("limit:tool_calls", *answered)
    for cut in range(1, len(whole.events)):
        again = made().resume_sync(RunState.replay(whole.events[:cut]))
        assert (again.stop_reason, again.output, again.steps) == (whole.stop_reason, whole.output, whole.steps), cut


def test_limits_that_are_lowered_for_a_resume_take_the_started_calls_as_they_are() -> None:
    ran: list[int] = []

    @tool(approval=True)
    def pay(x: int) -> str:
        """Pay."""
        ran.append(x)
        return "paid"

    weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {}})
    agent = Agent(ScriptedModel([[call("pay", x=1), call("weigh")], "Done."]), tools=[pay, weigh])
    paused = agent.run_sync("go")
    first, second = paused.pending
    options: Any = {"approvals": {first.id: True}, "limits": Limits(tool_calls=1)}
    waiting = agent.resume_sync(paused.state, **options)
    assert ([waits.id for waits in waiting.pending], ran, waiting.usage.tool_calls) == ([second.id], [], 1)
    lower = Limits(calls_per_reply=1)
    fewer = agent.resume_sync(paused.state, approvals={first.id: False}, results={second.id: "3 kg"}, limits=lower)
    assert tool_texts(fewer.state)[1] == "3 kg", "a call that was started is not told to the model as one that was not"
