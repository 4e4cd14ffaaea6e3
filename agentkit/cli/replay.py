"""`agentkit replay`: a stored run as text, or driven again by today's agent."""

from __future__ import annotations

import json

import typer

from ..testing.replay import ReplayMismatch, replay, transcript
from .exits import Exit
from .load import load_agent
from .stored import opened
from .text import clean

__all__ = ["replay_run"]


def replay_run(db: str, run_id: str, against: str | None, *, as_json: bool) -> Exit:
    """Print the run; with `against`, the first difference to what this agent does."""
    store = opened(db)
    state = store.state(run_id)
    if against is None:
        lines = [*transcript(state)]
        _print({"run_id": run_id, "transcript": lines}, lines, as_json=as_json)
        return Exit.ANSWER
    counts = {"run_id": run_id, "steps": state.steps, "calls": state.calls_made}
    try:
        replay(store, run_id, load_agent(against))
    except ReplayMismatch as mismatch:
        found = {**counts, "same": False, "message": str(mismatch), "diff": mismatch.diff}
        _print(found, str(mismatch).splitlines(), as_json=as_json)
        return Exit.FAILED
    text = f"run {run_id}: no difference in {state.steps} steps and {state.calls_made} calls"
    _print({**counts, "same": True}, [text], as_json=as_json)
    return Exit.ANSWER


def _print(value: object, lines: list[str], *, as_json: bool) -> None:
    typer.echo(json.dumps(value) if as_json else "\n".join(map(clean, lines)))
