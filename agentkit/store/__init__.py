"""Stores: runs that outlive a process. `open_store("runs.db")` is a SQLite file, `open_store("postgresql://...")` a server."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from ..errors import AgentChanged, RunBusy, RunExists, SettingsError, StoreError
from .management import Management as Store
from .management import StoredRun
from .sessions import Session
from .sqlite import SQLiteStore

if TYPE_CHECKING:
    from .dbos_worker import DBOSWorker
    from .postgres import PostgresStore
    from .shared_rate import SharedRate
    from .worker import Worker

__all__ = [
    "AgentChanged", "DBOSWorker", "PostgresStore", "RunBusy", "RunExists", "SQLiteStore", "Session", "SharedRate", "Store",
    "StoreError", "StoredRun", "Worker", "open_store",
]  # fmt: skip

_LATE = {"PostgresStore": "postgres", "Worker": "worker", "DBOSWorker": "dbos_worker", "SharedRate": "shared_rate"}


def open_store(address: str | PathLike[str], *, lease: float = 30.0) -> Store:
    """The store at this address: a path such as `runs.db`, `sqlite:///absolute/path.db`, or `postgresql://...`.

    `lease` is for how many seconds a process has a run without renewing it. Raises `SettingsError` for another kind of address,
    and `StoreError` if the store cannot be opened.
    """
    address = fspath(address) if isinstance(address, PathLike) else address
    if not isinstance(address, str) or not address:
        raise SettingsError(
            f"the address of a store is {address!r:.80}; allowed: a path, sqlite:///ABSOLUTE/PATH.db, postgresql://..."
        )
    scheme, separator, rest = address.partition("://")
    if not separator:
        return SQLiteStore(address, lease=lease)
    if scheme == "sqlite":
        from urllib.request import url2pathname

        if not rest.startswith("/"):
            raise SettingsError(f"{address!r} is not absolute; write sqlite:///absolute/path.db, or the path alone")
        return SQLiteStore(url2pathname("/" + rest.lstrip("/")), lease=lease)
    if scheme in ("postgresql", "postgres"):
        from .postgres import PostgresStore

        return PostgresStore(address, lease=lease)
    raise SettingsError(f"a store cannot be at {scheme}://; allowed: a path, sqlite:///ABSOLUTE/PATH.db, postgresql://...")


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
