"""Calls that were started before a crash: their tools are asked what became of them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from functools import partial
from typing import Any

from .._sync import is_being_cancelled
from ..errors import StopRun, ToolArgumentsInvalid
from ..events import CallReconciled
from ..messages import plain_text
from ..redact import redact
from ..tools.context import RunContext
from ..tools.reconcile import Done, NotDone, Reconciled, Unknown
from ..tools.tasks import run_with_timeout
from ..tools.values import is_async
from .execute import arguments_of, describe_error, execute, short_text
from .ledger import CallBudget
from .run import Run, Scope
from .state import OpenCall
from .tool_step import end_call, run_together

__all__ = ["reconcile"]

log = logging.getLogger("agentkit")
_TIMEOUT = 60.0
"""Seconds for the function of a tool without a timeout."""


async def reconcile(run: Run, calls: list[OpenCall]) -> None:
    """Ask the tools of these calls concurrently what became of them. Each answer is recorded as soon as it is given.

    If the run is to be left, no further tool is asked.
    """
    slots = asyncio.Semaphore(run.spec.limits.concurrent_calls or len(calls))
    await run_together(_reconcile(run, call, slots) for call in calls)


async def _reconcile(run: Run, open_call: OpenCall, slots: asyncio.Semaphore) -> None:
    async with slots:
        if run.is_leaving:
            return
        call = open_call.call
        budget = CallBudget(call.id, run.ledger, run.depth, run.record, run.parent_budget)
        ctx = RunContext(run.deps, run.state.run_id, call, open_call.position, Scope(run, budget), open_call.attempt)
        match await _answer(run, ctx):
            case Done() as done:
                await _finish(run, open_call, ctx, done)
                budget.check()
            case NotDone():
                await run.record(CallReconciled(call.id, "not done"))
            case Unknown(reason):
                await run.record(CallReconciled(call.id, "unknown", reason))


async def _finish(run: Run, open_call: OpenCall, ctx: RunContext[Any], done: Done) -> None:
    """Record the result as that of the call. If it cannot be rendered, the model is warned rather than invited to try again."""
    outcome = await execute(ctx.call, ctx, run.spec, threads=run.threads, veil=run.veil, done=done)
    if not outcome.crashed:
        await end_call(run, open_call, ctx.call, outcome, reconciled=True)
        return
    _warn(run, ctx, outcome.error or "")
    reason = f"the result that reconcile gave cannot be used: {outcome.result.content.removeprefix('error: ')}"
    await run.record(CallReconciled(ctx.call.id, "unknown", reason))


async def _answer(run: Run, ctx: RunContext[Any]) -> Reconciled:
    """The answer of the tool's function. An error of it, or a wrong value, is logged, and counts as `Unknown`."""
    try:
        answer = await _asked(run, ctx)
        if not isinstance(answer, Done | NotDone | Unknown):
            raise TypeError(f"it returned {answer!r:.80}; allowed: Done(result), NotDone(), Unknown()")
        if isinstance(answer, Unknown):
            return Unknown(plain_text(short_text(str(answer.reason), run.veil.hide)))
        return answer
    except (KeyboardInterrupt, SystemExit, StopRun):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        _warn(run, ctx, plain_text(redact(run.veil.hide(traceback.format_exc()))))
        return Unknown(f"the reconcile function failed: {describe_error(error, run.veil.hide)}")


async def _asked(run: Run, ctx: RunContext[Any]) -> Any:
    tool = run.spec.tools[ctx.call.name]
    arguments = await arguments_of(ctx.call, tool, run.threads)
    if isinstance(arguments, ToolArgumentsInvalid):
        return Unknown("its arguments do not fit the tool any more")
    asking = _called(run, tool.reconcile, ctx.idempotency_key, dict(arguments.values))
    return await run_with_timeout(asking, tool.timeout or _TIMEOUT)


async def _called(run: Run, function: Any, key: str, arguments: dict[str, Any]) -> Any:
    """What the function returns. A sync one is called in a thread."""
    ask = partial(function, key, arguments)
    answer = ask() if is_async(function) else await run.threads.run(ask)
    return await answer if inspect.isawaitable(answer) else answer


def _warn(run: Run, ctx: RunContext[Any], text: str) -> None:
    message = "the reconcile function of %s gave no usable answer in run %s, so the outcome of call %s is unknown\n%s"
    log.warning(message, ctx.call.name, run.state.run_id, ctx.call.id, text)
