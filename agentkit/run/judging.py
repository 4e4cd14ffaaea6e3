"""Whether calls may run: judged by the policies and by their tools, and approved by whoever the program asks."""

from __future__ import annotations

from collections.abc import Awaitable

from ..errors import ToolArgumentsInvalid
from ..events import ApprovalRequired, CallJudged
from ..messages import ToolCall
from ..policy import Allow, Ask, JudgeContext, JudgedCall, Policy, Verdict, judged_by
from ..policy.protocol import frozen
from ..schema import Arguments
from .approvals import answer_of, question
from .execute import arguments_of
from .run import Run
from .state import OpenCall

__all__ = ["ask_approval", "judge"]


class _Approvals(Policy):
    """The option `approval` of tools, as a policy."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Asks where the tool says so."""
        return Ask(f"{call.name} needs an approval") if call.tool.needs_approval(self._arguments) else Allow()


async def judge(run: Run, calls: list[OpenCall]) -> None:
    """Decide for each call whether it may run. One whose arguments do not fit may: the model is told then."""
    for open_call in calls:
        await run.record(await _judged(run, open_call.call))


async def _judged(run: Run, call: ToolCall) -> CallJudged:
    tool = run.spec.tools[call.name]
    run.parsed[call.id] = arguments = await arguments_of(call, tool, run.threads)
    if isinstance(arguments, ToolArgumentsInvalid):
        return CallJudged(call.id, "allow", None, "the arguments do not fit")
    asked = JudgedCall(call.id, call.name, frozen(arguments.values), tool)
    context = JudgeContext(run.observers.run, run.deps, tuple(run.state.messages))
    verdict, by = await judged_by((*run.spec.policies, _Approvals(arguments)), asked, context)
    text = tool.as_it_runs(arguments)
    changed = None if text == call.arguments else text
    if isinstance(verdict, Allow):
        return CallJudged(call.id, "allow", changed)
    return CallJudged(call.id, "ask" if isinstance(verdict, Ask) else "deny", changed, verdict.reason, by)


async def ask_approval(run: Run, calls: tuple[ToolCall, ...]) -> bool:
    """Ask the program's `approve` about each call. False when there is nobody to ask."""
    for call in calls:
        await run.emit(ApprovalRequired(call, _why(run, call)))
    if run.spec.approve is None:
        return False
    for call in calls:
        answer = await run.threads.run(question(run.spec.approve, call, _why(run, call)))  # it may wait for a person
        answer = await answer if isinstance(answer, Awaitable) else answer
        given = answer_of(answer, call, run.spec.tools.get(call.name))
        if given.arguments is not None:
            run.parsed.pop(call.id, None)
        await run.record(given)
    return True


def _why(run: Run, call: ToolCall) -> str:
    known = run.state.calls.get(call.id)
    return known.why if known else f"{call.name} needs an approval"
