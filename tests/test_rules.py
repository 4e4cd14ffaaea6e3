"""The nine rules that the loop never breaks, each against the strict simulator over real HTTP where it applies."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    LimitReached,
    Limits,
    ModelError,
    ModelReply,
    ModelRequest,
    Retry,
    Retrying,
    RunContext,
    RunFinished,
    RunResult,
    RunState,
    ScriptedModel,
    TextDelta,
    ToolCall,
    ToolFinished,
    ToolStarted,
    Usage,
    tool,
)
from agentkit.events import LastingEvent
from agentkit.models.profiles import DEEPSEEK
from agentkit.testing import Cut, DeepSeekSimulator, Hangup, Reply, call
from tests.kit import How, Simulate, tool_texts

NO_WAIT = Retry(first=0, longest=0)


class Ledger:
    """Tools with side effects that are counted by kind, with the idempotency keys that they were given."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

        def effect(text: str, ctx: RunContext[None]) -> str:
            """Do something."""
            self.done.append((ctx.call.name, ":".join(ctx.idempotency_key.split(":")[:2])))
            return f"did {text}"

        names: dict[str, Any] = {"plain": {}, "reads": {"read_only": True}, "repeats": {"idempotent": True}}
        self.tools = [tool(effect, name=name, **labels) for name, labels in names.items()]


def chat(sim: DeepSeekSimulator) -> ChatModel:
    return ChatModel(base_url=sim.base_url)


# --- 1 --------------------------------------------------------------------------------------------


def test_rule_1_a_tool_does_not_run_on_arguments_that_were_cut_at_max_tokens(how: How, simulate: Simulate) -> None:
    ledger = Ledger()
    whole_but_cut = Reply([call("plain", text="whole"), ToolCall("", "plain", '{"text": "ha')], "length")
    sim = simulate([whole_but_cut, "Sorry."])
    result = how(Agent(chat(sim), tools=ledger.tools), "go")
    assert ledger.done == []
    assert all("cut off at max_tokens" in told for told in tool_texts(result))
    assert (len(tool_texts(result)), result.output) == (2, "Sorry.")


@pytest.mark.parametrize("arguments", ['{"text": 7}', "{}", '{"text": "a", "more": 1}', '{"text": "a"', "[]", '{"text": NaN}'])
def test_rule_1_a_tool_does_not_run_on_arguments_that_failed_validation(how: How, simulate: Simulate, arguments: str) -> None:
    ledger = Ledger()
    sim = simulate([ToolCall("", "plain", arguments), "Sorry."])
    result = how(Agent(chat(sim), tools=ledger.tools), "go")
    assert ledger.done == []
    assert tool_texts(result)[0].startswith("error: ")


def test_rule_1_a_call_runs_once_though_the_reply_repeats_its_id(how: How, simulate: Simulate) -> None:
    ledger = Ledger()
    same = [ToolCall("c1", "plain", '{"text": "a"}'), ToolCall("c1", "plain", '{"text": "b"}')]
    sim = simulate([same, ToolCall("c1", "plain", '{"text": "c"}'), "Done."])
    result = how(Agent(chat(sim), tools=ledger.tools), "go", run_id="r")
    assert tool_texts(result) == ["did a", "did b", "did c"]
    assert ledger.done == [("plain", f"r:{n}") for n in range(3)]


# --- 2 --------------------------------------------------------------------------------------------


def test_rule_2_every_call_is_answered_once_in_call_order(how: How, simulate: Simulate) -> None:
    async def first() -> str:
        """Ends last."""
        for _ in range(20):
            await asyncio.sleep(0)
        return "first"

    async def second() -> str:
        """Ends first."""
        return "second"

    sim = simulate([[call("first"), call("nothing"), call("second"), ToolCall("", "first", "{")], "Done."])
    result = how(Agent(chat(sim), tools=[first, second]), "go")
    asked = next(m for m in sim.requests[1].messages if m["role"] == "assistant")["tool_calls"]
    answered = [m for m in sim.requests[1].messages if m["role"] == "tool"]
    assert [m["tool_call_id"] for m in answered] == [c["id"] for c in asked]
    assert [m["content"].partition(":")[0] for m in answered] == ["first", "error", "second", "error"]
    order = [event.call.name for event in result.events if isinstance(event, ToolFinished) and not event.result.is_error]
    assert order == ["second", "first"]


def test_rule_2_async_tools_run_together(how: How) -> None:
    both: list[asyncio.Barrier] = []

    async def meet() -> str:
        """Meet the other."""
        if not both:
            both.append(asyncio.Barrier(2))
        async with asyncio.timeout(5):
            await both[0].wait()
        return "met"

    result = how(Agent(ScriptedModel([[call("meet"), call("meet")], "Done."]), tools=[meet]), "go")
    assert tool_texts(result) == ["met", "met"]


@pytest.mark.parametrize("label", ["read_only", "parallel"])
def test_rule_2_labelled_sync_tools_run_together(how: How, label: str) -> None:
    both = threading.Barrier(2)

    def meet() -> str:
        """Meet the other."""
        both.wait(5)
        return "met"

    labels: Any = {label: True}
    result = how(Agent(ScriptedModel([[call("meet"), call("meet")], "Done."]), tools=[tool(meet, **labels)]), "go")
    assert tool_texts(result) == ["met", "met"]


def test_rule_2_other_sync_tools_run_one_at_a_time_in_call_order(how: How) -> None:
    running, most, order = [0], [0], list[int]()

    def step(number: int) -> int:
        """Do a step."""
        running[0] += 1
        most[0] = max(most[0], running[0])
        order.append(number)
        running[0] -= 1
        return number

    how(Agent(ScriptedModel([[call("step", number=n) for n in range(10)], "Done."]), tools=[step]), "go")
    assert (order, most) == (list(range(10)), [1])


# --- 3 --------------------------------------------------------------------------------------------


def test_rule_3_what_goes_wrong_in_a_call_is_told_and_the_run_goes_on(how: How, simulate: Simulate) -> None:
    def fails() -> None:
        """Fail."""
        raise OSError("cannot reach postgres://ann:hunter2@db/x with password=hunter2")

    sim = simulate([[call("fails"), call("fial"), call("fails", more=1)], "Done."])
    result = how(Agent(chat(sim), tools=[fails]), "go")
    told = tool_texts(result)
    assert told[0].startswith("error: OSError: cannot reach postgres://")
    assert "hunter2" not in "".join(told)
    assert "there is no tool 'fial'; the tools are: fails" in told[1]
    assert "more" in told[2]
    assert result.output == "Done."
    errors = [event.error or "" for event in result.events if isinstance(event, ToolFinished)]
    assert [error for error in errors if "Traceback" in error and "OSError" in error]  # kept for the program


# --- 4 --------------------------------------------------------------------------------------------

PRICED = ModelReply(Assistant("", "", (ToolCall("", "reads", '{"text": "a"}'),)), Usage(1, 100, 10), cost=1.0)


def one_more(request: ModelRequest) -> ModelReply:
    number = sum(m.role == "assistant" for m in request.messages)
    return ModelReply(Assistant("", "", (ToolCall(f"c{number}", "reads", '{"text": "a"}'),)), PRICED.usage, cost=1.0)


LIMITS = [
    (Limits(steps=0), "steps", 0),
    (Limits(steps=2), "steps", 2),
    (Limits(tool_calls=0), "tool_calls", 1),
    (Limits(tool_calls=2), "tool_calls", 3),
    (Limits(input_tokens=310), "input_tokens", 2),
    (Limits(input_tokens=0), "input_tokens", 0),
    (Limits(output_tokens=20), "output_tokens", 2),
    (Limits(cost=2.0), "cost", 2),
    (Limits(repeats=3), "repeats", 3),
]


@pytest.mark.parametrize(("limits", "name", "steps"), LIMITS)
def test_rule_4_a_limit_is_checked_before_the_call_that_would_break_it(how: How, limits: Limits, name: str, steps: int) -> None:
    ledger, model = Ledger(), ScriptedModel(one_more)
    result = how(Agent(model, tools=ledger.tools, limits=limits), "go")
    assert (result.stop_reason, result.steps, len(model.requests)) == (f"limit:{name}", steps, steps)
    assert len(ledger.done) == min(steps, limits.tool_calls if limits.tool_calls is not None else steps)
    assert len(tool_texts(result)) == steps  # all calls are answered, also those that were not run


def test_rule_4_calls_beyond_the_limit_are_answered_without_being_run(how: How, simulate: Simulate) -> None:
    ledger = Ledger()
    sim = simulate([[call("plain", text=str(n)) for n in range(4)], "Enough."])
    agent = Agent(chat(sim), tools=ledger.tools, limits=Limits(tool_calls=2, on_limit="answer"))
    result = how(agent, "go")
    assert tool_texts(result) == ["did 0", "did 1", *["error: not run: the run has reached its limit of tool calls"] * 2]
    assert (result.stop_reason, result.output, len(ledger.done)) == ("limit:tool_calls", "Enough.", 2)
    assert sim.requests[1].body["tool_choice"] == "none"


@pytest.mark.parametrize("mode", ["text", "tool", "json"])
def test_rule_4_one_last_answer_without_tools(how: How, simulate: Simulate, mode: str) -> None:
    last: Any = {"text": "Seven.", "tool": call("final_answer", answer=7), "json": '{"answer": 7}'}[mode]
    sim = simulate([Assistant("", "Hm.", (call("reads", text="a"),)), last], passback="every")
    profile = replace(DEEPSEEK, output_mode="json_object" if mode == "json" else "tool")
    limits = Limits(steps=1, on_limit="answer")
    model = ChatModel(base_url=sim.base_url, profile=profile)
    result = how(Agent(model, tools=Ledger().tools, output_type=str if mode == "text" else int, limits=limits), "go")
    assert (result.stop_reason, result.output) == ("limit:steps", "Seven." if mode == "text" else 7)
    choice = {"type": "function", "function": {"name": "final_answer"}} if mode == "tool" else "none"
    assert sim.requests[1].body["tool_choice"] == choice


def test_rule_4_calls_in_the_last_answer_are_not_run(how: How) -> None:
    ledger = Ledger()
    model = ScriptedModel(one_more)
    result = how(Agent(model, tools=ledger.tools, limits=Limits(steps=1, on_limit="answer")), "go")
    assert (result.stop_reason, len(ledger.done), len(model.requests)) == ("limit:steps", 1, 2)


def test_rule_4_a_typed_run_at_its_limit_has_no_output(how: How) -> None:
    model = ScriptedModel([Assistant("so far", "", (call("reads", text="a"),))])
    result = how(Agent(model, tools=Ledger().tools, output_type=int, limits=Limits(steps=1)), "go")
    assert (result.stop_reason, result.output) == ("limit:steps", None)


def test_rule_4_asking_again_for_a_forced_tool_counts_as_a_call(how: How) -> None:
    model = ScriptedModel(["No.", "No."])
    result = how(Agent(model, tools=Ledger().tools, tool_choice="required", limits=Limits(steps=1)), "go")
    assert (result.stop_reason, len(model.requests)) == ("limit:steps", 1)


@pytest.mark.parametrize("on_limit", ["stop", "raise"])
@pytest.mark.parametrize("where", ["model", "async tool", "sync tool"])
def test_rule_4_the_seconds_limit_ends_what_is_under_way(how: How, where: str, on_limit: Any) -> None:
    release = threading.Event()

    class Slow:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            await asyncio.Event().wait()
            raise AssertionError

    async def wait() -> None:
        """Wait."""
        await asyncio.Event().wait()

    def wait_sync() -> None:
        """Wait."""
        release.wait(10)

    name = {"model": "", "async tool": "wait", "sync tool": "wait_sync"}[where]
    model: Any = ScriptedModel([call(name)]) if name else Slow()
    agent = Agent(model, tools=[wait, wait_sync], limits=Limits(seconds=0.05, on_limit=on_limit))
    try:
        if on_limit == "raise":
            with pytest.raises(LimitReached, match="seconds") as caught:
                how(agent, "go")
            state = caught.value.state
        else:
            state = how(agent, "go").state
    finally:
        release.set()
    assert state.stop_reason == "limit:seconds"
    assert tool_texts(state) == (
        ["error: outcome unknown: the run ended while this call was running; it may or may not have taken effect"]
        if name
        else []
    )


def test_rule_4_a_slow_observer_of_the_end_does_not_make_it_a_limit() -> None:
    ends: list[str] = []

    async def slow(event: Any) -> None:
        if isinstance(event, RunFinished):
            ends.append(event.stop_reason)
            await asyncio.sleep(0.1)

    agent = Agent(ScriptedModel(["Hello."]), limits=Limits(seconds=0.05))
    assert asyncio.run(agent.run("Hi", observers=[slow])).stop_reason == "answer"
    assert ends == ["answer"]


# --- 5 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("after", [1, 3, 6])
def test_rule_5_a_cut_stream_is_discarded_and_asked_for_again(simulate: Simulate, after: int, clean: bool) -> None:
    ledger = Ledger()
    whole = Assistant("I do it.", "They want it.", (call("plain", text="a"),))
    sim = simulate([Cut(whole, after, clean=clean), whole, Cut("Do", 1, clean=clean), "Done."])
    agent = Agent(chat(sim), tools=ledger.tools, retry=NO_WAIT)

    async def main() -> list[Any]:
        return [event async for event in agent.stream("go")]

    events = asyncio.run(main())
    assert len(ledger.done) == 1
    assert sum(isinstance(event, Retrying) for event in events) == 2
    assert sim.requests[0].raw == sim.requests[1].raw
    assert [m.text for m in events[-1].result.messages if isinstance(m, Assistant)] == ["I do it.", "Done."]


def test_rule_5_when_no_whole_reply_comes_no_tool_runs(how: How, simulate: Simulate) -> None:
    ledger = Ledger()
    sim = simulate([Cut(call("plain", text="a"), 3)] * 2 + [Hangup()])
    with pytest.raises(ModelError) as caught:
        how(Agent(chat(sim), tools=ledger.tools, retry=Retry(attempts=3, first=0, longest=0)), "go")
    assert ledger.done == []
    assert [m.role for m in caught.value.state.messages] == ["user"]


# --- 6 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["required", "plain"])
def test_rule_6_a_forced_choice_goes_back_to_auto_after_its_first_use(how: How, simulate: Simulate, choice: str) -> None:
    sim = simulate([call("plain", text="a"), call("plain", text="b"), "Done."], passback="every")
    result = how(Agent(chat(sim), tools=Ledger().tools, tool_choice=choice), "go")
    wire = {"type": "function", "function": {"name": "plain"}} if choice == "plain" else choice
    assert [request.body.get("tool_choice", "auto") for request in sim.requests] == [wire, "auto", "auto"]
    assert result.output == "Done."


def test_rule_6_a_forced_choice_that_was_not_followed_is_asked_for_once_more(how: How, simulate: Simulate) -> None:
    sim = simulate(["No.", call("plain", text="a"), "Done."])
    result = how(Agent(chat(sim), tools=Ledger().tools, tool_choice="plain"), "go")
    assert sim.requests[1].last["content"] == "Call the tool plain now."
    assert (result.output, result.steps) == ("Done.", 3)
    stubborn = ScriptedModel(["No.", "Still no."])
    assert how(Agent(stubborn, tools=Ledger().tools, tool_choice="required"), "go").output == "Still no."


def test_rule_6_none_stays_none(how: How) -> None:
    model = ScriptedModel([call("plain", text="a"), "Done."])
    how(Agent(model, tools=Ledger().tools, tool_choice="none"), "go")
    assert [request.tool_choice for request in model.requests] == ["none", "none"]


# --- 7 --------------------------------------------------------------------------------------------

SCRIPT = [[call("plain", text="a"), call("reads", text="b"), call("repeats", text="c")], call("plain", text="d"), "Done."]


def answer_by_place(request: ModelRequest) -> Any:
    """The script's reply for this point of the transcript, so that a resumed run gets the right one."""
    return SCRIPT[sum(m.role == "assistant" for m in request.messages)]


def whole_run() -> RunResult[Any]:
    return Agent(ScriptedModel(answer_by_place), tools=Ledger().tools).run_sync("go", run_id="r")


@pytest.mark.parametrize("length", range(1, len(whole_run().events) + 1))
def test_rule_7_any_prefix_resumes_and_only_repeatable_tools_run_again(length: int) -> None:
    whole = whole_run()
    prefix = whole.events[:length]
    stored = json.loads(json.dumps(RunState.replay(prefix).to_json()))
    ledger = Ledger()
    resumed = Agent(ScriptedModel(answer_by_place), tools=ledger.tools).resume_sync(stored)
    started = [(e.call.name, f"r:{e.position}") for e in prefix if isinstance(e, ToolStarted)]
    ended = [e.call.id for e in prefix if isinstance(e, ToolFinished)]
    unknown = [e for e in prefix if isinstance(e, ToolStarted) and e.call.id not in ended]
    everything = [("plain", "r:0"), ("reads", "r:1"), ("repeats", "r:2"), ("plain", "r:3")]
    again = [(e.call.name, f"r:{e.position}") for e in unknown if e.call.name != "plain"]
    assert sorted(ledger.done) == sorted([done for done in everything if done not in started] + again)
    assert sum("outcome unknown" in told for told in tool_texts(resumed)) == sum(e.call.name == "plain" for e in unknown)
    assert (resumed.output, resumed.stop_reason, len(tool_texts(resumed))) == ("Done.", "answer", 4)
    assert resumed.run_id == "r"


def test_rule_7_every_observer_is_told_before_anything_that_depends_on_it_happens() -> None:
    order: list[str] = []

    async def store(event: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        if isinstance(event, LastingEvent):
            order.append(f"stored {type(event).__name__}")

    async def act() -> str:
        """Act."""
        order.append("acted")
        return "x"

    def reply(request: ModelRequest) -> Any:
        order.append("asked")
        return call("act") if len(request.messages) == 1 else "Done."

    store.deltas = False  # type: ignore[attr-defined]
    asyncio.run(Agent(ScriptedModel(reply), tools=[act]).run("go", observers=[store]))
    assert order == [
        "stored RunStarted", "asked", "stored ModelReplied", "stored ToolStarted", "acted", "stored ToolFinished",
        "asked", "stored ModelReplied", "stored RunFinished",
    ]  # fmt: skip


# --- 8 --------------------------------------------------------------------------------------------

THOUGHTS = ["", " ", "  Let me\n\n think… 思考 🤔\n", '{"a": 1}', "\u2028x"]


@pytest.mark.parametrize("passback", ["probe", "every"])
@pytest.mark.parametrize("thought", THOUGHTS)
def test_rule_8_thinking_text_goes_back_exactly_as_it_came(how: How, simulate: Simulate, thought: str, passback: str) -> None:
    first = Assistant("", thought, (call("reads", text="a"),))
    sim = simulate([first, Assistant("One.", thought), Assistant("Two.", "")], passback=passback)
    agent = Agent(chat(sim), tools=Ledger().tools)
    one = how(agent, "go")
    how(agent, "and?", messages=one.messages)
    spoken = [m for m in sim.requests[2].messages if m["role"] == "assistant"]
    assert [m["reasoning_content"] for m in spoken] == [thought, thought]


# --- 9 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["model", "tool", "delta"])
def test_rule_9_cancelling_leaves_a_valid_resumable_history_and_the_usage(simulate: Simulate, moment: str) -> None:
    first = Reply(Assistant("", "I act.", (call("wait"), call("plain", text="a"))))
    sim = simulate([first, "Never seen by the first run." * 40, "Done."], passback="every")
    ledger, states = Ledger(), list[RunResult[Any]]()

    async def main() -> RunResult[Any]:
        reached = asyncio.Event()
        hold = [moment == "tool"]

        async def wait() -> str:
            """Wait."""
            if hold[0]:
                reached.set()
                await asyncio.Event().wait()
            return "waited"

        def watch(event: Any) -> None:
            if isinstance(event, RunFinished):
                states.append(event.result)
            if moment == "delta" and isinstance(event, TextDelta):
                reached.set()
            if moment == "model" and type(event).__name__ == "StepStarted" and event.step == 2:
                reached.set()

        agent = Agent(chat(sim), tools=[tool(wait, sequential=True), *ledger.tools])
        task = asyncio.ensure_future(agent.run("go", observers=[watch]))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold[0] = False
        (cancelled,) = states
        assert cancelled.stop_reason == "cancelled"
        assert cancelled.usage.requests == 1
        assert cancelled.usage.output_tokens > 0
        on = await agent.run("Go on.", messages=cancelled.messages)
        assert on.stop_reason == "answer"
        resumed = await Agent(ScriptedModel(["Resumed."]), tools=[wait, *ledger.tools]).resume(cancelled.state)
        assert resumed.output == "Resumed."
        return cancelled

    cancelled = asyncio.run(main())
    told = tool_texts(cancelled)
    if moment == "tool":
        assert told[0].startswith("error: outcome unknown")
        assert told[1] == "error: not run: the run ended before this call"
    else:
        assert told == ["waited", "did a"]
