"""How a run ends: it pauses, finishes, is left, or is closed by a cancellation or an error."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

from ..errors import AgentError, LimitReached, LogFailed
from ..events import RunFinished, RunPaused, digest_of
from ..messages import ToolCall
from .decisions import Finish
from .execute import describe_error
from .output import TextOutput
from .result import RunResult
from .run import Run
from .state import OpenCall
from .tool_step import answer_call

__all__ = ["abandon", "beyond", "finish", "left", "pause"]

NOT_RUN = "not run: the run ended before this call"
GIVEN_UP = "outcome unknown: the run ended while this call was running; it may or may not have taken effect"


async def pause(run: Run, calls: tuple[ToolCall, ...]) -> RunResult[Any]:
    """Stop here until the approvals are given to `agent.resume`."""
    result: RunResult[Any] = RunResult(None, run.state)
    await run.record(RunPaused(calls, result, digests=tuple(map(digest_of, calls))))
    return result


async def finish(run: Run, end: Finish) -> RunResult[Any]:
    """End the run: answer what is open, and give the result, or raise what was asked to be raised."""
    is_limit = end.stop_reason.startswith("limit:")
    for call in run.state.open_calls:
        await _close(run, call, end.stop_reason if is_limit else "ended")
    output = _text_so_far(run) if end.output is None and end.stop_reason != "answer" else end.output
    result: RunResult[Any] = RunResult(output, run.state)
    error: AgentError | None = end.error
    if error is None and is_limit and run.spec.limits.on_limit == "raise":
        error = LimitReached(end.stop_reason)
    await run.record(RunFinished(end.stop_reason, str(error) if error else None, result, output=_jsonable(output)))
    if error is not None:
        raise error
    return result


def left(run: Run) -> RunResult[Any]:
    """Where the run stands when it is left: nothing is recorded, and it can go on."""
    return RunResult(_text_so_far(run), run.state)


async def abandon(run: Run, stop_reason: str, error: BaseException) -> None:
    """Close a run that is cancelled or fails; the error gets its state as `.state`.

    One whose log or whose strict observer has failed is left as it is.
    """
    if isinstance(error, asyncio.CancelledError):
        run.observers.grace.begin()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        if isinstance(error, LogFailed) or error is run.observers.raised:
            await run.journal.flush()
        elif run.state.stop_reason is None:
            await _close_all(run, stop_reason, error)
    if isinstance(error, AgentError):
        error.state = run.state


async def _close_all(run: Run, stop_reason: str, error: BaseException) -> None:
    text = None if stop_reason == "cancelled" else describe_error(error)
    result: RunResult[Any] = RunResult(_text_so_far(run), run.state)
    last = partial(run.record, RunFinished(stop_reason, text, result))
    for end in (*(partial(_close, run, call) for call in run.state.open_calls), last):
        with contextlib.suppress(asyncio.CancelledError):  # a second one must not cut the end short
            await end()


async def _close(run: Run, call: OpenCall, refused: str = "ended") -> None:
    never = beyond(refused) if refused.startswith("limit:") else NOT_RUN
    await answer_call(run, call, GIVEN_UP if call.started else never, refused, unknown=call.started)


def _text_so_far(run: Run) -> str | None:
    reply = run.state.last_reply
    return reply.text if reply and isinstance(run.spec.output, TextOutput) else None


def _jsonable(value: Any) -> Any:
    """The value as JSON can hold it; of what it cannot hold, the text."""
    if value is None or type(value) in (str, int, bool):
        return value
    from pydantic_core import to_jsonable_python

    try:
        return to_jsonable_python(value, inf_nan_mode="strings", serialize_unknown=True)
    except (ValueError, RecursionError):
        return repr(value)[:1000]


def beyond(limit: str) -> str:
    """What the model is told of a call that a limit, by its stop reason, does not let run."""
    return f"not run: the run has reached its limit of {limit.removeprefix('limit:').replace('_', ' ')}"
