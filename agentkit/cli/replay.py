"""`agentkit replay`: a stored run as text, or driven again by today's agent."""

from __future__ import annotations

import typer

from ..store import open_store
from ..testing.replay import ReplayMismatch, replay, transcript
from .exits import Exit
from .load import load_agent
from .text import clean

__all__ = ["replay_run"]


def replay_run(db: str, run_id: str, against: str | None) -> Exit:
    """Print the run; with `against`, the first difference to what this agent does."""
    store = open_store(db)
    state = store.state(run_id)
    if against is None:
        typer.echo("\n".join(map(clean, transcript(state))))
        return Exit.ANSWER
    try:
        replay(state, run_id, load_agent(against))
    except ReplayMismatch as mismatch:
        typer.echo("\n".join(map(clean, str(mismatch).splitlines())))
        return Exit.FAILED
    typer.echo(f"run {clean(run_id)}: no difference in {state.steps} steps and {state.calls_made} calls")
    return Exit.ANSWER
