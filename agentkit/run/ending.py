"""How a run stops: it pauses, finishes, is left, or is ended by a cancellation or an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from ..errors import AgentError, LimitReached, LogFailed
from ..events import RunFinished, RunPaused, ToolFinished, digest_of
from ..messages import ToolCall, User
from .decisions import Finish
from .execute import describe_error
from .output import TextOutput
from .result import RunResult
from .run import Run
from .state import RunState
from .tool_step import answer_of

__all__ = ["abandon", "closing_answers", "finish", "json_value", "left", "limit_text", "pause"]

NOT_RUN = "not run: the run ended before this call"
GIVEN_UP = "outcome unknown: the run ended while this call was running; it may or may not have taken effect"


async def pause(run: Run, calls: tuple[ToolCall, ...]) -> RunResult[Any]:
    """Pause until `agent.resume` gets the approvals."""
    result: RunResult[Any] = RunResult(None, run.state)
    await run.record(RunPaused(calls, result, digests=tuple(map(digest_of, calls))))
    return result


async def finish(run: Run, end: Finish) -> RunResult[Any]:
    """End the run: answer the open calls, then return the result or raise the error."""
    is_limit = end.stop_reason.startswith("limit:")
    answers = closing_answers(run.state, end.stop_reason if is_limit else "ended")
    is_open = end.output is None and not end.is_refused and (is_limit or end.error)
    output = _text_so_far(run) if is_open else end.output
    result: RunResult[Any] = RunResult(output, run.state)
    error: AgentError | None = end.error
    if error is None and is_limit and run.spec.limits.on_limit == "raise":
        error = LimitReached(end.stop_reason)
    last = RunFinished(end.stop_reason, str(error) if error else end.why or None, result, output=json_value(output))
    await run.record(*answers, last)
    if error is not None:
        raise error
    return result


def left(run: Run) -> RunResult[Any]:
    """The result of a run that is left. Nothing is recorded, and the run can be resumed."""
    return RunResult(_text_so_far(run), run.state)


async def abandon(run: Run, stop_reason: str, error: BaseException) -> None:
    """End a run that is cancelled or has failed, and set the error's `.state`.

    If the log or a strict observer has failed, the run is left and nothing is recorded.
    """
    if isinstance(error, asyncio.CancelledError):
        run.observers.grace.begin()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        is_left = isinstance(error, LogFailed) or error is run.observers.raised
        if run.state.stop_reason is None and not is_left:
            await _end_with_error(run, stop_reason, error)
        await run.journal.flush()
    if isinstance(error, AgentError):
        error.state = run.state


async def _end_with_error(run: Run, stop_reason: str, error: BaseException) -> None:
    text = None if stop_reason == "cancelled" else describe_error(error)
    last = RunFinished(stop_reason, text, RunResult(_text_so_far(run), run.state))
    try:
        await run.record(*closing_answers(run.state, "ended"), last)
    except asyncio.CancelledError:  # a second one: recorded events are still stored and observed
        await run.journal.flush()
        raise


def closing_answers(state: RunState, refused: str) -> list[ToolFinished]:
    """Answers to the calls that are still open when the run ends."""
    not_run = limit_text(refused) if refused.startswith("limit:") else NOT_RUN
    return [
        answer_of(call.call, GIVEN_UP if call.may_have_run else not_run, refused, unknown=call.may_have_run)
        for call in state.open_calls
    ]


def _text_so_far(run: Run) -> str | None:
    """The text of the last reply, unless it was refused as an answer: then the model was asked again."""
    reply, last = run.state.last_reply, run.state.messages[-1:]
    is_refused = reply is not None and not reply.tool_calls and bool(last) and isinstance(last[0], User)
    return reply.text if reply and not is_refused and isinstance(run.spec.output, TextOutput) else None


def json_value(value: Any) -> Any:
    """The value as JSON-able data. A value that JSON cannot hold becomes its text."""
    if value is None or type(value) in (str, bool):
        return value
    from pydantic_core import to_json

    try:
        return json.loads(to_json(value, inf_nan_mode="strings", serialize_unknown=True))
    except (ValueError, RecursionError):
        return repr(value)[:1000] if not isinstance(value, int) else None


def limit_text(limit: str) -> str:
    """The message for the model about a call that was not run because of this limit (a stop reason)."""
    return f"not run: the run has reached its limit of {limit.removeprefix('limit:').replace('_', ' ')}"
