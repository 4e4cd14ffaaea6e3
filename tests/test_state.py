"""The state is the fold of the events: any prefix of any run replays to the state that was folded live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentkit import (
    Agent,
    ApprovalGiven,
    Assistant,
    CallJudged,
    Event,
    Limits,
    MessageAdded,
    ModelReplied,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunState,
    ScriptedModel,
    ToolCall,
    ToolFinished,
    ToolResult,
    ToolStarted,
    Usage,
    User,
    tool,
)
from agentkit.events import LastingEvent, decode_event, encode_event
from agentkit.model import ModelReply
from agentkit.models.scripted import ScriptItem, call


def fields(state: RunState) -> dict[str, Any]:
    """All that a state holds, its open calls as text (they are mutable)."""
    return {name: repr(value) if name == "calls" else value for name, value in vars(state).items()}


def stored(state: RunState) -> Any:
    return json.loads(json.dumps(state.to_json()))


@tool
def add(x: int, y: int) -> int:
    return x + y


@tool(approval=True)
async def pay(amount: int) -> str:
    return f"paid {amount}"


@tool
async def fail() -> str:
    raise ValueError("no luck")


async def plain(watch: Callable[[Event], None]) -> None:
    await Agent(ScriptedModel(["hello"])).run("hi", observers=[watch])


async def with_tools(watch: Callable[[Event], None]) -> None:
    script: list[ScriptItem] = [
        [call("add", x=1, y=2), call("fail"), call("nope")],
        ModelReply(Assistant("wait", "hm", (call("fail"),)), Usage(1, 10, 5, 3, 2), cost=0.5),
        [call("add", x="wrong"), call("add", x=3, y=4)],
        "7",
    ]
    await Agent(ScriptedModel(script), tools=[add, fail]).run("sum", observers=[watch])


async def with_corrections(watch: Callable[[Event], None]) -> None:
    script: list[ScriptItem] = ["seven", call("final_answer", answer="x"), call("final_answer", answer=7)]
    await Agent(ScriptedModel(script), output_type=int).run("sum", observers=[watch])


async def with_a_limit(watch: Callable[[Event], None]) -> None:
    script: list[ScriptItem] = [call("add", x=1, y=2), call("add", x=1, y=2), "enough"]
    limits = Limits(steps=2, on_limit="answer")
    await Agent(ScriptedModel(script), tools=[add], limits=limits).run("sum", observers=[watch])


async def with_an_approval(watch: Callable[[Event], None]) -> None:
    model = ScriptedModel([[call("pay", amount=5), call("add", x=1, y=1), call("pay", amount=6)], "done"])
    agent = Agent(model, tools=[pay, add])
    paused = await agent.run("pay", observers=[watch])
    first, second = paused.pending
    await agent.resume(paused.state, {first.id: {"args": {"amount": 4}}, second.id: False}, observers=[watch])


async def cancelled(watch: Callable[[Event], None]) -> None:
    running = asyncio.Event()

    async def hang() -> None:
        running.set()
        await asyncio.Event().wait()

    run = asyncio.ensure_future(Agent(ScriptedModel([[call("hang"), call("hang")]]), tools=[hang]).run("go", observers=[watch]))
    await running.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


SCENARIOS = [plain, with_tools, with_corrections, with_a_limit, with_an_approval, cancelled]


def run_of(scenario: Callable[[Callable[[Event], None]], Awaitable[None]]) -> list[LastingEvent]:
    """The lasting events of a real run, and of its resumption."""
    events: list[LastingEvent] = []

    def watch(event: Event) -> None:
        if isinstance(event, LastingEvent):
            events.append(event)

    watch.deltas = False  # type: ignore[attr-defined]
    asyncio.run(_async(scenario, watch))
    return events


async def _async(scenario: Callable[[Callable[[Event], None]], Awaitable[None]], watch: Callable[[Event], None]) -> None:
    await scenario(watch)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_every_prefix_replays_to_the_state_that_was_folded_live(scenario: Any) -> None:
    events = run_of(scenario)
    live = RunState()
    for place, event in enumerate(events):
        live.apply(event)
        prefix = events[: place + 1]
        replayed = RunState.replay(prefix)
        loaded = RunState.from_json(stored(live))
        assert fields(replayed) == fields(live)
        assert fields(loaded) == fields(live)
        assert stored(loaded) == stored(live)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_a_finished_run_has_every_call_answered_after_its_message_in_call_order(scenario: Any) -> None:
    state = RunState.replay(run_of(scenario))
    assert not state.open_calls and state.stop_reason
    asked: list[str] = []
    answered: list[str] = []
    for message in state.messages:
        if isinstance(message, Assistant):
            assert asked == answered
            asked += [c.id for c in message.tool_calls]
        elif isinstance(message, ToolResult):
            answered.append(message.call_id)
    assert asked == answered and len({*asked}) == len(asked)


def test_what_a_run_with_tools_adds_up_to() -> None:
    state = RunState.replay(run_of(with_tools))
    assert (state.steps, state.calls_made, state.usage) == (4, 6, Usage(4, 10, 5, 3, 2, 6))
    assert state.cost is None  # the script's other replies have no price
    assert state.failures == {"add": 0, "fail": 2, "nope": 1}
    assert state.stop_reason == "answer" and state.finish_reason == "stop"


# ---- single events

CALL, OTHER = ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")
START = RunStarted("r", (User("hi"),))
ASKED = ModelReplied(Assistant(tool_calls=(CALL, OTHER)), Usage(requests=1))
DONE = ToolFinished(CALL, ToolResult("a", "f", "1"))


def test_costs_add_up_until_one_is_unknown() -> None:
    state = RunState.replay([START])
    costs = []
    for cost in (0.5, 0.25, None, 1.0):
        state.apply(ModelReplied(Assistant("x"), Usage(), cost=cost))
        costs.append(state.cost)
    assert costs == [0.5, 0.75, None, None]


def test_the_answers_join_the_transcript_together_in_call_order() -> None:
    state = RunState.replay([START, ASKED, ToolFinished(OTHER, ToolResult("b", "f", "2"))])
    assert [c.call.id for c in state.open_calls] == ["a"]
    assert len(state.messages) == 2
    state.apply(DONE)
    assert state.messages[2:] == [ToolResult("a", "f", "1"), ToolResult("b", "f", "2")]
    assert state.calls == {}


def test_positions_count_the_calls_of_the_whole_run() -> None:
    third = ToolCall("c", "f", "{}")
    state = RunState.replay([START, ASKED])
    assert [c.position for c in state.open_calls] == [0, 1]
    for one in (CALL, OTHER):
        state.apply(ToolFinished(one, ToolResult(one.id, "f", "1")))
    state.apply(ModelReplied(Assistant(tool_calls=(third,)), Usage()))
    assert [c.position for c in state.open_calls] == [2]


def test_an_approval_with_other_arguments_changes_the_call_that_runs() -> None:
    asks = CallJudged("a", "ask", CALL.arguments)
    state = RunState.replay([START, ASKED, asks, RunPaused((CALL,)), RunResumed(), ApprovalGiven("a", True, '{"x": 1}')])
    assert state.calls["a"].call == ToolCall("a", "f", '{"x": 1}')
    assert state.calls["a"].approved is True and state.calls["b"].approved is None
    assert state.pending == ()


def test_calls_of_the_given_history_have_their_ids_taken() -> None:
    history = (Assistant(tool_calls=(CALL,)), ToolResult("a", "f", "1"), User("hi"))
    state = RunState.replay([RunStarted("r", history, 2)])
    assert state.call_ids == {"a"} and state.last_reply is None


@pytest.mark.parametrize(
    ("before", "event", "says"),
    [
        ([], RunResumed(), "RunResumed is event 0; a run begins with RunStarted, and only once"),
        ([], ASKED, "ModelReplied is event 0"),
        ([START], START, "RunStarted is event 1"),
        ([START], ToolStarted(CALL, 0), "no open tool call 'a'; open: none"),
        ([START], DONE, "no open tool call 'a'; open: none"),
        ([START], ApprovalGiven("a", True), "no open tool call 'a'; open: none"),
        ([START, ASKED], ApprovalGiven("c", True), "no open tool call 'c'; open: a, b"),
        ([START, ASKED, DONE], DONE, "tool call 'a' is answered already"),
        ([START, ASKED, DONE], ToolStarted(CALL, 0), "tool call 'a' is answered already"),
        ([START, ASKED, DONE], ApprovalGiven("a", True, "{}"), "tool call 'a' is answered already"),
        ([START, ASKED], ToolFinished(CALL, ToolResult("b", "f", "1")), "the result of tool call 'a' answers 'b'"),
        ([START, ASKED], ModelReplied(Assistant("x"), Usage()), "ModelReplied before an answer to the tool calls a, b"),
        ([START, ASKED, DONE], MessageAdded(User("x"), "output"), "MessageAdded before an answer to the tool calls a, b"),
        ([START], ModelReplied(Assistant(tool_calls=(CALL, CALL)), Usage()), "ids of the tool calls a, a are not new"),
        (
            [RunStarted("r", (Assistant(tool_calls=(CALL,)), ToolResult("a", "f", "1")))],
            ModelReplied(Assistant(tool_calls=(CALL,)), Usage()),
            "ids of the tool calls a are not new",
        ),
    ],
)
def test_an_event_that_cannot_follow_is_refused_and_changes_nothing(
    before: list[LastingEvent], event: LastingEvent, says: str
) -> None:
    state = RunState.replay(before)
    was = fields(RunState.replay(before))
    with pytest.raises(ValueError, match=says):
        state.apply(event)
    assert fields(state) == was


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"version": 3, "events": []}, "a run state of version 3; this agentkit reads up to version 2"),
        ({"events": []}, "a run state of version None"),
        ({"version": 1, "events": [{"type": "Nope"}]}, "unknown event type 'Nope'"),
        ({"version": 1, "events": [{"type": "RunResumed"}]}, "RunResumed is event 0"),
        ({"version": 1, "events": [{"type": "RunFinished"}]}, "stop_reason"),
    ],
)
def test_data_that_is_no_run_is_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RunState.from_json(data)


def test_a_finished_run_goes_on_after_a_resume() -> None:
    state = RunState.replay([START, RunFinished("cancelled")])
    assert state.stop_reason == "cancelled"
    state.apply(RunResumed())
    assert state.stop_reason is None


@pytest.mark.parametrize("scenario", [with_tools, with_an_approval], ids=lambda s: s.__name__)
def test_a_fold_leaves_stored_events_as_they_are(scenario: Any) -> None:
    """Somebody may change one of them, and fold them again."""
    events = run_of(scenario)
    lines = [encode_event(event) for event in events]
    stored = [decode_event(line) for line in lines]
    assert stored != events == RunState.replay(stored).events
    assert stored == [decode_event(line) for line in lines]
