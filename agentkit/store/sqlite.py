"""A store in one SQLite file: the embedded default, for the processes of one machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias, TypeVar, cast

from .._threads import Threads
from ..errors import SettingsError, StoreError
from .database import Database
from .ddl import APPLICATION, MIGRATIONS, VERSION
from .management import Management

__all__ = ["SQLiteStore"]

T = TypeVar("T")
Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
_TIMEOUT = 60.0
"""Seconds to wait for another writer: longer than a lease."""
_MAX_BATCH = 128
_OLDEST = (3, 35, 0)


class SQLiteStore(Management):
    """A store in a SQLite file, in WAL mode. The file is made if it is missing; only its owner can read it.

    `synchronous="FULL"`: what is stored survives a crash of the program, of the system, and a power cut, as far as the disk
    keeps what it has confirmed. "NORMAL": it survives a crash of the program, but the last steps before a power cut or a crash
    of the system may be lost, so that a call may run twice then. With FULL, what several runs store at a time is one write.
    All processes must be on the machine that has the file: a network file system does not work. Raises `StoreError` for a file
    that is not a store, or that a newer agentkit made.
    """

    now = "((julianday('now') - 2440587.5) * 86400.0)"

    def __init__(self, path: str | Path, *, synchronous: Synchronous = "FULL", lease: float = 30.0) -> None:
        self._writer: _Writer | None = None
        self._lock = threading.Lock()
        if synchronous not in ("FULL", "NORMAL"):
            raise SettingsError(f"synchronous is {synchronous!r}; allowed: FULL, NORMAL")
        if str(path) in ("", ":memory:"):
            raise SettingsError("a store in memory cannot be resumed; give a path, or use log=MemoryLog()")
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old for a store; 3.35 is the oldest that will do")
        self.path, self.synchronous, self.lease = Path(path).absolute(), synchronous, lease
        _prepare(self)

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_at, (self.path, self.synchronous, self.lease)

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """A new connection. Raises `StoreError` if the file cannot be opened."""
        with _explained(self.path):
            mode = "ro" if read_only else "rw"
            address = f"{self.path.as_uri()}?mode={mode}"
            db = sqlite3.connect(address, uri=True, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False)
            db.execute(f"PRAGMA synchronous = {self.synchronous}")
            db.execute("PRAGMA foreign_keys = ON")
            return db

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """A connection in a transaction that may write."""
        with _explained(self.path), contextlib.closing(self.connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield cast("Database", db)
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Database]:
        """A connection that reads one snapshot and locks nothing."""
        with _explained(self.path), contextlib.closing(self.connect(read_only=True)) as db:
            db.execute("BEGIN")
            yield cast("Database", db)

    async def write(self, work: Callable[[Database], T], threads: Threads) -> T:
        """Do this work in a transaction, together with what other runs write at the same time."""
        return await self._the_writer().write(work)

    def close(self) -> None:
        """Close the connection for writing. The store can still be used; it opens another then."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def __del__(self) -> None:
        self.close()

    def _the_writer(self) -> _Writer:
        writer = self._writer
        if writer is None or writer.pid != os.getpid():  # a connection must not be used after a fork
            with self._lock:
                if self._writer is None or self._writer.pid != os.getpid():
                    self._writer = _Writer(self.connect, self.path, in_loop=self.synchronous == "NORMAL")
                writer = self._writer
        return writer


class _Writer:
    """Writes for all runs of a process, with one connection. What waits at the same time is one transaction.

    `in_loop`: where no other write is on its way, write in the event loop. Without a sync of the disk it takes microseconds,
    less than to wake a thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], path: Path, *, in_loop: bool) -> None:
        self.pid, self._path, self._in_loop = os.getpid(), path, in_loop
        self._connect, self._db = connect, connect()
        self._lock = threading.Lock()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def write(self, work: Callable[[Database], T]) -> T:
        if self._in_loop and self._lock.acquire(blocking=False):
            try:
                if (done := self._write_now(work)) is not None:
                    return done[0]
            finally:
                self._lock.release()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    arguments = (self._queue, self._transact)
                    self._thread = threading.Thread(target=_serve, args=arguments, name="agentkit-store", daemon=True)
                    self._thread.start()
        self._queue.put(_Work(work, loop, future))
        return await future

    def _write_now(self, work: Callable[[Database], T]) -> tuple[T] | None:
        """Write without waiting; None if another process writes."""
        db = self._db
        db.execute("PRAGMA busy_timeout = 0")
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                return None
            with _explained(self._path):
                raise
        with _explained(self._path):
            try:
                done = work(cast("Database", db))
                db.execute("COMMIT")
            except BaseException:
                _roll_back(db)
                raise
        return (done,)

    def _transact(self, batch: list[_Work]) -> None:
        """Do the works of a batch in one transaction. A work that fails does not take the others with it."""
        with self._lock:
            db = self._db
            try:
                with _explained(self._path):
                    db.execute(f"PRAGMA busy_timeout = {int(_TIMEOUT * 1000)}")
                    db.execute("BEGIN IMMEDIATE")
                    for work in batch:
                        work.attempt(db)
                    db.execute("COMMIT")
            except BaseException as error:  # noqa: BLE001  each of them gets it
                _roll_back(db)
                for work in batch:
                    work.error = work.error or error
        for work in batch:
            work.settle()

    def close(self) -> None:
        if self.pid != os.getpid():
            return
        self._queue.put(None)
        with self._lock:
            self._db.close()


class _Work:
    """One caller's part of a transaction."""

    def __init__(self, work: Callable[[Database], Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self._work, self._loop, self._future = work, loop, future
        self._value: Any = None
        self.error: BaseException | None = None

    def attempt(self, db: sqlite3.Connection) -> None:
        db.execute("SAVEPOINT work")
        try:
            self._value = self._work(cast("Database", db))
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


def _roll_back(db: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an error of SQLite into a `StoreError` that says what can be done."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        hint = next((hint for name, hint in _HINTS.items() if code.startswith(name)), str(error))
        raise StoreError(f"the store {path}: {hint} ({code or type(error).__name__})") from error


_HINTS = {
    "SQLITE_FULL": "the disk is full; nothing of this step was stored",
    "SQLITE_READONLY": "the file, or the folder that it is in, cannot be written",
    "SQLITE_PERM": "the file cannot be opened with these permissions",
    "SQLITE_CANTOPEN": "the file cannot be opened; is the folder there, and may it be written?",
    "SQLITE_BUSY": f"another process has written for more than {_TIMEOUT:g} s",
    "SQLITE_NOTADB": "the file is not a SQLite database",
    "SQLITE_CORRUPT": "the database is damaged; `sqlite3 FILE .recover` reads what is left",
    "SQLITE_IOERR": "the disk reported an error; nothing of this step was stored",
}


def _store_at(path: Path, synchronous: Synchronous, lease: float) -> SQLiteStore:
    return SQLiteStore(path, synchronous=synchronous, lease=lease)


def _prepare(store: SQLiteStore) -> None:
    """Make the file and its tables, or bring them to this version."""
    path = store.path
    if not path.parent.is_dir():
        raise StoreError(f"the store {path}: there is no folder {path.parent}")
    with contextlib.suppress(FileExistsError, OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with _explained(path), contextlib.closing(store.connect()) as db:
        _use_wal(db, path)
        if _version(db, path) == VERSION:
            return
        db.execute("BEGIN IMMEDIATE")
        version = _version(db, path)  # another process may have been faster
        for script in MIGRATIONS[version:]:
            for statement in script.split(";\n"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")


def _use_wal(db: sqlite3.Connection, path: Path) -> None:
    """Set WAL mode, once for the file. SQLite does not wait for others there, so it is tried again."""
    until = time.monotonic() + _TIMEOUT
    while True:
        try:
            if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            if _version(db, path) == 0 and db.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
            raise StoreError(
                f"the store {path}: its file system has no shared memory, which WAL mode needs; is it a network's?"
            )
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The version of the tables; 0 for an empty file. Raises `StoreError` for a database of something else."""
    version, application = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    if application == APPLICATION and version <= VERSION:
        return int(version)
    if application == APPLICATION:
        raise StoreError(f"the store {path} is of version {version}; this agentkit knows up to version {VERSION}")
    if application or version or db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StoreError(f"the store {path}: it is a database of another program; choose another file")
    return 0
