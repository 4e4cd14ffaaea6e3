"""Answers and cancellations that come from outside, at any time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import (
    Agent,
    ApprovalGiven,
    LogFailed,
    RunBusy,
    RunFinished,
    RunPaused,
    RunResult,
    ScriptedModel,
    SettingsError,
    StoreError,
    Tool,
    ToolStarted,
    tool,
)
from agentkit.store import Store, Worker
from agentkit.testing import call

from .test_store import agent, end_leases, say


class Size(BaseModel):
    """A size."""

    letters: int


def two_payments(paid: list[str]) -> Agent[str]:
    @tool(approval=True)
    def pay(to: str) -> str:
        """Pay."""
        paid.append(to)
        return f"paid {to}"

    def reply(request: Any) -> Any:
        return [call("pay", to="ann"), call("pay", to="bob")] if len(request.messages) == 1 else "done"

    return Agent(ScriptedModel(reply), tools=[pay])


@contextmanager
def no_call_can_start(store: Store) -> Iterator[None]:
    """The store cannot store the start of a call."""
    append = store.append_rows

    def failing(db: Any, log: Any, seq: int, events: Any, **more: Any) -> bool:
        if any(isinstance(event, ToolStarted) for event in events):
            raise StoreError("the disk is full")
        return append(db, log, seq, events, **more)

    store.append_rows = failing  # type: ignore[method-assign]
    try:
        yield
    finally:
        del store.append_rows


async def test_answers_to_all_calls_at_the_same_time_queue_the_run(store: Store) -> None:
    agents = {"payer": two_payments([])}
    ids = [store.submit("Pay", agent="payer", run_id=f"r{number}") for number in range(12)]
    await Worker(store, agents).run(until_idle=True)
    for run_id in ids:
        calls = [waiting["id"] for waiting in store.get(run_id).pending]
        start = threading.Barrier(len(calls))

        def answer(call_id: str, run_id: str = run_id, start: threading.Barrier = start) -> None:
            start.wait()
            store.approve(run_id, call_id)

        threads = [threading.Thread(target=answer, args=(call_id,)) for call_id in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {store.get(run_id).status for run_id in ids} == {"queued"}


async def test_an_answer_of_an_unknown_form_is_refused_at_once(store: Store) -> None:
    paused = await agent().run("pay", store=store, run_id="r1")
    (waiting,) = paused.pending
    for answer in ({"yes": 1}, {"args": [1]}, {"args": {"to": {1}}}, "yes"):
        with pytest.raises(SettingsError):
            store.approve("r1", waiting.id, answer)  # type: ignore[arg-type]
    assert store.approve("r1", waiting.id) == "done"


async def test_only_the_answer_that_does_not_fit_is_forgotten(store: Store) -> None:
    paid: list[str] = []
    made = two_payments(paid)
    first, second = (await made.run("Pay", store=store, run_id="r1")).pending
    store.approve("r1", first.id, False)
    store.approve("r1", second.id, {"args": {"amount": 5}})
    with pytest.raises(SettingsError, match=r"(?s)amount.* forgotten this answer"):
        await made.resume("r1", store=store)
    assert "amount" in (store.get("r1").error or "")
    assert store.approve("r1", first.id, False) == "same"
    assert store.approve("r1", second.id, {"args": {"to": "eve"}}) == "done"
    assert (await made.resume("r1", store=store)).output == "done" and paid == ["eve"]


async def test_the_approval_of_an_outside_call_is_not_taken_for_its_result(store: Store) -> None:
    weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {}}, approval=True)
    made = Agent(ScriptedModel(lambda request: "done" if len(request.messages) > 1 else call("weigh")), tools=[weigh])
    (waiting,) = (await made.run("Go", store=store, run_id="r1")).pending
    store.approve("r1", waiting.id)
    for _ in range(2):
        assert (await made.resume("r1", store=store)).stop_reason == "pending_result"
    assert (await made.resume("r1", store=store, results={waiting.id: "1 kg"})).output == "done"


async def test_an_outside_call_is_approved_and_then_answered_through_the_store(store: Store) -> None:
    weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {}}, approval=True)
    made = Agent(ScriptedModel(lambda request: "done" if len(request.messages) > 1 else call("weigh")), tools=[weigh])
    store.submit("Go", agent="clerk", run_id="r1")
    gives: list[tuple[str, Any]] = [("approval", store.approve), ("result", store.answer)]
    for kind, give in gives:
        await Worker(store, {"clerk": made}).run(until_idle=True)
        (waits,) = store.get("r1").pending
        assert (store.get("r1").status, waits["kind"]) == ("paused", kind)
        assert (give("r1", waits["id"], True), give("r1", waits["id"], True)) == ("done", "same")
        assert (store.get("r1").status, store.get("r1").pending) == ("queued", ())
    await Worker(store, {"clerk": made}).run(until_idle=True)
    assert store.get("r1").output == "done"


def ids(store: Store, run_id: str) -> list[str]:
    return [waiting["id"] for waiting in store.get(run_id).pending]


async def test_a_call_that_was_answered_is_not_pending(store: Store) -> None:
    """Neither while the run waits for the answer to another one, nor before a worker goes on with it."""
    weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {}})
    pay = two_payments([]).tools["pay"]

    def reply(request: Any) -> Any:
        return [call("pay", to="ann"), call("weigh")] if len(request.messages) == 1 else "done"

    made = Agent(ScriptedModel(reply), tools=[pay, weigh])
    store.submit("Pay", agent="payer", run_id="r1")
    await Worker(store, {"payer": made}).run(until_idle=True)
    pays, weighs = ids(store, "r1")
    store.approve("r1", pays)
    assert ids(store, "r1") == [weighs] and [run.pending for run in store.runs()] == [store.get("r1").pending]
    with pytest.raises(StoreError, match=f"no call 'x' of run 'r1' waits; waiting: {weighs} "):
        store.approve("r1", "x")
    store.answer("r1", weighs, 3)
    assert (store.get("r1").status, ids(store, "r1")) == ("queued", [])
    await Worker(store, {"payer": made}).run(until_idle=True)
    assert store.get("r1").output == "done"


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_call_of_a_child_run_that_was_answered_is_not_pending(store: Store, depth: int) -> None:
    paid: list[str] = []
    made = two_payments(paid)

    def reply(request: Any) -> Any:
        return [call("inner", task="a"), call("inner", task="b")] if len(request.messages) == 1 else "done"

    for _ in range(depth):
        made = Agent(ScriptedModel(reply), tools=[made.as_tool("inner", "Pays.")])
    await made.run("Pay", store=store, run_id="r1")
    payers = [run for run in store.runs(children=True) if run.run_id.count(":") == depth]
    assert len(payers) == 2**depth and all(run.status == "paused" for run in payers)
    inner = [waiting for run in payers for waiting in run.pending]
    assert {waiting["root_call"] for waiting in inner} == {*ids(store, "r1")} and len(inner) == 2 ** (depth + 1)
    first = payers[0]
    with pytest.raises(StoreError, match=f"child run of 'r1'; answer the call '{first.pending[0]['root_call']}' of that one"):
        store.approve(first.run_id, first.pending[0]["id"])
    for waiting in first.pending:
        store.approve(waiting["root_id"], waiting["root_call"])
    assert ids(store, first.run_id) == [] and len(ids(store, "r1")) == len(inner) - 2
    assert all(len(ids(store, run.run_id)) == 2 for run in payers[1:])
    store.cancel("r1")
    assert not any(run.pending for run in store.runs(children=True))


async def test_a_good_answer_clears_the_error_of_a_bad_one(store: Store) -> None:
    paid: list[str] = []
    made = two_payments(paid)
    first, second = (await made.run("Pay", store=store, run_id="r1")).pending
    for waiting in (first, second):
        store.approve("r1", waiting.id, {"args": {"amount": 5}})
    with pytest.raises(SettingsError, match="amount"):
        await made.resume("r1", store=store)
    assert ["amount" in waiting["error"] for waiting in store.get("r1").pending] == [True, True]
    store.approve("r1", first.id)
    (waits,) = store.get("r1").pending
    assert waits["id"] == second.id and "amount" in waits["error"] and "amount" in str(store.get("r1").error)
    store.approve("r1", second.id)
    assert (store.get("r1").error, store.get("r1").pending) == (None, ())
    assert (await made.resume("r1", store=store)).output == "done" and paid == ["ann", "bob"]


async def test_the_error_of_a_bad_answer_stays_while_another_call_is_answered(store: Store) -> None:
    first, second = (await two_payments([]).run("Pay", store=store, run_id="r1")).pending
    store.approve("r1", first.id, {"args": {"amount": 5}})
    with pytest.raises(SettingsError, match="amount"):
        await two_payments([]).resume("r1", store=store)
    store.approve("r1", second.id)
    assert "amount" in str(store.get("r1").error)
    store.approve("r1", first.id)
    assert store.get("r1").error is None


async def test_a_bad_answer_to_a_run_that_broke_off_before_its_pause_is_mended(store: Store) -> None:
    append = store.append_rows

    def failing(db: Any, log: Any, seq: int, events: Any, **more: Any) -> bool:
        if any(isinstance(event, RunPaused) for event in events):
            raise StoreError("the disk is full")
        return append(db, log, seq, events, **more)

    store.append_rows = failing  # type: ignore[method-assign]
    with pytest.raises(LogFailed, match="the disk is full"):
        await agent().run("pay", store=store, run_id="r1")
    del store.append_rows
    (waiting,) = store.state("r1").waiting
    store.approve("r1", waiting.id, {"args": {"amount": 5}})
    with pytest.raises(SettingsError, match="amount"):
        await agent().resume("r1", store=store)
    assert store.approve("r1", waiting.id) == "done"
    result: RunResult[Any] = await agent().resume("r1", store=store)
    assert result.output == "done: paid bob"


async def test_an_answer_after_the_one_that_was_given_to_resume_is_too_late(store: Store) -> None:
    said: list[str] = []

    @tool(approval=True)
    def pay(to: str) -> str:
        """Pay."""
        for answer in (False, True):
            try:
                said.append(store.approve("r1", waiting.id, answer))
            except StoreError as error:
                said.append(str(error))
        for other in ("user", "RunStarted"):
            with pytest.raises(StoreError, match="waits; waiting: none"):
                store.approve("r1", other)
        return "paid"

    made = Agent(ScriptedModel(say), tools=[pay])
    (waiting,) = (await made.run("pay", store=store, run_id="r1")).pending
    result = await made.resume("r1", approvals={waiting.id: True}, store=store)
    assert result.output == "done: paid"
    assert said == [f"the call '{waiting.id}' of run 'r1' was answered before, with true; that answer counts", "same"]


async def test_an_answer_through_the_store_comes_before_one_on_its_way(store: Store) -> None:
    (waiting,) = (await agent().run("pay", store=store, run_id="r1")).pending
    reopen = store.reopen

    def reopen_and_refuse(run_id: str) -> Any:
        drive = reopen(run_id)
        store.approve("r1", waiting.id, False)
        return drive

    store.reopen = reopen_and_refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(LogFailed, match="answered meanwhile"):
        await agent().resume("r1", approvals={waiting.id: True}, store=store)
    del store.reopen
    assert store.get("r1").status == "paused"
    assert (await agent().resume("r1", store=store)).output != "done: paid bob"


async def test_a_cancel_that_was_asked_is_carried_out_by_whoever_comes_next(store: Store) -> None:
    (waiting,) = (await agent().run("pay", store=store, run_id="r1")).pending
    killed = store.reopen("r1")
    assert store.cancel("r1") == "asked"
    store.approve("r1", waiting.id)
    store.release("r1", killed.owner)
    result: RunResult[Any] = await agent().resume("r1", store=store)
    assert (result.stop_reason, store.get("r1").status) == ("cancelled", "cancelled")
    assert store.state("r1").stop_reason == "cancelled" and "paid" not in str(store.events("r1"))


async def test_a_worker_whose_claim_is_over_cannot_begin_a_cancelled_run(store: Store) -> None:
    store.submit("add", agent="clerk", run_id="r1")
    claimed = store.claim("default", "worker")
    assert claimed is not None
    end_leases(store)  # as if the deps took longer
    assert store.cancel("r1") == "done"
    with pytest.raises(RunBusy, match="not claimed by this worker any more; it is cancelled"):
        claimed.begin("r1")


async def test_a_run_begun_again_adds_to_its_session_what_is_new(store: Store) -> None:
    store.begin("r1", session="ada")
    end_leases(store)
    store.cancel("r1")
    await agent().run("hello", store=store, run_id="r0", session="ada")
    await agent().run("again", store=store, run_id="r1", session="ada")
    told = [message.content for message in store.session("ada").messages if message.role == "user"]
    assert told == ["hello", "again"] and len(store.session("ada").messages) == 4


async def test_a_run_that_ended_while_it_was_cancelled_has_its_answer(store: Store) -> None:
    store.lease = 0.3
    made = agent()
    task: asyncio.Task[Any]

    @made.output_validator
    def check(answer: str) -> str:
        store.cancel("r1")
        while not task.cancelling():
            pass
        return answer.upper()

    task = asyncio.create_task(made.run("hello", store=store, run_id="r1"))
    result = await task
    assert (result.output, result.stop_reason) == (store.get("r1").output, store.get("r1").stop_reason)


async def test_a_fork_asks_for_its_own_approvals(store: Store) -> None:
    (waiting,) = (await agent().run("pay", store=store, run_id="r1")).pending
    await agent().resume("r1", approvals={waiting.id: True}, store=store)
    given = next(place for place, event in enumerate(store.events("r1")) if isinstance(event, ApprovalGiven))
    fork = store.fork("r1", at=given + 1)
    result: RunResult[Any] = await agent().resume(fork, store=store)
    assert [again.id for again in result.pending] == [waiting.id]
    assert store.approve(fork, waiting.id, False) == "done"


async def test_a_failed_append_leaves_an_approval_as_it_was(store: Store) -> None:
    paid: list[str] = []
    made = two_payments(paid)
    first, second = (await made.run("Pay", store=store, run_id="r1")).pending
    answers: dict[str, Any] = {first.id: True, second.id: False}
    with no_call_can_start(store), pytest.raises(LogFailed, match="the disk is full"):
        await made.resume("r1", approvals=answers, store=store)
    again = await made.resume("r1", approvals=answers, store=store)
    assert (again.output, paid) == ("done", ["ann"]), "the same answers again, and the call in the same process"


async def test_a_stored_answer_counts_when_its_process_stops_before_the_call(store: Store) -> None:
    asked: list[str] = []

    def approve(waiting: Any) -> bool:
        asked.append(waiting.name)
        return len(asked) == 1

    made = agent(approve=approve)
    with no_call_can_start(store), pytest.raises(LogFailed, match="the disk is full"):
        await made.run("pay", store=store, run_id="r1")
    result: RunResult[Any] = await made.resume("r1", store=store)
    assert (result.output, asked) == ("done: paid bob", ["pay"])


async def test_a_program_and_a_colleague_who_say_the_same(store: Store) -> None:
    def approve(waiting: Any) -> bool:
        assert store.approve("r1", waiting.id) == "done"
        return True

    result: RunResult[Any] = await agent(approve=approve).run("pay", store=store, run_id="r1")
    assert result.output == "done: paid bob"


async def test_a_queued_run_of_a_busy_session_is_cancelled(store: Store) -> None:
    await agent().run("pay", store=store, run_id="first", session="ada")
    store.submit("add", agent="clerk", run_id="second", session="ada")
    assert store.cancel("second") == "done" and store.get("second").status == "cancelled"


async def test_a_run_that_ended_just_before_it_was_cancelled_has_its_typed_answer(store: Store) -> None:
    made = Agent(ScriptedModel([call("final_answer", letters=5)]), output_type=Size)
    drives: list[Any] = []
    begin, append = store.begin, store.append_rows

    def begun(*given: Any, **more: Any) -> Any:
        drives.append(begin(*given, **more))
        return drives[-1]

    def cancelling(db: Any, log: Any, seq: int, events: Any, **more: Any) -> bool:
        append(db, log, seq, events, **more)
        return isinstance(events[-1], RunFinished)  # as if the cancel had come with it

    store.begin, store.append_rows = begun, cancelling  # type: ignore[method-assign]
    result: RunResult[Any] = await made.run("go", store=store, run_id="r1")
    assert result.output == Size(letters=5) and store.get("r1").output == {"letters": 5}
