"""Writes to a SQLite file for all runs of a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast
from weakref import WeakSet

from ..errors import StoreError
from .database import Database, Lazy

__all__ = ["TIMEOUT", "Writer", "explained", "roll_back"]

TIMEOUT = 60.0
"""Min seconds to wait for another writer. A store with a long lease waits longer than that lease."""
_MAX_BATCH = 128


class Writer:
    """Writes for all runs of a process, with one connection. What waits at the same time is one transaction.

    The connection is opened when it is needed: at first, after `close`, after a fork, and when another file is at the path.
    `in_loop`: where no other write is on its way, write in the event loop. Without a sync of the disk it takes microseconds,
    less than to wake a thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], path: Path, timeout: float, *, in_loop: bool) -> None:
        self._connect, self._path, self._in_loop, self._timeout = connect, path, in_loop, timeout
        self._lock = threading.Lock()
        """Held by whoever uses the connection."""
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._waits = 0.0
        self._starting = threading.Lock()
        """Held to start the thread, and by the thread to end."""
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        _writers.add(self)

    def write(self, work: Callable[[Database | Lazy], bool]) -> bool | Awaitable[bool]:
        """Do this work at once or, where that would wait, in the thread."""
        if self._in_loop and self._lock.acquire(blocking=False):
            try:
                if (done := self._write_now(work)) is not None:
                    return done
            finally:
                self._lock.release()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._queue.put(_Work(work, loop, future))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="agentkit-store", daemon=True)
                self._thread.start()
        return future

    def _write_now(self, work: Callable[[Database | Lazy], bool]) -> bool | None:
        """Write without waiting; None if another process writes."""
        db = self._connection(0.0)
        try:
            return work(Lazy(db))
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY"):
                return None
            with explained(self._path):
                raise

    def _connection(self, waits: float) -> sqlite3.Connection:
        """The connection to the file that is at the path now. A transaction of it waits so many seconds for other processes."""
        file = _identity(self._path)
        if self._db is None or self._file != file:
            self._disconnect()
            self._db, self._file, self._waits = self._connect(), file, -1.0
        if self._waits != waits:
            self._db.execute(f"PRAGMA busy_timeout = {int(waits * 1000)}")
            self._waits = waits
        return self._db

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _serve(self) -> None:
        while self._serve_batch():
            pass

    def _serve_batch(self) -> bool:
        """Do what is in the queue. Returns whether to go on: `close` asks for the end by a None."""
        batch = [self._queue.get()]
        while len(batch) < _MAX_BATCH and not self._queue.empty():
            batch.append(self._queue.get())
        if works := [work for work in batch if work is not None]:
            self._transact(works)
        if len(works) == len(batch):
            return True
        with self._starting:
            if not self._queue.empty():  # what was written beside `close`
                self._queue.put(None)
                return True
            self._thread = None
        with self._lock:
            self._disconnect()
        return False

    def _transact(self, batch: list[_Work]) -> None:
        """Do the works of a batch in one transaction. A work that fails does not take the others with it."""
        with self._lock:
            db: sqlite3.Connection | None = None
            try:
                with explained(self._path):
                    db = self._connection(self._timeout)
                    if len(batch) == 1:
                        batch[0].do(Lazy(db))
                    else:
                        db.execute("BEGIN IMMEDIATE")
                        for work in batch:
                            work.attempt(db)
                        db.execute("COMMIT")
            except BaseException as error:  # noqa: BLE001  each of them gets it
                if db is not None:
                    roll_back(db)
                for work in batch:
                    work.error = work.error or error
        for work in batch:
            work.settle()

    def close(self) -> None:
        """End the thread when it has nothing to do, and close the connection. A later write opens another one."""
        with self._starting:
            if self._thread is not None:
                self._queue.put(None)
        with self._lock:
            self._disconnect()

    def hold(self) -> None:
        """Before a fork: wait for the write in progress, and close the connection. SQLite's locks do not survive a fork."""
        self._starting.acquire()
        self._lock.acquire()
        self._disconnect()

    def go_on(self, *, is_child: bool) -> None:
        """After the fork. The thread, and what waits for it, is the parent's."""
        if is_child:
            self._thread, self._queue = None, SimpleQueue()
        self._lock.release()
        self._starting.release()


_writers: WeakSet[Writer] = WeakSet()
_held: list[Writer] = []
_forking = threading.Lock()


def _before_fork() -> None:
    _forking.acquire()
    for writer in _writers:
        writer.hold()
        _held.append(writer)


def _after_fork(*, is_child: bool) -> None:
    while _held:
        _held.pop().go_on(is_child=is_child)
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=partial(_after_fork, is_child=False),
        after_in_child=partial(_after_fork, is_child=True),
    )


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file is, whatever its name; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Work:
    """One caller's part of a transaction."""

    def __init__(
        self, work: Callable[[Database | Lazy], bool], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]
    ) -> None:
        self._work, self._loop, self._future = work, loop, future
        self._value: Any = None
        self.error: BaseException | None = None

    def do(self, db: Database | Lazy) -> None:
        self._value = self._work(db)

    def attempt(self, db: sqlite3.Connection) -> None:
        db.execute("SAVEPOINT work")
        try:
            self.do(cast("Database", db))
        except BaseException as error:  # the caller gets it
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise  # the disk is full, or such: the whole transaction is lost
            self.error = error
            db.execute("ROLLBACK TO work")
        db.execute("RELEASE work")

    def settle(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, so nothing waits for it
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if self._future.done():
            return
        if self.error is not None:
            self._future.set_exception(self.error)
        else:
            self._future.set_result(self._value)


def roll_back(db: sqlite3.Connection) -> None:
    """End a transaction that failed, if there is one."""
    with contextlib.suppress(sqlite3.Error):
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of SQLite into a `StoreError` that says what can be done."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        hint = next((hint for name, hint in _HINTS.items() if code.startswith(name)), str(error))
        if code == "SQLITE_NOTADB" and _is_saved_run(path):
            hint = _SAVED.format(name=path.name)
        raise StoreError(f"the store {path}: {hint} ({code or type(error).__name__})") from error
    except UnicodeEncodeError as error:
        raise StoreError(f"the store {path}: a text with a lone surrogate, {error.object!a:.80}, cannot be stored") from error


def _is_saved_run(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(1000)
        return head.startswith(b"{") and b'"events"' in head
    return False


_SAVED = (
    "the file is a saved run, as `agentkit export` writes it, and no store; agentkit.testing.replay({name!r}, None, agent)"
    " drives an agent through it, and RunState.load({name!r}) reads it"
)
_HINTS = {
    "SQLITE_FULL": "the disk is full; nothing of this step was stored",
    "SQLITE_READONLY": "the file, or the folder that it is in, cannot be written",
    "SQLITE_PERM": "the file cannot be opened with these permissions",
    "SQLITE_CANTOPEN": "the file cannot be opened; is the folder there, and may it be written?",
    "SQLITE_BUSY": f"another process has written for {TIMEOUT:g} s or longer",
    "SQLITE_NOTADB": "the file is not a SQLite database",
    "SQLITE_CORRUPT": "the database is damaged; `sqlite3 FILE .recover` reads what is left",
    "SQLITE_IOERR": "the disk reported an error; nothing of this step was stored",
}
