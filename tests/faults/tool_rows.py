"""What goes wrong in tools: what they raise, return, and do to the program round them."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import enum
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agentkit import Agent, ModelRetry, RunContext, ScriptedModel, Tool, ToolFinished, tool

from .rows import Outcome, Played, Row, call, calls, ran, told

__all__ = ["ROWS"]

Ctx = RunContext[list[Any]]
SECRET = "sk-" + "aB3d" * 8
where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="outside")


def row(name: str, made: Any, must: Outcome, arguments: str = "{}", **more: Any) -> Row:
    """One call of this tool."""
    one = made if isinstance(made, Tool) else tool(made)
    return Row(id=name, group="tool", fault=calls(call(one.name, arguments)), must=must, tools=[one], **more)


def raising(error: Callable[[], BaseException], name: str = "fails") -> Any:
    """An async tool that raises this."""

    async def fails(ctx: Ctx) -> str:
        """Fail."""
        ctx.deps.append("called")
        raise error()

    return tool(fails, name=name)


def raising_in_a_thread(error: Callable[[], BaseException]) -> Any:
    def fails(ctx: Ctx) -> str:
        """Fail."""
        ctx.deps.append("called")
        raise error()

    return tool(fails)


def returning(value: Any) -> Any:
    """A tool that returns this."""

    def gives() -> Any:
        """Give."""
        return value

    return tool(gives)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class Place(BaseModel):
    city: str


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


def content(text: str) -> Callable[[Played], None]:
    def check(played: Played) -> None:
        assert [result.content for result in played.results] == [text]
        json.loads(played.bodies[-1])  # what was sent is JSON

    return check


def gives(name: str, value: Any, text: str) -> Row:
    return row(name, returning(value), ran(), checks=[content(text)])


def no_trace(played: Played) -> None:
    """The model does not see the traceback; the event of the call has it."""
    (result,) = played.results
    assert "Traceback" not in result.content and "tool_rows" not in result.content
    assert played.result is not None
    *_, full = [event.error for event in played.result.events if isinstance(event, ToolFinished)]
    assert full is not None and "Traceback" in full and "tool_rows" in full


def both_ways(name: str, error: Callable[[], BaseException], *says: str, **more: Any) -> list[Row]:
    """An async tool and a sync one that raise this; the model is told."""
    return [
        row(f"{name}#{kind}", make(error), told(*says, ran=["called"]), **more)
        for kind, make in (("async", raising), ("sync", raising_in_a_thread))
    ]


@tool(timeout=0.05)
async def sleeps(ctx: Ctx) -> str:
    """Take too long."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        ctx.deps.append("cancelled")
        raise
    return "late"


@tool(timeout=0.05)
def blocks() -> str:
    """Block a thread for long."""
    time.sleep(1)
    return "late"


@tool(parallel=True)
def meets(ctx: Ctx) -> str:
    """Wait until four are here."""
    meeting.wait(timeout=30)
    ctx.deps.append("met")
    return "met"


meeting = threading.Barrier(4)


async def three_with_one_bad(ctx: Ctx, n: int) -> str:
    """Fail for 1."""
    if n == 1:
        raise ValueError("one is bad")
    return f"ok {n}"


def two_good(played: Played) -> None:
    assert [result.content for result in played.results] == ["ok 0", "error: ValueError: one is bad", "ok 2"]


def coroutine(ctx: Ctx) -> Any:
    """Give a coroutine back."""

    async def later() -> str:
        ctx.deps.append("awaited")
        return "later"

    return later()


async def items() -> AsyncIterator[int]:
    """Give some."""
    for n in range(3):
        yield n


def yields_then_exits() -> Iterator[int]:
    """Give one."""
    yield 1
    raise GeneratorExit


async def yields_then_exits_later() -> AsyncIterator[int]:
    """Give one."""
    yield 1
    raise GeneratorExit


def future() -> Any:
    """Give a future back; a sync tool runs in a thread, where there is no loop."""
    return asyncio.Future()


async def own_future() -> Any:
    """Give a future of the loop back."""
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    done.set_result("from a future")
    return await done


class Method:
    def bound(self, n: int = 1) -> str:
        """Bound."""
        return f"bound {n}"

    @classmethod
    def of_class(cls, n: int = 1) -> str:
        """Of the class."""
        return f"{cls.__name__} {n}"

    def __call__(self, n: int = 1) -> str:
        """Called."""
        return f"called {n}"


def base(n: int, ctx: Ctx) -> str:
    """Base."""
    return f"partial {n}"


def recurse() -> str:
    """Never end."""
    return recurse()


def inner_agent() -> Agent[Any]:
    return Agent(ScriptedModel(["inner answer"]))


async def asks_async() -> str:
    """Ask another agent."""
    return str((await inner_agent().run("hi")).output)


def asks_sync() -> str:
    """Ask another agent, from a thread."""
    return str(inner_agent().run_sync("hi").output)


async def asks_sync_in_the_loop() -> str:
    """Ask another agent, blocking this loop."""
    return str(inner_agent().run_sync("hi").output)


def prints() -> str:
    """Print."""
    print("noise")  # noqa: T201
    return "quiet"


def clears(ctx: Ctx, words: list[str]) -> str:
    """Empty what it is given."""
    words.clear()
    return "cleared"


def arguments_stay(played: Played) -> None:
    assert played.result is not None
    asked = [m for m in played.last["messages"] if m.get("tool_calls")][-1]
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == {"words": ["a"]}


async def marks(ctx: Ctx, n: int) -> str:
    """Set a variable of the context."""
    seen = where.get()
    where.set(f"tool {n}")
    return seen


def marks_in_a_thread(ctx: Ctx, n: int) -> str:
    """Set a variable of the context."""
    seen = where.get()
    where.set(f"tool {n}")
    return seen


def nothing_leaked(played: Played) -> None:
    assert [result.content for result in played.results] == ["outside"] * 3


def is_outside(played: Played) -> None:
    assert [result.content for result in played.results] == ["outside"] * 2


def default_list(ctx: Ctx, item: str, into: list[str] = []) -> str:  # noqa: B006  that is the fault
    """Append to the default."""
    into.append(item)
    return ",".join(into)


def default_is_fresh(played: Played) -> None:
    assert [result.content for result in played.results] == ["a", "b", "c"]


def writes_then_fails(ctx: Ctx) -> str:
    """Have an effect, then fail."""
    ctx.deps.append("written")
    raise RuntimeError("after the effect")


def takes_context(ctx: Ctx, n: int = 1) -> str:
    """Must not be given a context by the model."""
    return f"{n} {len(ctx.deps)}"


def several(made: Any, *arguments: str) -> dict[str, Any]:
    """Several calls of one tool in one reply."""
    one = made if isinstance(made, Tool) else tool(made)
    return {"fault": calls(*(call(one.name, a, f"i{n}") for n, a in enumerate(arguments))), "tools": [one]}


def group(name: str, made: Any, *arguments: str, check: Callable[[Played], None], notes: tuple[Any, ...] = ()) -> Row:
    return Row(id=name, group="tool", must=ran(*notes), checks=[check], **several(made, *arguments))


N3 = tuple(f'{{"n": {n}}}' for n in range(3))
HUGE = "x" * (50 * 2**20)


def is_shortened(played: Played) -> None:
    (result,) = played.results
    assert len(result.content) < 101_000 and "52,328,800 of 52,428,800 characters are left out here" in result.content


ROWS = [
    *both_ways("tool_raises", lambda: ValueError("boom"), "ValueError: boom", checks=[no_trace]),
    *both_ways("tool_raises_secret", lambda: RuntimeError(f"token {SECRET}"), "RuntimeError: token ", checks=[
        lambda played: _without(played, SECRET)
    ]),
    *both_ways("tool_raises_unprintable", Unprintable, "Unprintable: (no text)"),
    *both_ways("tool_raises_control_flow", lambda: ModelRetry("use another city"), "error: use another city"),
    *both_ways(
        "tool_generator_exit_stopiteration", lambda: StopIteration(5), "StopIteration",
    ),
    row("tool_generator_exit_stopiteration#aiter", raising(StopAsyncIteration), told("StopAsyncIteration", ran=["called"])),
    *both_ways("tool_generator_exit_stopiteration#exit", lambda: GeneratorExit("over"), "GeneratorExit('over')"),
    row("tool_generator_exit_stopiteration#generator", yields_then_exits, told("GeneratorExit"), checks=[no_trace]),
    row("tool_generator_exit_stopiteration#asyncgen", yields_then_exits_later, told("GeneratorExit")),
    *both_ways(
        "tool_exception_group", lambda: ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "ValueError: a", "KeyError",
    ),
    row("tool_timeout_async", sleeps, told("no result within 0.05 seconds", ran=["cancelled"])),
    row("tool_timeout_sync_blocking", blocks, told("no result within 0.05 seconds")),
    Row(
        id="tool_sync_blocking_in_loop", group="tool", must=ran("met", "met", "met", "met"), **several(meets, *["{}"] * 4),
    ),
    *both_ways("tool_raises_asyncio_timeout", lambda: TimeoutError("mine"), "TimeoutError: mine"),
    row("tool_raises_cancelled", raising(asyncio.CancelledError), told("the call was cancelled", ran=["called"])),
    group("tool_one_of_three_fails", three_with_one_bad, *N3, check=two_good),
    gives("tool_returns_none", None, "null"),
    *(
        gives(f"tool_returns_nonserialisable#{type(value).__name__}", value, text)
        for value, text in (
            ({1}, "[1]"), (b"a", '"a"'), (dt.date(2026, 1, 2), '"2026-01-02"'), (Decimal("1.5"), '"1.5"'),
            (Path("a"), '"a"'), (Color.RED, '"red"'), (Point(1), '{"x":1}'), (Place(city="P"), '{"city":"P"}'),
        )
    ),
    row("tool_returns_nonserialisable#object", returning(object()), told("TypeError", "object"), checks=[
        lambda played: _without(played, " at 0x")
    ]),
    row("tool_returns_cycle", returning(cycle()), told("TypeError", "list")),
    row("tool_returns_deep", returning(deep()), told("TypeError", "list")),
    gives("tool_returns_nan", float("nan"), '"NaN"'),
    gives("tool_returns_lone_surrogate", "a\ud800", "a\ufffd"),
    row("tool_returns_huge", returning(HUGE), ran(), checks=[is_shortened]),
    row("tool_returns_coroutine", coroutine, ran("awaited"), checks=[content("later")]),
    row("tool_async_generator", items, ran(), checks=[content("[0,1,2]")]),
    row("tool_returns_awaitable_future", own_future, ran(), checks=[content("from a future")]),
    row("tool_returns_awaitable_future#without_a_loop", future, told("RuntimeError")),
    *(
        row(f"tool_is_callable_object_partial_method#{name}", tool(made, name=name), ran(), checks=[content(text)])
        for name, made, text in (
            ("bound", Method().bound, "bound 1"), ("of_class", Method.of_class, "Method 1"),
            ("object", Method(), "called 1"), ("partial", partial(base, 5), "partial 5"), ("a_lambda", lambda: "x", "x"),
        )
    ),
    row("tool_recursion_error", recurse, told("RecursionError")),
    *both_ways("tool_memory_error", MemoryError, "MemoryError"),
    *(
        row(f"tool_reenters_agent#{made.__name__}", made, ran(), checks=[content("inner answer")])
        for made in (asks_async, asks_sync)
    ),
    row("tool_reenters_agent#in_loop", asks_sync_in_the_loop, ran(), checks=[content("inner answer")], warns=RuntimeWarning),
    row("tool_prints_to_stdout", prints, ran(), checks=[content("quiet")]),
    row("tool_mutates_args", clears, ran(), '{"words": ["a"]}', checks=[arguments_stay]),
    group("tool_mutates_global_context#async", marks, *N3, check=nothing_leaked),
    group("tool_mutates_global_context#sync", marks_in_a_thread, *N3, check=nothing_leaked),
    row("tool_mutates_global_context#alone", marks, ran(attempts=3), '{"n": 1}', times=2, checks=[is_outside]),
    row("tool_raises_after_side_effect", writes_then_fails, told("after the effect", ran=["written"])),
    group("tool_default_mutable", default_list, *(f'{{"item": "{c}"}}' for c in "abc"), check=default_is_fresh),
    row("tool_injected_param_from_model", takes_context, told("ctx: unknown parameter"), '{"ctx": {"deps": []}}'),
]  # fmt: skip


def _without(played: Played, text: str) -> None:
    assert all(text not in body.decode() for body in played.bodies)
