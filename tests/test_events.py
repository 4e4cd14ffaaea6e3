"""Lasting events go through real JSON and come back equal; anything else is refused."""

from __future__ import annotations

import asyncio
import json
import threading
import typing
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    Agent,
    ApprovalGiven,
    ApprovalRequired,
    Assistant,
    CallJudged,
    CallReconciled,
    CallSuspended,
    Event,
    Image,
    MessageAdded,
    ModelReplied,
    ModelSettings,
    ResultGiven,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunState,
    ScriptedModel,
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
    tool,
)
from agentkit.events import LastingEvent, decode_event, dump_event, encode_event, load_event, stamp
from agentkit.messages import shorten
from agentkit.testing import call
from tests.kit import reloaded

CALL = ToolCall("a", "f", '{"x": ')
TRANSCRIPT = (System("s"), User("u", "ann"), Assistant("t", "r", (CALL,)), ToolResult("a", "f", "3", True), Assistant("done"))
LASTING: list[LastingEvent] = [
    RunStarted("r1", TRANSCRIPT, 2),
    RunStarted("r1", (), metadata={"a": [1, None]}),
    RunStarted("r2", (), forked_at=3),
    MessageAdded(User("mend it"), "output"),
    ModelReplied(Assistant("x", "y", (CALL,)), Usage(1, 2, 3, 4, 5, 6), "tool_calls", "m", 0.25, 1.5),
    ModelReplied(Assistant("\u2028 \U0001f600 \x00"), Usage()),
    ToolStarted(CALL, 3),
    UsageAdded("a", Usage(1, 2, 3), 0.5),
    ToolFinished(CALL, ToolResult("a", "f", "lone \ud800 surrogate"), 0.5, "Traceback ..."),
    ToolFinished(CALL, ToolResult("a", "f", "paid"), reconciled=True),
    ApprovalGiven("a", True, '{"x": 2}'),
    ApprovalGiven("a", False, reason="too dear"),
    CallJudged("a", "ask", '{"x": 1}', "f needs an approval"),
    CallJudged("a", "deny", None, "not here", "ReadOnly"),
    CallSuspended("a", "r1:0", (CALL,), ({"type": "RunStarted", "run_id": "r1:0", "messages": []},)),
    CallSuspended("a", "r1:0", (CALL,), (), ("a",)),
    CallReconciled("a", "not done"),
    CallReconciled("a", "unknown", "the bank does not say"),
    ResultGiven("a", '{"x": "\U0001f600"}', is_json=True),
    ResultGiven("a", "error: closed", is_error=True),
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
        ({"type": ["RunStarted"]}, r"unknown event type \['RunStarted'\]"),
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


# --- the stored form -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", LASTING, ids=lambda event: type(event).__name__)
def test_a_stored_event_is_a_line_with_its_version(event: LastingEvent) -> None:
    line = encode_event(event)
    data = json.loads(line)
    assert b"\n" not in line and (data["v"], data["type"]) == (2, type(event).__name__)
    found = decode_event(line)
    assert type(found) is type(event)
    assert encode_event(found) == line


def test_a_stored_event_has_its_time() -> None:
    event = RunResumed()
    assert decode_event(encode_event(stamp(event, 12.5))).at == 12.5
    assert stamp(event, 99.0).at == 12.5, "the first time stands"


def test_an_earlier_agentkit_reads_events_that_do_not_use_the_newest_fields() -> None:
    """It refuses fields that it does not know."""
    picture = Image.from_bytes(b"\x89PNG\r\n\x1a\n", "image/png")
    events: list[LastingEvent] = [
        RunStarted("r1", (User("go"),)),
        ToolFinished(CALL, ToolResult("a", "f", "3")),
        ToolFinished(CALL, ToolResult("a", "f", "[image]", parts=(picture,))),
    ]
    for event in events:
        assert not {"forked_at", "reconciled"} & {*json.loads(encode_event(event))}


def test_a_call_is_stored_with_its_reply_only() -> None:
    arguments = json.dumps({"text": "x" * 1_000})
    call = ToolCall("a", "f", arguments)
    events: list[LastingEvent] = [
        RunStarted("r", (User("go"),)),
        ModelReplied(Assistant("", "", (call,)), Usage()),
        CallJudged("a", "ask", None, "why"),
        RunPaused((call,)),
        RunResumed(),
        ApprovalGiven("a", True, by="ann"),
        ToolStarted(call, 0),
        ToolFinished(call, ToolResult("a", "f", "y" * 10)),
    ]
    lines = [encode_event(event) for event in events]
    assert sum(b"xxx" in line for line in lines) == 1
    assert RunState.replay(map(decode_event, lines)).events == events


@pytest.mark.parametrize("arguments", ["", "{}", '{"n": 1,}', "null", "[]", "x"])
def test_arguments_come_back_as_they_were(arguments: str) -> None:
    @tool
    def give(n: int = 0) -> int:
        """Give."""
        return n

    agent = Agent(ScriptedModel([[ToolCall("a", "give", arguments), ToolCall("b", "give", "{}")], "Done."]), tools=[give])
    state = agent.run_sync("go").state
    assert RunState.from_json(json.loads(json.dumps(state.to_json()))).events == state.events


def test_a_long_output_is_stored_once() -> None:
    output = "".join(map(str, range(2_000)))
    told = shorten(output, 100)
    event = ToolFinished(CALL, ToolResult("a", "f", told), output=output, max_output=100)
    line = encode_event(event)
    assert len(line) < len(output) + 200
    found = decode_event(line)
    assert isinstance(found, ToolFinished) and (found.result.content, found.output) == (told, output)


@pytest.mark.parametrize("which", ["paused", "done"])
def test_states_of_version_1_are_read(which: str) -> None:
    data = json.loads((Path(__file__).parent / "data" / "state_v1.json").read_text())[which]
    state = RunState.from_json(data)
    assert state.run_id == "r1"
    assert (state.pending != ()) == (which == "paused")
    assert reloaded(state).events == state.events
    assert [type(event).__name__ for event in state.events] == [event["type"] for event in data["events"]]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"v":3,"type":"RunResumed"}', "version 3; this agentkit reads up to version 2"),
        (b'{"v":"2","type":"RunResumed"}', "version '2'"),
        (b'{"v":2,"type":"RunMoved"}', "unknown event type 'RunMoved'"),
        (b'{"v":2,"type":"RunResumed","where":"here"}', "where"),
        (b'{"v":2,"type":"MessageAdded","reason":"output","message":{"role":"user","content":"x","parts":[]}}', "parts"),
        (b'{"v":2,"type":"ModelReplied","usage":{},"message":{"tool_calls":[{"id":"a","name":"f","kind":"x"}]}}', "kind"),
        (b'{"v":2,"type":"ToolStarted","position":0}', "call"),
        (b'{"v":2', "Expecting"),
        (b"[]", "an event is a JSON object"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_nothing_of_a_stored_event_is_dropped_in_silence(line: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decode_event(line)


def test_deep_artifacts_are_read() -> None:
    artifact: dict[str, Any] = {}
    for _ in range(400):
        artifact = {"in": artifact}
    event = ToolFinished(CALL, ToolResult("a", "f", "text"), artifact=artifact)
    read = decode_event(encode_event(event))
    assert isinstance(read, ToolFinished) and read.artifact == artifact


def test_what_a_run_was_is_in_its_first_event() -> None:
    def of(**options: Any) -> RunStarted:
        agent = Agent(**{"model": ScriptedModel(["Done."]), "name": "ann", "clock": lambda: 7.0, **options})
        first = agent.run_sync("go").events[0]
        assert isinstance(first, RunStarted)
        return first

    first = of()
    assert (first.agent, first.at) == ("ann", 7.0) and first.owner
    same = {key for key, value in of(instructions="Be kind.").fingerprint.items() if first.fingerprint[key] == value}
    assert {*first.fingerprint} - same == {"instructions"}
    typed = of(output_type=int, model=ScriptedModel(["7"]))
    assert {k for k, v in typed.fingerprint.items() if first.fingerprint[k] != v} == {"output"}
    assert {k for k, v in of(settings=ModelSettings(temperature=0.5)).fingerprint.items() if first.fingerprint[k] != v} == {
        "settings"
    }


@pytest.mark.parametrize(
    ("output_type", "script", "output"),
    [(str, "hi", "hi"), (int, "7", 7), (list[tuple[int, str]], '[[1, "a"]]', [[1, "a"]])],
)
def test_a_runs_end_carries_its_output_as_json(output_type: Any, script: str, output: Any) -> None:
    state = Agent(ScriptedModel([script]), output_type=output_type).run_sync("go").state
    last = reloaded(state).events[-1]
    assert isinstance(last, RunFinished) and last.output == output


def test_a_result_says_whether_it_is_json_and_whether_its_outcome_is_known() -> None:
    @tool(timeout=0.01)
    async def hangs() -> str:
        """Hang."""
        await asyncio.Event().wait()
        return "never"

    @tool(timeout=0.01)
    def blocks() -> str:
        """Block."""
        released.wait(10)
        return "late"

    @tool
    def numbers() -> list[int]:
        """Count."""
        return [1]

    @tool
    def words() -> str:
        """Say."""
        return "[1]"

    released = threading.Event()
    names = ["hangs", "blocks", "numbers", "words", "gone"]
    agent = Agent(ScriptedModel([[call(name) for name in names], "Done."]), tools=[hangs, blocks, numbers, words])
    result = agent.run_sync("go")
    released.set()
    finished = {event.call.name: event for event in result.events if isinstance(event, ToolFinished)}
    assert [(finished[name].outcome, finished[name].is_json) for name in names] == [
        ("unknown", False), ("unknown", False), ("known", True), ("known", False), ("known", False),
    ]  # fmt: skip
    assert {waits.name for waits in result.uncertain} == {"hangs", "blocks"}
    assert result.state.failures == {"numbers": 0, "words": 0, "gone": 1}
