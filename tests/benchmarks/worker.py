"""One measurement in a fresh process: `python -m tests.benchmarks.worker WHO WHAT PORT` prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


async def nap(ms: int) -> str:
    """Sleep."""
    await asyncio.sleep(ms / 1000)
    return "slept"


def functions(count: int) -> list[Callable[..., Any]]:
    """So many different functions with five parameters and a docstring."""
    source = '''
def lookup_{n}(city: str, days: int = 3, units: str = "metric", tags: list[str] | None = None, strict: bool = False) -> str:
    """Look the weather up.

    Args:
        city: Name of the city.
        days: How many days ahead.
        units: The system of units.
        tags: What to include.
        strict: Fail where nothing is known.

    Returns:
        The forecast as text.
    """
    return city
'''
    made: dict[str, Any] = {}
    for n in range(count):
        exec(source.format(n=n), made)
    return [made[f"lookup_{n}"] for n in range(count)]


def client(who: str, model: str, port: str, *, streamed: bool) -> Any:
    """An agent, or the floor, that uses this model of the server."""
    base_url = f"http://127.0.0.1:{port}/v1"
    if who == "floor":
        from .floor import Floor

        return Floor(base_url, model, {"add": add, "nap": nap}, streamed=streamed)
    from agentkit import Agent, ChatModel, Limits, tool

    chat = ChatModel(model, base_url=base_url, api_key="k", profile="generic")
    return Agent(chat, tools=[tool(add, parallel=True), tool(nap)], limits=Limits(steps=None))


async def ask(made: Any, *, streamed: bool) -> None:
    """One run to its end; streamed text is taken piece by piece."""
    pieces: list[str] = []
    if hasattr(made, "spec"):
        if not streamed:
            await made.run("Go.")
            return
        from agentkit import TextDelta

        async for event in made.stream("Go."):
            if isinstance(event, TextDelta):
                pieces.append(event.text)  # noqa: PERF401  as a watcher does
    else:
        await made.run("Go.", pieces.append)


async def steps(who: str, port: str, model: str, requests: int, runs: int, *, at_once: int = 1) -> dict[str, float]:
    """Processor time per model request, and the wall time of a run."""
    streamed = "deltas" in model
    made = client(who, model, port, streamed=streamed)
    await ask(made, streamed=streamed)
    began, used = time.perf_counter(), time.process_time()
    for _ in range(runs):
        await asyncio.gather(*(ask(made, streamed=streamed) for _ in range(at_once)))
    wall, used = time.perf_counter() - began, time.process_time() - used
    await made.aclose()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"us": used / (runs * requests * at_once) * 1e6, "ms": wall / runs * 1e3, "peak": peak}


def measure(who: str, what: str, port: str) -> dict[str, float]:
    """One of the rows of the table."""
    if what == "import":
        used = time.process_time()
        if who == "floor":
            import httpx as _module  # noqa: F401
        else:
            from agentkit import Agent as _agent  # noqa: F401
            from agentkit import tool as _tool  # noqa: F401
        return {"us": (time.process_time() - used) * 1e6}
    if what == "pydantic":
        used = time.process_time()
        from pydantic import TypeAdapter as _adapter  # noqa: F401

        return {"us": (time.process_time() - used) * 1e6}
    if what == "first tool":
        from agentkit import tool

        used = time.process_time()
        tool(add).schema()
        return {"us": (time.process_time() - used) * 1e6}
    if what == "schema":
        from agentkit import tool

        first, *rest = functions(301)
        tool(first).schema()
        used = time.process_time()
        for function in rest:
            tool(function).schema()
        return {"us": (time.process_time() - used) / len(rest) * 1e6}
    rows: dict[str, tuple[str, int, int, int]] = {
        "step": ("steps-10", 11, 20, 1),
        "step of 200": ("steps-200", 201, 2, 1),
        "step, 200 deltas": ("steps-10-deltas-200", 11, 5, 1),
        "step, 100 runs at once": ("steps-4", 5, 1, 100),
        "20 tools of 100 ms": ("steps-1-calls-20", 2, 3, 1),
    }
    model, requests, runs, at_once = rows[what]
    return asyncio.run(steps(who, port, model, requests, runs, at_once=at_once))


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:4])))
