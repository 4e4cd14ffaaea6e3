"""Runs in a store: what is stored, who may drive a run, and what is asked of it from outside."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from agentkit import (
    Agent,
    AgentChanged,
    LogFailed,
    Message,
    RunBusy,
    RunExists,
    RunFinished,
    RunResult,
    RunState,
    ScriptedModel,
    SettingsError,
    StoreError,
    System,
    Tool,
    ToolFinished,
    ToolStarted,
    User,
    tool,
)
from agentkit.events import LastingEvent
from agentkit.store import Store, open_store
from agentkit.store.rows import MAX_VALUE
from agentkit.testing import call
from tests.kit import tool_texts


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(approval=True)
def pay(to: str) -> str:
    """Pay."""
    return f"paid {to}"


@tool
def write(length: int) -> str:
    """Write a long text."""
    return "x" * length


def end_leases(store: Store) -> None:
    """As if the processes that have runs had been stopped for longer than their leases."""
    with store.transaction() as db:
        db.execute("UPDATE agentkit_runs SET lease_until = 0")


weigh = Tool.outside("weigh", "Weigh a thing.", {"type": "object", "properties": {"what": {"type": "string"}}})

CALLS = {
    "add": call("add", a=1, b=2),
    "pay": call("pay", to="bob"),
    "write": call("write", length=2 * MAX_VALUE),
    "weigh": call("weigh", what="a stone"),
}


def say(request: Any) -> Any:
    """A model that makes the call that the user names, and then answers with its result."""
    last: Message = request.messages[-1]
    if isinstance(last, User):
        return CALLS.get(str(last.content), f"{len(request.messages)} messages")
    return f"done: {last.content[:20]}"  # type: ignore[union-attr]


def agent(**parts: Any) -> Agent[str]:
    given = {"tools": [add, pay, write, weigh], "instructions": "Be brief.", "name": "clerk", **parts}
    return Agent(ScriptedModel(say), **given)


def events_of(source: RunState | RunResult[Any]) -> list[dict[str, Any]]:
    state = source if isinstance(source, RunState) else source.state
    return list(state.to_json()["events"])


async def test_a_run_is_stored_with_its_summary(store: Store) -> None:
    result = await agent().run("add", store=store, run_id="r1")
    assert result.output == "done: 3"
    assert events_of(store.state("r1")) == events_of(result)
    stored = store.get("r1")
    assert (stored.status, stored.stop_reason, stored.steps, stored.output) == ("finished", "answer", 2, "done: 3")
    assert stored.usage["tool_calls"] == 1 and stored.usage["requests"] == 2
    assert stored.created <= stored.updated
    assert [run.run_id for run in store.runs()] == ["r1"] and store.runs(status="failed") == []
    assert json.dumps(stored.to_json())


async def test_a_run_id_is_used_once(store: Store) -> None:
    await agent().run("add", store=store, run_id="r1")
    with pytest.raises(RunExists, match="'r1' in the store, which is finished: resume it"):
        await agent().run("add", store=store, run_id="r1")


async def test_a_run_that_never_began_leaves_no_trace(store: Store) -> None:
    def instructions() -> str:
        raise RuntimeError("no instructions today")

    with pytest.raises(RuntimeError, match="today"):
        await agent(instructions=instructions).run("add", store=store, run_id="r1", session="ada")
    assert store.runs() == []
    assert (await agent().run("add", store=store, run_id="r1", session="ada")).stop_reason == "answer"


async def test_a_tool_starts_after_its_start_is_stored(store: Store) -> None:
    seen: list[list[str]] = []

    @tool
    def look() -> str:
        """Look into the store."""
        seen.append([type(event).__name__ for event in store.events("r1")])
        return "seen"

    await Agent(ScriptedModel([call("look"), "done"]), tools=[look]).run("Look", store=store, run_id="r1")
    assert seen == [["RunStarted", "ModelReplied", "ToolStarted"]]


async def test_a_second_process_cannot_drive_a_run(store: Store, address: str) -> None:
    started, proceed = asyncio.Event(), asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        started.set()
        await proceed.wait()
        return "waited"

    made = Agent(ScriptedModel([call("wait"), "done"]), tools=[wait])
    first = asyncio.create_task(made.run("Wait", store=store, run_id="r1"))
    await started.wait()
    other = open_store(address)
    with pytest.raises(RunBusy, match=r"'r1' is driven by .*, whose lease ends in"):
        await made.resume("r1", store=other)
    proceed.set()
    assert (await first).output == "done"
    other.close()


async def test_a_zombie_stores_nothing_after_a_takeover(store: Store) -> None:
    entered, proceed, effects = asyncio.Semaphore(0), asyncio.Event(), list[str]()

    @tool(read_only=True)
    async def wait() -> str:
        """Wait."""
        entered.release()
        await proceed.wait()
        return "waited"

    @tool
    async def effect() -> str:
        """Have an effect."""
        effects.append("effect")
        return "had"

    script = {1: call("wait"), 3: call("effect")}
    made = Agent(ScriptedModel(lambda request: script.get(len(request.messages), "done")), tools=[wait, effect])
    zombie = asyncio.create_task(made.run("Go", store=store, run_id="r1"))
    await entered.acquire()
    end_leases(store)  # as if it had been stopped for longer than its lease
    taken = asyncio.create_task(made.resume("r1", store=store))
    await entered.acquire()
    proceed.set()
    with pytest.raises(LogFailed, match=r"not driven by .* any more"):
        await zombie
    assert (await taken).output == "done"
    assert effects == ["effect"]


async def test_a_long_run_is_read_outside_of_the_event_loop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (waiting,) = (await agent().run("pay", store=store, run_id="r1")).pending
    folded: list[tuple[int, bool]] = []

    def replay(cls: type[RunState], events: Sequence[Any]) -> RunState:
        folded.append((len(events), threading.current_thread() is threading.main_thread()))
        return whole(events)

    whole = RunState.replay
    monkeypatch.setattr(RunState, "replay", classmethod(replay))
    result: RunResult[Any] = await agent().resume("r1", store=store, approvals={waiting.id: True})
    assert result.stop_reason == "answer" and folded == [(4, False)]


async def test_a_run_is_given_back_with_its_end(store: Store) -> None:
    """In the same transaction. If the server goes away before it confirms that, the append is made again."""
    events: list[LastingEvent] = list((await Agent(ScriptedModel(["done"])).run("Go", run_id="r1")).events)
    log = store.begin("r1").log
    for turn in range(2):
        appending = log.append(0, events)
        assert appending is None or await appending is False, turn
        with store.reading() as db:
            assert db.execute("SELECT owner, lease_until FROM agentkit_runs").fetchone() == (None, None)
    store.reopen("r1")  # another process goes on with it, before the end was confirmed here
    appending = log.append(0, events)
    assert appending is None or await appending is False
    other = replace(cast("RunFinished", events[-1]), error="another end")
    with pytest.raises(RunBusy, match="not driven by"):
        await (log.append(len(events) - 1, [other]) or asyncio.sleep(0))
    assert events_of(store.state("r1")) == events_of(RunState.replay(events))


async def test_a_failed_append_stops_the_run_with_what_is_stored(store: Store) -> None:
    @tool
    async def steal() -> str:
        """Give the run to somebody else."""
        with store.transaction() as db:
            db.execute("UPDATE agentkit_runs SET owner = 'somebody else' WHERE run_id = 'r1'")
        return "stolen"

    entered: list[str] = []

    @tool
    async def more() -> str:
        """Do more."""
        entered.append("more")
        return "done"

    heard: list[Any] = []
    made = Agent(ScriptedModel([[call("steal")], [call("more")], "done"]), tools=[steal, more], observers=[heard.append])
    with pytest.raises(LogFailed, match="somebody else") as failed:
        await made.run("Steal", store=store, run_id="r1")
    assert events_of(failed.value.state) == events_of(store.state("r1"))
    assert not entered and not any(isinstance(event, ToolFinished) for event in heard)
    assert isinstance(failed.value.__cause__, RunBusy)


async def test_a_resume_runs_nothing_again(store: Store) -> None:
    effects: list[str] = []

    @tool
    async def effect() -> str:
        """Have an effect."""
        effects.append("effect")
        return "had"

    asked: list[int] = []

    def model(request: Any) -> Any:
        asked.append(len(request.messages))
        if len(asked) == 2:
            raise RuntimeError("the model's machine is away")
        return "done" if len(request.messages) > 2 else call("effect")

    made = Agent(ScriptedModel(model), tools=[effect], retry=None)
    with pytest.raises(RuntimeError):
        await made.run("Go", store=store, run_id="r1")
    assert store.get("r1").status == "failed"
    events = [event async for event in made.resume_stream("r1", store=store)]
    assert events[-1].result.output == "done"  # type: ignore[union-attr]
    assert effects == ["effect"] and asked == [1, 3, 3]
    assert store.get("r1").status == "finished" and store.get("r1").error is None


async def test_a_changed_agent_is_named(store: Store) -> None:
    await agent().run("pay", store=store, run_id="r1")
    changed = agent(instructions="Be long.", tools=[tool(pay.function, approval=True, description="Pay now.")])
    removed = r"changed: instructions, tools \(changed: pay; removed: add, .*--allow-changed of `agentkit worker`"
    with pytest.raises(AgentChanged, match=removed) as error:
        await changed.resume("r1", store=store, approvals={store.get("r1").pending[0]["id"]: True})
    assert error.value.changed == ("instructions", "tools")
    result = await changed.resume("r1", store=store, allow_changed=True, approvals={store.get("r1").pending[0]["id"]: True})
    assert result.output == "done: paid bob"


async def test_the_first_answer_to_a_call_counts(store: Store) -> None:
    result = await agent().run("pay", store=store, run_id="r1")
    (waiting,) = store.get("r1").pending
    assert waiting == {"id": result.pending[0].id, "name": "pay", "arguments": '{"to": "bob"}', "kind": "approval"}
    with pytest.raises(StoreError, match=f"no call 'x' .* waiting: {waiting['id']}"):
        store.approve("r1", "x")
    with pytest.raises(StoreError, match="waits for an approval, not for a result"):
        store.answer("r1", waiting["id"], 1)
    assert store.approve("r1", waiting["id"], {"args": {"to": "eve"}, "by": "ann"}) == "done"
    assert store.approve("r1", waiting["id"], {"args": {"to": "eve"}, "by": "ann"}) == "same"
    with pytest.raises(StoreError, match="was answered before"):
        store.approve("r1", waiting["id"], False)
    with pytest.raises(StoreError, match="was answered before"):
        await agent().resume("r1", store=store, approvals={waiting["id"]: False})
    with pytest.raises(SettingsError, match="approvals is False"):
        await agent().resume("r1", store=store, approvals=False)  # type: ignore[arg-type]
    assert tool_texts((await agent().resume("r1", store=store)).state)[0].endswith("paid eve")
    with pytest.raises(StoreError, match="was answered before"):
        store.approve("r1", waiting["id"], False)


async def test_outside_results_are_given_through_the_store(store: Store) -> None:
    result = await agent().run("weigh", store=store, run_id="r1")
    assert result.stop_reason == "pending_result"
    (waiting,) = store.get("r1").pending
    assert store.answer("r1", waiting["id"], {"kg": 3}) == "done"
    assert (await agent().resume("r1", store=store)).output == 'done: {"kg":3}'
    with pytest.raises(SettingsError, match="what JSON can hold"):
        store.answer("r1", waiting["id"], {1, 2})


async def test_large_values_are_stored_once(store: Store) -> None:
    made = agent(tools=[write], limits=None)
    first = await made.run("write", store=store, run_id="r1")
    second = await made.run("write", store=store, run_id="r2")
    for result in (first, second):
        assert events_of(store.state(result.run_id)) == events_of(result)
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM agentkit_blobs").fetchone()[0] == 1
        assert db.execute("SELECT max(length(data)) FROM agentkit_events").fetchone()[0] < MAX_VALUE
    store.prune(older_than=0)
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM agentkit_blobs").fetchone()[0] == 0


async def test_a_large_text_of_an_answer_and_of_a_conversation_is_stored_once(store: Store) -> None:
    prompt, answer = "p" * 2 * MAX_VALUE, "a" * 2 * MAX_VALUE

    def blobs() -> int:
        with store.reading() as db:
            for table, column in (("events", "data"), ("session_messages", "data"), ("runs", "output")):
                assert (db.execute(f"SELECT max(length({column})) FROM agentkit_{table}").fetchone()[0] or 0) < MAX_VALUE
            return int(db.execute("SELECT count(*) FROM agentkit_blobs").fetchone()[0])

    result = await Agent(ScriptedModel([answer])).run(prompt, store=store, run_id="r1", session="ann")
    assert blobs() == 2
    assert store.get("r1").output == store.runs()[0].output == answer
    forked = store.session("ann").fork("bob")
    store.prune(older_than=0)
    store.session("ann").delete()
    assert forked.messages == result.messages and blobs() == 2
    second = await Agent(ScriptedModel(["Yes."])).run("Again?", store=store, run_id="r2", session="bob")
    assert store.state("r2").messages == second.messages
    forked.delete()
    assert blobs() == 0


async def test_a_fork_of_a_session_has_what_was_asked_for(store: Store) -> None:
    await Agent(ScriptedModel(["Hello."])).run("Hi", store=store, session="ann")
    ann = store.session("ann")
    assert ann.fork("one", length=1).messages == ann.messages[:1] and ann.fork("none", length=0).messages == []
    with pytest.raises(SettingsError, match="'ann' has 2 messages; length is 3"):
        ann.fork("three", length=3)
    with pytest.raises(SettingsError, match="'anne' has no messages"):
        store.session("anne").fork("bea")
    assert [store.session(name).messages for name in ("three", "bea")] == [[], []]
    assert store.session("ann").fork("three").messages == ann.messages, "the name is still free"


async def test_a_large_text_in_a_typed_output_comes_back(store: Store) -> None:
    output = {"short": "s", "long": "l" * 2 * MAX_VALUE}
    made: Agent[Any] = Agent(ScriptedModel([call("final_answer", **output)]), output_type=dict[str, str])
    assert (await made.run("Go", store=store, run_id="r1")).output == output
    assert store.get("r1").output == output
    await Agent(ScriptedModel(["Short."])).resume("r1", store=store, allow_changed=True)
    assert store.get("r1").output == "Short."


async def test_a_fork_goes_on_with_new_keys(store: Store) -> None:
    keys: list[str] = []

    @tool
    async def note(ctx: Any = None) -> str:
        """Note."""
        return "noted"

    made = Agent(ScriptedModel(lambda request: call("note") if len(request.messages) == 1 else "done"), tools=[note])
    await made.run("Go", store=store, run_id="r1")
    keys = [event.call.id for event in store.events("r1") if isinstance(event, ToolStarted)]
    fork = store.fork("r1", at=2)
    assert [type(event).__name__ for event in store.events(fork)] == ["RunStarted", "ModelReplied"]
    assert (await made.resume(fork, store=store)).output == "done" and len(keys) == 1
    assert store.get("r1").events == len(store.events("r1"))
    with pytest.raises(SettingsError, match="allowed: 1 to 6"):
        store.fork("r1", at=7)
    with pytest.raises(StoreError, match="no run"):
        store.fork("r9", at=1)


async def test_cancelling(store: Store) -> None:
    started = asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait for ever."""
        started.set()
        await asyncio.Event().wait()
        return ""

    store.lease = 0.3
    made = Agent(ScriptedModel([call("wait"), "done"]), tools=[wait])
    running = asyncio.create_task(made.run("Wait", store=store, run_id="r1"))
    await started.wait()
    assert store.cancel("r1") == "asked"
    result = await running
    assert result.stop_reason == "cancelled" and store.get("r1").status == "cancelled"
    assert store.get("r1").uncertain[0]["tool"] == "wait"
    await agent().run("pay", store=store, run_id="r2", session="ada")
    assert store.cancel("r2") == "done" and store.cancel("r2") == "same"
    assert store.state("r2").stop_reason == "cancelled" and not store.state("r2").open_calls
    assert (await agent().run("hello", store=store, session="ada")).stop_reason == "answer"
    await agent().run("add", store=store, run_id="r3")
    with pytest.raises(StoreError, match="too late: run 'r3' has ended"):
        store.cancel("r3")
    with pytest.raises(StoreError, match="no run 'r9'"):
        store.cancel("r9")


def without_system(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if not isinstance(message, System)]


async def test_a_session_goes_on_over_runs(store: Store) -> None:
    first = await agent().run("add", store=store, session="ada")
    second = await agent(instructions="Be long.").run("hello", store=store, session="ada", run_id="r2")
    assert second.output == "6 messages"
    assert without_system(second.messages) == store.session("ada").messages
    assert events_of(store.state("r2")) == events_of(second)
    with store.reading() as db:
        data = db.execute("SELECT data FROM agentkit_events WHERE run_id = 'r2' AND seq = 0").fetchone()[0]
    assert [message["content"] for message in json.loads(data)["messages"]] == ["Be long.", "hello"]
    assert store.sessions() == ["ada"]
    fork = store.session("ada").fork("bea", length=len(first.new_messages))
    assert fork.messages == first.new_messages
    with pytest.raises(SettingsError, match="a session 'bea' already"):
        store.session("ada").fork("bea")
    store.session("ada").delete()
    assert store.sessions() == ["bea"] and store.runs() == [] and store.session("ada").messages == []


async def test_two_runs_of_a_session_do_not_mix(store: Store) -> None:
    started, proceed = asyncio.Event(), asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        started.set()
        await proceed.wait()
        return "waited"

    def answer(request: Any) -> Any:
        return call("wait") if request.messages[-1] == User("slow") else f"{len(request.messages)} messages"

    made = Agent(ScriptedModel(answer), tools=[wait])
    first = asyncio.create_task(made.run("slow", store=store, session="ada"))
    await started.wait()
    with pytest.raises(RunBusy, match="session 'ada' has not ended; it is running"):
        await made.run("quick", store=store, session="ada", session_busy="fail")
    second = asyncio.create_task(made.run("quick", store=store, session="ada"))
    proceed.set()
    assert [(await first).output, (await second).output] == ["3 messages", "5 messages"]
    await agent().run("pay", store=store, session="eve")
    with pytest.raises(RunBusy, match=r"it is paused\. Resume it, or cancel it"):
        await agent().run("hello", store=store, session="eve")
    with pytest.raises(RunBusy, match="has not ended; it is paused"):
        store.session("eve").delete()


async def test_a_run_resumed_after_its_end_adds_only_what_is_new(store: Store) -> None:
    from agentkit import Limits

    made = agent(limits=Limits(steps=1))
    await made.run("add", store=store, session="ada", run_id="r1")
    assert store.get("r1").stop_reason == "limit:steps"
    assert (await agent().resume("r1", store=store)).stop_reason == "answer"
    messages = store.session("ada").messages
    assert [type(message).__name__ for message in messages] == ["User", "Assistant", "ToolResult", "Assistant"]
    await agent().run("hello", store=store, session="ada")
    await agent().resume("r1", store=store)  # it goes on alone now
    assert len(store.session("ada").messages) == 6


async def test_a_model_failure_leaves_the_session_as_it_was(store: Store) -> None:
    def fail(_request: Any) -> str:
        raise RuntimeError("away")

    with pytest.raises(RuntimeError):
        await Agent(ScriptedModel(fail), retry=None).run("hello", store=store, session="ada")
    assert store.session("ada").messages == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"session": "ada"}, "session is a conversation in a store"),
        ({"store": "runs.db"}, "what open_store\\(\\) of agentkit.store gives"),
    ],
)
async def test_options_that_cannot_work(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        await agent().run("add", **options)


async def test_store_options_that_exclude_each_other(store: Store) -> None:
    for options, words in [
        ({"session": "ada", "messages": [User("Hi")]}, "session and messages"),
        ({"session": ""}, "session is ''"),
        ({"session_busy": "maybe"}, "allowed: wait, fail"),
        ({"log": store}, "log"),
    ]:
        with pytest.raises(SettingsError, match=words):
            await agent().run("add", store=store, **options)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="there is no run 'r9'"):
        await agent().resume("r9", store=store)
    with pytest.raises(SettingsError, match="give store="):
        await agent().resume("r9")


async def test_child_runs_have_their_own_logs(store: Store) -> None:
    inner = Agent(ScriptedModel(say), tools=[pay], name="payer")
    outer = Agent(
        ScriptedModel(lambda request: call("payer", task="pay") if len(request.messages) == 1 else "all done"),
        tools=[inner.as_tool("payer", "Pays.")],
        name="boss",
    )
    result = await outer.run("Pay bob", store=store, run_id="top")
    assert result.stop_reason == "pending_approval"
    (child,) = [run for run in store.runs(children=True) if run.parent]
    assert child.parent == "top" and child.status == "paused"
    with pytest.raises(StoreError, match="is a child run of 'top'"):
        await inner.resume(child.run_id, store=store)
    with pytest.raises(StoreError, match="is a child run of 'top'"):
        store.cancel(child.run_id)
    store.approve("top", result.pending[0].id, True)
    assert (await outer.resume("top", store=store)).output == "all done"
    assert store.get(child.run_id).status == "finished"
    store.prune(older_than=0)
    assert store.runs(children=True) == []


async def test_cancelling_a_paused_run_ends_its_child_runs(store: Store) -> None:
    inner = Agent(ScriptedModel(say), tools=[pay], name="payer")
    outer = Agent(ScriptedModel([call("payer", task="pay"), "done"]), tools=[inner.as_tool("payer", "Pays.")])
    await outer.run("Pay bob", store=store, run_id="top")
    store.cancel("top")
    assert {run.status for run in store.runs(children=True)} == {"cancelled"}


async def test_a_run_whose_process_ended_before_its_first_event_is_begun_again(store: Store) -> None:
    store.begin("r1", session="ada")  # its process is killed here
    with pytest.raises(RunExists, match="running"):
        await agent().run("add", store=store, run_id="r1", session="ada")
    end_leases(store)
    assert (await agent().run("add", store=store, run_id="r1", session="ada")).output == "done: 3"
    assert len(store.session("ada").messages) == 4
