"""What every log must do, and what no store may do."""

from __future__ import annotations

import ast
import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentkit
from agentkit import Agent, RunState, ScriptedModel, StoreError, tool
from agentkit.events import LastingEvent
from agentkit.run.journal import JsonLinesLog, MemoryLog
from agentkit.store import SQLiteStore, Store, open_store
from agentkit.testing import call
from tests.faults.rows import history_is_valid
from tests.store.test_store import agent, events_of


@pytest.fixture(params=["memory", "json lines", "sqlite", "postgres"])
def log(request: Any, tmp_path: Path) -> Any:
    """An empty log of each kind."""
    if request.param == "memory":
        return MemoryLog()
    if request.param == "json lines":
        return JsonLinesLog(tmp_path / "run.jsonl")
    given = str(tmp_path / "runs.db") if request.param == "sqlite" else request.getfixturevalue("postgres_address")()
    store = open_store(given)
    request.addfinalizer(store.close)
    return store.begin("r").log


async def test_what_every_log_does(log: Any) -> None:
    events: list[LastingEvent] = list((await agent().run("add", run_id="r")).events)
    assert list(await log.load()) == []
    await log.append(0, events[:2])
    for seq in (0, 1, 3):
        with pytest.raises((ValueError, StoreError)):
            await log.append(seq, events[2:3])
    child = log.child("r.1")
    assert list(await child.load()) == []
    await child.append(0, events[:1])
    assert len(await child.load()) == 1 and len(await log.load()) == 2
    await log.append(2, events[2:])
    assert RunState.replay(await log.load()).to_json() == RunState.replay(events).to_json()


def test_a_write_ahead_log_that_is_cut_anywhere_has_whole_steps(tmp_path: Path) -> None:
    """As a power cut may leave it: cut at many bytes, and with a page of zeros at the end."""
    store = SQLiteStore(tmp_path / "runs.db")
    written = events_of(agent().run_sync("add", store=store, run_id="r"))
    whole = (tmp_path / "runs.db-wal").read_bytes()
    copy, lengths = tmp_path / "copy", set[int]()
    for cut in [*range(len(whole), len(whole) - 3 * 4120, -331), *range(0, len(whole), len(whole) // 25)]:
        copy.mkdir()
        shutil.copy(tmp_path / "runs.db", copy)
        (copy / "runs.db-wal").write_bytes(whole[:cut] + bytes(4096 if cut % 2 else 0))
        try:
            torn = open_store(str(copy / "runs.db"))
        except StoreError:
            torn = open_store(str(copy / "runs.db"))
        found = events_of(torn.state("r")) if [run for run in torn.runs() if run.events] else []
        assert found == written[: len(found)]
        lengths.add(len(found))
        torn.close()
        shutil.rmtree(copy)
    store.close()
    assert len(lengths) > 3 and max(lengths) == len(written), lengths


def test_stored_runs_are_read_without_running_anything() -> None:
    """No pickle, no eval, no import by a name that comes from the data."""
    folder, forbidden = Path(agentkit.__file__).parent, {"pickle", "marshal", "shelve", "dill"}
    rooms = [path for room in ("store", "run") for path in (folder / room).glob("[!_]*.py")]
    for path in (*rooms, folder / "events.py", folder / "_stored.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & forbidden, path
            if isinstance(node, ast.ImportFrom):
                assert node.module not in forbidden, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "__import__", "import_module"), path


async def test_a_run_cancelled_among_three_calls_is_resumed(store: Store) -> None:
    entered = asyncio.Semaphore(0)

    def waiting(name: str) -> Callable[[], Any]:
        async def wait() -> str:
            """Wait."""
            entered.release()
            if name == "first":
                return "done"
            await asyncio.Event().wait()
            return ""

        return wait

    tools = [tool(waiting(name), name=name) for name in ("first", "second", "third")]

    def answer(request: Any) -> Any:
        history_is_valid(request.messages)
        return [call(made.name) for made in tools] if request.messages[-1].role == "user" else "hello"

    made = Agent(ScriptedModel(answer), tools=tools)
    running = asyncio.create_task(made.run("go", store=store, run_id="r"))
    for _ in tools:
        await entered.acquire()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    state = store.state("r")
    history_is_valid(state.messages)
    assert sum(message.role == "tool" for message in state.messages) == 3
    result = await made.resume("r", store=store)
    assert result.output == "hello" and {made.name for made in result.uncertain} == {"second", "third"}
    assert entered.locked(), "no call ran again"


async def test_an_event_that_cannot_be_read_is_named(store: Store) -> None:
    await agent().run("add", store=store, run_id="r")
    with store.transaction() as db:
        db.execute("UPDATE agentkit_events SET data = ? WHERE run_id = 'r' AND seq = 2", ('{"v":2,',))
    with pytest.raises(ValueError, match="event 2 of run 'r' cannot be read"):
        store.state("r")
