"""Stores of both kinds, new for each test."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit.store import Store, open_store
from agentkit.store.dbos_worker import DBOSWorker
from agentkit.store.worker import Worker


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: Any, tmp_path: Path) -> str:
    """The address of a new store."""
    if request.param == "sqlite":
        return str(tmp_path / "runs.db")
    new: Callable[[], str] = request.getfixturevalue("postgres_address")
    return new()


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """A new store."""
    opened = open_store(address)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite own", "postgres own", "postgres dbos"])
def worked(request: Any, tmp_path: Path) -> Iterator[tuple[Store, type[Worker]]]:
    """A store, and a kind of worker."""
    database, _, kind = request.param.partition(" ")
    opened = open_store(str(tmp_path / "runs.db") if database == "sqlite" else request.getfixturevalue("postgres_address")())
    yield opened, DBOSWorker if kind == "dbos" else Worker
    opened.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
