"""`agentkit worker`: drives queued runs until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import typer

from ..agent import Agent
from ..errors import SettingsError
from ..store import Store, Worker, open_store
from .exits import Exit, UsageError, options_named
from .load import load_agent, load_function
from .text import counted

__all__ = ["serve_worker"]

_SLACK = 3.0
"""Seconds after twice the grace in which a worker that was told to end does end."""


def serve_worker(
    db: str,
    *,
    queue: str,
    concurrency: int,
    lease: float,
    deps: str | None,
    grace: float,
    engine: str,
    total_concurrency: int | None,
    starts_per_minute: int | None,
    allow_changed: bool,
    until_idle: bool,
) -> Exit:
    """Drive runs. SIGTERM, SIGINT or `until_idle` end it, and its runs are handed back.

    With `until_idle`, it has failed if there are runs in the queue that could not be driven.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if str(Path.cwd()) not in sys.path:  # as `python -m` has it, also for agents in files of other folders
        sys.path.insert(0, str(Path.cwd()))
    with options_named("lease"):
        store = open_store(db, lease=lease)
    options: dict[str, Any] = {"queue": queue, "concurrency": concurrency, "poll": min(1.0, lease / 3), "grace": grace}
    limits = {"total_concurrency": total_concurrency, "starts_per_minute": starts_per_minute}
    if engine == "dbos":
        options |= limits
    elif given := [f"--{name.replace('_', '-')}" for name, value in limits.items() if value is not None]:
        raise UsageError(f"{' and '.join(given)}: only with --engine dbos")
    function = None if deps is None else load_function(deps)
    with options_named("queue", "concurrency", "grace"):
        made = _kind(engine)(store, _agent, deps=function, allow_changed=allow_changed, **options)
    _end_on_signals(made)
    typer.echo(f"agentkit worker: queue {queue}, {concurrency} runs at a time; Ctrl-C ends it", err=True)
    count = asyncio.run(made.run(until_idle=until_idle))
    typer.echo(f"agentkit worker: ended after {counted(count, 'drive')}", err=True)
    code = _code_when_idle(store, queue) if until_idle else Exit.ANSWER
    store.close()
    return code


def _code_when_idle(store: Store, queue: str) -> Exit:
    """Whether each run of the queue could be driven. Those that could not are named: they were put back, and have an error."""
    left = sorted(run.run_id for run in store.runs(status="queued") if run.queue == queue and run.error)
    if not left:
        return Exit.ANSWER
    runs = f"{counted(len(left), 'run')} could not be driven, and will be tried again; `agentkit show` says why"
    typer.echo(f"agentkit worker: {runs}: {', '.join(left[:10])}{', ...' if len(left) > 10 else ''}", err=True)
    return Exit.FAILED


def _end_on_signals(worker: Worker) -> None:
    """Let SIGTERM and SIGINT stop the worker, and end the process when a call holds it up: also one that blocks the loop."""
    reader, writer = os.pipe()

    def end() -> None:
        os.read(reader, 1)
        worker.stop()
        seconds = 2 * worker.grace + _SLACK
        time.sleep(seconds)
        text = f"agentkit worker: ended by force, since calls went on {seconds:g} s after it was told to end"
        typer.echo(f"{text}; other workers go on with their runs", err=True)
        sys.stdout.flush()
        os._exit(Exit.FAILED)

    threading.Thread(target=end, name="agentkit-end", daemon=True).start()
    for name in ("SIGTERM", "SIGINT"):
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(getattr(signal, name), lambda *_: os.write(writer, b"."))


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
        return load_agent(name, "agent")
    except UsageError as error:  # of whoever submitted the run
        raise SettingsError(str(error)) from error
    except SystemExit as error:  # from the user's function; it must not end the worker
        raise SettingsError(f"agent {name}: its function exits with {error}") from None
