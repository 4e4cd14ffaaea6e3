"""Stores of both kinds, new for each test."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agentkit.store import Store, open_store
from tests.store.postgres import Postgres, find_programs


@pytest.fixture(scope="session")
def postgres_address() -> Iterator[Callable[[], str]]:
    """A function that makes a new database on a real server: the one of AGENTKIT_TEST_POSTGRES, or one of our own."""
    import psycopg

    given = os.environ.get("AGENTKIT_TEST_POSTGRES")
    programs = find_programs()
    if given is None and programs is None:
        pytest.skip("no Postgres on this machine: install postgresql, or name a server with AGENTKIT_TEST_POSTGRES")
    server = None if given else Postgres(programs)  # type: ignore[arg-type]
    address = given or server.address  # type: ignore[union-attr]
    made: list[str] = []

    def new() -> str:
        name = f"test_{uuid4().hex}"
        with psycopg.connect(address, autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        made.append(name)
        return address.rpartition("/")[0] + f"/{name}"

    yield new
    if server is not None:
        server.remove()
        return
    with psycopg.connect(address, autocommit=True) as db, suppress(psycopg.Error):
        for name in made:
            db.execute(f"DROP DATABASE {name} WITH (FORCE)")


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


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
