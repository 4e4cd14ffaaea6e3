"""A Postgres store behind a pooler that gives each transaction another session of the server."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel, StoreError, tool
from agentkit.store import open_store
from agentkit.testing import call

RUNS, STEPS = 6, 10  # psycopg prepares a statement that it has seen five times


def answers(address: str) -> bool:
    import psycopg

    try:
        psycopg.connect(address, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def pooled(postgres_address: Callable[[], str]) -> Iterator[tuple[str, str]]:
    """The addresses of a database behind PgBouncer, and of the database itself."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("no PgBouncer on this machine: install pgbouncer")
    direct = postgres_address()
    server: Any = conninfo_to_dict(direct)
    folder = Path(tempfile.mkdtemp(prefix="agentkit-pgbouncer-"))
    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ("runuser", "-u", "postgres", "--")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": 3,
        "unix_socket_dir": "",
    }
    lines = ["[databases]", f"pooled = {make_conninfo(**server)}", "[pgbouncer]", *(f"{k} = {v}" for k, v in settings.items())]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with subprocess.Popen([*as_user, program, "-q", str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL) as running:
        try:
            address = f"postgresql://{server['user']}@127.0.0.1:{port}/pooled"
            until = time.monotonic() + 20
            while not answers(address):
                assert time.monotonic() < until and running.poll() is None, "PgBouncer does not answer"
            yield address, direct
        finally:
            running.terminate()
    shutil.rmtree(folder, ignore_errors=True)


def test_runs_at_once_behind_a_pooler(pooled: tuple[str, str]) -> None:
    @tool
    def add(a: int) -> int:
        """Add one."""
        return a + 1

    def say(request: Any) -> Any:
        made = sum(message.role == "assistant" for message in request.messages)
        return call("add", a=made) if made < STEPS else "done"

    async def main() -> list[Any]:
        agents = [Agent(ScriptedModel(say), tools=[add]) for _ in range(RUNS)]
        return await asyncio.gather(*(made.run("go", store=store, run_id=f"r{n}") for n, made in enumerate(agents)))

    store = open_store(pooled[0])
    assert [result.output for result in asyncio.run(main())] == ["done"] * RUNS
    assert {store.get(f"r{n}").status for n in range(RUNS)} == {"finished"}
    store.close()


def test_a_pooler_of_a_server_that_does_not_wait_for_its_disk_is_refused(pooled: tuple[str, str]) -> None:
    import psycopg

    with psycopg.connect(pooled[1], autocommit=True) as db:
        name = db.info.dbname
        db.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")  # type: ignore[arg-type, unused-ignore]
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", (name,)
        )
    until = time.monotonic() + 20
    while True:
        with pytest.raises(StoreError) as refused:
            open_store(pooled[0])
        if "synchronous_commit is off there" in str(refused.value):
            break
        assert time.monotonic() < until, refused.value  # else PgBouncer has not noticed yet that its sessions have ended
    open_store(pooled[1]).close()
