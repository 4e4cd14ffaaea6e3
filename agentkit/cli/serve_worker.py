"""`agentkit worker`: drives queued runs until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any

import typer

from ..agent import Agent
from ..errors import AgentError
from ..store import Worker, open_store
from .exits import UsageError
from .load import load_agent, load_function

__all__ = ["serve_worker"]


def serve_worker(
    db: str,
    *,
    queue: str,
    concurrency: int,
    lease: float,
    deps: str | None,
    grace: float,
    engine: str,
    until_idle: bool,
) -> None:
    """Drive runs. SIGTERM, SIGINT or `until_idle` end it, and its runs are handed back."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if str(Path.cwd()) not in sys.path:  # as `python -m` has it, also for agents in files of other folders
        sys.path.insert(0, str(Path.cwd()))
    store = open_store(db, lease=lease)
    options: dict[str, Any] = {"queue": queue, "concurrency": concurrency, "poll": min(1.0, lease / 3), "grace": grace}
    made = _kind(engine)(store, _agent, deps=load_function(deps) if deps else None, **options)
    typer.echo(f"agentkit worker: queue {queue}, {concurrency} runs at a time; Ctrl-C ends it", err=True)
    count = asyncio.run(_run(made, until_idle=until_idle))
    typer.echo(f"agentkit worker: ended after {count} drives", err=True)
    store.close()


async def _run(worker: Worker, *, until_idle: bool) -> int:
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT"):
        with contextlib.suppress(NotImplementedError, ValueError):  # Windows has no handlers for the event loop
            loop.add_signal_handler(getattr(signal, name), worker.stop)
    return await worker.run(until_idle=until_idle)


def _kind(engine: str) -> type[Worker]:
    if engine == "own":
        return Worker
    if engine == "dbos":
        from ..store import DBOSWorker

        return DBOSWorker
    raise UsageError(f"--engine {engine}: allowed: own, dbos")


@cache
def _agent(name: str) -> Agent[Any]:
    try:
        return load_agent(name)
    except SystemExit as error:  # from the user's module; it must not end the worker
        raise AgentError(f"{name}: its module exits with {error}") from None
