"""The child process of the SQL tools: runs one statement under limits.

SQLite checks a deadline between the steps of its machine, but one step may be a function that runs for hours, so the
parent kills this process in the end. Temporary data are kept in memory, which is limited, and never on disk.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from ._child import serve
from ._text import count, visible

__all__ = ["main"]

_READ = ("SQLITE_SELECT", "SQLITE_READ", "SQLITE_FUNCTION", "SQLITE_RECURSIVE")
_WRITE = ("SQLITE_INSERT", "SQLITE_UPDATE", "SQLITE_DELETE", "SQLITE_ALTER_TABLE", "SQLITE_REINDEX",
          *(f"SQLITE_{verb}_{noun}" for verb in ("CREATE", "DROP") for noun in ("TABLE", "INDEX", "VIEW")))  # fmt: skip
_PRAGMAS = ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list")
_SCHEMA_TABLES = ("sqlite_master", "sqlite_schema")
_FORBIDDEN_FUNCTIONS = ("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer")
_STEPS_BETWEEN_CHECKS = 2000
_MAX_COUNTED = 100_000
_SCHEMA = "SELECT sql FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*' AND sql NOT NULL ORDER BY type = 'index', name"
_TABLES = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name LIMIT 50"


def main() -> None:
    """Answer one job of `sqlite_tools`: {"text": result} or {"retry": what is wrong}."""
    serve(_answer)


def _answer(job: dict[str, Any], _: BinaryIO) -> dict[str, Any]:
    sql, params = job.pop("sql"), job.pop("params")
    statement = _Statement(**job, deadline=time.monotonic() + job["timeout"])
    try:
        return {"text": statement.schema() if sql is None else statement.run(sql, params or [])}
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
        if "interrupted" in str(error):
            return {"error": "time"}
        return {"retry": f"SQLite says: {str(error)[:1000]}{statement.hint(str(error))}"}


@dataclass(frozen=True, slots=True)
class _Statement:
    uri: str
    write: bool
    deadline: float
    timeout: float
    max_rows: int
    max_chars: int
    max_cell: int
    max_value_bytes: int
    max_memory_bytes: int
    max_database_bytes: int

    def schema(self) -> str:
        with self._connection() as connection:
            found = "\n".join(f"{row[0]};" for row in connection.execute(_SCHEMA))
        return _cut_text(found, self.max_chars) or "[the database has no tables]"

    def run(self, sql: str, params: list[Any]) -> str:
        with self._connection() as connection:
            cursor = connection.execute(sql, params)
            if cursor.description is None:
                return f"[{count(max(cursor.rowcount, 0), 'row')} changed]"
            head = _cut_text(_json([self._shown(column[0]) for column in cursor.description]), self.max_chars // 2)
            lines, dropped = self._page(cursor, self.max_chars - len(head))
            note = self._cut_note(len(lines), dropped, cursor)
        return "\n".join(filter(None, [head, *lines, note if lines or note else "[no rows]"]))

    def _page(self, cursor: sqlite3.Cursor, room: int) -> tuple[list[str], int]:
        """The rows that fit, and how many were read and do not. A first row that is too long is cut."""
        lines: list[str] = []
        for row in islice(cursor, self.max_rows):
            line = _json([self._shown(value) for value in row])
            if len(line) >= room and lines:
                return lines, 1
            lines.append(_cut_text(line, room))
            room -= len(line) + 1
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

    def _cut_note(self, shown: int, dropped: int, cursor: sqlite3.Cursor) -> str:
        """The note on rows that are not shown, or nothing."""
        left, more = dropped, ""
        try:
            for _ in islice(cursor, _MAX_COUNTED):
                left += 1
        except sqlite3.OperationalError:
            if self.write:  # the change is undone, so there is no result
                raise
            more = " or more"
        if not left and not more:
            return ""
        more = " or more" if left >= _MAX_COUNTED else more
        return f"[cut: showed {shown:,} of {count(shown + left, 'row')}{more}; use WHERE, or LIMIT and OFFSET]"

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        seconds = max(0.0, self.deadline - time.monotonic())
        with closing(sqlite3.connect(self.uri, uri=True, timeout=seconds, isolation_level=None)) as connection:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self.max_value_bytes)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA hard_heap_limit = {self.max_memory_bytes}").fetchall()
            connection.set_progress_handler(lambda: time.monotonic() > self.deadline, _STEPS_BETWEEN_CHECKS)
            if self.write:
                page = connection.execute("PRAGMA page_size").fetchone()[0]
                connection.execute(f"PRAGMA max_page_count = {-(-self.max_database_bytes // page)}").fetchall()
            else:
                connection.execute("PRAGMA query_only = ON")
            connection.set_authorizer(self._authorizer())
            yield connection

    def _authorizer(self) -> Any:
        allowed = {getattr(sqlite3, name) for name in (*_READ, *(_WRITE if self.write else ()))}

        def authorize(action: int, first: str | None, second: str | None, *_: object) -> int:
            if action == sqlite3.SQLITE_PRAGMA:
                permitted = first in _PRAGMAS
            elif action == sqlite3.SQLITE_FUNCTION:
                permitted = (second or "").lower() not in _FORBIDDEN_FUNCTIONS
            elif action == sqlite3.SQLITE_UPDATE and first in _SCHEMA_TABLES:
                permitted = True  # asked for by json_each; SQLite itself lets nobody change this table
            else:
                permitted = action in allowed and first != "sqlite_dbpage"
            return sqlite3.SQLITE_OK if permitted else sqlite3.SQLITE_DENY

        return authorize

    def hint(self, error: str) -> str:
        """What the model can do about an error."""
        if any(word in error for word in ("authoriz", "prohibited", "readonly", "may not be modified")):
            return "; only data can be read and changed here" if self.write else "; only reading is allowed here"
        if "disk is full" in error:
            return f"; the database may have up to {self.max_database_bytes:,} bytes"
        if "no such" not in error:
            return ""
        names: list[str] = []
        with suppress(sqlite3.Error), self._connection() as connection:
            names = [visible(row[0]) for row in connection.execute(_TABLES)]
        return _cut_text(f"; tables: {', '.join(names) or 'none'}", self.max_chars)


def _json(values: list[Any]) -> str:
    return json.dumps(values, ensure_ascii=False)


def _cut_text(text: str, limit: int) -> str:
    """The text, or its start and a note that says how much of it is shown."""
    return text if len(text) <= limit else f"{text[:limit]}\n[cut: showed {limit:,} of {len(text):,} characters]"
