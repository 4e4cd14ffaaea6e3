"""Whether calls may run: judged by their tools, and approved by whoever the program asks."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from .approvals import answer_of, question
from .errors import ToolArgumentsInvalid
from .events import ApprovalRequired, CallJudged
from .execute import arguments_of

if TYPE_CHECKING:
    from .messages import ToolCall
    from .run import Run
    from .state import OpenCall

__all__ = ["ask_approval", "judge"]


async def judge(run: Run, calls: list[OpenCall]) -> None:
    """Decide for each call whether it may run. One whose arguments do not fit may: the model is told then."""
    for open_call in calls:
        call = open_call.call
        tool = run.spec.tools[call.name]
        run.parsed[call.id] = arguments = await arguments_of(call, tool, run.threads)
        if isinstance(arguments, ToolArgumentsInvalid):
            await run.record(CallJudged(call.id, "allow", call.arguments, "the arguments do not fit"))
            continue
        asks = tool.needs_approval(arguments)
        reason = f"{call.name} needs an approval" if asks else ""
        await run.record(CallJudged(call.id, "ask" if asks else "allow", tool.as_it_runs(arguments), reason))


async def ask_approval(run: Run, calls: tuple[ToolCall, ...]) -> bool:
    """Ask the agent's `approve` about each call. False when there is nobody to ask."""
    spec, known = run.spec, run.state.calls
    for call in calls:
        await run.emit(ApprovalRequired(call, known[call.id].why))
    if spec.approve is None:
        return False
    for call in calls:
        answer = await run.threads.run(question(spec.approve, call, known[call.id].why))  # it may wait for a person
        answer = await answer if isinstance(answer, Awaitable) else answer
        given = answer_of(answer, call, spec.tools.get(call.name))
        if given.arguments is not None:
            run.parsed.pop(call.id, None)
        await run.record(given)
    return True
