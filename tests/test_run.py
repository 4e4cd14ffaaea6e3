"""Observers: what they are told and when, one that raises, one that blocks; progress; and the end of a run that failed."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from agentkit import (
    Agent,
    AgentError,
    AuthError,
    ChatModel,
    Fallback,
    Limiter,
    Limits,
    ModelReply,
    ModelRequest,
    ModelRetry,
    RateLimited,
    RunContext,
    RunFinished,
    RunStarted,
    RunState,
    ScriptedModel,
    StepStarted,
    TextDelta,
    ToolCall,
    ToolFinished,
    ToolProgress,
    ToolResult,
    ToolStarted,
    tool,
)
from agentkit.events import LastingEvent
from agentkit.testing import DeepSeekSimulator, call
from tests.kit import How, Simulate, tool_texts


@tool(read_only=True)
def look(n: int) -> int:
    """Look."""
    return n


@tool
async def step(n: int) -> int:
    """Step."""
    for _ in range(n):
        await asyncio.sleep(0)
    return n


def scripted(*script: Any, **options: Any) -> Agent[Any]:
    return Agent(ScriptedModel(list(script)), **{"tools": [look, step], "retry": None, **options})


MANY = [call("step", n=5), call("look", n=1), call("step", n=0), call("step", n=2), call("look", n=2)]


class Told(list[Any]):
    """An observer that keeps what it is told; it may be slow, and may fail at one kind of event."""

    def __init__(self, *, pauses: int = 0, fails_at: type[Any] | None = None, deltas: bool = True, strict: bool = True) -> None:
        super().__init__()
        self.pauses, self.fails_at, self.deltas, self.strict = pauses, fails_at, deltas, strict
        self.heard = 0

    async def __call__(self, event: Any) -> None:
        self.heard += 1
        for _ in range(self.pauses * (self.heard % 2)):  # slow at one event, quick at the next
            await asyncio.sleep(0)
        self.append(event)
        if self.fails_at is not None and isinstance(event, self.fails_at):
            raise OSError("disk full")


def test_observers_sync_and_async_are_told_of_all_events(how: How) -> None:
    plain: list[Any] = []
    told = Told()
    result = how(scripted(MANY, "Done."), "go", observers=[plain.append, told])
    assert plain == told
    assert [event for event in plain if isinstance(event, LastingEvent)] == result.events
    assert [type(event) for event in plain].count(StepStarted) == 2
    assert "".join(event.text for event in plain if isinstance(event, TextDelta)) == "Done."


def test_every_observer_is_told_of_lasting_events_in_the_states_order() -> None:
    slow, quick = Told(pauses=20), Told()
    result = asyncio.run(scripted(MANY, "Done.").run("go", observers=[slow, quick]))
    for told in (slow, quick):
        assert [event for event in told if isinstance(event, LastingEvent)] == result.events


@pytest.mark.parametrize("way", ["run", "run_sync"])
def test_an_observer_without_deltas_does_not_make_the_run_stream(simulate: Simulate, way: str) -> None:
    sim = simulate()
    told = Told(deltas=False)
    agent = Agent(ChatModel(base_url=sim.base_url))
    result = asyncio.run(agent.run("Hi", observers=[told])) if way == "run" else agent.run_sync("Hi", observers=[told])
    assert [event for event in told if isinstance(event, LastingEvent)] == result.events
    assert [type(event) for event in told if not isinstance(event, LastingEvent)] == [StepStarted]
    assert "stream" not in sim.requests[0].body
    agent.run_sync("Hi", observers=[Told()])
    assert sim.requests[1].body["stream"] is True


def test_an_async_observer_that_blocks_holds_the_run() -> None:
    async def main() -> None:
        told, release, model = asyncio.Event(), asyncio.Event(), ScriptedModel(["Hello."])

        async def block(event: Any) -> None:
            if isinstance(event, RunStarted):
                told.set()
                await release.wait()

        run = asyncio.ensure_future(Agent(model).run("Hi", observers=[block]))
        await told.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert model.requests == []
        release.set()
        assert (await run).output == "Hello."

    asyncio.run(main())


@pytest.mark.parametrize("calls", [[call("step", n=1)], MANY], ids=["one call", "several calls"])
@pytest.mark.parametrize("kind", [ToolStarted, ToolFinished])
def test_a_strict_observer_that_raises_leaves_the_run_with_its_error(how: How, kind: Any, calls: Any) -> None:
    before, failing, after = Told(), Told(fails_at=kind), Told()
    with pytest.raises(OSError, match="disk full"):
        how(scripted(calls, "never"), "go", observers=[before, failing, after])
    assert isinstance(failing[-1], kind)  # it missed nothing before, and is told of nothing after
    for told in (before, after):
        state = RunState.replay(event for event in told if isinstance(event, LastingEvent))
        assert state.stop_reason is None and state.steps == 1, "it is left, and can go on"


@pytest.mark.parametrize("kind", [RunStarted, StepStarted, ToolStarted, ToolProgress, ToolFinished, TextDelta, RunFinished])
def test_an_observer_that_raises_is_dropped_and_the_run_goes_on(how: How, kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    failing, other = Told(fails_at=kind, strict=False), Told()

    @tool
    def reports(ctx: RunContext[Any]) -> str:
        """Report."""
        ctx.progress("half")
        return "whole"

    agent = Agent(ScriptedModel([call("reports"), "Done."]), tools=[reports])
    assert how(agent, "go", observers=[failing, other]).output == "Done."
    assert isinstance(failing[-1], kind), "it gets no more events"
    assert isinstance(other[-1], RunFinished)
    (record,) = [record for record in caplog.records if "gets no more events" in record.message]
    assert "Traceback" in record.message and "disk full" in record.message


def test_an_assertion_in_an_observer_ends_the_run(how: How) -> None:
    def check(event: Any) -> None:
        assert not isinstance(event, ToolStarted), "no tool may run"

    with pytest.raises(AssertionError, match="no tool may run"):
        how(scripted(call("step", n=1), "never"), "go", observers=[check])


def test_a_strict_observer_that_always_raises_does_not_hide_its_first_error(how: How) -> None:
    def fail(event: Any) -> None:
        raise OSError(f"at {type(event).__name__}")

    fail.strict = True  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="at RunStarted"):
        how(scripted("never"), "go", observers=[fail])


def test_a_strict_observer_that_raises_at_the_end_raises_too(how: How) -> None:
    with pytest.raises(OSError, match="disk full"):
        how(scripted("Hello."), "go", observers=[Told(fails_at=RunFinished)])


def test_a_failing_observer_does_not_hide_the_models_error(how: How) -> None:
    told = Told(fails_at=RunFinished)
    with pytest.raises(AuthError, match="no key") as caught:
        how(scripted(AuthError("no key")), "go", observers=[told])
    assert caught.value.state.stop_reason == "error"
    assert isinstance(told[-1], RunFinished)


def test_progress_comes_between_the_start_and_the_end_of_its_call(how: How) -> None:
    @tool
    def works(ctx: RunContext[None]) -> str:
        """Work."""
        for part in range(3):
            ctx.progress({"part": part})
        return "done"

    told = Told()
    how(Agent(ScriptedModel([call("works"), "Done."]), tools=[works]), "go", observers=[told])
    kinds = [type(event) for event in told]
    start, end = kinds.index(ToolStarted), kinds.index(ToolFinished)
    assert kinds[start + 1 : end] == [ToolProgress] * 3
    assert [event.data for event in told[start + 1 : end]] == [{"part": 0}, {"part": 1}, {"part": 2}]


def test_progress_of_a_thread_that_outlived_its_call_is_dropped() -> None:
    go_on, reported = threading.Event(), threading.Event()

    @tool(timeout=0.05)
    def late(ctx: RunContext[None]) -> None:
        """Too late."""
        go_on.wait(5)
        ctx.progress("too late")
        reported.set()

    async def main() -> Told:
        told = Told()
        await Agent(ScriptedModel([call("late"), "Done."]), tools=[late]).run("go", observers=[told])
        go_on.set()
        await asyncio.to_thread(reported.wait, 5)
        for _ in range(5):
            await asyncio.sleep(0)
        return told

    told = asyncio.run(main())
    assert isinstance(told[-1], RunFinished)
    assert not [event for event in told if isinstance(event, ToolProgress)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("in_thread", [True, False])
@pytest.mark.parametrize("calls", [1, 2])
def test_an_exit_raised_in_a_tool_comes_out_and_leaves_the_state_whole(
    how: How, error: type[BaseException], in_thread: bool, calls: int
) -> None:
    def leave() -> None:
        """Leave."""
        raise error

    async def leave_async() -> None:
        """Leave."""
        raise error

    told: list[Any] = []
    name = "leave" if in_thread else "leave_async"
    agent = Agent(ScriptedModel([[call(name)] * calls]), tools=[leave, leave_async])
    with pytest.raises(error):
        how(agent, "go", observers=[told.append])
    end = told[-1]
    assert isinstance(end, RunFinished)
    assert end.stop_reason in ("error", "cancelled")
    assert len([m for m in end.result.messages if isinstance(m, ToolResult)]) == calls


def test_a_tool_that_keeps_failing_is_given_up_after_its_retries(how: How) -> None:
    made: list[int] = []

    @tool(retries=1)
    def flaky() -> None:
        """Fail."""
        made.append(1)
        raise ValueError("no")

    result = how(Agent(ScriptedModel([*[call("flaky")] * 4, "Done."]), tools=[flaky]), "go")
    told = tool_texts(result)
    assert len(made) == 2
    assert told[2:] == [f"error: not run: flaky failed {n} times in a row; go on without it" for n in (2, 2)]


def test_a_script_that_is_used_up_ends_the_run_with_a_typed_error(how: How) -> None:
    with pytest.raises(AgentError, match="asked for one more") as caught:
        how(scripted(call("look", n=1)), "go")
    assert caught.value.state.steps == 1


def test_a_thousand_runs_at_once_and_nothing_is_left() -> None:
    def reply(request: ModelRequest) -> Any:
        return "Done." if request.messages[-1].role == "tool" else [call("step", n=1), call("step", n=2)]

    class Yielding(ScriptedModel):
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            await asyncio.sleep(0)
            return await super().reply(request, on_delta)

    async def main() -> None:
        agent = Agent(Yielding(reply), tools=[step])
        results = await asyncio.gather(*(agent.run(str(n)) for n in range(1_000)))
        assert {result.output for result in results} == {"Done."}
        assert len({result.run_id for result in results}) == 1_000
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_the_suite_itself_cannot_leave_loopback(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as out, pytest.raises(RuntimeError, match="tests use loopback only"):
        out.connect(address)


# --- what observers, limits and watchers must not lose ------------------------------------------------------------------


def lasting(got: list[Any]) -> Any:
    def store(event: Any) -> None:
        if isinstance(event, LastingEvent):
            got.append(event)

    store.deltas = False  # type: ignore[attr-defined]
    return store


@tool
async def number(n: int) -> int:
    """Give it back."""
    return n


def test_an_observer_that_fails_leaves_no_gap_for_the_others(how: How) -> None:
    got: list[Any] = []

    def bad(event: Any) -> None:
        if isinstance(event, ToolFinished):
            raise RuntimeError("disk")

    how(Agent(ScriptedModel([call("number", n=1), "ok"]), tools=[number]), "x", observers=[bad, lasting(got)])
    assert [type(event).__name__ for event in got] == [
        "RunStarted",
        "ModelReplied",
        "ToolStarted",
        "ToolFinished",
        "ModelReplied",
        "RunFinished",
    ]
    assert RunState.replay(got).messages == got[-1].result.messages


@pytest.mark.parametrize("by_limit", [False, True])
def test_a_cancellation_while_an_observer_waits_leaves_no_gap_for_the_others(
    by_limit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentkit.run.observers.GRACE", 0.1)
    got: list[Any] = []

    async def main() -> None:
        here = asyncio.Event()

        async def slow(event: Any) -> None:
            if isinstance(event, ToolFinished) and not here.is_set():
                here.set()
                await asyncio.sleep(30)

        limits = Limits(seconds=0.2 if by_limit else None)
        agent = Agent(ScriptedModel([[call("number", n=n) for n in range(3)], "ok"]), tools=[number], limits=limits)
        task = asyncio.create_task(agent.run("x", observers=[slow, lasting(got)]))
        if not by_limit:
            await here.wait()
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    state = got[-1].result.state
    assert RunState.replay(got).messages == state.messages
    assert tool_texts(state) == ["0", "1", "2"], "what was done is not unknown"


def test_a_second_cancellation_does_not_cut_the_end_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.run.observers.GRACE", 0.1)
    got: list[Any] = []

    async def main() -> None:
        started, closing = asyncio.Event(), asyncio.Event()

        @tool
        async def wait() -> None:
            """Wait."""
            started.set()
            await asyncio.Event().wait()

        async def stuck(event: Any) -> None:
            if isinstance(event, ToolFinished):
                closing.set()
                await asyncio.Event().wait()

        agent = Agent(ScriptedModel([[call("wait"), call("wait")], "never"]), tools=[wait])
        task = asyncio.create_task(agent.run("x", observers=[stuck, lasting(got)]))
        await started.wait()
        task.cancel()
        await closing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [type(event).__name__ for event in got][-3:] == ["ToolFinished", "ToolFinished", "RunFinished"]
    assert got[-1].stop_reason == "cancelled" and got[-1].result.state.open_calls == []


def test_an_observer_that_is_cancelled_by_itself_fails_and_cancels_nothing(how: How, caplog: pytest.LogCaptureFixture) -> None:
    got: list[Any] = []

    def bad(event: Any) -> None:
        if isinstance(event, ToolStarted):
            raise asyncio.CancelledError

    model = ScriptedModel([[call("number", n=1), call("number", n=2)], "Done."])
    how(Agent(model, tools=[number]), "x", observers=[bad, lasting(got)])
    assert got[-1].stop_reason == "answer"
    assert "it was cancelled, and the run was not" in caplog.text


def test_a_strict_observer_that_fails_at_the_very_first_event_leaves_a_whole_run(how: How) -> None:
    got: list[Any] = []
    with pytest.raises(OSError, match="disk full"):
        how(scripted("never"), "go", observers=[Told(fails_at=RunStarted), lasting(got)])
    assert [type(event).__name__ for event in got] == ["RunStarted"]


def test_a_watcher_that_fails_at_progress_does_not_undo_the_call() -> None:
    got: list[Any] = []

    @tool
    async def pay(ctx: RunContext[None]) -> str:
        """Pay."""
        ctx.progress("half")
        return "paid 100"

    def bad(event: Any) -> None:
        if isinstance(event, ToolProgress):
            raise RuntimeError("ui")

    bad.strict = True  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="ui"):
        Agent(ScriptedModel([call("pay"), "ok"]), tools=[pay]).run_sync("x", observers=[bad, lasting(got)])
    assert [event.result.content for event in got if isinstance(event, ToolFinished)] == ["paid 100"]


def test_an_answer_is_rendered_when_its_call_returns(how: How) -> None:
    shared: dict[str, list[int]] = {"async": [], "sync": []}

    @tool
    async def add(n: int) -> list[int]:
        """Add, with others at the same time."""
        shared["async"].append(n)
        return shared["async"]

    @tool
    def add_sync(n: int) -> list[int]:
        """Add, one after another."""
        shared["sync"].append(n)
        return shared["sync"]

    for name in ("add", "add_sync"):
        for known in shared.values():
            known.clear()
        result = how(Agent(ScriptedModel([[call(name, n=n) for n in range(3)], "ok"]), tools=[add, add_sync]), "x")
        assert tool_texts(result) == ["[0]", "[0,1]", "[0,1,2]"]


def test_no_tool_runs_where_none_may_be_called(how: How) -> None:
    ran: list[int] = []

    @tool
    def t() -> str:
        """Run."""
        ran.append(1)
        return "r"

    result = how(Agent(ScriptedModel([call("t"), "ok"]), tools=[t], tool_choice="none"), "x")
    assert (result.output, ran) == ("ok", [])
    assert tool_texts(result) == ["error: not run: no tool may be called here; answer in words"]


def test_an_accepted_answer_is_kept_at_the_limit_of_calls(how: How) -> None:
    replies = [[call("number", n=1)], [call("number", n=2), call("final_answer", x=1)]]
    agent = Agent(ScriptedModel(replies), tools=[number], output_type=dict[str, int], limits=Limits(tool_calls=1))
    result = how(agent, "x")
    assert (result.stop_reason, result.output) == ("answer", {"x": 1})
    told = tool_texts(result)
    assert told == ["1", "error: not run: the run has reached its limit of tool calls", "accepted"]


@pytest.mark.parametrize("text", ["x" * 300_000, ""])
def test_what_the_model_is_told_of_an_error_is_bounded(how: How, text: str) -> None:
    @tool
    def t(n: int = 0) -> str:
        """Fail."""
        raise ModelRetry(text)

    script: list[Any] = [call("t"), ToolCall("a", "t", json.dumps({"k" * len(text): 1})), ToolCall("b", "u" + text, "{}"), "ok"]
    result = how(Agent(ScriptedModel(script), tools=[t]), "x")
    assert all(len(m.content) < 11_000 for m in result.messages if isinstance(m, ToolResult))


def test_a_validators_secret_is_not_told() -> None:
    def check(value: str) -> str:
        raise ValueError("db postgres://bob:hunter22@db refused")

    @tool
    def t(x: Annotated[str, AfterValidator(check)]) -> str:
        """Take it."""
        return x

    result = Agent(ScriptedModel([call("t", x="a"), "ok"]), tools=[t]).run_sync("x")
    (told,) = tool_texts(result)
    assert told.startswith("error: x: db postgres://[redacted]@db refused")


def test_a_models_error_of_an_observer_is_not_the_models_own() -> None:
    """It would be asked again for it, or another model would; and the observer's error would be told to nobody."""

    def watch(event: Any) -> None:
        if isinstance(event, TextDelta):
            raise RateLimited("the moderation service is busy")

    watch.strict = True  # type: ignore[attr-defined]
    with DeepSeekSimulator(["hello", "never"]) as simulator:
        model = ChatModel(base_url=simulator.base_url, limiter=Limiter(concurrency=8))
        for agent in (Agent(model), Agent(Fallback(model, model))):
            with pytest.raises(RateLimited, match="moderation") as caught:
                agent.run_sync("hi", observers=[watch])
            assert caught.value.state.stop_reason is None
        assert (len(simulator.requests), model.limiter.concurrency) == (2, 8)
