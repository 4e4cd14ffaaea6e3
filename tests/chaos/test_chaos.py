"""Workers that are killed at random, and workers that are stopped, left without a database, or race."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentkit.store import open_store
from tests.store.postgres import Postgres, find_programs

from .endpoint import Endpoint
from .nursery import Nursery
from .play import play
from .scene import Scene


@pytest.fixture
def scene(address: str, tmp_path: Path, endpoint: Endpoint, nursery: Nursery) -> Iterator[Scene]:
    made = Scene(address, tmp_path, endpoint, nursery)
    yield made
    made.store.close()


@pytest.mark.parametrize("seed", [1])
def test_every_run_is_right_though_workers_are_killed(address: str, tmp_path: Path, seed: int) -> None:
    """`python -m tests.chaos` is the long form."""
    outcome = play(address, tmp_path, runs=20, kills=10, workers=2, seed=seed, lease=1.0)
    assert outcome.kills == 10


@pytest.mark.parametrize("at", ["tool keyed", "did plain", "model", "replied", "stored"])
def test_a_stopped_worker_stores_nothing_when_it_wakes_up(scene: Scene, at: str) -> None:
    scene.submit("r", "read keyed plain note")
    zombie = scene.start(at=at, signal="SIGSTOP", until_idle=True)
    assert scene.nursery.wait(zombie) == -signal.SIGSTOP
    scene.finish()
    events = scene.store.events("r")
    os.kill(zombie, signal.SIGCONT)
    assert scene.nursery.wait(zombie) == 0
    assert scene.store.events("r") == events
    assert scene.check(kills=1) == (["plain-2.0"] if at == "did plain" else [])


def test_a_worker_stopped_inside_a_transaction_is_rid_of_it_after_a_lease(
    postgres_address: Callable[[], str], tmp_path: Path, endpoint: Endpoint, nursery: Nursery
) -> None:
    scene = Scene(postgres_address(), tmp_path, endpoint, nursery)
    scene.submit("r", "plain")
    zombie = scene.start(at="inside RunStarted", signal="SIGSTOP", until_idle=True, lease=1.0)
    assert nursery.wait(zombie) == -signal.SIGSTOP
    assert scene.run(lease=1.0) == 0
    events = scene.store.events("r")
    os.kill(zombie, signal.SIGCONT)
    assert nursery.wait(zombie) == 0
    assert scene.store.events("r") == events
    assert scene.check(kills=1) == []
    scene.store.close()


def test_a_kill_while_a_run_waits_for_an_approval(scene: Scene) -> None:
    scene.submit("r", "plain pay helper~pay")
    worker = scene.start()
    scene.wait_until("paused")
    scene.nursery.kill(worker)
    assert [effect["tool"] for effect in scene.effects] == ["plain"]
    scene.finish()
    assert scene.check(kills=1) == []


def test_an_approval_that_was_given_survives_a_kill(scene: Scene) -> None:
    scene.submit("r", "pay plain")
    assert scene.run() == 0
    (waiting,) = scene.store.get("r").pending
    assert scene.store.approve("r", waiting["id"]) == "done"
    assert scene.run(at="write RunResumed+ApprovalGiven") == -signal.SIGKILL
    assert scene.store.approve("r", waiting["id"]) == "same"
    scene.finish()
    assert scene.check(kills=1) == []


def test_workers_that_race_for_a_run_drive_it_once(scene: Scene) -> None:
    for round_ in range(5):
        scene.submit(f"r{round_}", "plain note")
        racers = [scene.start(until_idle=True) for _ in range(4)]
        assert [scene.nursery.wait(racer) for racer in racers] == [0] * 4
        assert scene.store.get(f"r{round_}").status == "finished"
    assert scene.check(kills=0) == []


def test_a_worker_that_is_told_to_stop_leaves_its_runs(scene: Scene) -> None:
    scene.endpoint.delay = 0.05
    for n in range(3):
        scene.submit(f"r{n}", "plain note plain")
    worker = scene.start()
    _wait_for_requests(scene, 2)
    began = time.monotonic()
    os.kill(worker, signal.SIGTERM)
    assert scene.nursery.wait(worker) == 0 and time.monotonic() - began < 10
    assert {run.status for run in scene.store.runs()} <= {"queued", "finished"}
    scene.finish()
    assert scene.check(kills=1) == []


def _wait_for_requests(scene: Scene, count: int) -> None:
    until = time.monotonic() + 60
    while scene.endpoint.requests.total() < count:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_postgres_that_crashes_under_load(tmp_path: Path, endpoint: Endpoint, nursery: Nursery) -> None:
    programs = find_programs()
    if programs is None:
        pytest.skip("no Postgres on this machine")
    server, endpoint.delay = Postgres(programs), 0.02
    try:
        scene = Scene(server.database("chaos"), tmp_path, endpoint, nursery)
        for n in range(12):
            scene.submit(f"r{n}", "plain keyed note plain keyed+note")
        workers = [scene.start(lease=2.0) for _ in range(2)]
        for count in (5, 25):
            _wait_for_requests(scene, count)
            server.stop("immediate")
            server.start()
        for n in range(12):
            scene.wait_until("finished", f"r{n}")
        for worker in workers:
            nursery.kill(worker)
        scene.check(kills=2 * 2)
        scene.store.close()
    finally:
        server.remove()


def test_postgres_that_ends_its_connections_under_load(
    postgres_address: Callable[[], str], tmp_path: Path, endpoint: Endpoint, nursery: Nursery
) -> None:
    """As a proxy, a failover or an administrator does: all at once, idle or not."""
    import psycopg

    endpoint.delay = 0.01
    scene = Scene(postgres_address(), tmp_path, endpoint, nursery)
    for n in range(10):
        scene.submit(f"r{n}", "plain keyed note plain")
    workers = [scene.start(lease=2.0) for _ in range(2)]
    with psycopg.connect(scene.address, autocommit=True) as db:
        for count in (3, 10, 20, 30):
            _wait_for_requests(scene, count)
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    for n in range(10):
        scene.wait_until("finished", f"r{n}")
    for worker in workers:
        nursery.kill(worker)
    assert scene.check(kills=4 * 2) == []
    scene.store.close()


def test_two_threads_answer_and_two_workers_go_on_once(scene: Scene) -> None:
    scene.submit("r", "pay plain")
    assert scene.run() == 0
    (waiting,) = scene.store.get("r").pending
    answers: list[str] = []

    def answer() -> None:
        store = open_store(scene.address)
        answers.append(store.approve("r", waiting["id"]))
        store.close()

    threads = [threading.Thread(target=answer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["done", "same", "same", "same"]
    racers = [scene.start(until_idle=True) for _ in range(2)]
    assert [scene.nursery.wait(racer) for racer in racers] == [0, 0]
    assert scene.check(kills=0) == []
