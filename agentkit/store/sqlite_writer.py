"""Writes to a SQLite file for all runs of a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from ..errors import StoreError
from .database import Database, Lazy

__all__ = ["TIMEOUT", "Writer", "explained", "roll_back"]

TIMEOUT = 60.0
"""Min seconds to wait for another writer. A store with a long lease waits longer than that lease."""
_MAX_BATCH = 128


class Writer:
    """Writes for all runs of a process, with one connection. What waits at the same time is one transaction.

    `in_loop`: where no other write is on its way, write in the event loop. Without a sync of the disk it takes microseconds,
    less than to wake a thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], path: Path, timeout: float, *, in_loop: bool) -> None:
        self._pid, self._path, self._in_loop = os.getpid(), path, in_loop
        self._db, self._waits, self._timeout = connect(), timeout, timeout
        self._file = _identity(path)
        self._lock = threading.RLock()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def is_usable(self) -> bool:
        """Whether this process has made it, as a connection must not be used after a fork, and its file is still there."""
        return self._pid == os.getpid() and self._file == _identity(self._path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """The connection in a transaction that may write."""
        with self._lock, explained(self._path):
            self._wait_for_others(self._timeout)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield cast("Database", self._db)
                self._db.execute("COMMIT")
            except BaseException:
                roll_back(self._db)
                raise

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
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    arguments = (self._queue, self._transact)
                    self._thread = threading.Thread(target=_serve, args=arguments, name="agentkit-store", daemon=True)
                    self._thread.start()
        self._queue.put(_Work(work, loop, future))
        return future

    def _write_now(self, work: Callable[[Database | Lazy], bool]) -> bool | None:
        """Write without waiting; None if another process writes."""
        db = self._db
        if self._waits:
            self._wait_for_others(0.0)
        try:
            return work(Lazy(db))
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_BUSY"):
                return None
            with explained(self._path):
                raise

    def _wait_for_others(self, seconds: float) -> None:
        """Set how long a transaction waits for other processes."""
        if self._waits != seconds:
            self._db.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
            self._waits = seconds

    def _transact(self, batch: list[_Work]) -> None:
        """Do the works of a batch in one transaction. A work that fails does not take the others with it."""
        with self._lock:
            db = self._db
            try:
                with explained(self._path):
                    self._wait_for_others(self._timeout)
                    if len(batch) == 1:
                        batch[0].do(Lazy(db))
                    else:
                        db.execute("BEGIN IMMEDIATE")
                        for work in batch:
                            work.attempt(db)
                        db.execute("COMMIT")
            except BaseException as error:  # noqa: BLE001  each of them gets it
                roll_back(db)
                for work in batch:
                    work.error = work.error or error
        for work in batch:
            work.settle()

    def close(self) -> None:
        """End the thread, and close the connection."""
        if self._pid != os.getpid():
            return
        self._queue.put(None)
        with self._lock:
            self._db.close()


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


def _serve(queue: SimpleQueue[_Work | None], transact: Callable[[list[_Work]], None]) -> None:
    while (first := queue.get()) is not None:
        batch = [first]
        while len(batch) < _MAX_BATCH and not queue.empty():
            more = queue.get()
            if more is None:
                transact(batch)
                return
            batch.append(more)
        transact(batch)
        first = more = None
        batch = []


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
        raise StoreError(f"the store {path}: {hint} ({code or type(error).__name__})") from error
    except UnicodeEncodeError as error:
        raise StoreError(f"the store {path}: a text with a lone surrogate, {error.object!a:.80}, cannot be stored") from error


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
