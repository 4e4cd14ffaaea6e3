"""The queue of a store: runs that were submitted, for workers to drive."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .._dataclass import frozen_dataclass
from ..errors import RunBusy, RunExists, SettingsError
from ..names import check_name, is_storable
from .database import ENDED, Database
from .drive import Drive
from .sql import SqlStore, has_begun

__all__ = ["TIMES", "Claimed", "Queue", "is_time"]

_COUNT = "(SELECT count(*) FROM agentkit_events AS c WHERE c.run_id = r.run_id)"
_LISTED = ", ".join(f"'{status}'" for status in ENDED)
MAX_BROKEN = 10
"""Drives in a row that may break off before they store anything new. Then the run has failed: it ends its workers."""
_MIN_WAIT, _MAX_WAIT = 4.0, 300.0
"""Seconds until a run that a worker could not drive is due again: at first, and at most. Each time it is twice as long."""
TIMES = "seconds since 1970, such as 1900000000 (from 100000000, in 1973, to 99999999999)"


def is_time(value: object) -> bool:
    """Whether the value is one of `TIMES`. A date in digits, such as 20300131, and milliseconds are not."""
    return isinstance(value, int | float) and 1e8 <= value < 1e11


@frozen_dataclass
class Claimed:
    """A run of a queue that a worker has claimed. It is the `store=` of its drive, which has the claim already."""

    store: SqlStore
    owner: str
    run_id: str
    agent: str
    task: str
    deps: Any
    has_begun: bool
    waited: float = 0.0
    """Seconds that it was put back for, if the last worker could not drive it."""

    def begin(self, run_id: str, *, session: str | None = None) -> Drive:
        """Drive the claimed run from its beginning."""
        return self.store.reopen(run_id, claimed_by=self.owner)

    def reopen(self, run_id: str) -> Drive:
        """Drive the claimed run on."""
        return self.store.reopen(run_id, claimed_by=self.owner)


class Queue(SqlStore):
    """Blocking and thread-safe calls."""

    skip_locked = ""
    """What makes a `SELECT` lock its rows and pass over those that another worker has locked."""

    def submit(
        self,
        task: str,
        *,
        agent: str,
        run_id: str | None = None,
        queue: str = "default",
        session: str | None = None,
        deps: Any = None,
        priority: int = 0,
        at: float | None = None,
    ) -> str:
        """Queue a run for a worker, and return its id. The same `run_id` twice is one run.

        `agent` is the name by which workers know the agent, such as `module:attribute`. `deps` is what JSON can hold; the
        worker makes the run's `deps` of it. A higher `priority` is driven sooner; it has 32 bits. `at` is the time before which
        it does not begin, in seconds since 1970; numbers that can be no such time are refused. Raises `RunExists` if there is a
        run of the id with another task, agent, queue, session or deps, or one that has failed before it began. `priority` and
        `at` of the first time count.
        """
        run_id = os.urandom(16).hex() if run_id is None else run_id
        names = {"run_id": run_id, "agent": agent, "queue": queue, **({} if session is None else {"session": session})}
        for what, value in names.items():
            check_name(what, value)
        stored_deps = _checked(task, deps, priority, at)
        with self.transaction() as db:
            made = db.execute(
                "INSERT INTO agentkit_runs"
                " (run_id, root_id, session, status, queue, agent, task, deps, priority, run_at, created, updated)"
                f" VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, {self.now}, {self.now}) ON CONFLICT (run_id) DO NOTHING",
                (run_id, run_id, session, queue, agent, task, stored_deps, priority, at),
            )
            if not made.rowcount:
                self._check_same(db, run_id, {"task": task, **names, "session": session, "deps": json.loads(stored_deps)})
        return run_id

    def _check_same(self, db: Database, run_id: str, given: Mapping[str, Any]) -> None:
        """Raise `RunExists` unless the run of this id was submitted with these values, and has not failed before it began."""
        columns = [name for name in given if name != "run_id"]
        status, *values = db.execute(
            f"SELECT status, {', '.join(columns)} FROM agentkit_runs WHERE run_id = ?", (run_id,)
        ).fetchone()
        known = dict(zip(columns, values, strict=True))
        known["deps"] = json.loads(known["deps"] or "null")
        others = [name for name in columns if known[name] != given[name]]
        if others:
            raise RunExists(f"there is a run {run_id!r} with another {', '.join(others)}; choose another run_id")
        if status == "failed" and not has_begun(db, run_id):
            raise RunExists(f"there is a run {run_id!r} in the store, which {self._as_it_is(db, run_id)}")

    def claim(self, queue: str, owner: str, run_id: str | None = None) -> Claimed | None:
        """The next run that is due: queued, or with a lease that is over; None if there is none. `run_id`: only this one."""
        with self.transaction() as db:
            while (row := self._due(db, queue, run_id)) is not None:
                found, agent, task, deps, session, broken, seen, count, is_left, waited = row
                # a drive that was not given back has broken off; its first event said only that it goes on
                broken = (0 if count > seen + 1 else broken) + (not is_left)
                if broken < MAX_BROKEN:
                    break
                self._give_up(db, found)
            else:
                return None
            if session is not None:
                try:
                    self.take_session(db, session, found)
                except RunBusy:  # another worker was faster; the next claim passes over this run
                    return None
            db.execute(
                f"UPDATE agentkit_runs SET owner = ?, lease_until = {self.now} + ?, status = 'running', broken = ?, seen = ?,"
                f" updated = {self.now} WHERE run_id = ?",
                (owner, self.lease, broken, count, found),
            )
        return Claimed(self, owner, found, agent, task, json.loads(deps), count > 0, waited)

    def _due(self, db: Database, queue: str, run_id: str | None) -> Any:
        only, given = ("AND run_id = ?", (run_id,)) if run_id else ("", ())
        return db.execute(
            f"SELECT run_id, agent, task, deps, session, broken, seen, {_COUNT}, owner IS NULL,"
            " CASE WHEN status = 'queued' AND error IS NOT NULL AND run_at > updated THEN run_at - updated ELSE 0.0 END"
            f" {self._where_due} {only}"
            f" ORDER BY priority DESC, created, run_id LIMIT 1{self.skip_locked}",
            (queue, *given),
        ).fetchone()

    def due(self, queue: str, limit: int) -> list[tuple[str, int, str]]:
        """The next runs that are due: the id, the priority, and a text that differs each time that it becomes due anew."""
        with self.reading() as db:
            rows = db.execute(
                f"SELECT run_id, priority, {_COUNT}, updated, {self.now} {self._where_due}"
                " ORDER BY priority DESC, created, run_id LIMIT ?",
                (queue, limit),
            ).fetchall()
        return [(run_id, priority, f"{seq}.{since}.{int(now / self.lease)}") for run_id, priority, seq, since, now in rows]

    @property
    def _where_due(self) -> str:
        return (
            "FROM agentkit_runs AS r WHERE queue = ? AND status IN ('queued', 'running') AND parent_id IS NULL"
            f" AND (owner IS NULL OR lease_until < {self.now}) AND (run_at IS NULL OR run_at <= {self.now})"
            " AND NOT EXISTS (SELECT 1 FROM agentkit_sessions AS s JOIN agentkit_runs AS h ON h.run_id = s.run_id"
            f" WHERE s.session = r.session AND h.run_id <> r.run_id AND h.status NOT IN ({_LISTED}))"
            " AND NOT EXISTS (SELECT 1 FROM agentkit_runs AS e WHERE e.session = r.session AND e.queue IS NOT NULL"
            f" AND e.status NOT IN ({_LISTED}) AND (e.created, e.run_id) < (r.created, r.run_id))"
        )

    def _give_up(self, db: Database, run_id: str) -> None:
        db.execute(
            "UPDATE agentkit_runs SET status = 'failed', stop_reason = 'error', owner = NULL, lease_until = NULL,"
            f" pending = NULL, error = ? || COALESCE('; the last error: ' || error, ''), updated = {self.now} WHERE run_id = ?",
            (f"given up: {MAX_BROKEN} drives in a row broke off before they had stored anything new", run_id),
        )
        self._end_children(db, run_id)

    def defer(self, claimed: Claimed, error: str, *, is_broken: bool = False) -> float:
        """Give a run back that this worker could not drive. Returns the seconds after which it is due again.

        `is_broken`: its drive had begun, and counts among those that broke off.
        """
        seconds = min(_MAX_WAIT, max(_MIN_WAIT, 2.0 * round(claimed.waited)))
        with self.transaction() as db:
            db.execute(
                f"UPDATE agentkit_runs SET owner = NULL, lease_until = NULL, run_at = {self.now} + ?, error = ?,"
                f" updated = {self.now}, status = 'queued', broken = broken + ?"
                " WHERE run_id = ? AND (owner = ? OR owner IS NULL) AND status IN ('queued', 'running')",
                (seconds, error, int(is_broken), claimed.run_id, claimed.owner),
            )
        return seconds

    def is_idle(self, queue: str) -> bool:
        """Whether no run of the queue is due or driven."""
        driven = "SELECT 1 FROM agentkit_runs WHERE queue = ? AND status = 'running'"  # by somebody, or it is due soon
        with self.reading() as db:
            is_due = db.execute(f"SELECT 1 {self._where_due} LIMIT 1", (queue,)).fetchone()
            return not is_due and db.execute(f"{driven} LIMIT 1", (queue,)).fetchone() is None


def _checked(task: object, deps: Any, priority: object, at: object) -> str:
    """The `deps` as JSON. Raises `SettingsError` for values that a run cannot be submitted with."""
    if not isinstance(task, str) or not task.strip():
        raise SettingsError(f"task is {task!r:.80}; allowed: a text that is not empty")
    if not is_storable(task):
        raise SettingsError(f"task is {task!a:.80}; allowed: a text in UTF-8, without NUL")
    if not isinstance(priority, int) or not -(2**31) <= priority < 2**31:
        raise SettingsError(f"priority is {priority!r:.80}; allowed: a whole number of 32 bits")
    if at is not None and not is_time(at):
        raise SettingsError(f"at is {at!r:.80}; allowed: {TIMES}, or None")
    try:
        return json.dumps(deps, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"deps is {deps!r:.80}; allowed: what JSON can hold ({error})") from None
