"""Whether calls may run: judged by the policies and by their tools, and approved by whoever the program asks."""

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
    """The option `approval` of tools, as a policy."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Asks where the tool says so."""
        return Ask(f"{call.name} needs an approval") if call.tool.needs_approval(self._arguments) else Allow()


async def judge(run: Run, calls: list[OpenCall]) -> None:
    """Decide for each call whether it may run. One whose arguments do not fit may: the model is told then."""
    await run.record(*await asyncio.gather(*(_judged(run, open_call.call) for open_call in calls)))


async def _judged(run: Run, call: ToolCall) -> CallJudged:
    tool = run.spec.tools[call.name]
    run.parsed[call.id] = arguments = await arguments_of(call, tool, run.threads)
    if isinstance(arguments, ToolArgumentsInvalid):
        return CallJudged(call.id, "allow", None, "the arguments do not fit")
    text = tool.as_it_runs(arguments)
    verdict, by = await _verdict(run, call, arguments, _Approvals(arguments))
    changed = None if text == call.arguments else text
    if isinstance(verdict, Allow):
        return CallJudged(call.id, "allow", changed)
    return CallJudged(call.id, "ask" if isinstance(verdict, Ask) else "deny", changed, verdict.reason, by)


async def _verdict(run: Run, call: ToolCall, arguments: Arguments, *more: Policy) -> tuple[Verdict, str]:
    """What the policies say of the call with these arguments. They get a copy: to change it changes nothing."""
    tool, policies = run.spec.tools[call.name], (*run.spec.policies, *more)
    values = copied(arguments.values) if run.spec.policies else {}
    context = JudgeContext(run.observers.run, run.deps, tuple(run.state.messages))
    return await judged_by(policies, JudgedCall(call.id, call.name, frozen(values), tool), context)


async def denied_edit(run: Run, open_call: OpenCall) -> tuple[str, str] | None:
    """Why a call does not run with the arguments that were given with its approval, for the model and as a short name.

    Whoever approves may answer a question of a policy, and cannot overrule its denial.
    """
    call = open_call.call
    if not open_call.edited or not run.spec.policies or run.spec.tools.get(call.name) is None:
        return None
    run.parsed[call.id] = arguments = await arguments_of(call, run.spec.tools[call.name], run.threads)
    if isinstance(arguments, ToolArgumentsInvalid):
        return None  # the model is told
    verdict, _by = await _verdict(run, call, arguments)
    return (f"not run: the call is not allowed: {verdict.reason}", "denied") if isinstance(verdict, Deny) else None


async def ask_approval(run: Run, calls: tuple[ToolCall, ...]) -> bool:
    """Ask the program's `approve` about each call. False when there is nobody to ask."""
    for call in calls:
        await run.emit(ApprovalRequired(call, _why(run, call)))
    if run.spec.approve is None:
        return False
    for call in calls:
        tool = run.spec.tools.get(call.name) if call.id in run.state.calls else None  # that of a run inside is checked there
        given = answer_of(await _answer(run, call), call, tool)
        if given.arguments is not None:
            run.parsed.pop(call.id, None)
        await run.record(given)
    return True


async def _answer(run: Run, call: ToolCall) -> object:
    approve = run.spec.approve
    try:
        answer = await run.threads.run(question(approve, call, _why(run, call))) if approve else None  # it may wait long
        return await answer if isinstance(answer, Awaitable) else answer
    except asyncio.CancelledError:
        if is_being_cancelled():
            raise
        raise RuntimeError(f"approve was cancelled when it was asked about {call.name}, and the run was not") from None


def _why(run: Run, call: ToolCall) -> str:
    known = run.state.calls.get(call.id)
    return known.why if known else f"{call.name} needs an approval"
