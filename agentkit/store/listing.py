"""Runs of a store as values: what their rows say, and the calls that still wait for an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .._dataclass import frozen_dataclass
from .database import Database
from .rows import value_of

__all__ = ["COLUMNS", "StoredRun", "answered_calls", "place_of", "run_of"]

COLUMNS = (
    "r.run_id, status, stop_reason, CASE WHEN status IN ('running', 'queued') THEN (SELECT count(*) FROM agentkit_events AS m"
    ' WHERE m.run_id = r.run_id AND m.data LIKE \'{"v":_,"type":"ModelReplied"%\') ELSE steps END,'
    " output, usage, cost, uncertain, created, updated, error, pending, queue, agent, session, parent_id,"
    " (SELECT count(*) FROM agentkit_events AS c WHERE c.run_id = r.run_id), priority, run_at, output_blobs"
)
"""What `run_of` reads of a row of `agentkit_runs AS r`."""


@frozen_dataclass
class StoredRun:
    """A run in a store. `status` is queued, running, paused, finished, failed or cancelled. Times are seconds since 1970.

    `pending` are the calls that wait for an answer: `id`, `name`, `arguments` (JSON text) and `kind`, "approval" or "result";
    `error`, why the last answer was refused, if one was. A call that was answered is not among them, also if the run has not
    gone on yet. Calls of a child run are answered at the run at the top, `root_id`, as its call `root_call`.

    `uncertain` are its calls that may or may not have taken effect: `call_id` and `tool`. While a run goes on, `usage`, `cost`
    and `uncertain` are those of its last pause. `at` is the time before which no worker drives it: the one it was submitted
    with or, if a worker could not drive it, the one of the next attempt.
    """

    run_id: str
    status: str
    stop_reason: str | None
    steps: int
    output: Any
    usage: Mapping[str, int]
    cost: float | None
    uncertain: tuple[Mapping[str, str], ...]
    created: float
    updated: float
    error: str | None = None
    pending: tuple[Mapping[str, str], ...] = ()
    queue: str | None = None
    agent: str | None = None
    session: str | None = None
    parent: str | None = None
    events: int = 0
    priority: int = 0
    at: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The run as JSON-able data."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def run_of(db: Database, row: Any) -> StoredRun:
    """The run of a row of `COLUMNS`."""
    *columns, large = row
    values = dict(zip((item.name for item in fields(StoredRun)), columns, strict=True))
    found = "SELECT data FROM agentkit_blobs WHERE hash = ?"
    blobs = [(path, db.execute(found, (hash,)).fetchone()[0]) for path, hash in json.loads(large or "[]")]
    return StoredRun(
        **{
            **values,
            "usage": json.loads(values["usage"] or "{}"),
            "uncertain": tuple(json.loads(values["uncertain"] or "[]")),
            "pending": _unanswered(db, values["run_id"], values["parent"], json.loads(values["pending"] or "[]")),
            "output": value_of(values["output"], blobs) if values["output"] else None,
        }
    )


def _unanswered(db: Database, run_id: str, parent: str | None, calls: list[dict[str, str]]) -> tuple[Mapping[str, str], ...]:
    """Those of the calls that have no answer yet. Answers are stored with the run at the top."""
    if not calls:
        return ()
    root_id, before = place_of(db, run_id) if parent else (run_id, "")
    answered = answered_calls(db, root_id)
    waiting = [call for call in calls if (before + call["id"], call["kind"]) not in answered]
    if parent is None:
        return tuple(waiting)
    return tuple({**call, "root_id": root_id, "root_call": before + call["id"]} for call in waiting)


def answered_calls(db: Database, run_id: str) -> set[tuple[str, str]]:
    """The calls of a run at the top that have an answer, with its kind: an outside call may need an approval, then a result."""
    rows = db.execute("SELECT call_id, kind FROM agentkit_answers WHERE run_id = ?", (run_id,)).fetchall()
    return {(call_id, kind) for call_id, kind in rows}


def place_of(db: Database, run_id: str) -> tuple[str, str]:
    """The run at the top of the tree that a run is in, and what the ids of its calls begin with there."""
    before = ""
    while True:
        row = db.execute("SELECT parent_id FROM agentkit_runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None or row[0] is None:
            return run_id, before
        before = f"{_call_of(db, row[0], run_id)}/{before}"
        run_id = row[0]


def _call_of(db: Database, parent: str, run_id: str) -> str:
    """The call of the parent that is this child run. The parent stores it before the child run begins."""
    rows = db.execute(
        'SELECT data FROM agentkit_events WHERE run_id = ? AND data LIKE \'{"v":_,"type":"CallSuspended"%\' ORDER BY seq DESC',
        (parent,),
    ).fetchall()
    found = (json.loads(data) for (data,) in rows)
    return next((str(event["call_id"]) for event in found if event.get("run_id") == run_id), "?")
