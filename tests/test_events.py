"""Lasting events go through real JSON and come back equal; anything else is refused."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest

from agentkit import (
    ApprovalGiven,
    ApprovalRequired,
    Assistant,
    CallJudged,
    CallSuspended,
    Event,
    MessageAdded,
    ModelReplied,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    System,
    TextDelta,
    ToolCall,
    ToolFinished,
    ToolProgress,
    ToolResult,
    ToolStarted,
    Usage,
    UsageAdded,
    User,
)
from agentkit.events import LastingEvent, dump_event, load_event

CALL = ToolCall("a", "f", '{"x": ')
TRANSCRIPT = (System("s"), User("u", "ann"), Assistant("t", "r", (CALL,)), ToolResult("a", "f", "3", True), Assistant("done"))
LASTING: list[LastingEvent] = [
    RunStarted("r1", TRANSCRIPT, 2),
    MessageAdded(User("mend it"), "output"),
    ModelReplied(Assistant("x", "y", (CALL,)), Usage(1, 2, 3, 4, 5, 6), "tool_calls", "m", 0.25, 1.5),
    ModelReplied(Assistant("\u2028 \U0001f600 \x00"), Usage()),
    ToolStarted(CALL, 3),
    UsageAdded("a", Usage(1, 2, 3), 0.5),
    ToolFinished(CALL, ToolResult("a", "f", "lone \ud800 surrogate"), 0.5, "Traceback ..."),
    ApprovalGiven("a", True, '{"x": 2}'),
    ApprovalGiven("a", False, reason="too dear"),
    CallJudged("a", "ask", '{"x": 1}', "f needs an approval"),
    CallJudged("a", "deny", None, "not here", "ReadOnly"),
    CallSuspended("a", "r1:0", (CALL,), ({"type": "RunStarted", "run_id": "r1:0", "messages": []},)),
    RunPaused((CALL,)),
    RunResumed("ann", {"tools": "1"}, "host:1", 2),
    RunFinished("error", "boom"),
]


@pytest.mark.parametrize("event", LASTING, ids=lambda event: type(event).__name__)
def test_a_lasting_event_survives_json(event: LastingEvent) -> None:
    data = json.loads(json.dumps(dump_event(event)))
    assert data["type"] == type(event).__name__
    assert load_event(data) == event


def test_the_table_above_has_every_lasting_event() -> None:
    assert {type(event) for event in LASTING} == set(typing.get_args(LastingEvent))


def test_messages_come_back_as_their_own_kinds() -> None:
    loaded = load_event(json.loads(json.dumps(dump_event(RunStarted("r", TRANSCRIPT)))))
    assert isinstance(loaded, RunStarted)
    assert [type(m) for m in loaded.messages] == [System, User, Assistant, ToolResult, Assistant]
    assert isinstance(loaded.messages, tuple)


@pytest.mark.parametrize("event", [RunPaused((CALL,), object()), RunFinished("answer", None, object())])
def test_the_result_of_a_last_event_is_not_stored(event: Event) -> None:
    assert "result" not in dump_event(event)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (TextDelta("x"), {"type": "TextDelta", "text": "x"}),
        (ToolProgress(ToolCall("a", "f"), {"done": 1}), {"data": {"done": 1}}),
        (
            ApprovalRequired(ToolCall("a", "f"), "why"),
            {"reason": "why", "call": {"id": "a", "name": "f", "arguments": "{}", "opaque": ""}},
        ),
    ],
)
def test_passing_events_can_be_shown_as_json(event: Event, data: dict[str, Any]) -> None:
    assert dump_event(event).items() >= data.items()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"type": "TextDelta", "text": "x"}, "unknown event type 'TextDelta'; known: ApprovalGiven, CallJudged"),
        ({"type": "Nope"}, "unknown event type 'Nope'"),
        ({"type": "ApprovalGiven", "call_id": "a", "approved": "yes"}, "approved is 'yes' in an ApprovalGiven event"),
        ({"type": "ApprovalGiven", "call_id": "a"}, "approved is None in an ApprovalGiven event"),
        ({}, "unknown event type None"),
        ({"type": "RunStarted"}, "run_id"),
        ({"type": "ToolStarted", "call": {"id": 1, "name": "f"}, "position": 0}, "call.id"),
        ({"type": "RunStarted", "run_id": "r", "messages": [{"role": "robot", "content": "x"}]}, "messages.0"),
    ],
)
def test_what_is_no_lasting_event_is_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_event(data)


def test_progress_that_json_cannot_hold_is_dumped_as_its_text() -> None:
    dumped = dump_event(ToolProgress(CALL, {"at": object}))
    assert json.loads(json.dumps(dumped))["data"] == {"at": "<class 'object'>"}
