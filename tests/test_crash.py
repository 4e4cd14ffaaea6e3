"""A run goes on from any prefix of its events, and ends as it would have; what writes events down has each of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    Limits,
    ModelReply,
    ModelRequest,
    RunContext,
    RunStarted,
    RunState,
    ScriptedModel,
    ToolCall,
    ToolFinished,
    ToolStarted,
    Usage,
    tool,
)
from agentkit.events import LastingEvent
from agentkit.testing import call
from tests.kit import tool_texts


@tool(idempotent=True)
def act(x: int) -> str:
    """Act."""
    return f"did {x}"


@tool(idempotent=True, approval=lambda x: x % 2 == 0)
def ask(x: int) -> str:
    """Act with an approval."""
    return f"did {x}"


def by_turn(request: ModelRequest) -> ModelReply:
    """Two or three calls at each turn, by the turn alone; words where no tool may be called."""
    turn = sum(isinstance(message, Assistant) for message in request.messages)
    if request.tool_choice == "none" or turn > 4:
        return ModelReply(Assistant("Enough."), Usage(1, 10, 5))
    names = ["act", "ask", "gone"][: 2 + turn % 2]
    calls = tuple(ToolCall(f"c{turn}_{n}", name, json.dumps({"x": turn})) for n, name in enumerate(names))
    return ModelReply(Assistant("", "", calls), Usage(1, 10, 5), "tool_calls")


LIMITS = [
    Limits(),
    Limits(steps=2),
    Limits(steps=2, on_limit="answer"),
    *(Limits(tool_calls=n, on_limit=end) for n in (0, 1, 2, 3, 5) for end in ("stop", "answer")),
    Limits(calls_per_reply=1),
    Limits(refusals=1),
    Limits(output_tokens=12),
    Limits(output_tokens=12, on_limit="answer"),
]


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: repr(limits).partition("(")[2][:90])
@pytest.mark.parametrize("approve", [lambda _: True, lambda _: False], ids=["approved", "denied"])
def test_every_prefix_ends_as_the_run_did(limits: Limits, approve: Any) -> None:
    def agent() -> Agent[str]:
        return Agent(ScriptedModel(by_turn), tools=[act, ask], limits=limits, approve=approve)

    whole = agent().run_sync("go")
    for cut in range(1, len(whole.events)):
        last = whole.events[cut - 1]
        if isinstance(last, ToolStarted) and last.call.name == "gone":
            continue  # the outcome is unknown there
        state = RunState.replay(whole.events[:cut]).fork()
        got = agent().resume_sync(json.loads(json.dumps(state.to_json())))
        wanted = whole.stop_reason, whole.steps, whole.output, whole.usage.tool_calls, tool_texts(whole)
        assert (got.stop_reason, got.steps, got.output, got.usage.tool_calls, tool_texts(got)) == wanted, last


def prefix_with_a_started_call(**labels: Any) -> RunState:
    made = tool(lambda: "done", name="pay", description="Pay.", **labels)
    whole = Agent(ScriptedModel([call("pay"), "Done."]), tools=[made]).run_sync("go")
    cut = next(n for n, event in enumerate(whole.events) if isinstance(event, ToolStarted)) + 1
    return RunState.replay(whole.events[:cut])


@pytest.mark.parametrize("labels", [{}, {"idempotent": True}, {"read_only": True}])
def test_a_started_call_whose_tool_is_gone_or_renamed_has_an_unknown_outcome(labels: dict[str, Any]) -> None:
    renamed = tool(lambda: "again", name="pay_v2", description="Pay.", **labels)
    result = Agent(ScriptedModel(["I must find out."]), tools=[renamed]).resume_sync(prefix_with_a_started_call(**labels))
    assert tool_texts(result)[0].startswith("error: outcome unknown: the program stopped while this call was running")
    (finished,) = [event for event in result.events if isinstance(event, ToolFinished)]
    assert finished.refused == "lost"


def test_a_call_that_is_made_again_counts_once_and_has_its_room() -> None:
    state = prefix_with_a_started_call(idempotent=True)
    made = tool(lambda: "done", name="pay", description="Pay.", idempotent=True)
    agent = Agent(ScriptedModel(["Done."]), tools=[made], limits=Limits(tool_calls=1))
    result = agent.resume_sync(state)
    assert (result.stop_reason, tool_texts(result), result.usage.tool_calls) == ("answer", ["done"], 1)
    assert sum(isinstance(event, ToolStarted) for event in result.events) == 2


# --- forks ---------------------------------------------------------------------------------------------------------------


def keys_of(tool_calls: list[ToolCall], state: RunState | None = None) -> list[str]:
    keys: list[str] = []

    @tool(idempotent=True)
    def pay(ctx: RunContext[None], amount: int) -> str:
        """Pay."""
        keys.append(ctx.idempotency_key)
        return "paid"

    agent = Agent(ScriptedModel([*tool_calls, "Done."]), tools=[pay])
    if state is None:
        agent.run_sync("go", run_id="r")
    else:
        agent.resume_sync(state)
    return keys


def test_a_key_is_of_the_run_the_place_and_the_call() -> None:
    one, other = call("pay", amount=1), call("pay", amount=999)
    begun = RunState.replay([RunStarted("r", ())])
    assert keys_of([one]) == ["r:0"]
    assert keys_of([one], begun) == keys_of([one], begun), "the same call, made again"
    assert keys_of([other], begun) != keys_of([one]), "another call at its place"
    assert keys_of([one], begun.fork()) != keys_of([one])


def test_a_fork_is_another_run_that_began_as_this_one() -> None:
    whole = Agent(ScriptedModel([call("act", x=1), "Done."]), tools=[act]).run_sync("go", run_id="r")
    for until in (1, 3, None):
        fork = whole.state.fork(until=until)
        assert fork.run_id not in ("", "r")
        assert fork.events[1:] == whole.events[1:until]
    assert whole.state.fork(run_id="mine").run_id == "mine"
    assert whole.state.run_id == "r"
    with pytest.raises(ValueError, match="a fork needs at least the first event of its run: until=1"):
        whole.state.fork(until=0)
    with pytest.raises(ValueError, match="a fork needs"):
        RunState().fork()


# --- who writes events down ----------------------------------------------------------------------------------------------


class Store:
    """An async observer that takes a moment for each event, as one does that writes to a database."""

    deltas = False

    def __init__(self) -> None:
        self.kept: list[LastingEvent] = []

    async def __call__(self, event: Any) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        self.kept.append(event)


@pytest.mark.parametrize("by", ["cancel", "seconds"])
def test_a_store_has_each_event_whenever_the_run_is_cancelled(by: str) -> None:
    """Cancelled at each turn of the loop; a limit on time ends the run in the same way."""

    async def main(turns: int) -> Store:
        store, loop = Store(), asyncio.get_running_loop()

        @tool
        async def pay(x: int) -> str:
            """Pay."""
            await asyncio.sleep(0)
            return "paid"

        script: list[Any] = [[call("pay", x=1), call("pay", x=2)], [call("pay", x=3)], "Done."]
        agent = Agent(ScriptedModel(script), tools=[pay])
        task = asyncio.ensure_future(agent.run("go", observers=[store]))
        for _ in range(turns):
            await asyncio.sleep(0)
        if by == "cancel":
            task.cancel()
        else:
            loop.call_soon(task.cancel)
            loop.call_soon(task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return store

    for turns in range(1, 70):
        kept = asyncio.run(main(turns)).kept
        if kept:
            state = RunState.replay(kept)
            assert state.stop_reason in ("cancelled", "answer")
            assert state.open_calls == []


def test_an_observer_that_never_ends_is_left_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agentkit.run.observers.GRACE", 0.05)
    seen: list[Any] = []

    async def main() -> None:
        entered = asyncio.Event()

        async def stuck(event: Any) -> None:
            seen.append(event)
            entered.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(Agent(ScriptedModel(["Done."])).run("go", observers=[stuck]))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with caplog.at_level(logging.WARNING, "agentkit"):
        asyncio.run(main())
    assert "did not take an event in within 0.05 s and lost it" in caplog.text
    assert len(seen) == 1, "it is told of no later event"


# --- many calls ----------------------------------------------------------------------------------------------------------


def test_the_fold_of_many_calls_is_linear() -> None:
    """Counted in steps of the interpreter, not in time. The tracer of a coverage run is put back."""
    import sys

    def steps(calls: int) -> int:
        script: list[Any] = [[ToolCall(f"c{n}", "act", '{"x": 1}') for n in range(calls)], "Done."]
        events = Agent(ScriptedModel(script), tools=[act]).run_sync("go").events
        count = itertools.count()

        def trace(*_: Any) -> Any:
            next(count)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            RunState.replay(events)
        finally:
            sys.settrace(before)
        return next(count)

    assert steps(3_000) < 15 * steps(300)


# --- what is answered after a crash ----------------------------------------------------------------------------------------


def flaky(*, name: str, fails: bool, **labels: Any) -> Any:
    def work() -> str:
        """Work."""
        if fails:
            raise ValueError("broken")
        return "ok"

    return tool(work, name=name, **labels)


def test_a_started_call_is_not_refused_for_the_failures_of_another() -> None:
    work = flaky(name="work", fails=True, idempotent=True, parallel=True, retries=0)
    whole = Agent(ScriptedModel([[call("work"), call("work")], "Done."]), tools=[work]).run_sync("go")
    at = next(n for n, event in enumerate(whole.events) if isinstance(event, ToolFinished))
    prefix = [event for event in whole.events[: at + 1] if not isinstance(event, ToolStarted)]
    starts = [event for event in whole.events if isinstance(event, ToolStarted)]
    state = RunState.replay([*prefix[:-1], *starts, prefix[-1]])
    works = flaky(name="work", fails=False, idempotent=True, parallel=True, retries=0)
    result = Agent(ScriptedModel(["Done."]), tools=[works]).resume_sync(state)
    assert sorted(tool_texts(result)) == ["error: ValueError: broken", "ok"]


def test_a_started_call_is_run_again_where_no_new_one_may_be_made() -> None:
    work = flaky(name="work", fails=False, idempotent=True)
    whole = Agent(ScriptedModel([call("work"), "Done."]), tools=[work]).run_sync("go")
    at = next(n for n, event in enumerate(whole.events) if isinstance(event, ToolStarted))
    agent = Agent(ScriptedModel(["Done."]), tools=[work], tool_choice="none")
    assert tool_texts(agent.resume_sync(RunState.replay(whole.events[: at + 1]))) == ["ok"]


def test_calls_that_time_has_ended_are_unknown_at_each_prefix_of_the_end() -> None:
    @tool
    async def endless(n: int) -> str:
        """Wait."""
        await asyncio.Event().wait()
        return ""

    def agent(*script: Any) -> Agent[str]:
        limits = Limits(seconds=0.05, on_limit="answer")
        return Agent(ScriptedModel(list(script)), tools=[endless], limits=limits)

    whole = agent([call("endless", n=1), call("endless", n=2)], "never").run_sync("go")
    assert (whole.stop_reason, whole.output, len(whole.uncertain)) == ("limit:seconds", "", 2)
    closing = [n for n, event in enumerate(whole.events) if isinstance(event, ToolFinished)]
    for until in (closing[0] + 1, closing[1] + 1):
        again = agent("never").resume_sync(RunState.replay(whole.events[:until]))
        assert (again.stop_reason, again.steps, len(again.uncertain)) == ("limit:seconds", 1, 2)
