"""Stored runs as tests: today's agent is driven through a stored run, and the first difference is shown.

The model's replies, the results of tools and the approvals come from the stored run. There is no network, no tool's function is
called, and middleware, observers and the view of `history=` are left out: their work is in the stored run. The program's own
code that decides what the model is sent and what is an answer does run: functions of instructions and tools, policies, and
validators.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import os
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from .. import _sync as portal
from .._agent_tool import scope_of
from ..agent import Agent
from ..errors import AgentError, ModelRetry, SettingsError, StopRun, Suspended
from ..events import (
    ApprovalGiven,
    CallSuspended,
    LastingEvent,
    ModelReplied,
    ResultGiven,
    RunResumed,
    RunStarted,
    ToolFinished,
    UsageAdded,
)
from ..messages import Assistant, Message, Spending, System, ToolCall, ToolResult
from ..model import DeltaSink, ModelInfo, ModelReply, ModelRequest, info_of
from ..parts import ToolReturn
from ..run.execute import render
from ..run.fingerprint import described, digest
from ..run.middleware import Middleware, NextToolCall
from ..run.result import RunResult
from ..run.state import RunState
from ..tools.context import RunContext
from ..tools.registry import ToolRegistry
from .transcript import said, transcript

__all__ = ["ReplayMismatch", "replay"]

T = TypeVar("T")
Part: TypeAlias = "Callable[[str, str], Any]"
"""Gives a part of an agent by its name and its digest."""
_END = "replay:"
"""The beginning of the stop reasons of a replay that has come to the end of the stored run."""
_UNNAMED = ("model", "instructions")
"""Parts of a fingerprint that are not named: the model is a stored one, and instructions are in the transcript."""


class ReplayMismatch(AssertionError):
    """Today's agent does something else than the stored run. `diff` is a unified diff of what was said and done."""

    def __init__(self, message: str, diff: str) -> None:
        super().__init__(f"{message}\n{diff}" if diff else message)
        self.diff = diff


class Events(Protocol):
    """A store of runs, as far as a replay needs it."""

    def events(self, run_id: str) -> list[LastingEvent]:
        """The events of a run."""
        ...


def replay(
    source: Events | RunState | str | Path, run_id: str | None, agent: Agent[Any], *, deps: Any = None
) -> RunResult[Any]:
    """Drive today's agent through a stored run, and return its result.

    `source` is a store or its address, a file of `agentkit export` or `RunState.save`, or a state; only a store needs the
    `run_id`. `deps` is for instructions, tools and policies that depend on it. Raises `ReplayMismatch`, an AssertionError, if
    anything differs: the instructions, a call or its arguments, whether it needs an approval, a result that the model is told,
    or the answer. Other parts of the agent (tools' schemas, settings, output type) are named if they changed. A run that was
    cancelled, failed or broke off is compared as far as it came.
    """
    if isinstance(source, str | Path) and _is_store(source):
        from ..store import open_store

        store = open_store(str(source))
        with contextlib.closing(store):
            return replay(store, run_id, agent, deps=deps)
    stored = _state_of(source, run_id)
    return _run(_replayed(stored, agent, deps, getattr(source, "part", None)))


def _is_store(source: str | Path) -> bool:
    if "://" in str(source):
        return True
    try:
        with Path(source).open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:  # the reading of the file says what is wrong
        return False


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also where an event loop runs, as in an async test."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return portal.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def _state_of(source: Any, run_id: str | None) -> RunState:
    if isinstance(source, RunState | str | Path):
        state = source if isinstance(source, RunState) else RunState.load(source)
        if not state.events or run_id not in (None, state.run_id):
            raise SettingsError(f"run_id is {run_id!r}; the run there is {state.run_id!r}, with {len(state.events)} events")
        return state
    events = source.events(run_id)
    if not events:
        raise AgentError(f"there is no run {run_id!r} with events in {source}")
    return RunState.replay(events)


async def _replayed(stored: RunState, agent: Agent[Any], deps: Any, part: Part | None) -> RunResult[Any]:
    today = await agent._for_run({"deps": deps, "run_id": stored.run_id})
    driven = today.copy(
        model=_Stored(stored, today.model),
        middleware=(_StoredResults(stored, today.spec.tools),),
        history=_whole if today.parts["history"] else None,
        approve=None,
        retry=None,
        observers=(),
        deps_type=None,
    )
    result = await _drive(stored, driven, deps)
    changed = _changed_parts(stored, driven, part)
    _compare(stored, result.state, changed)
    return result


def _whole(messages: Sequence[Message], _new_from: int) -> Sequence[Message]:
    return messages


async def _drive(stored: RunState, agent: Agent[Any], deps: Any) -> RunResult[Any]:
    approvals = {event.call_id: event for event in stored.events if isinstance(event, ApprovalGiven)}
    results = {event.call_id: event for event in stored.events if isinstance(event, ResultGiven)}
    try:
        result = await agent._drive(RunState(), [_begun(stored, agent)], {"deps": deps})
        while result.state.pending:
            waiting = {call.id for call in result.state.pending}
            given = [event for answers in (approvals, results) for event in answers.values() if event.call_id in waiting]
            answers = [replace(event, at=0.0) for event in given or _ended(stored, waiting)]
            if not answers:
                break
            state = RunState.replay(result.state.events)
            result = await agent._drive(state, [agent._resumed(state), *answers], {"deps": deps})
    except AgentError as error:  # an answer that does not fit, or a limit that raises: the comparison shows it
        if error.state is None:
            raise
        result = RunResult(None, error.state)
    return result


def _ended(stored: RunState, waiting: Collection[str]) -> list[ToolFinished]:
    """The ends of waiting calls in a run that was cancelled while it waited, and was resumed."""
    last = max((n for n, event in enumerate(stored.events) if isinstance(event, ModelReplied)), default=0)
    ends = [event for event in stored.events[:last] if isinstance(event, ToolFinished)]
    return [event for event in ends if event.call.id in waiting and event.refused]


def _begun(stored: RunState, agent: Agent[Any]) -> RunStarted:
    """The first event, with today's instructions. The new id keeps approvals in this process apart from those of the run."""
    first = stored.events[0]
    assert isinstance(first, RunStarted)
    known = first.fingerprint.get("instructions")
    rest = first.messages
    if rest and isinstance(rest[0], System) and (known != digest("")[:16] or agent.spec.instructions):
        rest = rest[1:]
    messages = (System(agent.spec.instructions), *rest) if agent.spec.instructions else rest
    new_from = first.new_from + len(messages) - len(first.messages)
    new_id = os.urandom(16).hex()
    return RunStarted(new_id, messages, new_from, agent.name, agent.fingerprint, metadata=first.metadata)


def _value(text: str, *, is_json: bool) -> Any:
    """The value that is rendered as this text."""
    value = json.loads(text) if is_json else text
    return value if render(value) == text else text


class _Stored:
    """A model that says what the stored run's model said."""

    def __init__(self, stored: RunState, model: Any) -> None:
        self._replies = _replies(stored)
        self._next, self._info = 0, info_of(model)

    @property
    def info(self) -> ModelInfo:
        """That of the agent's model."""
        return self._info

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The next reply."""
        if self._next == len(self._replies):
            raise StopRun(f"{_END} the model is asked for one more reply")
        found, beside = self._replies[self._next]
        self._next += 1
        return ModelReply(found.message, found.usage, found.finish_reason, found.model, found.cost, estimated=beside)


def _replies(stored: RunState) -> list[tuple[ModelReplied, Spending]]:
    """The replies, and what each of their steps spent besides. Limits count that too."""
    found: list[tuple[ModelReplied, Spending]] = []
    before, has_replied = Spending(), False
    for event in stored.events:
        if isinstance(event, ModelReplied):
            found.append((event, before))
            before, has_replied = Spending(), True
        elif not isinstance(event, UsageAdded):
            has_replied = False
        elif not event.call_id:
            spent = Spending(event.usage, event.cost or 0.0)
            if has_replied:
                found[-1] = (found[-1][0], found[-1][1] + spent)
            else:
                before += spent
    return found


class _StoredResults(Middleware):
    """Answers calls as in the stored run, after it has checked their arguments."""

    changes_requests = False

    def __init__(self, stored: RunState, tools: ToolRegistry) -> None:
        self._tools, self._finished = tools, {e.call.id: e for e in stored.events if isinstance(e, ToolFinished)}
        self._suspended = {e.call_id: e for e in stored.events if isinstance(e, CallSuspended) and e.pending}
        last = max((n for n, event in enumerate(stored.events) if isinstance(event, ModelReplied)), default=0)
        self._spent = [event for event in stored.events if isinstance(event, UsageAdded) and event.call_id]
        self._cut = {e.call.id for e in stored.events[last:] if isinstance(e, ToolFinished) and e.refused == "ended"}

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """The stored result."""
        tool = self._tools.get(call.name)
        if tool is None:
            return await next(call)  # which tells the model that there is no such tool
        tool.parse(call.arguments)
        await self._count(call, ctx)
        found, suspended = self._finished.get(call.id), self._suspended.get(call.id)
        if found is None and suspended is not None:
            raise Suspended(suspended.run_id, suspended.pending, suspended.events, suspended.outside)
        if found is None or call.id in self._cut:
            raise StopRun(f"{_END} {call.name} is called, and the stored run has no result of it")
        text = found.output if found.output is not None else found.result.content
        if found.result.is_error:
            raise ModelRetry(text.removeprefix("error: "))
        if found.result.parts or found.artifact is not None:
            return ToolReturn(text, parts=list(found.result.parts), artifact=found.artifact)
        return _value(text, is_json=found.is_json)

    async def _count(self, call: ToolCall, ctx: RunContext[Any]) -> None:
        """Count what the child runs of the call have spent."""
        mine = [event for event in self._spent if event.call_id == call.id]
        self._spent = [event for event in self._spent if event.call_id != call.id]
        if scope := scope_of(ctx):
            for event in mine:
                await scope.budget.add_earlier(event.usage, event.cost, estimated=event.estimated)


def _changed_parts(stored: RunState, agent: Agent[Any], part: Part | None) -> dict[str, str]:
    """The parts that changed, and how: a diff if the store knows what they were, else an empty text."""
    from pydantic_core import to_json

    last = [event for event in stored.events if isinstance(event, RunStarted | RunResumed)][-1]
    today, found = json.loads(to_json(described(agent.spec), inf_nan_mode="strings", serialize_unknown=True)), {}
    today["settings"]["extra_body"] = [*today["settings"]["extra_body"]]
    for name, digest_now in agent.fingerprint.items():
        known = last.fingerprint.get(name, digest_now)
        if name not in _UNNAMED and known != digest_now:
            before = part(name, known) if part else None
            lines = [] if before is None else [json.dumps(value, indent=1).splitlines() for value in (before, today[name])]
            found[name] = _first_difference(*lines) if lines else ""
    return found


def _compare(stored: RunState, now: RunState, changed: Mapping[str, str]) -> None:
    before, after = [*transcript(stored)], [*transcript(now)]
    if (now.stop_reason or "").startswith(_END):
        after = [*said(now, _without_cut(now)), f"end: {now.stop_reason}"]
    if not _has_come_to_its_end(stored, now):
        before = [*said(stored, _without_cut(stored))]
        after = after[: len(before)]
    named = f"the agent of run {stored.run_id!r} had other parts: {', '.join(changed)}" if changed else ""
    diffs = [diff for diff in changed.values() if diff]
    if before != after:
        lead = f"the agent does not do what it did in run {stored.run_id!r}:"
        named = f"{named}\n{lead}" if named else lead
        diffs.append(_first_difference(before, after))
    if named:
        raise ReplayMismatch(named, "\n".join(diffs))


def _has_come_to_its_end(stored: RunState, now: RunState) -> bool:
    """Whether the stored run ended or paused by itself, so that today's run must end in the same way."""
    match stored.stop_reason:
        case None:
            return bool(stored.pending)
        case "answer":
            return True
        case "error":  # of an answer that does not fit, if today's run has come to an end too
            return not (now.stop_reason or "").startswith(_END)
        case reason:
            return reason.startswith("limit:") and reason != "limit:seconds"


def _without_cut(stored: RunState) -> list[Message]:
    """The messages without the results of calls that the end of the run cut off."""
    cut = {event.call.id for event in stored.events if isinstance(event, ToolFinished) and event.refused == "ended"}
    last = max((n for n, message in enumerate(stored.messages) if isinstance(message, Assistant)), default=0)
    results = stored.messages[last + 1 :]
    is_cut = any(isinstance(message, ToolResult) and message.call_id in cut for message in results)
    return stored.messages[: last + 1] if is_cut else stored.messages


def _first_difference(before: list[str], after: list[str]) -> str:
    lines = [*difflib.unified_diff(before, after, "stored", "today", lineterm="", n=2)]
    hunks = [number for number, line in enumerate(lines) if line.startswith("@@")]
    return "\n".join(lines[: hunks[1]] if len(hunks) > 1 else lines)
