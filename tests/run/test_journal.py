"""The journal: what is stored, in which order, and what happens when it is not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, LogFailed, RunResult, RunState, ScriptedModel, SettingsError, tool
from agentkit.events import LastingEvent, RunFinished, ToolFinished, ToolStarted, encode_event
from agentkit.run.journal import JsonLinesLog, Log, MemoryLog
from agentkit.testing import call
from tests.kit import reloaded

Ran = list[int]


class ShortLog:
    """A log of the program's own."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.events: list[LastingEvent] = []
        self.sizes: list[int] = []
        self.fails_at = fails_at

    async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
        assert seq == len(self.events)
        await asyncio.sleep(0)
        if self.fails_at is not None and seq + len(events) > self.fails_at:
            raise OSError("no space left")
        self.events += events
        self.sizes.append(len(events))

    async def load(self) -> Sequence[LastingEvent]:
        return self.events


def payments(ran: Ran, *script: Any, **options: Any) -> Agent[str]:
    @tool
    async def pay(n: int) -> str:
        """Pay."""
        ran.append(n)
        await asyncio.sleep(0)
        return f"paid {n}"

    return Agent(ScriptedModel(list(script) or [[call("pay", n=n) for n in range(3)], "Done."]), tools=[pay], **options)


async def ended(run: Any) -> RunResult[Any] | BaseException:
    try:
        found: RunResult[Any] = await run
    except (LogFailed, asyncio.CancelledError) as error:
        return error
    return found


@pytest.mark.parametrize("fails_at", range(12))
def test_when_an_append_fails_nothing_that_depends_on_it_has_happened(fails_at: int) -> None:
    ran: Ran = []
    told: list[Any] = []
    log = ShortLog(fails_at)
    found = asyncio.run(ended(payments(ran).run("go", log=log, observers=[told.append])))
    if fails_at >= 10:
        assert isinstance(found, RunResult) and found.output == "Done."
        return
    assert isinstance(found, LogFailed) and "no space left" in str(found)
    assert isinstance(found.__cause__, OSError)
    assert found.state.events == log.events, "the state is what is stored"
    assert [event for event in told if isinstance(event, LastingEvent)] == log.events
    started = {event.call.arguments for event in log.events if isinstance(event, ToolStarted)}
    assert len(ran) <= len(started), "no tool was entered whose start is not stored"
    assert not any(isinstance(event, RunFinished) for event in log.events), "it is left, not ended"


@pytest.mark.parametrize("fails_at", range(1, 10))
def test_a_run_whose_log_failed_goes_on_from_the_log(fails_at: int) -> None:
    ran: Ran = []
    log = ShortLog(fails_at)
    asyncio.run(ended(payments(ran).run("go", log=log)))
    log.fails_at = None
    script: list[Any] = ["Done."] if any(e for e in log.events if not isinstance(e, RunFinished) and len(log.events) > 1) else [
        [call("pay", n=n) for n in range(3)], "Done."
    ]  # fmt: skip
    result = asyncio.run(payments(ran, *script).resume(log=log))
    assert result.output == "Done." and result.state.events == log.events
    assert len(ran) == len({*ran}), "no call ran twice"


def test_events_that_are_recorded_together_are_appended_together() -> None:
    log = ShortLog()
    asyncio.run(payments([]).run("go", log=log))
    assert sum(log.sizes) == 10 and len(log.sizes) < 10
    assert 3 in log.sizes or 2 in log.sizes


@pytest.mark.parametrize("turns", range(1, 60))
def test_a_cancellation_inside_an_append_does_not_lose_it(turns: int) -> None:
    log, ran = ShortLog(), list[int]()

    async def main() -> Any:
        task = asyncio.ensure_future(payments(ran).run("go", log=log))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        return await ended(task)

    asyncio.run(main())
    if log.events:
        state = RunState.replay(log.events)
        assert state.stop_reason in ("cancelled", "answer") and state.open_calls == []
        assert len(ran) <= sum(isinstance(event, ToolStarted) for event in log.events)


def test_an_append_that_does_not_end_is_left_when_the_run_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.run.observers.GRACE", 0.05)
    monkeypatch.setattr("agentkit.run.journal.GRACE", 0.05)

    class Stuck(MemoryLog):
        async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
            entered.set()
            await asyncio.Event().wait()

    async def main() -> Any:
        task = asyncio.ensure_future(payments([]).run("go", log=Stuck()))
        await entered.wait()
        task.cancel()
        return await ended(task)

    entered = asyncio.Event()
    found = asyncio.run(main())
    assert isinstance(found, LogFailed) and "did not end within 0.05 s" in str(found)
    assert found.state.events == []


def test_a_second_run_on_one_log_stops_at_its_first_append() -> None:
    log = MemoryLog()
    ran: Ran = []
    asyncio.run(payments(ran).run("go", log=log))
    with pytest.raises(LogFailed, match="event 0 of a log that has 10 events"):
        asyncio.run(payments(ran, "never").run("go", log=log))
    assert ran == [0, 1, 2]


@pytest.mark.parametrize("make", [lambda path: MemoryLog(), JsonLinesLog], ids=["memory", "file"])
def test_a_stored_run_is_resumed_from_its_log(tmp_path: Path, make: Callable[[Path], Log]) -> None:
    log = make(tmp_path / "run.jsonl")

    @tool(approval=True)
    def delete(path: str) -> str:
        """Delete."""
        return f"deleted {path}"

    paused = Agent(ScriptedModel([call("delete", path="a")]), tools=[delete]).run_sync("go", log=log, run_id="r1")
    assert paused.stop_reason == "pending_approval"
    if isinstance(log, JsonLinesLog):
        log = JsonLinesLog(log.path)  # another process
    agent = Agent(ScriptedModel(["Done."]), tools=[delete])
    result = agent.resume_sync(approvals={paused.pending[0].id: {"approve": True, "by": "ann"}}, log=log)
    assert (result.output, result.run_id) == ("Done.", "r1")
    assert asyncio.run(_load(log)) == result.state.events
    given = next(event for event in result.events if type(event).__name__ == "ApprovalGiven")
    assert given.by == "ann"  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match="the state has 4 events and the log 10"):
        agent.resume_sync(paused.state, log=log)


async def _load(log: Log) -> list[LastingEvent]:
    return RunState.replay(await log.load()).events


def test_a_line_that_a_crash_has_cut_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    asyncio.run(payments([]).run("go", log=JsonLinesLog(path)))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    result = asyncio.run(payments([], "Done.").resume(log=JsonLinesLog(path)))
    assert result.output == "Done."
    assert len(path.read_bytes().splitlines()) == len(result.state.events)


def test_a_log_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("hello\n")
    with pytest.raises(ValueError, match="line 1"):
        asyncio.run(payments([]).resume(log=JsonLinesLog(path)))
    with pytest.raises(SettingsError, match="there is no run to go on with"):
        asyncio.run(payments([]).resume(log=JsonLinesLog(tmp_path / "none.jsonl")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"log": []}, "log is .*; allowed: a Log with `append"),
        ({"log": "run.jsonl"}, "log is 'run.jsonl'; allowed: a Log"),
        ({"leave": True}, "leave is True; allowed: an Event"),
    ],
)
def test_what_is_no_log_or_no_event_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        payments([]).run_sync("go", **options)


def test_large_arguments_and_outputs_are_stored_once(tmp_path: Path) -> None:
    text = "x" * 100_000
    log = JsonLinesLog(tmp_path / "run.jsonl")

    @tool(approval=True, max_output=1_000)
    def write(text: str) -> str:
        """Write."""
        return "y" * 200_000

    agent = Agent(ScriptedModel([call("write", text=text), "Done."]), tools=[write], approve=lambda call: True)
    result = agent.run_sync("go", log=log)
    assert log.path.stat().st_size < 310_000
    assert reloaded(result.state).events == result.state.events


def test_encoding_is_one_pass_and_one_line() -> None:
    result = asyncio.run(payments([]).run("go"))
    for event in result.events:
        line = encode_event(event)
        assert b"\n" not in line and json.loads(line)["v"] == 2


# --- leaving -------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_left_records_nothing_more_and_goes_on_later() -> None:
    leave, ran = threading.Event(), list[int]()

    @tool
    def pay(n: int) -> str:
        """Pay."""
        ran.append(n)
        if n == 1:
            leave.set()
        return f"paid {n}"

    log = MemoryLog()
    agent = Agent(ScriptedModel([[call("pay", n=n) for n in range(4)], "Done."]), tools=[pay])
    left = agent.run_sync("go", log=log, leave=leave)
    assert (left.stop_reason, ran) == ("left", [0, 1]), "the call in flight has ended, and no other has begun"
    assert isinstance(log.events[-1], ToolFinished)
    result = agent.resume_sync(log=log)
    assert (result.output, ran) == ("Done.", [0, 1, 2, 3])


def test_a_stream_that_is_left_ends_without_a_last_event() -> None:
    leave = asyncio.Event()
    leave.set()
    stream = payments([]).stream_sync("go", leave=leave)
    assert [type(event).__name__ for event in stream] == ["RunStarted"]
    assert stream.result.stop_reason == "left"
