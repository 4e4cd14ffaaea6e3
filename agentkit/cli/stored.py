"""What the commands do that submit, answer, end and copy stored runs."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import typer

from ..store import Store, open_store
from ..store.queue import TIMES, is_time
from .exits import UsageError, options_named
from .text import clean, counted

__all__ = [
    "answer_call",
    "approve_call",
    "cancel_run",
    "emit",
    "export_run",
    "fork_run",
    "opened",
    "prune_runs",
    "submit_run",
]  # fmt: skip

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def emit(value: Any, text: str, *, as_json: bool) -> None:
    """Print the value as JSON, or else the text."""
    typer.echo(json.dumps(value) if as_json else clean(text))


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{what} {text[:80]!r} is not JSON: {error}; a text is written with quotes, such as '\"yes\"'"
        ) from None


def opened(db: str) -> Store:
    """A store that is there. A file is not made, so that a mistyped name is no empty store."""
    path = Path(url2pathname(db.removeprefix("sqlite://"))) if db.startswith("sqlite:///") else Path(db)
    if "://" not in db.removeprefix("sqlite://") and not path.exists():
        raise UsageError(f"--db {db}: there is no such file; `submit` and `worker` make it")
    return open_store(db)


def submit_run(
    db: str,
    task: str,
    *,
    agent: str,
    run_id: str | None,
    queue: str,
    session: str | None,
    deps: str | None,
    priority: int,
    at: str | None,
    as_json: bool,
) -> None:
    """Queue a run."""
    if ":" not in agent:
        raise UsageError(f"--agent {agent}: write it as module:name, for example my_agents:agent")
    prompt = task if task != "-" else sys.stdin.read()
    made_of = None if deps is None else _parsed(deps, "--deps-json")
    since = None if at is None else _time(at)
    with options_named("run_id", "agent", "queue", "session", "priority", deps="--deps-json"):
        found = open_store(db).submit(
            prompt, agent=agent, run_id=run_id, queue=queue, session=session, deps=made_of, priority=priority, at=since
        )
    emit({"run_id": found}, found, as_json=as_json)


def _time(text: str) -> float:
    with suppress(ValueError, OverflowError, OSError):
        found = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else datetime.fromisoformat(text).timestamp()
        if is_time(found):
            return found
    raise UsageError(f"--at {text}: allowed: a time such as 2030-01-31T08:00, or {TIMES}")


def approve_call(
    db: str, run_id: str, call_id: str, *, deny: str | None, edit: str | None, by: str | None, as_json: bool
) -> None:
    """Answer a call that waits for an approval."""
    if deny is not None and edit is not None:
        raise UsageError("--deny and --edit exclude each other")
    given: Any = {"deny": deny} if deny is not None else {"args": _arguments(edit)} if edit is not None else True
    if by is not None:
        given = {**(given if isinstance(given, dict) else {"approve": True}), "by": by}
    store = opened(db)
    done = store.approve(run_id, call_id, given)
    what = "refused" if deny is not None else "approved"
    _print_answer(store, run_id, call_id, done, what, as_json=as_json)


def _arguments(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    raise UsageError(f'--edit {text[:80]}: allowed: a JSON object with all arguments of the call, such as \'{{"to": "bob"}}\'')


def _print_answer(store: Store, run_id: str, call_id: str, done: str, what: str, *, as_json: bool) -> None:
    text = what if done == "done" else f"{what} before"
    if store.get(run_id).queue is None:
        text += f"; it is a run of no queue: go on with agent.resume({run_id!r}, store=...)"
    emit({"run_id": run_id, "call_id": call_id, "answer": done}, text, as_json=as_json)


def answer_call(db: str, run_id: str, call_id: str, value: str, *, as_json: bool) -> None:
    """Give the result of an outside call."""
    store = opened(db)
    done = store.answer(run_id, call_id, _parsed(value, "the result"))
    _print_answer(store, run_id, call_id, done, "answered", as_json=as_json)


def cancel_run(db: str, run_id: str, *, as_json: bool) -> None:
    """Cancel a run."""
    done = opened(db).cancel(run_id)
    text = {"done": "cancelled", "same": "cancelled before", "asked": "its worker ends it"}[done]
    emit({"run_id": run_id, "answer": done}, text, as_json=as_json)


def fork_run(db: str, run_id: str, *, at: int, new_id: str | None, as_json: bool) -> None:
    """Fork a run."""
    with options_named("at", "new_id"):
        found = opened(db).fork(run_id, at=at, new_id=new_id)
    emit({"run_id": found}, found, as_json=as_json)


def prune_runs(db: str, older_than: str, *, as_json: bool) -> None:
    """Delete old runs."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", older_than.strip())
    if match is None:
        raise UsageError(f"--older-than {older_than}: allowed: a number with s, m, h, d or w, such as 30d")
    count = opened(db).prune(older_than=float(match[1]) * _SECONDS[match[2]])
    emit({"pruned": count}, f"{counted(count, 'run')} deleted", as_json=as_json)


def export_run(db: str, run_id: str, to: str, *, as_json: bool) -> None:
    """Write a run to a file."""
    state = opened(db).state(run_id)
    if to == "-":
        typer.echo(state.dumps())
        return
    if not to or Path(to).is_dir():
        raise UsageError(f"--to {to}: allowed: the name of a file, or -")
    try:
        state.save(Path(to))
    except OSError as error:
        raise UsageError(f"--to {to}: the file cannot be written: {error.strerror or error}") from None
    text = f"{to}: {len(state.events)} events of run {run_id}"
    emit({"run_id": run_id, "file": to, "event_count": len(state.events)}, text, as_json=as_json)
