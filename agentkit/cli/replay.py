"""`agentkit replay`: a stored run as text, or driven again by today's agent."""

from __future__ import annotations

import inspect
import json
from typing import Any

import typer

from .. import _sync as portal
from ..store import Store
from ..testing.replay import ReplayMismatch, replay
from ..testing.transcript import transcript
from .exits import Exit, UsageError
from .load import load_agent, load_function
from .stored import opened
from .text import clean, counted

__all__ = ["replay_run"]


def replay_run(db: str, run_id: str, against: str | None, *, deps: str | None, as_json: bool) -> Exit:
    """Print the run; with `against`, the first difference to what this agent does."""
    if deps is not None and against is None:
        raise UsageError("--deps: only with --against")
    store = opened(db)
    state = store.state(run_id)
    if against is None:
        lines = [*transcript(state)]
        _print({"run_id": run_id, "transcript": lines}, lines, as_json=as_json)
        return Exit.ANSWER
    counts = {"run_id": run_id, "steps": state.steps, "calls": state.calls_made}
    try:
        agent = load_agent(against, "--against")
        replay(store, run_id, agent, deps=_made(store, run_id, deps))
    except ReplayMismatch as mismatch:
        found = {**counts, "same": False, "message": str(mismatch), "diff": mismatch.diff}
        _print(found, str(mismatch).splitlines(), as_json=as_json)
        return Exit.FAILED
    text = f"run {run_id}: no difference in {counted(state.steps, 'step')} and {counted(state.calls_made, 'call')}"
    _print({**counts, "same": True}, [text], as_json=as_json)
    return Exit.ANSWER


def _made(store: Store, run_id: str, function: str | None) -> Any:
    """The deps of the run, as a worker makes them."""
    made = store.submitted(run_id)
    if function is not None:
        made = load_function(function)(run_id, made)

    async def awaited() -> Any:
        return await made

    return portal.run(awaited()) if inspect.isawaitable(made) else made


def _print(value: object, lines: list[str], *, as_json: bool) -> None:
    typer.echo(json.dumps(value) if as_json else "\n".join(map(clean, lines)))
