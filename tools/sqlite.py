"""A SQLite database: its schema, queries, and with `write` statements that change it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field

from agentkit import ModelRetry, ToolRegistry

from ._text import count

if TYPE_CHECKING:
    import sqlite3

__all__ = ["sqlite_tools"]

Value: TypeAlias = str | int | float | None

_READ = ("SQLITE_SELECT", "SQLITE_READ", "SQLITE_FUNCTION", "SQLITE_RECURSIVE")
_WRITE = ("SQLITE_INSERT", "SQLITE_UPDATE", "SQLITE_DELETE", "SQLITE_ALTER_TABLE", "SQLITE_REINDEX",
          *(f"SQLITE_{verb}_{noun}" for verb in ("CREATE", "DROP") for noun in ("TABLE", "INDEX", "VIEW")))  # fmt: skip
_PRAGMAS = ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list")
_FORBIDDEN_FUNCTIONS = ("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer")
_STEPS_BETWEEN_CHECKS = 2000
_MOST_COUNTED = 100_000


def sqlite_tools(
    path: str | os.PathLike[str],
    *,
    write: bool = False,
    max_rows: int = 100,
    max_chars: int = 50_000,
    max_cell: int = 2000,
    max_value_bytes: int = 10_000_000,
    timeout: float = 5.0,
) -> ToolRegistry:
    """Tools for one database file: sql_schema, sql_query, and with `write` sql_execute.

    Queries run on a read-only connection and under an authorizer that permits reading alone: no ATTACH, no settings,
    no extensions, no VACUUM INTO. sql_execute adds insert, update, delete, and creating, altering or dropping tables,
    indexes and views. Each call is one statement; statements have `?` for values.

    `max_rows`, `max_chars` and `max_cell` (characters of one value) bound a result, `max_value_bytes` any value that
    SQLite handles meanwhile, `timeout` the seconds of a statement, waiting for locks included.

    Raises ValueError when there is no such file.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise ValueError(f"{os.fspath(path)!r} is no database file; create it before giving it to an agent")
    database = _Database(file, max_rows, max_chars, max_cell, max_value_bytes, timeout)
    registry = ToolRegistry()
    for method in (database.sql_schema, database.sql_query):
        registry.tool(method, read_only=True, destructive=False, idempotent=True, open_world=False, output="untrusted")
    if write:
        registry.tool(database.sql_execute, destructive=True, open_world=False, output="untrusted", sequential=True)
    return registry


@dataclass(frozen=True, slots=True)
class _Database:
    file: Path
    max_rows: int
    max_chars: int
    max_cell: int
    max_value_bytes: int
    timeout: float

    def sql_schema(self) -> str:
        """The CREATE statements of all tables, views and indexes of the database."""
        with self._connection(write=False) as connection:
            statement = "SELECT sql FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*' ORDER BY type = 'index', name"
            found = "\n".join(f"{row[0]};" for row in connection.execute(statement) if row[0])
        cut = f"\n[cut: showed {self.max_chars:,} of {len(found):,} characters]" if len(found) > self.max_chars else ""
        return f"{found[: self.max_chars]}{cut}" or "[the database has no tables]"

    def sql_query(self, sql: str, params: Annotated[list[Value], Field(max_length=1000)] | None = None) -> str:
        """Run one SELECT statement of SQLite. Returns the column names, then each row, as JSON lists.

        Args:
            sql: The statement, with ? for each value of params.
            params: The values, in order.
        """
        return self._run(sql, params, write=False)

    def sql_execute(self, sql: str, params: Annotated[list[Value], Field(max_length=1000)] | None = None) -> str:
        """Run one SQLite statement that changes the database. Returns how many rows were changed.

        Args:
            sql: The statement, with ? for each value of params.
            params: The values, in order.
        """
        return self._run(sql, params, write=True)

    def _run(self, sql: str, params: list[Value] | None, *, write: bool) -> str:
        with self._connection(write=write) as connection:
            cursor = connection.execute(sql, params or [])
            if cursor.description is None:
                return f"[{count(max(cursor.rowcount, 0), 'row')} changed]"
            head = _json([self._shown(column[0]) for column in cursor.description])
            lines, dropped = self._page(cursor, self.max_chars - len(head))
            note = _cut(len(lines), dropped, cursor, write=write)
        return "\n".join(filter(None, [head, *lines, note if lines or note else "[no rows]"]))

    def _page(self, cursor: sqlite3.Cursor, room: int) -> tuple[list[str], int]:
        """The rows that fit, and how many were read in vain."""
        lines: list[str] = []
        for row in islice(cursor, self.max_rows):
            line = _json([self._shown(value) for value in row])
            room -= len(line) + 1
            if room < 0:
                return lines, 1
            lines.append(line)
        return lines, 0

    def _shown(self, value: Any) -> Any:
        match value:
            case bytes():
                return f"[{count(len(value), 'byte')} of binary data]"
            case str() if len(value) > self.max_cell:
                return f"{value[: self.max_cell]}... [cut: showed {self.max_cell:,} of {len(value):,} characters]"
            case float() if not math.isfinite(value):
                return str(value)
        return value

    @contextmanager
    def _connection(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        """A connection for one statement; what SQLite refuses or stops becomes a ModelRetry."""
        import sqlite3

        deadline = time.monotonic() + self.timeout
        uri = f"{self.file.as_uri()}?mode={'rw' if write else 'ro'}"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=self.timeout, isolation_level=None)) as connection:
                self._restrict(connection, write=write)
                connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_CHECKS)
                yield connection
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            if "interrupted" in str(error):
                raise ModelRetry(
                    f"the statement took more than {self.timeout:g} seconds; make it simpler or add a LIMIT"
                ) from None
            raise ModelRetry(f"SQLite says: {error}{self._hint(error, write=write)}") from None

    def _restrict(self, connection: sqlite3.Connection, *, write: bool) -> None:
        import sqlite3

        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self.max_value_bytes)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        if not write:
            connection.execute("PRAGMA query_only = ON")
        allowed = {getattr(sqlite3, name) for name in (*_READ, *(_WRITE if write else ()))}

        def authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
            if action == sqlite3.SQLITE_PRAGMA:
                return sqlite3.SQLITE_OK if first in _PRAGMAS else sqlite3.SQLITE_DENY
            forbidden = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS
            return sqlite3.SQLITE_OK if action in allowed and not forbidden else sqlite3.SQLITE_DENY

        connection.set_authorizer(authorize)

    def _hint(self, error: Exception, *, write: bool) -> str:
        text = str(error)
        if any(word in text for word in ("authoriz", "prohibited", "readonly", "may not be modified")):
            return "; only data can be read and changed here" if write else "; only reading is allowed here"
        if "no such" not in text:
            return ""
        with self._connection(write=False) as connection:
            kind = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name LIMIT 50"
            names = [row[0] for row in connection.execute(kind)]
        return f"; tables: {', '.join(names) or 'none'}"


def _json(values: list[Any]) -> str:
    return json.dumps(values, ensure_ascii=False)


def _cut(shown: int, dropped: int, cursor: sqlite3.Cursor, *, write: bool) -> str:
    """The note on rows that are not shown, or nothing."""
    import sqlite3

    left, more = dropped, ""
    try:
        for _ in islice(cursor, _MOST_COUNTED):
            left += 1
    except sqlite3.OperationalError:
        if write:  # the change is undone: that is no result
            raise
        more = " or more"
    if not left and not more:
        return ""
    more = " or more" if left >= _MOST_COUNTED else more
    return f"[cut: showed {shown:,} of {count(shown + left, 'row')}{more}; use WHERE, or LIMIT and OFFSET]"
