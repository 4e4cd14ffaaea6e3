"""Where a run begins: its names, and a caller that does not wait for the store."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel, SettingsError, StoreError
from agentkit.store import SQLiteStore, Store, Worker, open_store


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "x" * 501])
async def test_a_name_that_cannot_be_stored_is_refused(store: Store, name: str) -> None:
    for what in ("run_id", "session"):
        with pytest.raises(SettingsError, match=f"{what} is .*; allowed: a text of 1 to 500 characters"):
            await Agent(ScriptedModel(["Hi."])).run("Hi", store=store, **{what: name})  # type: ignore[call-overload]


def test_a_name_that_cannot_be_stored_is_in_no_store(store: Store) -> None:
    for look in (store.get, store.state, store.cancel, store.reopen):
        with pytest.raises(StoreError):
            look("\ud800")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "3", None])
def test_seconds_that_cannot_be_are_refused(store: Store, tmp_path: Path, seconds: Any) -> None:
    """With a lease of 0, another process takes the run at once, and the lease is renewed without a pause."""
    for address in (str(tmp_path / "other.db"), "postgresql:///nowhere"):
        with pytest.raises(SettingsError, match=r"lease is .*; allowed: seconds, more than 0"):
            open_store(address, lease=seconds)
    with pytest.raises(SettingsError, match=r"poll is .*; allowed: seconds, more than 0"):
        Worker(store, {}, poll=seconds)
    if seconds != 0:
        with pytest.raises(SettingsError, match=r"grace is .*; allowed: seconds, at least 0"):
            Worker(store, {}, grace=seconds)


@pytest.mark.parametrize("length", [-1, 1.5, "3"])
async def test_a_fork_of_a_conversation_has_a_whole_number_of_messages(store: Store, length: Any) -> None:
    result = await Agent(ScriptedModel(["Hi."])).run("Hi", store=store, session="ann")
    with pytest.raises(SettingsError, match=r"length is .*; allowed: a whole number of messages, or None"):
        store.session("ann").fork("bob", length=length)
    with pytest.raises(ValueError, match="until is -1; allowed: 1 to 3"):
        result.state.fork(until=-1)


class Slow(SQLiteStore):
    """A store in which the beginning of a run takes its time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked, self.go, self.released = threading.Event(), threading.Event(), threading.Event()
        self.fails = False

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        assert self.go.wait(30)
        if self.fails:
            raise StoreError("the store is gone")
        return super().begin(*args, **kwargs)

    def release(self, run_id: str, owner: str) -> None:
        super().release(run_id, owner)
        self.released.set()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_caller_that_is_cancelled_does_not_wait_for_the_store(tmp_path: Path, fails: bool) -> None:
    store = Slow(tmp_path / "runs.db")
    store.fails = fails
    running = asyncio.ensure_future(Agent(ScriptedModel(["Hi."])).run("Hi", store=store, run_id="r1"))
    await asyncio.to_thread(store.asked.wait, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not store.go.is_set()
    store.go.set()
    if not fails:  # the run that was begun meanwhile is given back
        assert await asyncio.to_thread(store.released.wait, 30)
        assert store.runs() == []
