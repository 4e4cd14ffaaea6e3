"""A run as lines of text, to compare it with another one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from ..events import ApprovalGiven, RunFinished, ToolFinished
from ..messages import Assistant, Message, System, ToolCall, ToolResult, message_text
from ..run.state import RunState
from ..run.tool_step import RUN_WITH

__all__ = ["said", "transcript"]


def transcript(state: RunState) -> Iterator[str]:
    """What was said and done in a run, a line each: messages, calls as they were run, approvals, results, and the end."""
    yield from said(state, state.messages)
    outside = {call.id for call in state.outside}
    for call in state.pending:
        yield f"waits for {'the result' if call.id in outside else 'an approval'} of {call.name}({call.arguments})"
    last = state.events[-1] if state.events else None
    if isinstance(last, RunFinished):
        yield f"output: {json.dumps(last.output, ensure_ascii=False)}"
        yield f"end: {last.stop_reason}"


def said(state: RunState, messages: Sequence[Message]) -> Iterator[str]:
    """What these messages of a run say, and how their calls were run."""
    ran = {call.call.id: call.call for call in state.open_calls}
    ran |= {event.call.id: event.call for event in state.events if isinstance(event, ToolFinished)}
    answers = {event.call_id: event for event in state.events if isinstance(event, ApprovalGiven)}
    for message in messages:
        match message:
            case Assistant():
                yield from _reply(message, ran, answers)
            case ToolResult():
                run_with = RUN_WITH.format(ran[message.call_id].arguments) if message.call_id in ran else ""
                yield from _labelled(f"result of {message.name}", message.content.removeprefix(run_with))
            case System():
                yield from _labelled("instructions", message.content)
            case _:
                yield from _labelled("user", message_text(message))


def _reply(message: Assistant, ran: Mapping[str, ToolCall], answers: Mapping[str, ApprovalGiven]) -> Iterator[str]:
    if message.text:
        yield from _labelled("assistant", message.text)
    for call in message.tool_calls:
        yield f"call {call.name}({ran.get(call.id, call).arguments})"
        if (answer := answers.get(call.id)) is not None:
            yield f"approved: {call.name}" if answer.approved else f"refused: {call.name}"


def _labelled(label: str, text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield f"{label}: {line}"
