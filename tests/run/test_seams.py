"""What is attached to a run fails, is cancelled, or changes what it is given."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import (
    Agent,
    ChatModel,
    LogFailed,
    Middleware,
    ModelReply,
    ModelRequest,
    Retry,
    RunContext,
    RunInfo,
    RunResult,
    RunState,
    ScriptedModel,
    ToolResult,
    UsageAdded,
    tool,
)
from agentkit.events import LastingEvent, RunFinished, ToolFinished, decode_event, encode_event
from agentkit.middleware import NextModelCall
from agentkit.policy import Allow, Ask, Deny, JudgeContext, JudgedCall, Policy
from agentkit.run.ending import json_value
from agentkit.run.journal import JsonLinesLog, MemoryLog
from agentkit.testing import DeepSeekSimulator, Failure, call

How = Callable[..., RunResult[Any]]


def contents(result: RunResult[Any]) -> list[str]:
    return [message.content for message in result.messages if isinstance(message, ToolResult)]


# --- logs ----------------------------------------------------------------------------------------------------------------


def test_a_file_that_another_run_has_written_to_takes_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        path, events = tmp_path / "run.jsonl", Agent(ScriptedModel(["Done."])).run_sync
        first = (await asyncio.to_thread(events, "go")).events
        one, other = JsonLinesLog(path), JsonLinesLog(path)
        await one.append(0, first[:1])
        await other.append(1, first[1:2])
        with pytest.raises(ValueError, match="another run has written"):
            await one.append(1, first[1:2])
        assert len(await JsonLinesLog(path).load()) == 2, "nothing of it is lost"

    asyncio.run(main())


def test_no_call_of_a_child_runs_after_the_log_of_its_parent_has_failed() -> None:
    class Fails(MemoryLog):
        async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
            if any(isinstance(event, UsageAdded) for event in events):
                raise OSError("disk full")
            await super().append(seq, events)

    ran: list[int] = []

    @tool
    async def pay(n: int) -> str:
        """Pay."""
        ran.append(n)
        return "paid"

    child = Agent(ScriptedModel([[call("pay", n=1), call("pay", n=2)], "never"]), tools=[pay]).as_tool("child", "Pays.")
    with pytest.raises(LogFailed, match="disk full"):
        Agent(ScriptedModel([call("child", task="x"), "never"]), tools=[child]).run_sync("go", log=Fails())
    assert ran == []


def test_a_cancelled_run_is_closed_in_one_append_and_its_end_is_told() -> None:
    sizes: list[int] = []
    told: list[Any] = []

    class Slow(MemoryLog):
        async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
            await asyncio.sleep(0)
            sizes.append(len(events))
            await super().append(seq, events)

    @tool
    async def wait(n: int) -> str:
        """Wait."""
        if n == 19:
            started.set()
        await asyncio.Event().wait()
        return "never"

    async def main(log: Slow) -> None:
        agent = Agent(ScriptedModel([[call("wait", n=n) for n in range(20)]]), tools=[wait])
        task = asyncio.ensure_future(agent.run("go", log=log, observers=[told.append]))
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert isinstance(log.events[-1], RunFinished) and log.events[-1].stop_reason == "cancelled"

    started, log = asyncio.Event(), Slow()
    asyncio.run(main(log))
    assert sizes[-1] == 21, "twenty answers and the end"
    assert [event for event in told if isinstance(event, LastingEvent)] == log.events


@pytest.mark.parametrize("output", [float("nan"), 10**5_000, {"a": {1, 2}}, [[[[]]]]], ids=["nan", "long", "set", "deep"])
def test_whatever_the_output_is_the_end_of_the_run_can_be_stored(output: Any) -> None:
    end = RunFinished("answer", output=json_value(output))
    assert type(decode_event(encode_event(end))) is RunFinished


# --- observers -------------------------------------------------------------------------------------------------------------


def test_an_observer_that_fails_in_parallel_calls_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def watch(event: Any) -> None:
        await asyncio.sleep(0)
        if isinstance(event, ToolFinished):
            raise LookupError("broken view")

    @tool
    async def step(n: int) -> int:
        """Step."""
        return n

    agent = Agent(ScriptedModel([[call("step", n=n) for n in range(5)], "Done."]), tools=[step])
    assert agent.run_sync("go", observers=[watch]).output == "Done."
    assert caplog.text.count("gets no more events") == 1


def test_a_failure_of_a_test_in_an_observer_ends_the_run_and_leaves_it() -> None:
    states: list[RunState] = []

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            states.append(event.result.state)
        pytest.fail("not like this")

    with pytest.raises(pytest.fail.Exception, match="not like this"):
        Agent(ScriptedModel(["never"])).run_sync("go", observers=[watch])
    assert states == []


def test_events_of_a_child_in_another_event_loop_come_in_order_and_before_its_call_ends() -> None:
    seen: list[tuple[str, str]] = []

    async def watch(event: Any, run: RunInfo) -> None:
        await asyncio.sleep(0)
        if isinstance(event, LastingEvent):
            seen.append((run.agent, type(event).__name__))

    inner = Agent(ScriptedModel(["found"]), name="inner")

    @tool
    def ask(ctx: RunContext[None]) -> str:
        """Ask."""
        return inner.run_sync("x", within=ctx).output

    asyncio.run(Agent(ScriptedModel([call("ask"), "Done."]), tools=[ask], name="outer").run("go", observers=[watch]))
    ours = [name for agent, name in seen if agent == "inner"]
    assert ours == ["RunStarted", "ModelReplied", "RunFinished"]
    assert seen.index(("inner", "RunFinished")) < seen.index(("outer", "ToolFinished"))


# --- policies and approvals --------------------------------------------------------------------------------------------------


class Place(BaseModel):
    to: str


def test_a_policy_cannot_change_what_runs() -> None:
    ran: list[Any] = []

    @tool
    def pay(place: Place, tags: list[str]) -> str:
        """Pay."""
        ran.append((place.to, tags))
        return "paid"

    class Meddles(Policy):
        def judge(self, call: JudgedCall, ctx: JudgeContext) -> Any:
            call.args["place"].to = "evil"
            return Allow()

    script: list[Any] = [call("pay", place={"to": "ann"}, tags=["x"]), "Done."]
    Agent(ScriptedModel(script), tools=[pay], policy=Meddles()).run_sync("go")
    assert ran == [("ann", ["x"])]


class Cap(Policy):
    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Any:
        return Deny("at most 100") if call.args["amount"] > 100 else Ask("money")


def test_who_approves_cannot_overrule_a_denial_with_other_arguments(how: How) -> None:
    ran: list[int] = []

    @tool
    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    def approve(asked: Any) -> Any:
        return {"args": {"amount": 100_000}}

    result = how(Agent(ScriptedModel([call("pay", amount=5), "Done."]), tools=[pay], policy=Cap(), approve=approve), "go")
    assert (ran, contents(result)) == ([], ["error: not run: the call is not allowed: at most 100"])


@pytest.mark.parametrize("which", ["policy", "approve"])
def test_a_cancellation_of_their_own_does_not_pass_for_the_runs(which: str) -> None:
    class Cancels(Policy):
        async def judge(self, call: JudgedCall, ctx: JudgeContext) -> Any:
            if which == "policy":
                raise asyncio.CancelledError
            return Ask("why")

    async def approve(asked: Any) -> bool:
        raise asyncio.CancelledError

    @tool
    def pay() -> str:
        """Pay."""
        return "paid"

    agent = Agent(ScriptedModel([call("pay"), "Done."]), tools=[pay], policy=Cancels(), approve=approve)
    if which == "policy":
        assert "the policy Cancels failed" in contents(asyncio.run(agent.run("go")))[0]
    else:
        with pytest.raises(RuntimeError, match="approve was cancelled when it was asked about pay, and the run was not"):
            asyncio.run(agent.run("go"))


# --- leaving ---------------------------------------------------------------------------------------------------------------


def test_a_run_that_is_left_does_not_ask_again() -> None:
    leave = threading.Event()

    def watch(event: Any) -> None:
        if type(event).__name__ == "StepStarted":
            leave.set()

    with DeepSeekSimulator([Failure(503), "never"]) as simulator:
        agent = Agent(ChatModel(base_url=simulator.base_url), retry=Retry(first=0))
        result = agent.run_sync("go", leave=leave, observers=[watch])
        assert (result.stop_reason, len(simulator.requests)) == ("left", 1)
    assert not any(isinstance(event, RunFinished) for event in result.events)


def test_a_child_of_a_tool_of_ones_own_ends_when_the_run_is_left() -> None:
    """Its tool cannot go on in the middle, so it is a call in flight."""
    leave = threading.Event()

    @tool
    def look() -> str:
        """Look."""
        leave.set()
        return "seen"

    inner = Agent(ScriptedModel([call("look"), "found"]), tools=[look])

    @tool
    async def ask(ctx: RunContext[None]) -> str:
        """Ask."""
        return (await inner.run("x", within=ctx)).output

    left = Agent(ScriptedModel([call("ask"), "never"]), tools=[ask]).run_sync("go", leave=leave)
    assert (left.stop_reason, contents(left)) == ("left", ["found"])


# --- keys ------------------------------------------------------------------------------------------------------------------


def test_runs_of_a_middleware_have_keys_of_their_own_at_each_step() -> None:
    keys: list[str] = []

    @tool
    def pay(ctx: RunContext[None]) -> str:
        """Pay."""
        keys.append(ctx.idempotency_key)
        return "paid"

    def payer() -> Agent[str]:
        return Agent(ScriptedModel([call("pay"), "Done."]), tools=[pay])

    class Pays(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
            await payer().run("pay", within=ctx)
            return await next(request)

    @tool
    async def ask(ctx: RunContext[None]) -> str:
        """Ask."""
        return (await payer().run("pay", within=ctx)).output

    agent = Agent(ScriptedModel([call("ask"), "Done."]), tools=[ask], middleware=[Pays()])
    agent.run_sync("go", run_id="r")
    assert len(keys) == len(set(keys)) == 3
