"""One tool call from the model's text to a rendered result, and which calls run together."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator

from agentkit import Middleware, ModelRetry, RunContext, ScriptedModel, Tool, ToolCall, ToolRegistry, ToolResult, tool
from agentkit.middleware import NextToolCall
from agentkit.run.execute import Outcome, describe_error, execute, plan, render, unknown_tool
from agentkit.run.spec import AgentSpec
from agentkit.run.state import OpenCall


def run(fn: Any, arguments: str = "{}", *middleware: Middleware) -> Outcome:
    made = fn if isinstance(fn, Tool) else tool(fn)
    spec = AgentSpec(model=ScriptedModel([]), tools=ToolRegistry([made]), offered=(), middleware=middleware)
    call = ToolCall("a", made.name, arguments)
    return asyncio.run(execute(call, RunContext("deps", "r", call), spec))


# ---- results


class Point(BaseModel):
    x: int


@dataclass
class Size:
    width: int
    points: list[Point]


class Color(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain text, as it is", "plain text, as it is"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (10**30, "1" + "0" * 30),
        (0.1, "0.1"),
        ([1, "a", None], '[1,"a",null]'),
        ((1, 2), "[1,2]"),
        ({"a": {"b": [1]}}, '{"a":{"b":[1]}}'),
        ({1: "a"}, '{"1":"a"}'),
        ({3}, "[3]"),
        ("ünï ☃", "ünï ☃"),
        (["ünï ☃"], '["ünï ☃"]'),
        (Point(x=1), '{"x":1}'),
        ([Point(x=1)], '[{"x":1}]'),
        (Size(2, [Point(x=1)]), '{"width":2,"points":[{"x":1}]}'),
        (Color.RED, '"red"'),
        (datetime.date(2026, 1, 31), '"2026-01-31"'),
        (Path("a/b"), '"a/b"'),
        (b"text", '"text"'),
    ],
    ids=repr,
)
def test_a_result_is_rendered(value: Any, text: str) -> None:
    assert render(value) == text
    assert run(lambda_returning(value)).result == ToolResult("a", "fn", text)


def lambda_returning(value: Any) -> Callable[[], Any]:
    def fn() -> Any:
        return value

    return fn


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "an object"),
        ({"a": object()}, "a dict"),
        (int, "a type"),
        (len, "a builtin_function_or_method"),
        (b"\xff", "a bytes"),
        (CIRCLE, "a list"),
        (["\ud800"], "a list"),
    ],
    ids=["object", "inside", "type", "function", "bytes", "circle", "surrogate"],
)
def test_a_result_that_json_cannot_hold_is_refused_with_its_type_and_a_remedy(value: Any, kind: str) -> None:
    outcome = run(lambda_returning(value))
    assert outcome.result.is_error
    assert f"the tool returned {kind}, which JSON cannot hold" in outcome.result.content
    assert outcome.result.content.endswith("return text, numbers, lists, dicts, dataclasses or pydantic models")


# ---- errors


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def raising(error: BaseException) -> Callable[[], None]:
    def fn() -> None:
        raise error

    return fn


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModelRetry("use a city, not a country"), "error: use a city, not a country"),
        (ValueError("no luck"), "error: ValueError: no luck"),
        (ValueError(), "error: ValueError"),
        (KeyError("k"), "error: KeyError: 'k'"),
        (TimeoutError("mine, token=abc"), "error: TimeoutError: mine, token=[redacted]"),
        (TimeoutError(), "error: TimeoutError"),
        (asyncio.CancelledError(), "error: the call was cancelled; it may or may not have taken effect"),
        (StopIteration(3), "error: RuntimeError: the function raised StopIteration(3)"),
        (GeneratorExit(3), "error: RuntimeError: the function raised GeneratorExit(3)"),
        (Unprintable(), "error: Unprintable: (no text)"),
        (ValueError("password=hunter2 is wrong"), "error: ValueError: password=[redacted] is wrong"),
        (ValueError("x" * 501), f"error: ValueError: {'x' * 500}... (501 characters)"),
        (
            ExceptionGroup("two", [ValueError("token=abc"), KeyError("k")]),
            "error: ExceptionGroup: two (2 sub-exceptions): ValueError: token=[redacted]; KeyError: 'k'",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_exception_is_told_shortly_and_kept_whole(error: BaseException, told: str) -> None:
    outcome = run(raising(error))
    assert outcome.result == ToolResult("a", "fn", told, is_error=True)
    assert outcome.error and (type(error).__name__ in outcome.error)
    assert "Traceback" not in outcome.result.content


def test_the_full_error_has_the_traceback_and_no_secret() -> None:
    outcome = run(raising(ValueError("password=hunter2")))
    assert outcome.error and "ValueError: password=[redacted]" in outcome.error and "in fn\n    raise error" in outcome.error


def test_a_secret_in_a_cause_or_in_the_words_of_the_tool_is_shown_to_nobody() -> None:
    def fn() -> None:
        try:
            raise ConnectionError("postgres://app:hunter2@db/x")
        except ConnectionError as error:
            raise ModelRetry(f"the database said: {error}") from error

    outcome = run(fn)
    assert outcome.result.content == "error: the database said: postgres://[redacted]@db/x"
    assert outcome.error and "ConnectionError: postgres://[redacted]@db/x" in outcome.error


@pytest.mark.parametrize("text", ["x" * 10_000_000, "a-" * 500_000, f"{'x' * 480} password=hunter2hunter2hunter2 {'y' * 3000}"])
def test_a_long_error_is_cut_and_shows_no_secret(text: str) -> None:
    told = describe_error(ValueError(text))
    assert len(told) < 600 and told.endswith(f"... ({len(text)} characters)")
    assert "hunter2" not in told


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), SystemExit(3)])
def test_an_order_to_stop_the_program_comes_out(error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(raising(error))


def test_a_cancelled_run_comes_out_and_is_no_error_of_the_tool() -> None:
    running = asyncio.Event()

    async def hang() -> None:
        running.set()
        await asyncio.Event().wait()

    async def main() -> None:
        spec = AgentSpec(model=ScriptedModel([]), tools=ToolRegistry([hang]), offered=())
        call = ToolCall("a", "hang")
        task = asyncio.create_task(execute(call, RunContext(None), spec))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_the_timeout_of_the_tool_is_told_with_its_seconds() -> None:
    @tool(timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    assert run(slow).result.content == "error: TimeoutError: no result within 0.01 seconds"


def test_wrong_arguments_are_explained_and_the_function_does_not_run() -> None:
    ran = []

    def fn(x: int) -> None:
        ran.append(x)

    for arguments in ('{"x": ', '{"x": "a"}', "", '{"x": 1, "z": 2}', "[1]"):
        outcome = run(fn, arguments)
        assert outcome.result.is_error and outcome.result.content.startswith("error: ")
        assert outcome.error and outcome.error.startswith("ToolArgumentsInvalid: ")
    assert ran == []


def test_an_unknown_tool_is_answered_with_the_known_ones_nearest_first() -> None:
    def fn_of(name: str) -> Any:
        return tool(lambda: None, name=name)

    registry = ToolRegistry([fn_of(name) for name in ("send_mail", "weather_report", "get_weather")])
    assert unknown_tool("get_wether", registry) == (
        "there is no tool 'get_wether'; the tools are: get_weather, send_mail, weather_report"
    )
    assert unknown_tool("x", ToolRegistry([tool(lambda: 1, name="my tool")])).endswith("are: my_tool_ba077b4202")
    assert unknown_tool("x", ToolRegistry()) == "there is no tool 'x'; the tools are: none"
    spec = AgentSpec(model=ScriptedModel([]), tools=registry, offered=())
    outcome = asyncio.run(execute(ToolCall("a", "nope"), RunContext(None), spec))
    assert outcome.result.is_error and "there is no tool 'nope'" in outcome.result.content


# ---- middleware


class Note(Middleware):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        self.notes.append(f"{self.name} before {call.name} of {ctx.run_id}")
        value = await next(ToolCall(call.id, call.name, json.dumps({"x": json.loads(call.arguments)["x"] + 1})))
        self.notes.append(f"{self.name} after {value!r}")
        return [value]


class Refuse(Middleware):
    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        raise PermissionError("not today")


def test_middleware_stands_round_the_call_the_first_outermost_and_sees_the_value() -> None:
    notes: list[str] = []

    def fn(x: int) -> Point:
        return Point(x=x)

    outcome = run(fn, '{"x": 1}', Note("outer", notes), Note("inner", notes))
    assert outcome.result.content == '[[{"x":3}]]'
    assert notes == ["outer before fn of r", "inner before fn of r", "inner after Point(x=3)", "outer after [Point(x=3)]"]


def test_an_exception_of_middleware_counts_as_the_tools() -> None:
    assert run(lambda_returning(1), "{}", Refuse()).result.content == "error: PermissionError: not today"


# ---- which calls run together


def sync() -> None: ...


async def async_() -> None: ...


TOOLS = ToolRegistry(
    [
        tool(async_, name="a"),
        tool(sync, name="s"),
        tool(sync, name="r", read_only=True),
        tool(sync, name="p", parallel=True),
        tool(sync, name="Q", sequential=True),
        tool(async_, name="A", sequential=True),
    ]
)


@pytest.mark.parametrize(
    ("calls", "stages"),
    [
        ("", []),
        ("s", [["s"]]),
        ("ss", [["ss"]]),
        ("aa", [["a", "a"]]),
        ("rp", [["r", "p"]]),
        ("asas", [["a", "ss", "a"]]),
        ("sras", [["ss", "r", "a"]]),
        ("?s?", [["?", "s", "?"]]),
        ("Q", [["Q"]]),
        ("aQa", [["a"], ["Q"], ["a"]]),
        ("QQ", [["Q"], ["Q"]]),
        ("sQs", [["s"], ["Q"], ["s"]]),
        ("ssAaarQss", [["ss"], ["A"], ["a", "a", "r"], ["Q"], ["ss"]]),
    ],
)
def test_the_plan(calls: str, stages: list[list[str]]) -> None:
    made = [OpenCall(ToolCall(str(place), name), place) for place, name in enumerate(calls)]
    planned = plan(made, TOOLS)
    assert [["".join(call.call.name for call in chain) for chain in stage] for stage in planned] == stages
    assert sorted(call.position for stage in planned for chain in stage for call in chain) == list(range(len(calls)))


def test_the_trace_has_what_a_validator_of_the_program_raised() -> None:
    def broken(value: Any) -> Any:
        return {1: 1}[value]

    def take(x: Any) -> int:
        """Take."""
        return int(x)

    take.__annotations__["x"] = Annotated[int, BeforeValidator(broken)]
    outcome = run(take, '{"x": 2}')
    assert outcome.result.content == "error: the arguments cannot be validated: KeyError: 2"
    assert outcome.error and "in broken" in outcome.error
