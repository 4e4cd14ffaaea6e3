"""A run that is watched: its events, back-pressure, and streams that are left, dropped or cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from agentkit import (
    Agent,
    ApprovalRequired,
    Assistant,
    AuthError,
    ChatModel,
    ModelReplied,
    ModelReply,
    ModelRequest,
    ReasoningDelta,
    Retry,
    Retrying,
    RunContext,
    RunFinished,
    RunPaused,
    ScriptedModel,
    StepStarted,
    TextDelta,
    ToolArgsDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    tool,
)
from agentkit.testing import Cut, call
from tests.kit import Simulate


@tool
def count(to: int, ctx: RunContext[None]) -> int:
    """Count."""
    for number in range(to):
        ctx.progress(number)
    return to


@tool
async def count_async(to: int, ctx: RunContext[None]) -> int:
    """Count."""
    for number in range(to):
        ctx.progress(number)
    return to


@tool(approval=True)
def delete(path: str) -> str:
    """Delete."""
    return path


async def all_of(agent: Agent[Any], prompt: str = "go", **options: Any) -> list[Any]:
    return [event async for event in agent.stream(prompt, **options)]


def kinds(events: list[Any]) -> list[str]:
    """The names of the events, deltas of one kind in a row as one."""
    names = [type(event).__name__ for event in events]
    return [n for i, n in enumerate(names) if i == 0 or n != names[i - 1]]


class Endless:
    """A model whose reply has `pieces` deltas, or never ends; it knows how many were taken and whether it was cancelled."""

    def __init__(self, pieces: int | None = None) -> None:
        self.pieces, self.sent, self.ended = pieces, 0, asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        try:
            while self.pieces is None or self.sent < self.pieces:
                self.sent += 1
                await on_delta(TextDelta("x"))
            return ModelReply(Assistant("x" * self.sent))
        finally:
            self.ended.set()


class Waiting:
    """A model that says one piece and then nothing more."""

    def __init__(self) -> None:
        self.asked, self.ended = asyncio.Event(), asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        try:
            if on_delta:
                await on_delta(TextDelta("x"))
            self.asked.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        raise AssertionError


async def others() -> int:
    """How many tasks there are beside this one, when the loop has come to rest."""
    for _ in range(10):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks() - {asyncio.current_task()})


# --- what is seen ---------------------------------------------------------------------------------


@pytest.mark.parametrize("counting", [count, count_async])
def test_every_kind_of_event_comes_in_order_over_real_http(simulate: Simulate, counting: Any) -> None:
    thought = Assistant("I count.", "They want a count.", (call(counting.name, to=2),))
    sim = simulate([Cut(thought, 3), thought, "Counted."])
    agent = Agent(ChatModel(base_url=sim.base_url), tools=[counting], retry=Retry(first=0, longest=0))
    events = asyncio.run(all_of(agent))
    tool_part = ["ToolStarted", "ToolProgress", "ToolFinished"]
    last_part = ["StepStarted", "TextDelta", "ModelReplied", "RunFinished"]
    seen = kinds(events)
    retried = seen.index("Retrying")
    assert seen[:retried] == ["RunStarted", "StepStarted", "ReasoningDelta"]
    replied = ["ModelReplied", "UsageAdded"]  # what the attempt that was cut has used
    assert seen[retried + 1 :] == ["ReasoningDelta", "TextDelta", "ToolArgsDelta", *replied, *tool_part, *last_part]
    whole = events[[type(e) for e in events].index(Retrying) + 1 :]
    step = whole[: [type(e) for e in whole].index(ModelReplied)]
    assert "".join(e.text for e in step if isinstance(e, ReasoningDelta)) == thought.reasoning
    assert "".join(e.text for e in step if isinstance(e, TextDelta)) == thought.text
    assert "".join(e.text for e in step if isinstance(e, ToolArgsDelta)) == thought.tool_calls[0].arguments
    assert [e.data for e in events if isinstance(e, ToolProgress)] == [0, 1]
    assert [e.step for e in events if isinstance(e, StepStarted)] == [1, 2]
    started, finished = (next(e for e in events if isinstance(e, kind)) for kind in (ToolStarted, ToolFinished))
    assert started.call == finished.call


def test_a_pause_shows_the_approvals_that_are_wanted() -> None:
    events = asyncio.run(all_of(Agent(ScriptedModel([call("delete", path="a")]), tools=[delete])))
    *_, required, paused = events
    assert isinstance(required, ApprovalRequired)
    assert isinstance(paused, RunPaused)
    assert (required.call,) == paused.pending == paused.result.pending


def test_an_error_is_raised_after_the_events_before_it() -> None:
    events: list[Any] = []

    async def main() -> None:
        agent = Agent(ScriptedModel(["x" * 20, AuthError("no key")]), output_type=int, retry=None)
        async for event in agent.stream("go"):
            events.append(event)  # noqa: PERF401  those before the error count

    with pytest.raises(AuthError, match="no key"):
        asyncio.run(main())
    assert kinds(events)[-2:] == ["StepStarted", "RunFinished"]
    assert events[-1].stop_reason == "error"


def test_lasting_events_in_a_stream_are_those_of_the_result() -> None:
    calls = [call("count", to=3), call("count_async", to=3), call("count", to=1)]
    events = asyncio.run(all_of(Agent(ScriptedModel([calls, "Done."]), tools=[count, count_async])))
    passing = (StepStarted, TextDelta, ToolArgsDelta, ToolProgress)
    assert [e for e in events if not isinstance(e, passing)] == events[-1].result.events


def test_the_result_is_there_when_the_stream_has_ended() -> None:
    async def main() -> None:
        stream = Agent(ScriptedModel(["Hello."])).stream("Hi")
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = stream.result
        async for _event in stream:
            pass
        assert stream.result.output == "Hello."
        assert await stream.next_event() is None

    asyncio.run(main())


# --- back-pressure --------------------------------------------------------------------------------


def test_a_slow_watcher_holds_the_run_back() -> None:
    async def main() -> None:
        model, taken, ahead = Endless(5_000), 0, 0
        async for event in Agent(model).stream("go"):
            taken += isinstance(event, TextDelta)
            ahead = max(ahead, model.sent - taken)
            await asyncio.sleep(0)
        assert taken == 5_000
        assert 100 < ahead <= 257

    asyncio.run(main())


def test_who_does_not_watch_does_not_hold_the_run_back() -> None:
    async def main() -> None:
        model = Endless(5_000)
        result = await Agent(model).run("go", observers=[lambda _: None])
        assert (model.sent, len(result.output)) == (5_000, 5_000)

    asyncio.run(main())


# --- leaving, dropping, cancelling ----------------------------------------------------------------


async def leave_by_break(agent: Agent[Any]) -> None:
    async for event in agent.stream("go"):
        if isinstance(event, TextDelta):
            break


async def leave_by_error(agent: Agent[Any]) -> None:
    with pytest.raises(LookupError):
        async for event in agent.stream("go"):
            if isinstance(event, TextDelta):
                raise LookupError


async def leave_by_del(agent: Agent[Any]) -> None:
    stream = agent.stream("go")
    while not isinstance(await anext(stream), TextDelta):
        pass
    del stream


async def leave_by_garbage_collection(agent: Agent[Any]) -> None:
    class Holder: ...

    holder: Any = Holder()
    holder.itself, holder.stream = holder, agent.stream("go")
    while not isinstance(await anext(holder.stream), TextDelta):
        pass
    gone = weakref.ref(holder.stream)
    del holder
    gc.collect()
    assert gone() is None


async def leave_by_aclose(agent: Agent[Any]) -> None:
    stream = agent.stream("go")
    while not isinstance(await anext(stream), TextDelta):
        pass
    await stream.aclose()
    assert await stream.next_event() is None


async def leave_by_async_with(agent: Agent[Any]) -> None:
    async with agent.stream("go") as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                return


async def leave_by_cancel(agent: Agent[Any]) -> None:
    stream = agent.stream("go")
    while not isinstance(await anext(stream), TextDelta):
        pass
    await stream.cancel()


LEAVE = [
    leave_by_break, leave_by_error, leave_by_del, leave_by_garbage_collection, leave_by_aclose, leave_by_async_with,
    leave_by_cancel,
]  # fmt: skip


@pytest.mark.parametrize("model_type", [Endless, Waiting])
@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_a_stream_ends_its_run(leave: Any, model_type: Any) -> None:
    problems: list[Any] = []
    ends: list[RunFinished] = []

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            ends.append(event)

    class Watched(Agent[Any]):
        def stream(self, prompt: Any = None, **options: Any) -> Any:
            return super().stream(prompt, observers=[watch])

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        model = model_type()
        await leave(Watched(model))
        async with asyncio.timeout(1):
            await model.ended.wait()
        assert await others() == 0

    asyncio.run(main())
    gc.collect()
    assert problems == []
    assert [event.stop_reason for event in ends] == ["cancelled"]


@asynccontextmanager
async def talking_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server whose stream never ends, and an event for the end of its connection."""
    closed = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + piece)
        while await reader.read(1024):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", closed


@pytest.mark.parametrize("leave", LEAVE)
def test_leaving_a_stream_closes_its_connection(leave: Any) -> None:
    async def main() -> None:
        async with talking_server() as (url, closed), Agent(ChatModel(base_url=url)) as agent:
            await leave(agent)
            async with asyncio.timeout(1):
                await closed.wait()

    asyncio.run(main())


@pytest.mark.parametrize("ahead", [1, 300])
def test_a_stream_that_is_still_held_does_not_keep_its_loop_from_ending(ahead: int) -> None:
    held: list[Any] = []

    async def main() -> None:
        stream = Agent(Endless()).stream("go")
        held.extend([await anext(stream) for _ in range(ahead)])
        held.append(stream)

    asyncio.run(asyncio.wait_for(main(), 1))
    assert held[-1].result.stop_reason == "cancelled"


@pytest.mark.parametrize("model_type", [Endless, Waiting])
def test_cancel_then_iterate_gives_the_end_with_its_result(model_type: Any) -> None:
    async def main() -> None:
        stream = Agent(model_type()).stream("go")
        while not isinstance(await anext(stream), TextDelta):
            pass
        await stream.cancel()
        *_, last = [event async for event in stream]
        assert isinstance(last, RunFinished)
        assert last.stop_reason == "cancelled"
        assert stream.result is last.result
        assert stream.result.stop_reason == "cancelled"
        await stream.cancel()  # twice is harmless

    asyncio.run(main())


def test_a_stream_that_was_cancelled_before_it_began_does_not_begin() -> None:
    async def main() -> None:
        model = ScriptedModel(["never"])
        stream = Agent(model).stream("go")
        await stream.cancel()
        assert [event async for event in stream] == []
        assert model.requests == []

    asyncio.run(main())


def test_a_stream_that_was_never_iterated_over_leaves_nothing() -> None:
    async def main() -> None:
        stream = Agent(ScriptedModel(["never"])).stream("go")
        await stream.aclose()
        Agent(ScriptedModel(["never"])).stream("go")
        assert await others() == 0

    asyncio.run(main())


def test_cancelling_between_the_first_request_and_the_first_event() -> None:
    async def main() -> None:
        stream = Agent(Waiting()).stream("go")
        reader = asyncio.ensure_future(stream.next_event())
        await asyncio.sleep(0)
        await stream.cancel()
        assert await reader is None
        assert await others() == 0

    asyncio.run(main())


def test_two_tasks_cannot_wait_on_one_stream() -> None:
    async def main() -> None:
        model = Waiting()
        async with Agent(model).stream("go") as stream:
            while not isinstance(await anext(stream), TextDelta):
                pass
            first = asyncio.ensure_future(stream.next_event())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="two tasks iterate over one stream"):
                await stream.next_event()
            first.cancel()
            await asyncio.wait([first])
            second = asyncio.ensure_future(stream.next_event())  # a reader that gave up is none
            await asyncio.sleep(0)
            await stream.cancel()
            assert isinstance(await second, RunFinished)

    asyncio.run(main())


def waiting_tool(begun: asyncio.Event, release: asyncio.Event) -> Any:
    @tool
    async def wait() -> str:
        """Wait."""
        begun.set()
        await release.wait()
        return "waited"

    return wait


def test_to_look_for_an_event_for_some_time_does_not_cancel_the_run() -> None:
    async def main() -> None:
        begun, release = asyncio.Event(), asyncio.Event()
        stream = Agent(ScriptedModel([call("wait"), "Done."]), tools=[waiting_tool(begun, release)]).stream("go")
        while not isinstance(await anext(stream), ToolStarted):
            pass
        looking = asyncio.ensure_future(anext(stream))
        assert await asyncio.wait([looking], timeout=0.01) == (set(), {looking})
        release.set()
        assert isinstance(await looking, ToolFinished)
        assert kinds([event async for event in stream])[-1] == "RunFinished"
        assert stream.result.output == "Done."

    asyncio.run(main())


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled_by_a_time_limit(task: asyncio.Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0)


async def cancelled_by_a_task_group(task: asyncio.Task[Any]) -> None:
    async def wait() -> None:
        await task

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            await asyncio.sleep(0)
            raise LookupError


async def in_the_iteration(stream: Any, begun: asyncio.Event) -> None:
    async for _event in stream:
        ...


async def in_the_body(stream: Any, begun: asyncio.Event) -> None:
    async for event in stream:
        if isinstance(event, ToolStarted):
            await asyncio.Event().wait()


async def in_the_body_of_a_second_task(stream: Any, begun: asyncio.Event) -> None:
    await asyncio.ensure_future(anext(stream))
    await in_the_body(stream, begun)


async def in_a_generator_around_it(stream: Any, begun: asyncio.Event) -> None:
    async for _text in (str(event) async for event in stream):
        ...


async def in_a_with_block(stream: Any, begun: asyncio.Event) -> None:
    async with stream:
        await in_the_body(stream, begun)


@pytest.mark.parametrize("how", [cancelled, cancelled_by_a_time_limit, cancelled_by_a_task_group])
@pytest.mark.parametrize(
    "iterate",
    [in_the_iteration, in_the_body, in_the_body_of_a_second_task, in_a_generator_around_it, in_a_with_block],
)
def test_cancelling_the_task_that_iterates_cancels_the_run(iterate: Any, how: Any) -> None:
    ends: list[str] = []

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            ends.append(event.stop_reason)

    async def main() -> None:
        begun, release = asyncio.Event(), asyncio.Event()
        agent = Agent(ScriptedModel([call("wait"), "never"]), tools=[waiting_tool(begun, release)])
        stream = agent.stream("go", observers=[watch])  # held: nothing here is garbage
        task = asyncio.ensure_future(iterate(stream, begun))
        await begun.wait()
        await others()  # the events so far are taken
        await how(task)
        if iterate is in_the_iteration:
            assert ends == ["cancelled"], "it waits for the end of the run"
        assert await others() == 0
        assert ends == ["cancelled"]
        assert stream.result.stop_reason == "cancelled"

    asyncio.run(main())


def test_a_task_that_has_left_a_stream_to_another_can_be_cancelled() -> None:
    async def main() -> None:
        begun, release, handed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        agent = Agent(ScriptedModel([call("wait"), "Done."]), tools=[waiting_tool(begun, release)])
        stream = agent.stream("go")

        async def begin() -> None:
            await anext(stream)
            handed.set()
            await asyncio.Event().wait()

        first = asyncio.ensure_future(begin())
        await handed.wait()
        second = asyncio.ensure_future(in_the_iteration(stream, begun))
        await begun.wait()
        await cancelled(first)
        release.set()
        await second
        assert stream.result.output == "Done."

    asyncio.run(main())


def test_a_task_that_iterates_over_many_streams_holds_none_of_them() -> None:
    async def main() -> None:
        states: list[weakref.ref[Any]] = []

        def watch(event: Any) -> None:
            if isinstance(event, RunFinished):
                states.append(weakref.ref(event.result.state))

        for model in (ScriptedModel(["Hello."]), Waiting()):
            async for event in Agent(model).stream("go", observers=[watch]):
                if isinstance(event, TextDelta) and isinstance(model, Waiting):
                    break
            del event
            await others()
        gc.collect()
        assert [state() for state in states] == [None, None]

    asyncio.run(main())


async def in_a_with_block_in_scope(stream: Any, scope: anyio.CancelScope) -> None:
    with scope:
        async with stream:
            async for _event in stream:
                ...


async def in_the_iteration_in_scope(stream: Any, scope: anyio.CancelScope) -> None:
    with scope:
        async for _event in stream:
            ...


@pytest.mark.parametrize("iterate", [in_a_with_block_in_scope, in_the_iteration_in_scope])
def test_the_run_waits_for_what_its_calls_do_to_tidy_up(iterate: Any) -> None:
    """A cancel scope of anyio, as web servers have it, cancels whatever its task waits for again and again."""
    log: list[str] = []

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            log.append(event.stop_reason)

    async def main() -> None:
        begun, scope = asyncio.Event(), anyio.CancelScope()

        @tool
        async def work() -> None:
            """Work until cancelled, then tidy up."""
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                for _ in range(50):
                    await asyncio.sleep(0)
                log.append("tidied")

        stream = Agent(ScriptedModel([call("work"), "never"]), tools=[work]).stream("go", observers=[watch])
        task = asyncio.ensure_future(iterate(stream, scope))
        await begun.wait()
        await others()
        scope.cancel()
        await task
        assert log == []
        while len(log) < 2:  # noqa: ASYNC110  the run ends by itself
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert log == ["tidied", "cancelled"]


def test_progress_of_a_cancelled_call_leaves_no_tasks() -> None:
    started = asyncio.Event()

    @tool
    async def busy(ctx: RunContext[None]) -> None:
        """Report much."""
        for number in range(1_000):
            ctx.progress(number)
        started.set()
        await asyncio.Event().wait()

    async def main() -> None:
        stream = Agent(ScriptedModel([call("busy")]), tools=[busy]).stream("go")
        while not isinstance(await anext(stream), ToolStarted):
            pass
        await started.wait()
        await stream.aclose()
        assert await others() == 0

    asyncio.run(main())


def test_leaving_a_sync_stream_cancels_the_run() -> None:
    ended = threading.Event()

    class Thread(Waiting):
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            try:
                return await super().reply(request, on_delta)
            finally:
                ended.set()

    for event in Agent(Thread()).stream_sync("go"):
        if isinstance(event, TextDelta):
            break
    assert ended.wait(1)


# --- a stream that is held by a name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_by", ["break", "timeout", "error"])
def test_leaving_the_loop_over_a_stream_that_is_held_cancels_the_run(left_by: str) -> None:
    @tool
    async def wait() -> str:
        """Wait."""
        await asyncio.Event().wait()
        return "never"

    async def main() -> Any:
        agent = Agent(ScriptedModel([ModelReply(Assistant("I wait.", tool_calls=(call("wait"),))), "Done."]), tools=[wait])
        stream = agent.stream("go")
        with contextlib.suppress(TimeoutError, ValueError):
            async with asyncio.timeout(0.05):
                async for event in stream:
                    if isinstance(event, TextDelta):
                        if left_by == "break":
                            break
                        if left_by == "error":
                            raise ValueError("of the body")
                        await asyncio.Event().wait()  # a slow consumer
        rest = [event async for event in stream]
        return rest[-1]

    last = asyncio.run(main())
    assert isinstance(last, RunFinished) and last.stop_reason == "cancelled"


def test_a_loop_that_is_left_at_its_last_event_has_the_result() -> None:
    async def main() -> str | None:
        stream = Agent(ScriptedModel(["Done."])).stream("go")
        async for event in stream:
            if isinstance(event, RunFinished):
                break
        await stream.aclose()
        return stream.result.output

    assert asyncio.run(main()) == "Done."
