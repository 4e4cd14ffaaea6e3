"""A store in one SQLite file: the embedded default, for the processes of one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from .._threads import Threads
from ..errors import SettingsError, StoreError
from ..events import LastingEvent
from .database import Database, Lazy, check_seconds
from .ddl import APPLICATION, MIGRATIONS, VERSION
from .management import Management
from .rows import Row
from .sqlite_writer import TIMEOUT, Writer, explained, roll_back
from .status import is_plain

if TYPE_CHECKING:
    from .drive import StoreLog

__all__ = ["SQLiteStore"]

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
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
        self._writer: Writer | None = None
        if synchronous not in ("FULL", "NORMAL"):
            raise SettingsError(f"synchronous is {synchronous!r}; allowed: FULL, NORMAL")
        if str(path) in ("", ":memory:"):
            raise SettingsError("a store in memory cannot be resumed; give a path, or use log=MemoryLog()")
        check_seconds("lease", lease)
        if sqlite3.sqlite_version_info < _OLDEST:
            raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old for a store; 3.35 is the oldest that will do")
        self.path, self.synchronous, self.lease = Path(path).absolute(), synchronous, lease
        self._timeout = max(TIMEOUT, 2 * lease)
        self.noted = set()
        _prepare(self)
        connect = partial(_connect, self.path, synchronous, self._timeout)
        self._writer = Writer(connect, self.path, self._timeout, in_loop=synchronous == "NORMAL")

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_at, (self.path, self.synchronous, self.lease)

    def connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        """A new connection. Raises `StoreError` if the file cannot be opened."""
        return _connect(self.path, self.synchronous, self._timeout, read_only=read_only)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """A connection in a transaction that may write."""
        with explained(self.path), contextlib.closing(self.connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield cast("Database", db)
            except BaseException:
                roll_back(db)  # a full disk has ended the transaction already
                raise
            db.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Database]:
        """A connection that reads one snapshot and locks nothing."""
        with explained(self.path), contextlib.closing(self.connect(read_only=True)) as db:
            db.execute("BEGIN")
            yield cast("Database", db)

    def write(self, work: Callable[[Database | Lazy], bool], threads: Threads) -> bool | Awaitable[bool]:
        """Do this work in a transaction, together with what other runs write at the same time."""
        return cast("Writer", self._writer).write(work)

    def append_rows(
        self,
        db: Database | Lazy,
        log: StoreLog,
        seq: int,
        events: Sequence[LastingEvent],
        *,
        rows: Sequence[Row],
        history: Mapping[str, int] | None = None,
    ) -> bool:
        """As that of `SqlStore`. Events that change nothing but the log are one statement, which is its own transaction."""
        if not isinstance(db, Lazy):
            return super().append_rows(db, log, seq, events, rows=rows, history=history)
        connection = db.connection
        if seq and history is None and is_plain(events) and not any(row.blobs for row in rows):
            numbered = [value for number, row in enumerate(rows, seq) for value in (number, row.data)]
            given = (log.run_id, *numbered, log.root_id, log.owner, log.run_id, seq - 1)
            if connection.execute(_append(len(rows)), given).rowcount == len(rows):
                return False
        try:
            connection.execute("BEGIN IMMEDIATE")
            done = super().append_rows(connection, log, seq, events, rows=rows, history=history)
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        return done

    def close(self) -> None:
        """Close the connection for writing. The store can still be used; it opens another then."""
        if self._writer is not None:
            self._writer.close()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():  # then threads have stopped wherever they were, also with a lock
            self.close()


def _connect(path: Path, synchronous: Synchronous, timeout: float, *, read_only: bool = False) -> sqlite3.Connection:
    with explained(path):
        address = f"{path.as_uri()}?mode={'ro' if read_only else 'rw'}"
        db = sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("PRAGMA foreign_keys = ON")
        return db


@cache
def _append(count: int) -> str:
    """The statement that appends so many events."""
    return f"""
INSERT INTO agentkit_events (run_id, seq, data) SELECT ?, t.column1, t.column2
FROM agentkit_runs, (VALUES {", ".join(["(?, ?)"] * count)}) AS t
WHERE run_id = ? AND owner = ? AND cancelled = 0 AND (SELECT max(seq) FROM agentkit_events WHERE run_id = ?) = ?
"""


def _store_at(path: Path, synchronous: Synchronous, lease: float) -> SQLiteStore:
    return SQLiteStore(path, synchronous=synchronous, lease=lease)


def _prepare(store: SQLiteStore) -> None:
    """Make the file and its tables, or bring them to this version."""
    path = store.path
    if not path.parent.is_dir():
        raise StoreError(f"the store {path}: there is no folder {path.parent}")
    with contextlib.suppress(FileExistsError, OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with explained(path), contextlib.closing(store.connect()) as db:
        _use_wal(db, path)
        if _version(db, path) == VERSION:
            return
        db.execute("BEGIN IMMEDIATE")
        version = _version(db, path)  # another process may have been faster
        for script in MIGRATIONS[version:]:
            for statement in script.replace("{clustered}", " WITHOUT ROWID").split(";\n"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")


def _use_wal(db: sqlite3.Connection, path: Path) -> None:
    """Set WAL mode, once for the file. SQLite does not wait for others there, so it is tried again."""
    until = time.monotonic() + TIMEOUT
    while True:
        try:
            version = _version(db, path)  # before the mode: tables that another process has made by now are in WAL mode
            if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                return
            if version == 0 and db.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
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
    version, application, has_tables = db.execute(  # one statement, since another process may be making the tables
        "SELECT user_version, application_id, EXISTS (SELECT 1 FROM sqlite_master)"
        " FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if application == APPLICATION and version <= VERSION:
        return int(version)
    if application == APPLICATION:
        raise StoreError(f"the store {path} is of version {version}; this agentkit knows up to version {VERSION}")
    if application or version or has_tables:
        raise StoreError(f"the store {path}: it is a database of another program; choose another file")
    return 0
