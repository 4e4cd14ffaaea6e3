"""Approvals: checks that the call is the one that was shown, and reads the answers. Only True approves."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from ..errors import SettingsError, ToolArgumentsInvalid
from ..events import ApprovalGiven
from ..messages import ToolCall
from ..tools.registry import ToolRegistry
from ..tools.tool import AnyTool
from ..tools.values import completes
from .state import RunState

__all__ = ["Answer", "Approvals", "answer_of", "answers", "question"]

Answer: TypeAlias = "bool | Mapping[str, Any]"
"""True, False, `{"deny": "why"}`, or `{"args": {...}}`: run the call with these arguments.
The dicts, and `{"approve": True}`, may also name who answered, under `"by"`."""
Approvals: TypeAlias = Mapping[str, Answer]


def answers(approvals: Approvals, state: RunState, tools: ToolRegistry) -> list[ApprovalGiven]:
    """The events of these answers to the calls that wait in a state.

    Raises `SettingsError` if a call does not wait, if it is not the one that was shown, or if an answer has an unknown form.
    """
    waiting = {call.id: call for call in state.waiting}
    unknown = sorted(str(call_id) for call_id in approvals if call_id not in waiting)
    if unknown:
        known = ", ".join(f"{call_id} ({call.name})" for call_id, call in waiting.items())
        raise SettingsError(f"no call {', '.join(unknown):.200} waits for an approval; waiting: {known or 'none'}")
    found = []
    for call_id, answer in approvals.items():
        call = waiting[call_id]
        tool = tools.get(call.name) if call_id in state.calls else None  # a child run checks its own calls
        given = answer_of(answer, call, tool)
        if given.approved and tool is not None:
            _check_shown(call, _model_call(state, call_id), tool)
            if not tool.may_repeat and (state.lineage, call_id) in tool.claims:
                raise SettingsError(f"the call {call_id} has run: this state was resumed before, and an approval counts once")
        found.append(given)
    return found


def answer_of(answer: object, call: ToolCall, tool: AnyTool | None) -> ApprovalGiven:
    """The event of an answer. Raises `SettingsError` for an answer of an unknown form, so it never counts as an approval."""
    by, given = "", answer
    if isinstance(answer, Mapping) and isinstance(answer.get("by"), str):
        by, given = answer["by"], {name: value for name, value in answer.items() if name != "by"}
    match given:
        case bool():
            return ApprovalGiven(call.id, given)
        case {"approve": bool() as approved, **rest} if not rest:
            return ApprovalGiven(call.id, approved, by=by)
        case {"deny": str() as why, **rest} if not rest:
            return ApprovalGiven(call.id, approved=False, reason=why, by=by)
        case {"args": dict() as arguments, **rest} if not rest:
            return ApprovalGiven(call.id, True, _checked(arguments, call, tool), by=by)
    allowed = 'True, False, {"deny": "why"}, {"args": {...}}, {"approve": True, "by": "who"}'
    raise SettingsError(f"the approval of {call.name} ({call.id}) is {answer!r:.80}; allowed: {allowed}")


def question(approve: Callable[..., Any], call: ToolCall, reason: str) -> Callable[[], Any]:
    """The call of a program's `approve` function, which takes the tool call, or the tool call and the reason."""
    try:
        parameters = inspect.signature(approve).parameters.values()
    except (TypeError, ValueError):
        return partial(approve, call)
    required = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return partial(approve, call, reason) if len(required) > 1 else partial(approve, call)


def _checked(arguments: dict[str, Any], call: ToolCall, tool: AnyTool | None) -> str:
    try:
        text = json.dumps(arguments, allow_nan=False)
        if tool is not None:
            tool.parse(text)
    except (TypeError, ValueError) as error:  # from JSON, or ToolArgumentsInvalid
        raise SettingsError(f"the approval of {call.id} has arguments that do not fit: {error}") from None
    return text


def _model_call(state: RunState, call_id: str) -> ToolCall | None:
    reply = state.last_reply
    return next((call for call in reply.tool_calls if call.id == call_id), None) if reply else None


def _check_shown(shown: ToolCall, made: ToolCall | None, tool: AnyTool) -> None:
    """Raise if the call that was shown is not the one that the model made: a stored state may have been changed.

    Raises as well if its arguments do not fit the tool, which may have changed since.
    """
    try:
        same = made is not None and made.name == shown.name and _is_completed(shown, made, tool)
    except ToolArgumentsInvalid as error:
        raise SettingsError(
            f"the call {shown.id} cannot be approved: its arguments do not fit the tool {shown.name} as it is now."
            f" Refuse it, and the model can make another call. What does not fit: {error}"
        ) from None
    except ValueError:  # what only a repair can read is not what was judged
        same = False
    if not same:
        raise SettingsError(f"the call {shown.id} that waits for an approval is not the one that the model made; it is refused")


def _is_completed(shown: ToolCall, made: ToolCall, tool: AnyTool) -> bool:
    """Whether the call that was shown is the model's own, with defaults. A tool that has changed may read both otherwise."""
    given, known = dict(tool.parse(made.arguments).given), tool.parse(shown.arguments)
    return completes(json.loads(shown.arguments), given) or completes(dict(known.given), given)
