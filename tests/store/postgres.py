"""A Postgres server for the tests: a real one, on loopback, with a data folder of its own, not as root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

__all__ = ["Postgres", "find_programs", "postgres_address"]


def find_programs() -> Path | None:
    """The folder of the newest Postgres of this machine; None if there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    found = shutil.which("initdb")
    return next((folder for folder in folders if (folder / "initdb").exists()), Path(found).resolve().parent if found else None)


class Postgres:
    """A server that can be stopped hard and started again."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="agentkit-postgres-"))
        self._as_user: Sequence[str] = ()
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(self.folder, "postgres")
            self._as_user = ("runuser", "-u", "postgres", "--")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._call("initdb", "-D", str(self.data), "-A", "trust", "-U", "agentkit", "-E", "UTF8", "--no-sync")
        self.start()

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def address(self) -> str:
        """The address of its database."""
        return f"postgresql://agentkit@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c max_connections=200"
        self._call("pg_ctl", "-D", str(self.data), "-o", options, "-l", str(self.folder / "log"), "-w", "-t", "60", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; "immediate" is as a crash."""
        self._call("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def database(self, name: str) -> str:
        """A new database, and its address."""
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "agentkit", name)
        return f"postgresql://agentkit@127.0.0.1:{self.port}/{name}"

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


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
