"""A store in Postgres, for processes on any number of machines. It needs `agentkit[durable]`."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from .._threads import Threads
from ..errors import StoreError
from ..redact import redact
from .database import Cursor, Database
from .ddl import MIGRATIONS, VERSION
from .management import Management

try:
    import psycopg
    from psycopg_pool import ConnectionPool, PoolTimeout
except ImportError as missing:
    raise ImportError('a store in Postgres needs psycopg and its pool: pip install "agentkit[durable]"') from missing

__all__ = ["PostgresStore"]

T = TypeVar("T")
_LOCK = 0x61676B74
_MAX_OUTAGE = 30.0
"""Seconds for which a write is tried again while the server is away."""


class PostgresStore(Management):
    """A store in a Postgres database. Its tables are made in the connection's schema, and their names begin with `agentkit_`.

    What is stored survives what the server's `fsync` survives; it is on as a rule, and the store turns `synchronous_commit` on
    for its own connections. A server that restarts is waited for, for half a minute. `connections` is the most that a process
    opens. Raises `StoreError` if the server cannot be reached.
    """

    now = "(extract(epoch from clock_timestamp())::float8)"

    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, address: str, *, lease: float = 30.0, connections: int = 8) -> None:
        self.address, self.lease, self.connections = address, lease, connections
        self._pool: tuple[int, ConnectionPool[Any]] | None = None
        self._lock = threading.Lock()
        _prepare(self)

    def __repr__(self) -> str:
        return f"PostgresStore({redact(self.address)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_at, (self.address, self.lease, self.connections)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """A connection in a transaction that may write."""
        with self._connection() as connection, connection.transaction():
            yield cast("Database", _Adapted(connection))

    @contextlib.contextmanager
    def reading(self) -> Iterator[Database]:
        """A connection that reads one snapshot and locks nothing."""
        with self._connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield cast("Database", _Adapted(connection))

    async def write(self, work: Callable[[Database], T], threads: Threads) -> T:
        """Do this work in a transaction. While the server is away, it is tried again."""
        return await threads.run(lambda: self._write(work))

    def _write(self, work: Callable[[Database], T]) -> T:
        until, pause = time.monotonic() + _MAX_OUTAGE, 0.05
        while True:
            try:
                with self.transaction() as db:
                    return work(db)
            except StoreError as error:
                if not isinstance(error.__cause__, psycopg.OperationalError | PoolTimeout) or time.monotonic() > until:
                    raise
            time.sleep(pause)
            pause = min(1.0, 2 * pause)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with self._the_pool().connection() as connection:
                yield connection
        except (psycopg.Error, PoolTimeout) as error:
            raise StoreError(f"the store {self}: {redact(str(error).strip())} ({type(error).__name__})") from error

    def _the_pool(self) -> ConnectionPool[Any]:
        pool = self._pool
        if pool is None or pool[0] != os.getpid():  # a connection must not be used after a fork
            with self._lock:
                pool = self._pool
                if pool is None or pool[0] != os.getpid():
                    pool = self._pool = os.getpid(), self._new_pool()
        return pool[1]

    def _new_pool(self) -> ConnectionPool[Any]:
        pool: ConnectionPool[Any] = ConnectionPool(
            self.address,
            min_size=0,
            max_size=self.connections,
            timeout=_MAX_OUTAGE,
            reconnect_timeout=_MAX_OUTAGE,
            check=ConnectionPool.check_connection,
            kwargs={"autocommit": True},
            configure=self._configure,
            open=False,
        )
        pool.open()
        return pool

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET synchronous_commit = on")
        connection.execute(f"SET idle_in_transaction_session_timeout = {int(self.lease * 1000)}")

    def close(self) -> None:
        """Close the connections. The store can still be used; it opens others then."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and pool[0] == os.getpid():
            pool[1].close()


class _Adapted:
    """A connection that takes `?` for parameters."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        return cast("Cursor", self._connection.execute(_in_dialect(sql), parameters or None))


@cache
def _in_dialect(sql: str) -> Any:
    return sql.replace("%", "%%").replace("?", "%s") if "?" in sql else sql


def _store_at(address: str, lease: float, connections: int) -> PostgresStore:
    return PostgresStore(address, lease=lease, connections=connections)


def _prepare(store: PostgresStore) -> None:
    """Make the tables, or bring them to this version. One process does it at a time."""
    with store._connection() as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS agentkit_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        row = connection.execute("SELECT value FROM agentkit_meta WHERE name = 'version'").fetchone()
        version = json.loads(row[0]) if row else 0
        if version > VERSION:
            raise StoreError(f"the store {store} is of version {version}; this agentkit knows up to version {VERSION}")
        for script in MIGRATIONS[version:]:
            connection.execute(cast("Any", script))
        connection.execute(
            "INSERT INTO agentkit_meta (name, value) VALUES ('version', %s)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (json.dumps(VERSION),),
        )
