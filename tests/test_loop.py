"""`decide` is pure, a replay decides as the live run did, and every history that is sent is a valid one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import (
    Agent,
    AgentError,
    Assistant,
    ChatModel,
    Limits,
    MessageAdded,
    ModelReplied,
    ModelReply,
    ModelRequest,
    RunResumed,
    RunState,
    ScriptedModel,
    System,
    ToolCall,
    ToolFinished,
    ToolResult,
    ToolStarted,
    Usage,
    User,
    tool,
)
from agentkit.events import ApprovalGiven, CallJudged, LastingEvent, RunFinished, RunPaused, RunStarted
from agentkit.run.loop import LAST_ANSWER, AskModel, Decision, Finish, Judge, Pause, ReadAnswer, RunTools, decide
from agentkit.run.spec import AgentSpec
from agentkit.testing import DeepSeekSimulator, Reply, call
from agentkit.tools.tool import AnyTool


@tool(read_only=True)
def look(text: str) -> str:
    """Look."""
    return text


@tool
async def act(number: int) -> int:
    """Act."""
    if number < 0:
        raise ValueError("negative")
    return number


@tool(approval=True)
def risky(text: str) -> str:
    """Risk."""
    return text


TOOLS: list[AnyTool] = [look, act, risky]


def agent_of(model: Any = None, **options: Any) -> Agent[Any]:
    return Agent(model or ScriptedModel([]), tools=TOOLS, **{"retry": None, **options})


def state_of(*events: LastingEvent) -> RunState:
    return RunState.replay([RunStarted("r", (User("go"),)), *events])


def decided(state: RunState, spec: AgentSpec) -> Decision:
    """The decision, with what the answer says where that has to be read first."""
    decision = decide(state, spec)
    return decide(state, spec, spec.output.read(state)) if isinstance(decision, ReadAnswer) else decision


def said(text: str = "", *calls: ToolCall, finish: str = "stop") -> ModelReplied:
    return ModelReplied(Assistant(text, "", calls), Usage(requests=1), finish)


def answered(call: ToolCall, content: str = "x") -> list[LastingEvent]:
    return [ToolStarted(call, 0), ToolFinished(call, ToolResult(call.id, call.name, content))]


LOOK, RISKY = ToolCall("c1", "look", '{"text": "a"}'), ToolCall("c2", "risky", '{"text": "a"}')
ANSWERED = [said("", LOOK), *answered(LOOK)]
STOP = Limits(steps=1)
LAST = Limits(steps=1, on_limit="answer")
LATE = ToolCall("c3", "look", "{}")
REFUSED = ToolFinished(LATE, ToolResult("c3", "look", "error: not run", is_error=True), refused="limit:steps")
DENIED = ToolFinished(RISKY, ToolResult("c2", "risky", "error: not run", is_error=True), refused="denied")
ASKED_LAST = [*ANSWERED, MessageAdded(User(LAST_ANSWER), "limit:steps")]


@pytest.mark.parametrize(
    ("options", "events", "decision"),
    [
        ({}, [], AskModel("auto")),
        ({"tool_choice": "required"}, [], AskModel("required")),
        ({"tool_choice": "none"}, ANSWERED, AskModel("none")),
        ({"tool_choice": "look"}, ANSWERED, AskModel("auto")),
        ({"tool_choice": "look"}, [said("no")], AskModel("look", User("Call the tool look now."), "tool_choice")),
        ({"tool_choice": "look", "limits": STOP}, [said("no")], Finish("limit:steps", is_refused=True)),
        ({}, [said("hello")], Finish("answer", "hello")),
        ({}, [said("hel", finish="length")], Finish("limit:max_tokens", "hel")),
        ({}, [said("", RISKY), CallJudged("c2", "ask", RISKY.arguments)], Pause((RISKY,))),
        ({}, [said("", RISKY), CallJudged("c2", "ask", '{"text": "b"}')], Pause((replace(RISKY, arguments='{"text": "b"}'),))),
        ({"limits": Limits(steps=0, on_limit="answer")}, [], Finish("limit:steps")),
        ({"limits": STOP}, ANSWERED, Finish("limit:steps")),
        ({"limits": LAST}, ANSWERED, AskModel("none", User(LAST_ANSWER), "limit:steps")),
        ({"limits": LAST}, ASKED_LAST, AskModel("none")),
        ({"limits": LAST, "output_type": int}, ASKED_LAST, AskModel("final_answer")),
        ({"limits": LAST}, [*ASKED_LAST, said("enough")], Finish("limit:steps", "enough")),
        ({"limits": LAST}, [*ASKED_LAST, said("", LATE), REFUSED], Finish("limit:steps")),
        ({"limits": Limits(tool_calls=1)}, [*ANSWERED, said("", LATE), REFUSED], Finish("limit:steps")),
        ({"limits": Limits(refusals=1)}, [said("", RISKY), DENIED], Finish("limit:refusals")),
        ({"limits": LAST, "output_type": int}, [*ASKED_LAST, said("seven")], Finish("limit:steps", is_refused=True)),
        ({"output_type": int}, [said("7")], Finish("answer", 7)),
        ({"output_type": int, "output_retries": 1, "limits": STOP}, [said("seven")], Finish("limit:steps", is_refused=True)),
        ({"output_type": int, "output_retries": 1}, [said("se", finish="length")], Finish("limit:max_tokens", is_refused=True)),
    ],
)
def test_decisions(options: dict[str, Any], events: list[LastingEvent], decision: Decision) -> None:
    assert decided(state_of(*events), agent_of(**options).spec) == decision


@pytest.mark.parametrize(
    ("events", "refusal"),
    [
        ([said("", LOOK)], None),
        ([said("", LOOK, finish="length")], "cut off at max_tokens"),
        ([said("", ToolCall("c4", "act", '{"number": 1}')), ToolStarted(ToolCall("c4", "act", '{"number": 1}'), 0)], "unknown"),
        ([said("", LOOK), ToolStarted(LOOK, 0)], None),
        ([said("", ToolCall("c5", "gone", "{}")), ToolStarted(ToolCall("c5", "gone", "{}"), 0)], "outcome unknown"),
        ([said("", RISKY), CallJudged("c2", "ask", "{}"), ApprovalGiven("c2", False, reason="too dear")], "too dear"),
        ([said("", RISKY), CallJudged("c2", "allow", "{}")], None),
    ],
)
def test_what_becomes_of_open_calls(events: list[LastingEvent], refusal: str | None) -> None:
    state = state_of(*events)
    decision = decide(state, agent_of().spec)
    assert isinstance(decision, RunTools)
    assert decision.calls == state.open_calls
    assert (decision.refusal is None) if refusal is None else (refusal in (decision.refusal or ""))


# --- random scripts -------------------------------------------------------------------------------

calls = st.one_of(
    st.builds(lambda text: call("look", text=text), st.sampled_from(["a", "b", ""])),
    st.builds(lambda number: call("act", number=number), st.integers(-1, 1)),
    st.builds(lambda text: call("risky", text=text), st.sampled_from(["a", "b"])),
    st.builds(lambda answer: call("final_answer", answer=answer), st.sampled_from([7, "no"])),
    st.just(call("unknown")),
    st.builds(
        ToolCall, st.sampled_from(["", "same"]), st.sampled_from(["look", "act"]), st.sampled_from(["{", "[]", '{"x": 1}'])
    ),
)
messages = st.builds(
    Assistant, st.sampled_from(["", "7", "words"]), st.sampled_from(["", "hm"]), st.lists(calls, max_size=3).map(tuple)
)
replies = st.builds(Reply, messages, st.sampled_from([None, None, None, "length"]))


@dataclass
class Case:
    """A random agent, and a random server that never runs out of replies."""

    replies: list[Reply]
    typed: bool
    choice: str
    limits: Limits
    approvals: list[bool] = field(default_factory=list)
    pauses: bool = False

    def agent(self, model: Any) -> Agent[Any]:
        left = iter(self.approvals * 50)
        approve = None if self.pauses else (lambda _: next(left, True))
        kind = int if self.typed else str
        return agent_of(
            model, output_type=kind, tool_choice=self.choice, limits=self.limits, approve=approve, instructions="Go."
        )

    def reply(self, turn: int) -> Reply:
        reply = self.replies[turn] if turn < len(self.replies) else Reply("7")
        message = reply.message
        empty = isinstance(message, Assistant) and not message.text and not message.tool_calls
        return Reply("7") if empty else reply


limits = st.builds(
    Limits,
    steps=st.integers(0, 6),
    tool_calls=st.sampled_from([None, 0, 1, 3]),
    repeats=st.sampled_from([None, 2]),
    on_limit=st.sampled_from(["stop", "answer"]),
)
cases = st.builds(
    Case,
    replies=st.lists(replies, max_size=5),
    typed=st.booleans(),
    choice=st.sampled_from(["auto", "none", "required", "look"]),
    limits=limits,
    approvals=st.lists(st.booleans(), min_size=1, max_size=4),
    pauses=st.booleans(),
)


def scripted_for(case: Case) -> ScriptedModel:
    def reply(request: ModelRequest) -> ModelReply:
        turn = sum(m.role == "assistant" for m in request.messages)
        given = case.reply(turn)
        message = given.message
        assert isinstance(message, str | Assistant)
        whole = Assistant(message) if isinstance(message, str) else message
        return ModelReply(whole, Usage(1, 10, 5), given.finish_reason or "stop")

    return ScriptedModel(reply)


async def to_the_end(agent: Agent[Any]) -> Any:
    """Run, resume after pauses through JSON, and give the result, or the error that the run ends with."""
    try:
        result = await agent.run("go")
        while result.pending:
            stored = json.loads(json.dumps(result.state.to_json()))
            result = await agent.resume(stored, {c.id: True for c in result.pending})
    except AgentError as error:
        return error
    return result


def seen(decision: Decision) -> str:
    return repr(decision)


def follows(decision: Decision, event: LastingEvent) -> bool:
    """Whether a run that decided so can have done this next."""
    match event:
        case MessageAdded():
            return isinstance(decision, AskModel) and (decision.prompt, decision.reason) == (event.message, event.reason)
        case ModelReplied():
            return isinstance(decision, AskModel) and decision.prompt is None
        case ToolStarted():
            return isinstance(decision, RunTools)
        case ToolFinished():  # Finish closes what is open
            return not isinstance(decision, Pause)
        case CallJudged():
            return isinstance(decision, Judge)
        case ApprovalGiven() | RunPaused():
            return isinstance(decision, Pause)
        case RunFinished():
            return isinstance(decision, Finish) and decision.stop_reason == event.stop_reason
        case _:
            return True


@settings(derandomize=True, max_examples=150, deadline=None)
@given(case=cases)
def test_decide_is_pure_and_a_replay_decides_as_the_live_run_did(case: Case) -> None:
    agent = case.agent(scripted_for(case))
    end = asyncio.run(to_the_end(agent))
    state = end.state
    before = json.dumps(state.to_json())
    live, decision, closing = RunState(), None, False
    for length, event in enumerate(state.events, start=1):
        under_way = closing or any(c.started for c in live.open_calls)  # then the live run did not decide anew
        decision = decided(live, agent.spec) if live.events and not under_way else decision
        assert decision is None or follows(decision, event)
        closing = isinstance(event, ToolFinished) and not isinstance(decision, RunTools)  # answers what its end leaves open
        live.apply(event)
        once = seen(decided(live, agent.spec))
        assert once == seen(decided(live, agent.spec))
        stored = json.loads(json.dumps(RunState.replay(state.events[:length]).to_json()))
        assert once == seen(decided(RunState.from_json(stored), agent.spec))
    assert json.dumps(state.to_json()) == before


@settings(derandomize=True, max_examples=60, deadline=None)
@given(case=cases, cut=st.integers(0, 100))
def test_every_prefix_of_a_run_comes_to_an_end(case: Case, cut: int) -> None:
    agent = case.agent(scripted_for(case))
    events = asyncio.run(to_the_end(agent)).state.events
    prefix = RunState.replay(events[: 1 + cut % len(events)])

    async def resumed() -> Any:
        result = await agent.resume(prefix)
        while result.pending:
            result = await agent.resume(result.state, {c.id: False for c in result.pending})
        return result

    try:
        result = asyncio.run(resumed())
    except AgentError as error:
        result = error
    assert result.state.stop_reason
    assert result.state.open_calls == []


@settings(derandomize=True, max_examples=80, deadline=None)
@given(case=cases, passback=st.sampled_from(["probe", "every"]))
def test_every_history_that_is_sent_is_accepted_by_the_strict_endpoint(case: Case, passback: Any) -> None:
    sim = DeepSeekSimulator(lambda request: case.reply(request.turn), passback=passback)

    async def main() -> Any:
        async with httpx.AsyncClient(transport=sim.transport()) as client:
            agent = case.agent(ChatModel(base_url="http://127.0.0.1/v1", client=client))
            end = await to_the_end(agent)
            follow_up = agent.copy(output_type=str, tool_choice="auto", limits=Limits(steps=1))
            await follow_up.run("And?", messages=end.state.messages)
            return end

    end = asyncio.run(main())
    assert [failure.message for failure in sim.errors] == []
    calls = [c.id for m in end.state.messages if isinstance(m, Assistant) for c in m.tool_calls]
    results = [m.call_id for m in end.state.messages if isinstance(m, ToolResult)]
    assert calls == results
    assert isinstance(end.state.messages[0], System)


def test_a_call_beyond_the_limit_is_not_asked_about() -> None:
    @tool(approval=True)
    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    asked: list[str] = []

    def approve(waiting: ToolCall) -> bool:
        asked.append(waiting.arguments)
        return True

    model = ScriptedModel([[call("pay", amount=1), call("pay", amount=2)]])
    agent = Agent(model, tools=[pay], limits=Limits(tool_calls=1), approve=approve)
    result = agent.run_sync("Pay both.")
    assert asked == ['{"amount": 1}']
    assert result.stop_reason == "limit:tool_calls"
    assert [m.content.startswith("error: not run") for m in result.messages[-2:] if isinstance(m, ToolResult)] == [False, True]


def test_a_run_that_ended_with_its_last_answer_goes_on_under_larger_limits() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    model = ScriptedModel([call("look"), "short", call("look"), "long"])
    agent = Agent(model, tools=[look], limits=Limits(steps=1, on_limit="answer"))
    first = agent.run_sync("Look.")
    assert (first.output, first.stop_reason) == ("short", "limit:steps")
    larger = agent.copy(limits=Limits(steps=9))
    again = larger.resume_sync(RunState.replay([*first.state.events, RunResumed(), MessageAdded(User("Go on."), "user")]))
    assert (again.output, again.stop_reason) == ("long", "answer")
