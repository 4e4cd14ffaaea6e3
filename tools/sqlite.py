"""A SQLite database: its schema, queries, and with `write` statements that change it.

Each statement runs in a child process, which can be killed; `_child` says where its limits hold.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from agentkit import ModelRetry, ToolRegistry

from ._child import AT_ONCE, run_child

__all__ = ["sqlite_tools"]

Value: TypeAlias = str | int | float | None

_GRACE = 0.5
"""Seconds after the deadline in which SQLite may stop a statement itself, before the child is killed."""
_PYTHON = 150_000_000
"""Bytes of address space that Python takes in the child, beside the memory of SQLite and a copy of a row."""
_SHARED_MEMORY_FILE = 64_000_000
"""Bytes: to read a database in WAL mode, SQLite keeps an index of the log in a file."""


def sqlite_tools(
    path: str | os.PathLike[str],
    *,
    write: bool = False,
    max_rows: int = 100,
    max_chars: int = 50_000,
    max_cell: int = 2000,
    max_value_bytes: int = 10_000_000,
    max_memory_bytes: int = 100_000_000,
    max_growth_bytes: int = 50_000_000,
    timeout: float = 5.0,
) -> ToolRegistry:
    """Tools for one database file: sql_schema, sql_query, and with `write` sql_execute.

    Queries run on a read-only connection and under an authorizer that permits reading alone: no ATTACH, no settings, no
    extensions, no VACUUM INTO. sql_execute adds insert, update, delete, and creating, altering or dropping tables,
    indexes and views. Each call is one statement; statements have `?` for values.

    `max_rows`, `max_chars` and `max_cell` (characters of one value) bound a result, `max_value_bytes` any value that
    SQLite handles meanwhile. `max_memory_bytes` bounds the memory of a statement, in which it also sorts: it writes no
    temporary files. At most four statements run at once; others wait. The database may grow by `max_growth_bytes` beyond
    the size that it has when the tools are made. `timeout`: the seconds of a statement, waiting for locks included; half
    a second later it is killed.

    Raises ValueError when there is no such file.
    """
    file = Path(path).absolute()
    if not file.is_file():
        raise ValueError(f"{os.fspath(path)!r} is no database file; create it before giving it to an agent")
    limits = {
        "timeout": timeout,
        "max_rows": max_rows,
        "max_chars": max_chars,
        "max_cell": max_cell,
        "max_value_bytes": max_value_bytes,
        "max_memory_bytes": max_memory_bytes,
        "max_database_bytes": file.stat().st_size + max_growth_bytes,
    }
    database = _Database(file, limits)
    registry = ToolRegistry()
    for method in (database.sql_schema, database.sql_query):
        registry.tool(method, read_only=True, destructive=False, idempotent=True, open_world=False, output="untrusted")
    if write:
        labels: Any = {"destructive": True, "open_world": False, "sequential": True, "sensitive": ("sql", "params")}
        registry.tool(database.sql_execute, output="untrusted", **labels)
    return registry


@dataclass(frozen=True, slots=True)
class _Database:
    file: Path
    limits: dict[str, Any]
    running: threading.Semaphore = field(default_factory=partial(threading.Semaphore, AT_ONCE), repr=False)

    def sql_schema(self) -> str:
        """The CREATE statements of all tables, views and indexes of the database."""
        return self._run(None, None, write=False)

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

    def _run(self, sql: str | None, params: list[Value] | None, *, write: bool) -> str:
        try:
            answer = self._ask(sql, params, write=write)
        except TimeoutError:
            if write:
                self._roll_back()
            answer = {"error": "time"}
        except ChildProcessError as error:
            raise ModelRetry("the statement ended its process; make it simpler") from error
        if answer.get("error") == "time":
            raise ModelRetry(f"the statement took more than {self.limits['timeout']:g} seconds; make it simpler or add a LIMIT")
        if answer.get("error") == "memory":
            most = self.limits["max_memory_bytes"]
            raise ModelRetry(f"the statement needs more than {most:,} bytes of memory; sort, group or join fewer rows")
        if "retry" in answer:
            raise ModelRetry(answer["retry"])
        return str(answer["text"])

    def _ask(self, sql: str | None, params: list[Value] | None, *, write: bool) -> dict[str, Any]:
        job = {"uri": f"{self.file.as_uri()}?mode={'rw' if write else 'ro'}", "sql": sql, "params": params, "write": write}
        largest = self.limits["max_database_bytes"]
        with self.running:
            return run_child(
                "_sql",
                {**job, **self.limits},
                seconds=self.limits["timeout"] + _GRACE,
                memory=_PYTHON + 2 * self.limits["max_memory_bytes"],
                file_bytes=_SHARED_MEMORY_FILE + (2 * largest if write else 0),
            )

    def _roll_back(self) -> None:
        """Undo what a killed statement has written, which a read-only connection could not do."""
        try:
            self._ask("SELECT 1 FROM sqlite_schema", None, write=True)
        except (TimeoutError, ChildProcessError):
            return
