"""A store in Postgres, for processes on any number of machines. It needs `agentkit[durable]`."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, LiteralString, cast

from .._threads import Threads
from ..errors import StoreError
from ..events import LastingEvent
from ..redact import redact
from .database import Cursor, Database, Lazy, check_seconds
from .ddl import MIGRATIONS, VERSION
from .management import Management
from .rows import Row
from .status import is_plain

try:
    import psycopg
    from psycopg import conninfo
    from psycopg_pool import ConnectionPool, PoolTimeout
except ImportError as missing:
    raise ImportError('a store in Postgres needs psycopg and its pool: pip install "agentkit[durable]"') from missing

if TYPE_CHECKING:
    from .drive import StoreLog

__all__ = ["PostgresStore"]

_LOCK = 0x61676B74
_MAX_OUTAGE = 30.0
"""Seconds for which a write is tried again while the server is away."""
_FIRST_TIMEOUT = 5
"""Seconds for the first connection, unless the address has a `connect_timeout`. A wrong address is not waited for."""


class PostgresStore(Management):
    """A store in a Postgres database. Its tables are made in the connection's schema, and their names begin with `agentkit_`.

    What is stored survives what the server's `fsync` survives; it is on as a rule, and the store turns `synchronous_commit` on
    for its own connections. Behind a pooler such as PgBouncer it does not, and prepares no statements. A server that restarts
    is waited for, for half a minute, but not when the store is opened: that raises `StoreError` if no server answers within 5
    seconds. `connections` is the most that a process opens.
    """

    now = "(extract(epoch from clock_timestamp())::float8)"

    skip_locked = " FOR UPDATE SKIP LOCKED"
    row_lock = " FOR UPDATE"
    share_lock = " FOR SHARE OF r"

    def __init__(self, address: str, *, lease: float = 30.0, connections: int = 8) -> None:
        check_seconds("lease", lease)
        self.address, self.lease, self.connections = address, lease, connections
        self._pool: tuple[int, ConnectionPool[Any]] | None = None
        self._lock = threading.Lock()
        self.noted = set()
        _prepare(self)

    def __repr__(self) -> str:
        return f"PostgresStore({redact(self.address)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _store_at, (self.address, self.lease, self.connections)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Database]:
        """A connection in a transaction that may write."""
        with self._in_transaction("BEGIN") as db:
            yield db

    @contextlib.contextmanager
    def reading(self) -> Iterator[Database]:
        """A connection that reads one snapshot and locks nothing."""
        with self._in_transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as db:
            yield db

    @contextlib.contextmanager
    def _in_transaction(self, begin: LiteralString) -> Iterator[Database]:
        with self.connection(begin) as connection:
            try:
                yield cast("Database", _Adapted(connection))
            except BaseException:
                with contextlib.suppress(psycopg.Error):
                    connection.rollback()
                raise
            connection.commit()

    def write(self, work: Callable[[Database | Lazy], bool], threads: Threads) -> bool | Awaitable[bool]:
        """Do this work in a transaction. While the server is away, it is tried again."""
        return threads.start(lambda: self._write(work))

    def _write(self, work: Callable[[Database | Lazy], bool]) -> bool:
        until, pause = time.monotonic() + _MAX_OUTAGE, 0.05
        while True:
            try:
                with self.connection() as connection:
                    return work(Lazy(connection))
            except StoreError as error:
                if not isinstance(error.__cause__, psycopg.OperationalError | PoolTimeout) or time.monotonic() > until:
                    raise
            time.sleep(pause)
            pause = min(1.0, 2 * pause)

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
        if isinstance(db, Lazy):
            if history is None and is_plain(events) and not any(row.blobs for row in rows):
                texts = [row.data for row in rows]
                given = (log.root_id, log.owner, log.run_id, seq, *texts, log.run_id, seq - 1)
                own = db.connection.execute(_append(len(texts)), given).fetchone()
                if own is not None and own[1] == len(rows):
                    return bool(own[0])
            with db.connection.transaction():
                adapted = cast("Database", _Adapted(db.connection))
                return super().append_rows(adapted, log, seq, events, rows=rows, history=history)
        return super().append_rows(db, log, seq, events, rows=rows, history=history)

    @contextlib.contextmanager
    def connection(self, first: LiteralString = "") -> Iterator[psycopg.Connection[Any]]:
        """A connection of the pool. It may have broken, unless it gets a `first` statement: then it is one that works."""
        with self._translated_errors():
            pool = self._the_pool()
            connection = pool.getconn()
            try:
                if first:
                    connection = _working(pool, connection, first)
                yield connection
            finally:
                pool.putconn(connection)

    @contextlib.contextmanager
    def first_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of its own, which does not wait for a server that is not there."""
        with self._translated_errors():
            given = conninfo.conninfo_to_dict(self.address)
            if "@" in str(given.get("host", ""))[1:]:  # a part of the password: error messages name the host
                raise StoreError(f"the store {self}: in the password, write %40 for @")
            timeout = given.get("connect_timeout", _FIRST_TIMEOUT)
            with psycopg.connect(self.address, autocommit=True, connect_timeout=timeout) as connection:
                yield connection

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, PoolTimeout) as error:
            raise StoreError(f"the store {self}: {redact(' '.join(str(error).split()))} ({type(error).__name__})") from error
        except UnicodeEncodeError as error:
            raise StoreError(
                f"the store {self}: a text with a lone surrogate, {error.object!a:.80}, cannot be stored"
            ) from error

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
            kwargs={"autocommit": True},
            configure=self._configure,
            open=False,
        )
        pool.open()
        return pool

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        if is_pooled(connection):  # the next transaction may be another session's, which has not prepared the statement
            connection.prepare_threshold = None
            return
        connection.execute("SET synchronous_commit = on")
        connection.execute(f"SET idle_in_transaction_session_timeout = {int(self.lease * 1000)}")

    def close(self) -> None:
        """Close the connections. The store can still be used; it opens others then."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and pool[0] == os.getpid():
            pool[1].close()


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler such as PgBouncer is between: it gives a process id of its own."""
    (process_id,) = connection.execute("SELECT pg_backend_pid()").fetchone()  # type: ignore[misc]
    return bool(process_id != connection.info.backend_pid)


@cache
def _append(count: int) -> Any:
    """The statement that appends so many events. Their texts are parameters of their own: a list would be parsed in Python."""
    return f"""
WITH own AS (SELECT cancelled FROM agentkit_runs WHERE run_id = %s AND owner = %s FOR SHARE),
put AS (
    INSERT INTO agentkit_events (run_id, seq, data) SELECT %s, %s + t.n - 1, t.data
    FROM own, unnest(ARRAY[{", ".join(["%s"] * count)}]::text[]) WITH ORDINALITY AS t (data, n)
    WHERE COALESCE((SELECT max(seq) FROM agentkit_events WHERE run_id = %s), -1) = %s RETURNING 1
)
SELECT own.cancelled, (SELECT count(*) FROM put) FROM own
"""


def _working(pool: ConnectionPool[Any], connection: psycopg.Connection[Any], first: LiteralString) -> psycopg.Connection[Any]:
    """The connection that takes the `first` statement: this, or another one if the server has closed it.

    The pool drops those that are broken.
    """
    for _ in range(pool.max_size + 1):
        try:
            connection.execute(first)
        except psycopg.OperationalError:
            pool.putconn(connection)
            connection = pool.getconn()
        else:
            break
    return connection


class _Adapted:
    """A connection that takes `?` for parameters. A text of Postgres has no NUL; an error may have one."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        if any(isinstance(value, str) and "\0" in value for value in parameters):
            parameters = [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in parameters]
        return cast("Cursor", self._connection.execute(_in_dialect(sql), parameters or None))


@cache
def _in_dialect(sql: str) -> Any:
    return sql.replace("%", "%%").replace("?", "%s") if "?" in sql else sql


def _store_at(address: str, lease: float, connections: int) -> PostgresStore:
    return PostgresStore(address, lease=lease, connections=connections)


def _prepare(store: PostgresStore) -> None:
    """Make the tables, or bring them to this version. One process does it at a time."""
    with store.first_connection() as connection, connection.transaction():
        if is_pooled(connection) and connection.execute("SHOW synchronous_commit").fetchone() == ("off",):
            raise StoreError(
                f"the store {store}: synchronous_commit is off there, and behind a pooler only the server can turn it on"
            )
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS agentkit_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        row = connection.execute("SELECT value FROM agentkit_meta WHERE name = 'version'").fetchone()
        version = json.loads(row[0]) if row else 0
        if version > VERSION:
            raise StoreError(f"the store {store} is of version {version}; this agentkit knows up to version {VERSION}")
        for script in MIGRATIONS[version:]:
            connection.execute(cast("Any", script.replace("{clustered}", "")))
        connection.execute(
            "INSERT INTO agentkit_meta (name, value) VALUES ('version', %s)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (json.dumps(VERSION),),
        )
