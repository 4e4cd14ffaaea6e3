"""A run over real HTTP in which one fault is injected."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

from agentkit import Agent, AgentError, Retry, RunContext, RunFinished, tool
from agentkit.events import Event
from agentkit.testing.simulator.request import Behaviour, SimRequest
from agentkit.testing.simulator.rules import refusal
from tests.models.raw_server import RawServer, Step, raw_server

from .rows import KEY, Fault, Played, Row, answer, call, history_is_valid, payload

__all__ = ["FIRST", "USAGE", "is_taken", "pay", "play", "run_agent"]

USAGE = {
    "prompt_tokens": 1000, "completion_tokens": 200, "prompt_cache_hit_tokens": 400, "prompt_cache_miss_tokens": 600,
    "completion_tokens_details": {"reasoning_tokens": 50},
}  # fmt: skip
PAY = {"content": None, "reasoning_content": "I pay first.", "tool_calls": [call("pay", '{"amount": 5}', "call_1")]}
FIRST = payload(PAY, "tool_calls", usage=USAGE)


@tool
def pay(amount: int, ctx: RunContext[list[Any]]) -> str:
    """Pay once."""
    ctx.deps.append("paid")
    return f"paid {amount}"


@tool
async def weather(city: str, ctx: RunContext[list[Any]]) -> str:
    """Current weather in a city."""
    ctx.deps.append(city)
    return f"18 degrees in {city}"


@tool
def clock(ctx: RunContext[list[Any]]) -> str:
    """The time."""
    ctx.deps.append("clock")
    return "noon"


@tool
def add(n: int, ctx: RunContext[list[Any]], m: float = 0.0) -> float:
    """Add."""
    ctx.deps.append((n, m))
    return n + m


def _steps(fault: Fault, watched: bool) -> Iterable[Step]:
    return fault(watched) if callable(fault) else fault


def play(row: Row, *, watched: bool) -> Played:
    """Run it: `pay` first, then the fault as often as it comes, then a good answer."""
    played = Played(watched, [], [], [], [])

    def reply(number: int) -> Iterable[Step]:
        if number == 0:
            return FIRST(watched)
        if row.times is None or number <= row.times:
            return _steps(row.fault, watched)
        return _steps(row.then or answer(), watched)

    async def main() -> None:
        async with raw_server(reply) as server:
            await run_agent(row, server, played)
        # a connection that was left open would be a task of the server's that is still there
        await asyncio.sleep(0)

    began = time.monotonic()
    asyncio.run(main())
    played.seconds = time.monotonic() - began
    state = (played.result or played.error).state  # type: ignore[union-attr]
    history_is_valid(state.messages)
    assert played.ran[:1] == ["paid"] and played.ran.count("paid") == 1, "a side effect is not repeated"
    assert KEY not in f"{played.error!r} {getattr(played.error, 'body', '')} {played.seen} {state.events}"
    for body in played.bodies:
        is_taken(body)
    return played


def is_taken(body: bytes) -> None:
    """A strict server takes this body: it is JSON in UTF-8, and breaks no rule of the simulator's."""
    json.loads(body.decode("utf-8"), parse_constant=_no_json)
    failure = refusal(SimRequest("/v1/chat/completions", {}, body), Behaviour())
    assert failure is None, failure


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


async def run_agent(row: Row, server: RawServer, played: Played) -> None:
    """The run against this server, noting what comes."""

    async def note_wait(seconds: float) -> None:
        played.waits.append(seconds)
        await wait(seconds)

    more = dict(row.retry)
    wait = more.pop("sleep", lambda _seconds: asyncio.sleep(0))
    options: dict[str, Any] = {
        "retry": Retry(attempts=row.attempts, sleep=note_wait, **more),
        "tools": [pay, weather, clock, add, *row.tools],
        **row.agent,
    }
    model = server.model(**{"api_key": KEY, **row.model})
    agent: Agent[Any] = Agent(model, **options)
    try:
        if played.watched:
            await _watch(agent, played)
        else:
            played.result = await agent.run("go", deps=played.ran)
    except AgentError as error:
        played.error = error
    finally:
        played.bodies = server.bodies
        await model.aclose()


async def _watch(agent: Agent[Any], played: Played) -> None:
    stream = agent.stream("go", deps=played.ran)
    last: Event | None = None
    async for last in stream:
        played.seen.append(last)
    assert isinstance(last, RunFinished)
    played.result = last.result
