"""Workers: runs of a queue are driven once, handed back, taken over, and go on when they are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit import Agent, MissingKey, RunContext, RunExists, ScriptedModel, SettingsError, tool
from agentkit.store import Store, open_store
from agentkit.store.shared_rate import SharedRate
from agentkit.store.worker import Worker
from agentkit.testing import call
from tests.kit import tool_texts
from tests.store.test_store import agent, end_leases, say

QUICK: dict[str, Any] = {"poll": 0.05, "grace": 5.0}


async def drain(worker: Worker) -> int:
    return await asyncio.wait_for(worker.run(until_idle=True), 60)


async def test_queued_runs_are_driven_once(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    ids = [store.submit("add", agent="clerk") for _ in range(5)]
    assert store.submit("add", agent="clerk", run_id=ids[0]) == ids[0]
    with pytest.raises(RunExists, match="with another task;"):
        store.submit("pay", agent="clerk", run_id=ids[0])
    assert {run.status for run in store.runs()} == {"queued"}
    assert await drain(kind(store, {"clerk": agent()}, **QUICK)) == 5
    assert {(run.status, run.output) for run in store.runs()} == {("finished", "done: 3")}
    assert await drain(kind(store, {"clerk": agent()}, **QUICK)) == 0


async def test_a_paused_run_goes_on_when_it_is_answered(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    run_id = store.submit("pay", agent="clerk")
    worker = kind(store, lambda name: agent(), **QUICK)
    await drain(worker)
    paused = store.get(run_id)
    assert paused.status == "paused"
    store.approve(run_id, paused.pending[0]["id"])
    assert store.get(run_id).status == "queued"
    await drain(kind(store, lambda name: agent(), **QUICK))
    assert store.get(run_id).output == "done: paid bob"


async def test_a_worker_that_stops_hands_its_runs_back(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    @tool(read_only=True)
    async def wait() -> str:
        """Wait until it is cancelled, the first time."""
        if not started.is_set():
            loop.call_soon_threadsafe(started.set)
            await asyncio.sleep(3600)
        return "waited"

    made = Agent(ScriptedModel(lambda request: call("wait") if len(request.messages) == 1 else "done"), tools=[wait])
    run_id = store.submit("Wait", agent="waiter")
    worker = kind(store, {"waiter": made}, poll=0.05, grace=0.2)
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(started.wait(), 30)
    worker.stop()
    await asyncio.wait_for(running, 30)
    assert (store.get(run_id).status, store.get(run_id).steps, len(store.events(run_id))) == ("queued", 1, 3)
    await drain(Worker(store, {"waiter": made}, **QUICK))
    assert store.get(run_id).output == "done"


async def test_a_dead_workers_run_is_taken_over(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    run_id = store.submit("add", agent="clerk")
    assert store.claim("default", "dead:1:x") is not None
    assert store.claim("default", "live:2:y") is None
    end_leases(store)
    assert await drain(kind(store, {"clerk": agent()}, **QUICK)) == 1
    assert store.get(run_id).status == "finished"


async def test_order_and_time(store: Store) -> None:
    low, high = store.submit("add", agent="a", priority=1), store.submit("add", agent="a", priority=2)
    late = store.submit("add", agent="a", priority=9, at=4e9)
    other = store.submit("add", agent="a", queue="other")
    claimed = [store.claim("default", f"w:{n}") for n in range(3)]
    assert [c and c.run_id for c in claimed] == [high, low, None]
    assert {run.run_id: run.status for run in store.runs()} == {
        low: "running", high: "running", late: "queued", other: "queued",
    }  # fmt: skip
    with pytest.raises(SettingsError, match="task is ' '"):
        store.submit(" ", agent="a")
    with pytest.raises(SettingsError, match="deps is"):
        store.submit("x", agent="a", deps={1, 2})


async def test_deps_are_made_of_what_was_submitted(store: Store) -> None:
    @tool
    def who(ctx: RunContext[Any]) -> str:
        """Who asks."""
        return str(ctx.deps)

    async def deps(run_id: str, submitted: Any) -> str:
        return f"{run_id}:{submitted['name']}"

    made = Agent(ScriptedModel(lambda request: call("who") if len(request.messages) == 1 else "done"), tools=[who])
    store.submit("Who?", agent="a", run_id="r1", deps={"name": "ann"})
    await drain(Worker(store, {"a": made}, deps=deps, **QUICK))
    assert tool_texts(store.state("r1")) == ["r1:ann"]


async def test_an_answer_that_does_not_fit_is_refused_and_the_run_waits_on(store: Store) -> None:
    run_id = store.submit("pay", agent="clerk")
    await drain(Worker(store, {"clerk": agent()}, **QUICK))
    (waiting,) = store.get(run_id).pending
    store.approve(run_id, waiting["id"], {"args": {"to": ["not", "a", "text"]}})
    await drain(Worker(store, {"clerk": agent()}, **QUICK))
    run = store.get(run_id)
    assert run.status == "paused" and "arguments that do not fit" in str(run.error)
    store.approve(run_id, waiting["id"], {"args": {"to": "eve"}})
    await drain(Worker(store, {"clerk": agent()}, **QUICK))
    assert store.get(run_id).status == "finished" and store.get(run_id).error is None


async def test_runs_of_one_session_are_driven_one_after_another(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    for n in range(3):
        store.submit("hello", agent="clerk", session="ada", run_id=f"r{n}")
    await drain(kind(store, {"clerk": agent()}, **QUICK))
    assert [store.get(f"r{n}").output for n in range(3)] == ["2 messages", "4 messages", "6 messages"]


async def test_a_run_that_waits_for_its_session_is_not_due(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    store.submit("pay", agent="clerk", session="ada", run_id="r1")
    store.submit("hello", agent="clerk", session="ada", run_id="r2")
    await drain(kind(store, {"clerk": agent()}, **QUICK))
    assert [store.get(run_id).status for run_id in ("r1", "r2")] == ["paused", "queued"]
    store.approve("r1", store.get("r1").pending[0]["id"])
    await drain(kind(store, {"clerk": agent()}, **QUICK))
    assert store.get("r2").output == "6 messages"


async def test_a_run_whose_agent_cannot_be_made_is_put_back(store: Store) -> None:
    def no_agent(name: str) -> Agent[Any]:
        raise MissingKey(f"no key for {name}")

    store.submit("add", agent="clerk", run_id="r1")
    assert await drain(Worker(store, no_agent, **QUICK)) == 1
    run = store.get("r1")
    assert (run.status, run.error) == ("queued", "MissingKey: no key for clerk")
    with store.transaction() as db:
        db.execute("UPDATE agentkit_runs SET run_at = 0")
    await drain(Worker(store, {"clerk": agent()}, **QUICK))
    assert store.get("r1").output == "done: 3"


async def test_a_run_that_failed_says_why(store: Store) -> None:
    def fail(_request: Any) -> str:
        raise RuntimeError("away")

    run_id = store.submit("add", agent="a")
    await drain(Worker(store, {"a": Agent(ScriptedModel(fail), retry=None)}, **QUICK))
    run = store.get(run_id)
    assert run.status == "failed" and run.stop_reason == "error" and "away" in str(run.error)


async def test_model_calls_of_all_processes_share_a_rate(store: Store, address: str) -> None:
    other = open_store(address)
    models = [SharedRate(ScriptedModel(say), opened, "key", per_minute=3, max_wait=10) for opened in (store, other)]
    runs = [Agent(model, retry=None).run("hello") for model in (*models, *models)]
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["RateLimited", "RunResult", "RunResult", "RunResult"]
    other.close()


def test_a_worker_runs_once(worked: tuple[Store, type[Worker]]) -> None:
    store, kind = worked
    worker = kind(store, agents={})
    assert asyncio.run(worker.run(until_idle=True)) == 0
    worker.stop()  # too late, as by a signal: it does nothing
    with pytest.raises(SettingsError, match="make another one"):
        asyncio.run(worker.run(until_idle=True))
