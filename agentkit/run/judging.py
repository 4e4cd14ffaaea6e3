"""Decides whether calls may run: policies and tools judge them, and the program's `approve` answers for some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from .._sync import is_being_cancelled
from ..errors import ToolArgumentsInvalid
from ..events import ApprovalRequired, CallJudged
from ..messages import ToolCall
from ..policy import Allow, Ask, Deny, JudgeContext, JudgedCall, Policy, Verdict, judged_by
from ..policy.protocol import frozen
from ..schema import Arguments
from ..tools.values import copied
from .approvals import answer_of, question
from .execute import arguments_of
from .run import Run
from .state import OpenCall

__all__ = ["ask_approval", "denied_edit", "judge"]


class _Approvals(Policy):
    """Applies the `approval` option of tools, as a policy."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Ask if the tool needs an approval."""
        return Ask(f"{call.name} needs an approval") if call.tool.needs_approval(self._arguments) else Allow()


async def judge(run: Run, calls: list[OpenCall]) -> None:
    """Decide for each call whether it may run. A call with invalid arguments may: running it tells the model the error."""
    await run.record(*await asyncio.gather(*(_judged(run, open_call.call) for open_call in calls)))


async def _judged(run: Run, call: ToolCall) -> CallJudged:
    tool = run.spec.tools[call.name]
    run.parsed[call.id] = arguments = await arguments_of(call, tool, run.threads)
    if isinstance(arguments, ToolArgumentsInvalid):
        return CallJudged(call.id, "allow", None, "the arguments do not fit")
    text = tool.completed_arguments(arguments)
    verdict, by = await _verdict(run, call, arguments, _Approvals(arguments))
    changed = None if text == call.arguments else text
    if isinstance(verdict, Allow):
        return CallJudged(call.id, "allow", changed)
    return CallJudged(call.id, "ask" if isinstance(verdict, Ask) else "deny", changed, verdict.reason, by)


async def _verdict(run: Run, call: ToolCall, arguments: Arguments, *more: Policy) -> tuple[Verdict, str]:
    """The policies' verdict on the call with these arguments, and who gave it. Policies get copies of the values."""
    tool, policies = run.spec.tools[call.name], (*run.spec.policies, *more)
    values = copied(arguments.values) if run.spec.policies else {}
    context = JudgeContext(run.observers.run, run.deps, tuple(run.state.messages))
    return await judged_by(policies, JudgedCall(call.id, call.name, frozen(values), tool), context)


async def denied_edit(run: Run, open_call: OpenCall) -> tuple[str, str] | None:
    """Why a call may not run with the arguments that its approval gave: the message for the model, and a short name.

    An approval can answer a policy's Ask. It cannot overrule a Deny.
    """
    call = open_call.call
    if not open_call.edited or not run.spec.policies or run.spec.tools.get(call.name) is None:
        return None
    run.parsed[call.id] = arguments = await arguments_of(call, run.spec.tools[call.name], run.threads)
    if isinstance(arguments, ToolArgumentsInvalid):
        return None  # running the call tells the model
    verdict, _by = await _verdict(run, call, arguments)
    return (f"not run: the call is not allowed: {verdict.reason}", "denied") if isinstance(verdict, Deny) else None


async def ask_approval(run: Run, calls: tuple[ToolCall, ...]) -> bool:
    """Ask the program's `approve` about each call. Returns False if the program has none."""
    for call in calls:
        await run.emit(ApprovalRequired(call, _why(run, call)))
    if run.spec.approve is None:
        return False
    for call in calls:
        tool = run.spec.tools.get(call.name) if call.id in run.state.calls else None  # a child run checks its own calls
        given = answer_of(await _answer(run, call), call, tool)
        if given.arguments is not None:
            run.parsed.pop(call.id, None)
        await run.record(given)
    return True


async def _answer(run: Run, call: ToolCall) -> object:
    approve = run.spec.approve
    try:
        answer = await run.threads.run(question(approve, call, _why(run, call))) if approve else None  # it may take long
        return await answer if isinstance(answer, Awaitable) else answer
    except asyncio.CancelledError:
        if is_being_cancelled():
            raise
        raise RuntimeError(f"approve was cancelled when it was asked about {call.name}, and the run was not") from None


def _why(run: Run, call: ToolCall) -> str:
    known = run.state.calls.get(call.id)
    return known.why if known else f"{call.name} needs an approval"
