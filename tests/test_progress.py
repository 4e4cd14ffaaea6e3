"""Progress reports: order, what is held of a flood, and calls from any thread at any time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, ClassVar

import pytest

from agentkit import Agent, RunContext, ScriptedModel, ToolFinished, ToolProgress, ToolResult, tool
from agentkit.testing import call
from agentkit.tools.progress import MAX_QUEUED, Progress

FLOOD = 20_000


class Report:
    """A numbered report; the class counts how many are held."""

    held: ClassVar[int] = 0
    most: ClassVar[int] = 0
    lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, number: int) -> None:
        self.number = number
        with self.lock:
            Report.held += 1
            Report.most = max(Report.most, Report.held)

    def __del__(self) -> None:
        with self.lock:
            Report.held -= 1


def in_thread(ctx: RunContext[Any]) -> None:
    for number in range(FLOOD):
        ctx.progress(Report(number))
    ctx.deps()


async def in_task(ctx: RunContext[Any]) -> None:
    for number in range(FLOOD):
        ctx.progress(Report(number))
    ctx.deps()


async def in_task_that_pauses(ctx: RunContext[Any]) -> None:
    for number in range(FLOOD):
        ctx.progress(Report(number))
        if number % 1000 == 0:
            await asyncio.sleep(0)
    ctx.deps()


def in_thread_of_its_own(ctx: RunContext[Any]) -> None:
    helper = threading.Thread(target=in_thread, args=(ctx,))
    helper.start()
    helper.join()


def in_loop_of_its_own(ctx: RunContext[Any]) -> None:
    asyncio.run(in_task(ctx))


def generator(ctx: RunContext[Any]) -> Iterator[int]:
    yield from range(FLOOD)
    ctx.deps()


async def async_generator(ctx: RunContext[Any]) -> AsyncIterator[int]:
    for number in range(FLOOD):
        yield number
    ctx.deps()


@pytest.mark.parametrize(
    "flood",
    [in_thread, in_task, in_task_that_pauses, in_thread_of_its_own, in_loop_of_its_own, generator, async_generator],
)
@pytest.mark.parametrize("is_slow", [False, True])
def test_a_flood_is_bounded_and_its_last_report_arrives(flood: Callable[..., Any], is_slow: bool) -> None:
    Report.most = Report.held
    before = Report.held

    async def main() -> list[ToolProgress]:
        loop, seen, has_ended = asyncio.get_running_loop(), list[ToolProgress](), asyncio.Event()

        async def watch(event: Any) -> None:
            if isinstance(event, ToolProgress):
                if is_slow:  # takes the first report, and no other until the tool has ended
                    await has_ended.wait()
                seen.append(event)

        flooding = tool(flood, name="flood", description="Report much.")
        agent = Agent(ScriptedModel([call("flood"), "Done."]), tools=[flooding])
        result = await agent.run("go", observers=[watch], deps=lambda: loop.call_soon_threadsafe(has_ended.set))
        (told,) = [message for message in result.messages if isinstance(message, ToolResult)]
        assert not told.is_error
        return seen

    seen = asyncio.run(main())
    numbers = [event.data.number if isinstance(event.data, Report) else event.data for event in seen]
    assert numbers == sorted(numbers) and numbers[-1] == FLOOD - 1
    assert len(seen) + sum(event.replaced for event in seen) == FLOOD
    if is_slow:
        assert len(seen) <= MAX_QUEUED + 2
        assert Report.most - before <= 2 * MAX_QUEUED + 2


def report(ctx: RunContext[None], numbers: Iterable[int]) -> None:
    for number in numbers:
        ctx.progress(number)


def test_reports_that_fit_all_arrive_in_order_whatever_thread_they_come_from() -> None:
    @tool
    def work(ctx: RunContext[None]) -> str:
        """Report from here, and from other threads one after another."""
        for number in range(0, MAX_QUEUED, 4):
            ctx.progress(number)
            helper = threading.Thread(target=report, args=(ctx, (number + 1, number + 2, number + 3)))
            helper.start()
            helper.join()
        return "done"

    events: list[Any] = []
    Agent(ScriptedModel([call("work"), "Done."]), tools=[work]).run_sync("go", observers=[events.append])
    kinds = [type(event) for event in events]
    told = events[kinds.index(ToolProgress) : kinds.index(ToolFinished)]
    assert [(event.data, event.replaced) for event in told] == [(number, 0) for number in range(MAX_QUEUED)]


@pytest.mark.parametrize("way", ["run", "stream"])
def test_a_report_after_the_end_of_the_loop_does_not_break_the_tool_off(way: str) -> None:
    has_ended, log, threads = threading.Event(), list[str](), list[threading.Thread]()

    @tool(timeout=0.05)
    def work(ctx: RunContext[None]) -> str:
        """Work for longer than anyone waits."""
        threads.append(threading.current_thread())
        ctx.progress("first half")
        has_ended.wait(30)
        for number in range(2 * MAX_QUEUED):
            ctx.progress(number)
        log.append("second half")
        return "done"

    async def main() -> None:
        agent = Agent(ScriptedModel([call("work"), "Done."]), tools=[work])
        if way == "run":
            await agent.run("go", observers=[lambda _: None])
        else:
            async for _event in agent.stream("go"):
                ...

    asyncio.run(main())
    has_ended.set()
    threads[0].join(30)
    assert log == ["second half"]


def test_a_loop_that_stands_still_does_not_hold_a_report_up() -> None:
    reported = threading.Event()

    @tool
    def work(ctx: RunContext[None]) -> str:
        """Report while nobody takes reports."""
        for number in range(2 * MAX_QUEUED):
            ctx.progress(number)
        reported.set()
        return "done"

    async def main() -> list[int]:
        seen: list[int] = []

        def watch(event: Any) -> None:
            if isinstance(event, ToolProgress):
                assert reported.wait(30)  # blocks the event loop
                seen.append(event.data)

        await Agent(ScriptedModel([call("work"), "Done."]), tools=[work]).run("go", observers=[watch])
        return seen

    assert asyncio.run(main())[-1] == 2 * MAX_QUEUED - 1


def test_a_failing_watcher_misses_no_report_for_the_others() -> None:
    seen: list[Any] = []

    @tool
    async def work(ctx: RunContext[None]) -> str:
        """Report."""
        for number in range(3):
            ctx.progress(number)
        return "done"

    def fail(event: Any) -> None:
        if isinstance(event, ToolProgress):
            raise LookupError("broken view")

    fail.strict = True  # type: ignore[attr-defined]
    agent = Agent(ScriptedModel([call("work"), "Done."]), tools=[work])
    with pytest.raises(LookupError, match="broken view"):
        agent.run_sync("go", observers=[fail, seen.append])
    assert [event.data for event in seen if isinstance(event, ToolProgress)] == [0, 1, 2]
    assert [event.result.content for event in seen if isinstance(event, ToolFinished)] == ["done"]


def test_an_object_that_reports_when_it_is_freed_can_be_reported() -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []

        async def take(data: Any, _replaced: int) -> None:
            seen.append(data)

        progress = Progress(take)

        class Last:
            def __del__(self) -> None:
                progress.report("freed")  # in the middle of the report that replaced it

        for _ in range(2 * MAX_QUEUED):
            progress.report(Last())
        await progress.end()
        return seen

    assert "freed" in asyncio.run(asyncio.wait_for(main(), 30))
