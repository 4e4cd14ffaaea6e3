"""Calls that were started before a crash: their tools are asked what became of them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import Any

from ..errors import ToolArgumentsInvalid
from ..events import CallReconciled
from ..redact import redacted_traceback
from ..tools.context import RunContext
from ..tools.reconcile import Done, NotDone, Reconciled, Unknown
from ..tools.values import is_async
from .execute import arguments_of, outcome_of
from .run import Run
from .state import OpenCall
from .tool_step import end_call

__all__ = ["reconcile"]

log = logging.getLogger("agentkit")
_TIMEOUT = 60.0
"""Seconds for the function of a tool without a timeout."""


async def reconcile(run: Run, calls: list[OpenCall]) -> None:
    """Ask the tools of these calls what became of them, and record the answers."""
    await asyncio.gather(*(_reconcile(run, call) for call in calls))


async def _reconcile(run: Run, open_call: OpenCall) -> None:
    call = open_call.call
    try:
        answer = await _asked(run, open_call)
        outcome = outcome_of(answer.result, call, run.spec, run.veil) if isinstance(answer, Done) else None
    except Exception as error:  # noqa: BLE001  the program's own function
        text = redacted_traceback(error)
        log.warning("the reconcile function of %s failed, so the outcome of call %s is unknown\n%s", call.name, call.id, text)
        answer, outcome = Unknown(f"{type(error).__name__} in the reconcile function"), None
    if outcome is not None:
        await end_call(run, open_call, call, outcome, 0.0)
    elif isinstance(answer, Unknown):
        await run.record(CallReconciled(call.id, "unknown", answer.reason))
    else:
        await run.record(CallReconciled(call.id, "not done"))


async def _asked(run: Run, open_call: OpenCall) -> Reconciled:
    call, tool = open_call.call, run.spec.tools[open_call.call.name]
    answer: Any
    arguments = await arguments_of(call, tool, run.threads)
    if isinstance(arguments, ToolArgumentsInvalid):
        return Unknown("its arguments do not fit the tool any more")
    key = RunContext(None, run.state.run_id, call, open_call.position, None, open_call.attempt).idempotency_key
    function: Any = tool.reconcile
    ask = partial(function, key, dict(arguments.given))
    async with asyncio.timeout(tool.timeout or _TIMEOUT):
        answer = await ask() if is_async(function) else await run.threads.run(ask)
        if inspect.isawaitable(answer):
            answer = await answer
    if not isinstance(answer, Done | NotDone | Unknown):
        raise TypeError(f"it returned {answer!r:.80}; allowed: Done(result), NotDone(), Unknown()")
    return answer
