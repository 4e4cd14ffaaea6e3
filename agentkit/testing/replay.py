"""Stored runs as tests: today's agent is driven through a stored run, and the first difference is shown.

The model's replies and the results of tools come from the stored run: there is no network, and no tool's function is called.
What is the program's own besides runs as it is: instructions, policies, validators and middleware.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ..agent import Agent
from ..errors import AgentError, ModelRetry
from ..events import ApprovalGiven, LastingEvent, ModelReplied, ResultGiven, RunFinished, RunResumed, RunStarted, ToolFinished
from ..messages import Assistant, Message, System, ToolCall, ToolResult, message_text
from ..model import DeltaSink, ModelInfo, ModelReply, ModelRequest, info_of
from ..parts import ToolReturn
from ..run.execute import render
from ..run.middleware import Middleware, NextToolCall
from ..run.result import RunResult
from ..run.state import RunState
from ..tools.context import RunContext

__all__ = ["ReplayMismatch", "replay", "transcript"]

_PAUSES = ("pending_approval", "pending_result")


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

    `source` is a store, a file of `agentkit export` or `RunState.save`, or a state; only a store needs the `run_id`. Raises
    `ReplayMismatch`, an AssertionError, if anything differs: the instructions, a call or its arguments, the order, a result
    that the model is told, or the answer. A part of the agent that is not in the transcript (tools' schemas, settings, output
    type) is named if it changed.
    """
    stored = _state_of(source, run_id)
    result = _drive(stored, agent.copy(model=_Stored(stored, agent.model), **_attached(stored, agent)), deps)
    _compare(stored, result.state, agent)
    return result


def _state_of(source: Any, run_id: str | None) -> RunState:
    if isinstance(source, RunState):
        return source
    if isinstance(source, str | Path):
        return RunState.load(source)
    events = source.events(run_id)
    if not events:
        raise AgentError(f"there is no run {run_id!r} with events in {source}")
    return RunState.replay(events)


def _attached(stored: RunState, agent: Agent[Any]) -> dict[str, Any]:
    middleware = (*agent.parts["middleware"], _StoredResults(stored))
    return {"middleware": middleware, "approve": None, "retry": None, "observers": ()}


def _drive(stored: RunState, agent: Agent[Any], deps: Any) -> RunResult[Any]:
    first = next(event for event in stored.events if isinstance(event, RunStarted))
    messages = [message for message in first.messages if not isinstance(message, System)]
    approvals = {e.call_id: _answer(e) for e in stored.events if isinstance(e, ApprovalGiven)}
    results = {e.call_id: _value(e.content, is_json=e.is_json) for e in stored.events if isinstance(e, ResultGiven)}
    try:
        result = agent.run_sync(messages=messages, deps=deps)
        while result.stop_reason in _PAUSES:
            pending = [call.id for call in result.pending]
            given = {call_id: approvals[call_id] for call_id in pending if call_id in approvals}
            told = {call_id: results[call_id] for call_id in pending if call_id in results}
            if not given and not told:
                break
            result = agent.resume_sync(result.state, given, told, deps=deps)
    except AgentError as error:  # the end of the stored run, or an error of today's agent, which the comparison shows
        if error.state is None:
            raise
        result = RunResult(None, error.state)
    return result


def _answer(given: ApprovalGiven) -> Any:
    if not given.approved:
        return {"deny": given.reason} if given.reason else False
    return True if given.arguments is None else {"args": json.loads(given.arguments)}


def _value(text: str, *, is_json: bool) -> Any:
    """The value that is rendered as this text."""
    value = json.loads(text) if is_json else text
    return value if render(value) == text else text


class _Stored:
    """A model that says what the stored run's model said."""

    def __init__(self, stored: RunState, model: Any) -> None:
        self._replies = [event for event in stored.events if isinstance(event, ModelReplied)]
        self._next, self._info = 0, info_of(model)

    @property
    def info(self) -> ModelInfo:
        """That of the agent's model."""
        return self._info

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The next reply."""
        if self._next == len(self._replies):
            raise AgentError(f"the stored run has {len(self._replies)} replies of the model, and the agent asks for one more")
        found = self._replies[self._next]
        self._next += 1
        return ModelReply(found.message, found.usage, found.finish_reason, found.model, found.cost)


class _StoredResults(Middleware):
    """Answers calls as in the stored run, after it has checked their arguments."""

    changes_requests = False

    def __init__(self, stored: RunState) -> None:
        self._finished = {event.call.id: event for event in stored.events if isinstance(event, ToolFinished)}

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """The stored result."""
        run: Any = ctx.scope
        tool = run.run.spec.tools.get(call.name)
        if tool is None:
            return await next(call)  # which tells the model that there is no such tool
        tool.parse(call.arguments)
        found = self._finished.get(call.id)
        if found is None:
            raise ModelRetry("the stored run has no result of this call")
        text = found.output if found.output is not None else found.result.content
        if found.result.is_error:
            raise ModelRetry(text.removeprefix("error: "))
        if found.result.parts or found.artifact is not None:
            return ToolReturn(text, parts=list(found.result.parts), artifact=found.artifact)
        return _value(text, is_json=found.is_json)


def _compare(stored: RunState, now: RunState, agent: Agent[Any]) -> None:
    before, after = [*transcript(stored)], [*transcript(now)]
    if stored.stop_reason in (None, "cancelled", "error"):  # it did not come to its end, so the rest is new
        before, after = _without_end(before), _without_end(after)
        after = after[: len(before)]
    if before != after:
        lines = difflib.unified_diff(before, after, "stored", "today", lineterm="", n=2)
        raise ReplayMismatch(f"the agent does not do what it did in run {stored.run_id!r}:", "\n".join(lines))
    started = [event for event in stored.events if isinstance(event, RunStarted | RunResumed)]
    known, today = dict(started[-1].fingerprint), agent.fingerprint
    ignored = ("model", "instructions")  # the model is a stored one; instructions are in the transcript
    changed = [name for name in today if name not in ignored and known.get(name, today[name]) != today[name]]
    if changed:
        raise ReplayMismatch(f"the agent of run {stored.run_id!r} had other parts: {', '.join(changed)}", "")


def _without_end(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith(("output: ", "end: "))]


def transcript(state: RunState) -> Iterator[str]:
    """What was said and done in a run, a line each: messages, calls as they were run, results, and the end."""
    ran = {event.call.id: event.call for event in state.events if isinstance(event, ToolFinished)}
    for message in state.messages:
        yield from _lines(message, ran)
    last = state.events[-1] if state.events else None
    if isinstance(last, RunFinished):
        yield f"output: {json.dumps(last.output, ensure_ascii=False)}"
        yield f"end: {last.stop_reason}"


def _lines(message: Message, ran: dict[str, ToolCall]) -> Iterator[str]:
    match message:
        case Assistant():
            if message.text:
                yield from _labelled("assistant", message.text)
            for call in message.tool_calls:
                yield f"call {call.name}({ran.get(call.id, call).arguments})"
        case ToolResult():
            yield from _labelled(f"result of {message.name}", message.content)
        case System():
            yield from _labelled("instructions", message.content)
        case _:
            yield from _labelled("user", message_text(message))


def _labelled(label: str, text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield f"{label}: {line}"
