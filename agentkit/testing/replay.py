"""Stored runs as tests: today's agent is driven through a stored run, and the first difference is shown.

The model's replies, the results of tools and the approvals come from the stored run. There is no network, no tool's function is
called, and middleware, observers and the view of `history=` are left out: their work is in the stored run. The program's own
code that decides what the model is sent and what is an answer does run: functions of instructions and tools, policies, and
validators.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .. import _sync as portal
from .._agent_tool import agent_of, scope_of
from ..agent import Agent
from ..errors import AgentError, ModelRetry, SettingsError, StopRun, Suspended
from ..events import (
    ApprovalGiven,
    CallSuspended,
    LastingEvent,
    ModelReplied,
    ResultGiven,
    RunStarted,
    ToolFinished,
    ToolStarted,
    UsageAdded,
)
from ..messages import Message, Spending, System, ToolCall
from ..model import DeltaSink, ModelInfo, ModelReply, ModelRequest, info_of
from ..parts import ToolReturn
from ..run.execute import render
from ..run.fingerprint import digest
from ..run.middleware import Middleware, NextToolCall
from ..run.result import RunResult
from ..run.state import RunState
from ..tools.context import RunContext
from ..tools.registry import ToolRegistry
from .difference import CUT_SHORT, ReplayMismatch, changed_parts, compare

__all__ = ["ReplayMismatch", "replay"]

T = TypeVar("T")


class Events(Protocol):
    """A store of runs, as far as a replay needs it."""

    def events(self, run_id: str) -> list[LastingEvent]:
        """The events of a run; none for a run that is not there."""
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

    With a store, the child runs of its calls follow, each with the agent that is the tool today (`as_tool`, `handoff`).
    """
    if isinstance(source, str | Path) and _is_store(source):
        from ..store import open_store

        store = open_store(str(source))
        with contextlib.closing(store):
            return replay(store, run_id, agent, deps=deps)
    stored = _state_of(source, run_id)
    return _run(_replayed(stored, agent, deps, source))


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


async def _replayed(stored: RunState, agent: Agent[Any], deps: Any, source: Any, *, is_child: bool = False) -> RunResult[Any]:
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
    changed = changed_parts(stored, driven, getattr(source, "part", None))
    compare(stored, result.state, changed, is_child=is_child)
    for child, inner in _child_runs(stored, driven, source):
        await _replayed(child, inner, deps, source, is_child=True)
    return result


def _child_runs(stored: RunState, agent: Agent[Any], source: Any) -> Iterator[tuple[RunState, Agent[Any]]]:
    """The child runs of a run, as far as they are there, each with today's agent. The parent's policies bind it too."""
    events_of = getattr(source, "events", None) if not isinstance(source, RunState) else None
    names = {event.call.id: event.call.name for event in stored.events if isinstance(event, ToolStarted)}
    suspended = {event.call_id: event for event in stored.events if isinstance(event, CallSuspended) and event.run_id}
    for call_id, last in suspended.items():
        inner = agent_of(agent.spec.tools.get(names[call_id]))
        if last.events:  # of a child run without a log, up to its pause
            child = RunState.from_json({"version": 2, "events": last.events})
        else:
            child = RunState.replay(events_of(last.run_id) if events_of else ())
        if inner is not None and child.events:
            yield child, inner.copy(policy=(*inner.parts["policy"], *agent.spec.policies))


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
            raise StopRun(f"{CUT_SHORT} the model is asked for one more reply")
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
            raise StopRun(f"{CUT_SHORT} {call.name} is called, and the stored run has no result of it")
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
