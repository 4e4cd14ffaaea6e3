"""The SQLite file itself: how it is opened, by whom, and what is said where it cannot be."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, LogFailed, RunState, ScriptedModel, SettingsError, StoreError, ToolFinished, tool
from agentkit.store import SQLiteStore, open_store
from agentkit.testing import call
from tests.store.test_store import agent, end_leases, events_of


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE things (name TEXT)")


def of_a_newer_version(path: Path) -> None:
    open_store(str(path)).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def no_database(path: Path) -> None:
    path.write_bytes(b"This is no database, but a text of some length. " * 100)


def saved_run(path: Path) -> None:
    Agent(ScriptedModel(["Hello."])).run_sync("Hi").state.save(path)


def json_of_another_program(path: Path) -> None:
    path.write_text(json.dumps({"lines": ["a line"] * 1000}))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (saved_run, r"a saved run.*agentkit.testing.replay\('runs.db', None, agent\) .* RunState.load\('runs.db'\)"),
        (json_of_another_program, "not a SQLite database"),
        (of_another_program, "a database of another program; choose another file"),
        (of_a_newer_version, "of version 99; this agentkit knows up to version 1"),
        (no_database, "not a SQLite database"),
    ],
)
def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    path = tmp_path / "runs.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=words):
        open_store(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "the address of a store is ''"),
        (":memory:", "in memory cannot be resumed"),
        ("mysql://host/db", "cannot be at mysql://"),
        ("sqlite://runs.db", "is not absolute"),
    ],
)
def test_an_address_that_is_none(address: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        open_store(address)


def test_addresses_and_copies(tmp_path: Path) -> None:
    path = tmp_path / "my runs.db"
    for address in (str(path), f"sqlite://{path.as_uri().removeprefix('file://')}", f"sqlite:///{path.as_posix()}"):
        store = open_store(address)
        assert isinstance(store, SQLiteStore) and store.path == path.absolute()
    assert pickle.loads(pickle.dumps(store)).path == path.absolute()
    with pytest.raises(StoreError, match="there is no folder"):
        open_store(str(tmp_path / "none" / "runs.db"))
    with pytest.raises(SettingsError, match="allowed: FULL, NORMAL"):
        SQLiteStore(path, synchronous="OFF")  # type: ignore[arg-type]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    store.submit("add", agent="a")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_several_processes_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    code = (
        "import sys; from agentkit.store import open_store; sys.stdin.read(1); open_store(sys.argv[1]).submit('x', agent='a')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in started:  # all are waiting for this
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    failed = [process.communicate()[1] for process in started]
    assert failed == [""] * 6
    assert len(open_store(str(path)).runs()) == 6


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_runs_that_go_on_together_are_all_stored(tmp_path: Path, synchronous: Any) -> None:
    store = SQLiteStore(tmp_path / "runs.db", synchronous=synchronous)

    async def several() -> list[RunState]:
        return [result.state for result in await asyncio.gather(*[agent().run("add", store=store) for _ in range(30)])]

    states = asyncio.run(several())
    assert all(events_of(store.state(state.run_id)) == events_of(state) for state in states)
    with closing(sqlite3.connect(store.path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


def test_a_full_disk_stops_the_run_with_what_is_stored(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db", synchronous="NORMAL")

    def full() -> sqlite3.Connection:
        db = store.connect()
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 12}")
        return db

    assert store._writer is not None
    store._writer._connect = full
    with pytest.raises(LogFailed, match="the disk is full; nothing of this step was stored") as failed:
        agent(limits=None).run_sync("write", store=store, run_id="r1")
    assert isinstance(failed.value.__cause__, StoreError)
    store.close()
    store._writer._connect = store.connect
    assert events_of(store.state("r1")) == events_of(failed.value.state)
    result = agent(limits=None).resume_sync("r1", store=store)
    assert result.stop_reason == "answer" and result.uncertain[0].name == "write"
    store.close()


def test_a_full_disk_is_named_where_it_has_ended_the_transaction(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    connect = store.connect

    def full(*, read_only: bool = False) -> sqlite3.Connection:
        db = connect(read_only=read_only)
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 2}")
        return db

    store.connect = full  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="the disk is full"):
        store.submit("x" * 1_000_000, agent="a")
    store.connect = connect  # type: ignore[method-assign]
    assert store.runs() == []


def test_what_an_interrupted_write_left_is_ignored(tmp_path: Path) -> None:
    """A copy of the file and its log as a power cut leaves them: the last commit is torn."""
    store = SQLiteStore(tmp_path / "runs.db")
    result = agent().run_sync("add", store=store, run_id="r1")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("runs.db", "runs.db-wal"):
        data = (tmp_path / name).read_bytes()
        (copy / name).write_bytes(data[: len(data) * 3 // 4] if name.endswith("wal") else data)
    torn = SQLiteStore(copy / "runs.db")
    stored = events_of(torn.state("r1"))
    assert 0 < len(stored) < len(events_of(result)) and stored == events_of(result)[: len(stored)]
    end_leases(torn)
    again = agent().resume_sync("r1", store=torn)
    assert again.stop_reason == "answer" and (again.output == "done: 3" or again.uncertain)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove a file that is open")
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_nothing_is_written_to_a_file_that_was_removed(tmp_path: Path, synchronous: Any) -> None:
    store = SQLiteStore(tmp_path / "runs.db", synchronous=synchronous)
    seen: list[Any] = []

    @tool
    def remove() -> str:
        """Remove the file of the store."""
        for path in tmp_path.glob("runs.db*"):
            path.unlink()
        return "removed"

    made = Agent(ScriptedModel([call("remove"), call("remove"), "done"]), tools=[remove], observers=[seen.append])
    with pytest.raises(LogFailed, match="the file cannot be opened"):
        made.run_sync("Remove it", store=store, run_id="r1")
    assert not any(isinstance(event, ToolFinished) for event in seen)
    with pytest.raises(StoreError, match="the file cannot be opened"):
        agent().run_sync("add", store=store)
    SQLiteStore(tmp_path / "runs.db").close()  # a new one in its place is another database
    assert agent().run_sync("add", store=store, run_id="r2").stop_reason == "answer"
    assert [run.run_id for run in store.runs()] == ["r2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_what_a_child_process_stores_survives_the_end_of_its_parents_connection(tmp_path: Path) -> None:
    """SQLite's locks do not survive a fork: the parent would remove the log that the child writes to."""
    store = SQLiteStore(tmp_path / "runs.db")
    agent().run_sync("add", store=store, run_id="parent")
    (written, tell_written), (closed, tell_closed) = os.pipe(), os.pipe()
    if not os.fork():
        try:
            store.submit("add", agent="a", run_id="before")
            os.write(tell_written, b"1")
            os.read(closed, 1)
            store.submit("add", agent="a", run_id="after")
        finally:
            os.write(tell_written, b"2")
            os._exit(0)
    assert os.read(written, 1) == b"1"
    store.close()
    os.write(tell_closed, b"1")
    assert os.read(written, 1) == b"2"
    os.wait()
    assert sorted(run.run_id for run in SQLiteStore(tmp_path / "runs.db").runs()) == ["after", "before", "parent"]


def test_a_program_ends_whatever_its_stores_thread_was_doing(tmp_path: Path) -> None:
    """At the end of the interpreter, daemon threads stop wherever they are, and keep their locks."""
    program = f"""
from agentkit import Agent, ScriptedModel
from agentkit.store import SQLiteStore
store = SQLiteStore({str(tmp_path / "runs.db")!r})
print(Agent(ScriptedModel(["done"])).run_sync("Go", store=store).output)
store._writer._starting.acquire()
store._writer._lock.acquire()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_a_store_that_is_closed_beside_its_runs_goes_on(tmp_path: Path, synchronous: Any) -> None:
    store, ended = SQLiteStore(tmp_path / "runs.db", synchronous=synchronous), threading.Event()

    def close() -> None:
        while not ended.is_set():
            store.close()

    async def runs() -> list[str]:
        results = await asyncio.gather(*(agent().run("add", store=store) for _ in range(20)))
        return [result.stop_reason for result in results]

    closing = threading.Thread(target=close)
    closing.start()
    try:
        assert asyncio.run(asyncio.wait_for(runs(), 30)) == ["answer"] * 20
    finally:
        ended.set()
        closing.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_store_is_used_on_after_a_fork(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs.db"))
    agent().run_sync("add", store=store, run_id="parent")
    child = os.fork()
    if not child:
        try:
            agent().run_sync("add", store=store, run_id="child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    agent().run_sync("add", store=store, run_id="parent again")
    assert {run.run_id: run.status for run in store.runs()} == dict.fromkeys(("child", "parent", "parent again"), "finished")


def test_a_writer_waits_longer_than_the_lease(tmp_path: Path) -> None:
    for lease, least in ((30.0, 60_000), (120.0, 240_000)):
        with closing(SQLiteStore(tmp_path / "runs.db", lease=lease).connect()) as db:
            assert db.execute("PRAGMA busy_timeout").fetchone()[0] == least
