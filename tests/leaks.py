"""Runs that end in every way, and what they leave behind: `python -m tests.leaks` (1,000 runs over HTTP, or `--runs 200`).

Each way of ending checks that what was done is in the state that is left. Prints the runs by ending, and the tasks, threads,
files and sockets that are still there when all have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from agentkit import (
    Agent,
    ChatModel,
    ConnectionFailed,
    Limits,
    RunContext,
    RunFinished,
    RunState,
    TextDelta,
    ToolResult,
    ToolStarted,
    tool,
)
from agentkit.middleware import CancellableCalls
from agentkit.testing import DeepSeekSimulator, Late, call
from tests.load import descriptors

__all__ = ["ENDINGS", "leaks"]

AT_ONCE = 50
LONG = 30.0
"""Seconds that nobody should have to wait."""

Ending = Callable[[Agent[str], str], Awaitable[None]]


def answer(request: Any) -> Any:
    """The first reply calls the tool that the prompt names, the second is the answer; either may be slow."""
    way = next(message["content"] for message in request.messages if message["role"] == "user").split()[0]
    if request.last["role"] == "tool":
        return "done " + request.last["content"]
    if way == "silent":
        return Late("never", LONG)
    if way == "talking":
        return Late("word " * 50, LONG, after=5)
    if way in ("helper", "within"):  # the agent itself is asked what follows, on its loop or in a thread
        return [call(way, task=request.messages[-1]["content"].removeprefix(way).strip())]
    return [call(way)] if way in ("quick", "hanging", "blocking", "timed", "closing") else "done"


@tool
async def quick() -> str:
    """Return at once."""
    return "quick"


@tool
async def hanging() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


@tool
def blocking() -> str:
    """Block a thread for a moment."""
    time.sleep(0.05)
    return "blocked"


@tool(timeout=0.01)
async def timed() -> None:
    """Wait for too long."""
    await asyncio.Event().wait()


async def last_state(agent: Agent[str], prompt: str, at: type, do: Callable[[asyncio.Task[Any], Any], None]) -> RunState:
    """Run, do this to the run at the first event of that kind, and give the state that its end has."""
    states: list[RunState] = []
    task: asyncio.Task[Any]

    def watch(event: Any) -> None:
        if isinstance(event, at):
            do(task, event)
        if isinstance(event, RunFinished):
            states.append(event.result.state)

    task = asyncio.ensure_future(agent.run(prompt, observers=[watch]))
    await asyncio.gather(task, return_exceptions=True)
    (state,) = states
    assert RunState.replay(state.events).messages == state.messages
    assert not state.open_calls
    return state


def cancel(task: asyncio.Task[Any], _event: Any) -> None:
    task.cancel()


async def answered(agent: Agent[str], number: str) -> None:
    result = await agent.run(f"quick {number}")
    assert (result.output, result.usage.tool_calls) == ("done quick", 1)


async def cancelled_while_waiting(agent: Agent[str], number: str) -> None:
    task = asyncio.ensure_future(agent.run(f"silent {number}"))
    await asyncio.sleep(0.02)
    task.cancel()
    (error,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(error, asyncio.CancelledError)


async def cancelled_in_the_answer(agent: Agent[str], number: str) -> None:
    state = await last_state(agent, f"talking {number}", TextDelta, cancel)
    assert state.stop_reason == "cancelled"


async def cancelled_in_a_tool(agent: Agent[str], number: str) -> None:
    state = await last_state(agent, f"hanging {number}", ToolStarted, cancel)
    assert (state.stop_reason, state.usage.requests, state.usage.tool_calls) == ("cancelled", 1, 1)
    assert "outcome unknown" in told(state)


async def cancelled_in_a_thread(agent: Agent[str], number: str) -> None:
    state = await last_state(agent, f"blocking {number}", ToolStarted, cancel)
    assert (state.stop_reason, state.usage.requests) == ("cancelled", 1)


async def a_tool_timed_out(agent: Agent[str], number: str) -> None:
    result = await agent.run(f"timed {number}")
    assert "no result within 0.01 seconds" in result.output


async def one_call_cancelled(agent: Agent[str], number: str) -> None:
    calls = CancellableCalls()

    def stop(_task: asyncio.Task[Any], event: ToolStarted) -> None:
        asyncio.get_running_loop().call_later(0.005, lambda: calls.cancel(event.call.id))

    state = await last_state(agent.copy(middleware=[calls]), f"hanging {number}", ToolStarted, stop)
    assert (state.stop_reason, state.usage.requests) == ("answer", 2)
    assert told(state) == "error: the call was cancelled; it may or may not have taken effect"


async def at_the_limit_of_time(agent: Agent[str], number: str) -> None:
    result = await agent.copy(limits=Limits(seconds=0.05)).run(f"hanging {number}")
    assert result.stop_reason == "limit:seconds"


async def a_stream_that_was_left(agent: Agent[str], number: str) -> None:
    async with agent.stream(f"talking {number}") as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break


async def the_programs_client_was_closed(agent: Agent[str], number: str) -> None:
    client = httpx.AsyncClient()

    @tool
    async def closing() -> str:
        """Close the client of the program."""
        await client.aclose()
        return "closed"

    model: Any = agent.model
    mine = ChatModel(model.name, base_url=model.endpoint.base_url, api_key="k", client=client)
    try:
        await agent.copy(model=mine, tools=[closing]).run(f"closing {number}")
    except ConnectionFailed as error:
        assert "the HTTP client that was given is closed" in str(error)
        assert (error.state.usage.requests, told(error.state)) == (1, "closed")
    else:
        raise AssertionError("the client is closed")


def with_inner(agent: Agent[str], began: Callable[[], object] = lambda: None) -> Agent[str]:
    """The agent, with itself as a tool, on the same event loop and from a thread; says when a tool of it has begun."""

    def watch(event: Any) -> None:
        if isinstance(event, ToolStarted):
            began()

    @tool
    async def helper(ctx: RunContext[None], task: str) -> str:
        """Ask the agent."""
        return (await agent.run(task, within=ctx, observers=[watch])).output

    @tool
    def within(ctx: RunContext[None], task: str) -> str:
        """Ask the agent, from a thread."""
        return agent.run_sync(task, within=ctx, observers=[watch]).output

    return agent.copy(tools=[helper, within])


async def an_agent_inside_answered(agent: Agent[str], number: str) -> None:
    outer = with_inner(agent)
    for way in ("helper", "within"):
        result = await outer.run(f"{way} quick {number}")
        assert (result.output, result.usage.requests) == ("done done quick", 4)


async def cancelled_with_an_agent_inside(agent: Agent[str], number: str, way: str = "helper") -> None:
    loop, began = asyncio.get_running_loop(), asyncio.Event()
    outer = with_inner(agent, lambda: loop.call_soon_threadsafe(began.set))
    states: list[RunState] = []

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            states.append(event.result.state)

    task = asyncio.ensure_future(outer.run(f"{way} hanging {number}", observers=[watch]))
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    (state,) = states
    assert (state.stop_reason, state.usage.requests) == ("cancelled", 2)


async def cancelled_with_an_agent_in_a_thread(agent: Agent[str], number: str) -> None:
    await cancelled_with_an_agent_inside(agent, number, "within")


ENDINGS: list[Ending] = [
    answered, cancelled_while_waiting, cancelled_in_the_answer, cancelled_in_a_tool, cancelled_in_a_thread, a_tool_timed_out,
    an_agent_inside_answered, cancelled_with_an_agent_inside, cancelled_with_an_agent_in_a_thread, one_call_cancelled,
    at_the_limit_of_time, a_stream_that_was_left, the_programs_client_was_closed,
]  # fmt: skip


def told(state: RunState) -> str:
    return next(message.content for message in state.messages if isinstance(message, ToolResult))


async def leaks(base_url: str, runs: int) -> tuple[Counter[str], Counter[str], int]:
    """Make so many runs, each ending in its turn; count those that ended as they should, the errors, and the tasks left."""
    model = ChatModel("deepseek-v4-flash", base_url=base_url, api_key="k")
    agent = Agent(model, tools=[quick, hanging, blocking, timed])
    ended: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        ending: Any = ENDINGS[number % len(ENDINGS)]
        async with turns:
            try:
                await ending(agent, str(number))
                ended[ending.__name__] += 1
            except Exception as error:  # noqa: BLE001  any is a failure of this run alone
                errors[f"{ending.__name__}: {type(error).__name__}: {error}"[:160]] += 1

    before = {asyncio.current_task()}
    await asyncio.gather(*(one(number) for number in range(runs)))
    await agent.aclose()
    await asyncio.sleep(0)
    return ended, errors, len(asyncio.all_tasks() - before)


def tool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "agentkit-tool"]


def main() -> None:
    """Print the figures; exit with 1 if a run ended otherwise, or something is left."""
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=1000)
    runs = options.parse_args().runs
    seen: list[int] = []
    for number in (len(ENDINGS), runs):  # the first few show what is made once, and kept
        with DeepSeekSimulator(answer) as simulator:
            began = time.perf_counter()
            ended, errors, tasks = asyncio.run(leaks(simulator.base_url, number))
            seconds = time.perf_counter() - began
        gc.collect()
        for thread in tool_threads():  # they have been told to end with their runs
            thread.join(timeout=10)
        seen.append(descriptors())
    left = seen[1] - seen[0]
    print(f"== {runs:,} runs over HTTP in {seconds:.1f} s, {AT_ONCE} at once")
    for name, count in ended.items():
        print(f"{name.replace('_', ' '):32} {count:5,} as they should")
    for text, count in errors.items():
        print(f"{count:,} not: {text}")
    print(f"left behind: {tasks} tasks, {len(tool_threads())} threads, {max(left, 0)} files and sockets")
    sys.exit(bool(errors or tasks or tool_threads() or left > 0 or sum(ended.values()) != runs))


if __name__ == "__main__":
    main()
