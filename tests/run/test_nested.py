"""Runs inside runs: what pauses, who is told, and who approves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import Any

import pytest

from agentkit import (
    Agent,
    Middleware,
    ModelReply,
    ModelRequest,
    Nested,
    RunContext,
    RunInfo,
    RunState,
    ScriptedModel,
    tool,
)
from agentkit.events import CallSuspended, LastingEvent, ModelReplied, TextDelta, ToolStarted
from agentkit.middleware import NextModelCall
from agentkit.run.journal import JsonLinesLog, MemoryLog
from agentkit.testing import call
from tests.kit import How, tool_texts

PAID: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


@tool(approval=True)
def pay(n: int) -> str:
    """Pay."""
    PAID.append(n)
    return f"paid {n}"


def payer(*script: Any, **options: Any) -> Agent[str]:
    return Agent(ScriptedModel(list(script) or [call("pay", n=1), "It is paid."]), tools=[pay], name="payer", **options)


def outer(inner: Agent[Any], *script: Any, **options: Any) -> Agent[str]:
    told: list[Any] = list(script) or [call("payer", task="pay"), "Done."]
    return Agent(ScriptedModel(told), tools=[inner.as_tool("payer", "Pays.")], name="outer", **options)


@pytest.mark.parametrize("stored", [False, True])
def test_a_child_that_pauses_pauses_its_parent_and_both_go_on(how: How, stored: bool) -> None:
    paused = how(outer(payer()), "go")
    assert (paused.stop_reason, PAID) == ("pending_approval", [])
    (waiting,) = paused.pending
    assert (waiting.name, json.loads(waiting.arguments)) == ("pay", {"n": 1})
    state: Any = json.loads(json.dumps(paused.state.to_json())) if stored else paused.state
    result = outer(payer("It is paid."), "Done.").resume_sync(state, {waiting.id: True})
    assert (result.output, PAID, tool_texts(result)) == ("Done.", [1], ["It is paid."])
    assert result.usage.requests == 4, "each model call counts once"
    assert RunState.from_json(result.state.to_json()).usage == result.usage


def test_a_denial_reaches_the_child(how: How) -> None:
    paused = how(outer(payer()), "go")
    child = payer("It was not paid.")
    result = outer(child, "Done.").resume_sync(paused.state, {paused.pending[0].id: {"deny": "too dear"}})
    assert (PAID, tool_texts(result)) == ([], ["It was not paid."])
    assert isinstance(child.model, ScriptedModel)
    assert "too dear" in child.model.requests[0].messages[-1].content  # type: ignore[union-attr]


def test_other_arguments_reach_the_child() -> None:
    paused = outer(payer()).run_sync("go")
    outer(payer("Paid."), "Done.").resume_sync(paused.state, {paused.pending[0].id: {"args": {"n": 7}}})
    assert PAID == [7]


def test_a_grandchild_that_pauses_pauses_all_of_them() -> None:
    def tree(*ends: str) -> Agent[str]:
        steps: list[list[Any]] = [[end] for end in ends] or [
            [call("pay", n=1), "paid"],
            [call("payer", task="x"), "middle"],
            [call("middle", task="x"), "Done."],
        ]
        middle = outer(payer(*steps[0]), *steps[1])
        return Agent(ScriptedModel(steps[2]), tools=[middle.as_tool("middle", "Asks.")])

    paused = tree().run_sync("go")
    (waiting,) = paused.pending
    assert waiting.id.count("/") == 2
    result = tree("paid", "middle", "Done.").resume_sync(json.loads(json.dumps(paused.state.to_json())), {waiting.id: True})
    assert (result.output, PAID) == ("Done.", [1])


def test_two_children_that_pause_together_are_approved_apart() -> None:
    both: list[Any] = [[call("payer", task="a"), call("payer", task="b")], "Done."]
    model = ScriptedModel(lambda request: call("pay", n=len(request.messages)) if len(request.messages) == 1 else "ok")
    inner = Agent(model, tools=[pay])
    paused = Agent(ScriptedModel(both), tools=[inner.as_tool("payer", "Pays.")]).run_sync("go")
    first, second = paused.pending
    agent = Agent(ScriptedModel(["Done."]), tools=[inner.as_tool("payer", "Pays.")])
    again = agent.resume_sync(paused.state, {first.id: True})
    assert ([waiting.id for waiting in again.pending], PAID) == ([second.id], [1])
    result = agent.resume_sync(again.state, {second.id: False})
    assert (result.output, PAID) == ("Done.", [1])


def test_a_suspended_call_whose_child_was_driven_on_before_a_crash_is_not_driven_twice() -> None:
    paused = outer(payer()).run_sync("go")
    done = outer(payer("It is paid."), "Done.").resume_sync(paused.state, {paused.pending[0].id: True})
    started = [place for place, event in enumerate(done.events) if isinstance(event, ToolStarted)][1]
    crashed = RunState.replay(done.events[: started + 1])
    PAID.clear()
    result = outer(payer("never"), "Done.").resume_sync(crashed)
    assert PAID == []
    assert "outcome unknown" in tool_texts(result)[0]
    assert [waits.name for waits in result.uncertain] == ["payer"]


@pytest.mark.parametrize("answer", [True, False])
def test_the_parents_approve_is_asked_for_a_child_that_has_none(answer: bool) -> None:
    asked: list[Any] = []

    def approve(call: Any) -> bool:
        asked.append(call.name)
        return answer

    result = outer(payer(), approve=approve).run_sync("go")
    assert (result.stop_reason, asked, PAID) == ("answer", ["pay"], [1] if answer else [])


@pytest.mark.parametrize("with_file", [False, True])
def test_a_suspended_call_is_in_the_log(tmp_path: Any, with_file: bool) -> None:
    log: Any = JsonLinesLog(tmp_path / "run.jsonl") if with_file else MemoryLog()
    paused = outer(payer()).run_sync("go", log=log)
    events = asyncio.run(log.load())
    assert any(isinstance(event, CallSuspended) for event in events)
    result = outer(payer("ok"), "Done.").resume_sync(approvals={paused.pending[0].id: True}, log=log)
    assert (result.output, PAID) == ("Done.", [1])


# --- who is told -----------------------------------------------------------------------------------------------------------


def free(*script: Any) -> Agent[str]:
    return Agent(ScriptedModel(list(script) or ["It is free."]), name="payer")


def test_an_observer_of_two_arguments_is_told_of_the_events_of_children(how: How) -> None:
    seen: list[tuple[Any, RunInfo]] = []

    def watch(event: Any, run: RunInfo) -> None:
        seen.append((event, run))

    result = how(outer(free()), "go", observers=[watch], run_id="r")
    replied = [run for event, run in seen if isinstance(event, ModelReplied)]
    assert [(run.agent, run.parent, run.depth) for run in replied] == [
        ("outer", None, 0), ("payer", "r", 1), ("outer", None, 0),
    ]  # fmt: skip
    assert [event for event, run in seen if run.run_id == "r" and event in result.events] == result.events


def test_an_observer_of_one_argument_and_a_stream_get_them_nested() -> None:
    seen: list[Any] = []
    stream = outer(free()).stream_sync("go", observers=[seen.append])
    events = list(stream)
    for got in (events, seen):
        nested = [event for event in got if isinstance(event, Nested)]
        assert {event.parent for event in nested} == {stream.result.run_id}
        assert "".join(event.event.text for event in nested if isinstance(event.event, TextDelta)) == "It is free."
    assert [event for event in events if not isinstance(event, Nested)][-1].result == stream.result  # type: ignore[union-attr]


def test_observers_of_an_agent_are_told_of_all_its_runs() -> None:
    seen: list[str] = []

    def watch(event: Any, run: RunInfo) -> None:
        if isinstance(event, ModelReplied):
            seen.append(run.agent)

    inner = Agent(ScriptedModel(lambda request: "ok"), name="inner", observers=[watch])
    outer(inner).run_sync("go")
    inner.run_sync("alone")
    assert seen == ["inner", "inner"]


def test_a_child_in_another_event_loop_is_watched_too() -> None:
    seen: list[str] = []

    def watch(event: Any, run: RunInfo) -> None:
        if isinstance(event, ModelReplied):
            seen.append(run.agent)

    inner = free()

    @tool
    def ask(ctx: RunContext[None]) -> str:
        """Ask."""
        return inner.run_sync("x", within=ctx).output

    agent = Agent(ScriptedModel([call("ask"), "Done."]), tools=[ask], name="outer")
    asyncio.run(agent.run("go", observers=[watch]))
    assert seen == ["outer", "payer", "outer"]


def test_children_are_named_by_what_they_are_asked_and_not_by_the_order_of_their_ends() -> None:
    async def ids(first_is_slow: bool) -> dict[str, str]:
        found: dict[str, str] = {}

        @tool
        async def ask(ctx: RunContext[None]) -> str:
            """Ask four."""

            async def two(names: tuple[str, str], slow: bool) -> None:
                for name in names:
                    for _ in range(50 if slow else 0):
                        await asyncio.sleep(0)
                    found[name] = (await Agent(ScriptedModel(["x"])).run(name, within=ctx)).run_id

            await asyncio.gather(two(("a", "b"), first_is_slow), two(("c", "d"), not first_is_slow))
            return "asked"

        await Agent(ScriptedModel([call("ask"), "Done."]), tools=[ask]).run("go", run_id="r")
        return found

    one, other = asyncio.run(ids(True)), asyncio.run(ids(False))
    assert one == other and len(set(one.values())) == 4


def test_a_child_is_left_with_its_parent_and_goes_on_with_it() -> None:
    leave, ran = threading.Event(), list[int]()

    @tool
    def work(n: int) -> str:
        """Work."""
        ran.append(n)
        leave.set()
        return "worked"

    def tree(*script: Any) -> Agent[str]:
        return outer(Agent(ScriptedModel(list(script)), tools=[work]), *([] if len(script) > 1 else ["Done."]))

    left = tree(call("work", n=1), call("work", n=2), "never").run_sync("go", leave=leave)
    assert (left.stop_reason, ran) == ("left", [1])
    leave.clear()
    result = tree("It is done.").resume_sync(json.loads(json.dumps(left.state.to_json())))
    assert (result.output, tool_texts(result), ran) == ("Done.", ["It is done."], [1])


def test_a_middleware_gets_the_runs_context_round_model_calls(how: How) -> None:
    seen: list[Any] = []

    class Guard(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
            verdict = await Agent(ScriptedModel(["It is fine."])).run("Is it fine?", within=ctx)
            seen.append((ctx.deps, ctx.run_id, verdict.run_id != ctx.run_id))
            return await next(request)

    class Plain(Middleware):
        async def model_call(self, request: ModelRequest, next: NextModelCall) -> ModelReply:  # type: ignore[override]
            return await next(request)

    result = how(Agent(ScriptedModel(["Done."]), middleware=[Guard(), Plain()]), "go", deps="house", run_id="r")
    assert (seen, result.output, result.usage.requests) == ([("house", "r", True)], "Done.", 2)


# --- after a crash, in a fork, and when it is cancelled ----------------------------------------------------------------------


def test_a_call_whose_agent_is_gone_is_of_unknown_outcome() -> None:
    paused = outer(payer()).run_sync("go")
    renamed = Agent(ScriptedModel(["Done."]), tools=[payer().as_tool("cashier", "Pays.")])
    result = renamed.resume_sync(paused.state, {paused.pending[0].id: False})
    assert "outcome unknown" in tool_texts(result)[0]
    assert [waits.name for waits in result.uncertain] == ["payer"]


def test_a_fork_of_a_paused_tree_has_keys_and_approvals_of_its_own() -> None:
    keys: list[str] = []

    @tool(approval=True, idempotent=True)
    def charge(ctx: RunContext[Any], n: int) -> str:
        """Charge."""
        keys.append(ctx.idempotency_key)
        return "charged"

    def tree(*script: Any) -> Agent[str]:
        inner = Agent(ScriptedModel(list(script)), tools=[charge, pay], name="payer")
        return outer(inner, *([] if len(script) > 1 else ["Done."]))

    paused = tree([call("charge", n=1), call("pay", n=7)], "never").run_sync("go")
    for state in (paused.state, paused.state.fork(), RunState.from_json(paused.state.to_json()).fork(run_id="other")):
        result = tree("Done.").resume_sync(state, {waiting.id: True for waiting in paused.pending})
        assert (result.output, tool_texts(result)) == ("Done.", ["Done."])
    assert len(set(keys)) == len(keys) == 3 and keys[2].startswith("other:0")
    assert PAID == [7, 7, 7]


def test_a_fork_needs_an_id_of_its_own_and_no_log_of_another() -> None:
    paused = outer(payer()).run_sync("go", log=MemoryLog())
    with pytest.raises(ValueError, match="goes on in a log of its own; fork before it"):
        paused.state.fork()
    assert paused.state.fork(until=2).steps == 1
    with pytest.raises(ValueError, match="cannot have the id of its run"):
        paused.state.fork(run_id=paused.run_id)


def test_an_outer_observer_has_each_event_whenever_the_tree_is_cancelled() -> None:
    async def main(turns: int) -> tuple[list[Any], list[Any]]:
        own: list[Any] = []
        above: list[Any] = []

        async def slow(event: Any) -> None:
            await asyncio.sleep(0)
            own.append(event)

        async def watch(event: Any, run: RunInfo) -> None:
            if run.depth:
                above.append(event)

        inner = Agent(
            ScriptedModel([call("pay", n=1), "It is paid."]), tools=[tool(pay.function)], name="payer", observers=[slow]
        )
        task = asyncio.ensure_future(outer(inner).run("go", observers=[watch]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return own, above

    for turns in range(1, 60):
        own, above = asyncio.run(main(turns))
        lasting = [[event for event in events if isinstance(event, LastingEvent)] for events in (own, above)]
        assert lasting[0] == lasting[1], f"cancelled after {turns} turns"
