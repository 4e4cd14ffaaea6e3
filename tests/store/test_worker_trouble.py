"""Workers in trouble: functions that block, agents that cannot be driven, drives that break off, and calls that do not end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from agentkit import Agent, RunExists, ScriptedModel, SettingsError, StoreError, tool
from agentkit.store import PostgresStore, Store
from agentkit.store.dbos_worker import DBOSWorker
from agentkit.store.worker import Worker
from agentkit.testing import call
from tests.store.test_store import agent
from tests.store.test_worker import QUICK, drain


def column(store: Store, name: str) -> Any:
    with store.reading() as db:
        return db.execute(f"SELECT {name} FROM agentkit_runs").fetchone()[0]


def change(store: Store, what: str) -> None:
    with store.transaction() as db:
        db.execute(f"UPDATE agentkit_runs SET {what}")


def crash(store: Store, times: int) -> None:
    """So many workers claim the run and end, without storing anything."""
    for _ in range(times):
        assert store.claim("default", "dead:1:x") is not None
        change(store, "lease_until = 0")


async def test_a_lease_is_renewed_while_functions_of_the_program_block(store: Store) -> None:
    store.lease = 0.5

    def block() -> None:
        before, until = column(store, "lease_until"), time.monotonic() + 20
        while column(store, "lease_until") == before:
            assert time.monotonic() < until, "the lease is not renewed"
            time.sleep(0.02)

    def load(name: str) -> Agent[Any]:
        block()
        return agent()

    def deps(run_id: str, submitted: Any) -> None:
        block()

    store.submit("add", agent="clerk", run_id="r1")
    assert await drain(Worker(store, load, deps=deps, **QUICK)) == 1
    assert (store.get("r1").output, store.get("r1").error) == ("done: 3", None)


async def test_a_run_is_cancelled_while_its_deps_are_made(store: Store) -> None:
    store.lease, asked = 0.3, []

    async def deps(run_id: str, submitted: Any) -> None:
        asked.append(await asyncio.to_thread(store.cancel, "r1"))
        await asyncio.Event().wait()

    store.submit("add", agent="clerk", run_id="r1")
    await drain(Worker(store, {"clerk": agent()}, deps=deps, **QUICK))
    assert (asked, store.get("r1").status) == (["asked"], "cancelled")


async def test_a_run_that_cannot_be_driven_waits_longer_each_time_and_never_fails(store: Store) -> None:
    def no_deps(run_id: str, submitted: Any) -> None:
        raise ValueError("no deps today")

    store.submit("add", agent="clerk", run_id="r1")
    waits = []
    for n in range(12):
        assert await drain(Worker(store, {"clerk": agent()} if n % 2 else {}, deps=no_deps, **QUICK)) == 1
        waits.append(round(column(store, "run_at - updated")))
        change(store, "updated = updated - 1000, run_at = run_at - 1000")
    assert waits == [4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300]
    assert (store.get("r1").status, store.get("r1").error) == ("queued", "ValueError: no deps today")
    assert store.cancel("r1") == "done" and store.get("r1").status == "cancelled"


async def test_a_run_of_an_agent_that_has_changed_waits_for_a_worker_that_allows_it(store: Store) -> None:
    store.submit("pay", agent="clerk", run_id="r1")
    await drain(Worker(store, {"clerk": agent()}, **QUICK))
    store.approve("r1", store.get("r1").pending[0]["id"])
    changed = {"clerk": agent(instructions="Be long.")}
    await drain(Worker(store, changed, **QUICK))
    error = str(store.get("r1").error)
    assert store.get("r1").status == "queued" and "changed: instructions" in error and "--allow-changed of `agent" in error
    change(store, "run_at = 0")
    await drain(Worker(store, changed, allow_changed=True, **QUICK))
    assert store.get("r1").output == "done: paid bob"


async def test_a_run_whose_workers_crash_ten_times_has_failed_and_says_so(store: Store) -> None:
    store.submit("add", agent="clerk", run_id="r1")
    crash(store, 10)
    store.submit("add", agent="clerk", run_id="r2")
    claimed = store.claim("default", "live:2:y")
    assert claimed is not None and claimed.run_id == "r2"
    run = store.get("r1")
    assert run.status == "failed" and "10 drives in a row broke off" in str(run.error)
    never = "'r1' .* is failed, and never began .given up: .*choose another run_id"
    with pytest.raises(RunExists, match=never):
        store.submit("add", agent="clerk", run_id="r1")
    with pytest.raises(RunExists, match=never):
        await agent().run("add", store=store, run_id="r1")
    with pytest.raises(StoreError, match=never.replace("'r1' .* is", "'r1' has no events; it is")):
        await agent().resume("r1", store=store)
    assert store.get("r1").status == "failed"


async def test_a_run_that_crashes_on_after_an_approval_waits_for_none(store: Store) -> None:
    store.submit("pay", agent="clerk", run_id="r1")
    await drain(Worker(store, {"clerk": agent()}, **QUICK))
    (waiting,) = store.get("r1").pending
    store.approve("r1", waiting["id"])
    crash(store, 10)
    assert store.claim("default", "live:2:y") is None
    assert store.get("r1").status == "failed" and store.get("r1").pending == ()
    with pytest.raises(StoreError, match="too late: run 'r1' has ended without the answer; it is failed"):
        store.approve("r1", waiting["id"])
    assert (await agent().resume("r1", store=store)).output == "done: paid bob"
    assert store.approve("r1", waiting["id"]) == "same"


def test_runs_that_are_given_back_have_not_crashed(store: Store) -> None:
    store.submit("add", agent="clerk", run_id="r1")
    for n in range(12):
        assert store.claim("default", f"w:{n}") is not None
        store.release("r1", f"w:{n}")
    crash(store, 1)
    assert store.claim("default", "live:2:y") is not None


async def test_a_drive_that_breaks_off_ten_times_has_failed(store: Store) -> None:
    class Broken:
        strict = True

        def __call__(self, event: Any) -> None:
            raise RuntimeError("the observer is broken")

    store.submit("add", agent="clerk", run_id="r1")
    broken = {"clerk": agent(observers=[Broken()])}
    for _ in range(14):
        await drain(Worker(store, broken, **QUICK))
        change(store, "run_at = 0")
    run = store.get("r1")
    assert run.status == "failed" and "the last error: RuntimeError: the observer is broken" in str(run.error)


async def test_a_run_that_has_not_begun_says_who_begins_it(store: Store) -> None:
    store.submit("add", agent="clerk", run_id="r1")
    for attempt in (agent().run("add", store=store, run_id="r1"), agent().resume("r1", store=store)):
        with pytest.raises(StoreError, match="is queued, and has not begun: a worker of the queue 'default' begins it"):
            await attempt
    assert store.get("r1").status == "queued"


@pytest.mark.parametrize(
    "other", [{"task": "pay"}, {"agent": "b"}, {"queue": "b"}, {"session": "b"}, {"session": None}, {"deps": {"n": [2]}}]
)
def test_an_id_is_of_one_submission(store: Store, other: dict[str, Any]) -> None:
    first: dict[str, Any] = {"task": "add", "agent": "a", "session": "a", "deps": {"n": (1,)}, "run_id": "r1"}
    store.submit(**first)
    assert store.submit(**first, priority=3, at=4e9) == "r1"
    with pytest.raises(RunExists, match=f"with another {next(iter(other))}; choose"):
        store.submit(**{**first, **other})


WRONG: list[dict[str, Any]] = [
    {"run_id": ""}, {"session": ""}, {"queue": ""}, {"agent": ""}, {"priority": 2**31}, {"priority": "high"}, {"at": "soon"},
    {"at": float("nan")}, {"at": 20300131}, {"at": 1900000000000}, {"at": 10**400}, {"at": -1.0}, {"at": True},
]  # fmt: skip


@pytest.mark.parametrize("given", WRONG)
def test_values_that_no_run_can_have(store: Store, given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(given))} is .*; allowed: "):
        store.submit(**{"task": "add", "agent": "a", **given})
    assert store.runs() == []


async def test_events_after_a_number(store: Store) -> None:
    await agent().run("write", store=store, run_id="r1", session="ada")
    await agent().run("write", store=store, run_id="r2", session="ada")
    events = store.events("r2")
    for after in (-5, -1, 0, 2, len(events) - 1, 10**20):
        assert store.events("r2", after=after) == (events[max(after, -1) + 1 :] if after < 10**20 else [])


async def test_a_worker_whose_call_does_not_end_names_it(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    entered, may_end, said = threading.Event(), threading.Event(), list[str]()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            if "has not ended here" in said[-1]:
                may_end.set()  # DBOS waits ten seconds for its event loop

    @tool
    async def stubborn() -> str:
        """Ignore that it is cancelled."""
        entered.set()
        while not may_end.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue
        return "ended"

    made = Agent(ScriptedModel([call("stubborn"), "done"]), tools=[stubborn])
    store.submit("go", agent="a", run_id="r1")
    worker = kind(store, {"a": made}, poll=0.05, grace=0.2)
    running = asyncio.create_task(worker.run())
    await asyncio.to_thread(entered.wait, 30)
    listener = Listener()
    logging.getLogger("agentkit").addHandler(listener)
    worker.stop()
    await asyncio.wait_for(running, 30)
    logging.getLogger("agentkit").removeHandler(listener)
    assert "worker: run r1 is given back, but it has not ended here; in flight: stubborn" in said
    assert store.get("r1").status == "queued"


async def test_dbos_hands_out_the_highest_priority_first(postgres_address: Any) -> None:
    from dbos import DBOS

    store, driven = PostgresStore(postgres_address()), list[str]()

    def load(name: str) -> Agent[Any]:
        driven.append(name)
        if name == "first":  # it takes the one slot while the others are handed out
            store.submit("add", agent="high", run_id="high", priority=1)
            until = time.monotonic() + 20
            while not {"low", "high"} <= {w.workflow_id.partition("/")[0] for w in DBOS.list_queued_workflows()}:
                assert time.monotonic() < until, "the others are not handed out"
                time.sleep(0.05)
        return agent()

    store.submit("add", agent="first", run_id="first", priority=2)
    store.submit("add", agent="low", run_id="low")
    await drain(DBOSWorker(store, load, concurrency=1, **QUICK))
    store.close()
    assert driven == ["first", "high", "low"]
