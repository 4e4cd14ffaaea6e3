"""The queue of a store: runs that were submitted, for workers to drive."""

from __future__ import annotations

import json
import os
from typing import Any

from .._dataclass import frozen_dataclass
from ..errors import RunBusy, RunExists, SettingsError
from ..names import check_name, is_storable
from .database import ENDED, Database
from .drive import Drive
from .sql import SqlStore

__all__ = ["Claimed", "Queue"]

_COUNT = "(SELECT count(*) FROM agentkit_events AS c WHERE c.run_id = r.run_id)"
_LISTED = ", ".join(f"'{status}'" for status in ENDED)
MAX_DRIVES = 10
"""Times that a run is tried without storing an event. Then it has failed: something ends its workers before they begin."""


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
    drives: int

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
        worker makes the run's `deps` of it. A higher `priority` is driven sooner. `at` is the time before which it does not
        begin, in seconds since 1970. Raises `RunExists` if the id has another task or agent.
        """
        run_id = run_id or os.urandom(16).hex()
        for what, value in (("run_id", run_id), ("agent", agent), ("queue", queue), ("session", session or "-")):
            check_name(what, value)
        if not isinstance(task, str) or not task.strip():
            raise SettingsError(f"task is {task!r:.80}; allowed: a text that is not empty")
        if not is_storable(task):
            raise SettingsError(f"task is {task!a:.80}; allowed: a text in UTF-8, without NUL")
        try:
            stored_deps = json.dumps(deps, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"deps is {deps!r:.80}; allowed: what JSON can hold ({error})") from None
        with self.transaction() as db:
            made = db.execute(
                "INSERT INTO agentkit_runs"
                " (run_id, root_id, session, status, queue, agent, task, deps, priority, run_at, created, updated)"
                f" VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, {self.now}, {self.now}) ON CONFLICT (run_id) DO NOTHING",
                (run_id, run_id, session, queue, agent, task, stored_deps, priority, at),
            )
            if not made.rowcount:
                known = db.execute("SELECT task, agent FROM agentkit_runs WHERE run_id = ?", (run_id,)).fetchone()
                if tuple(known) != (task, agent):
                    raise RunExists(f"there is a run {run_id!r} with another task or agent; choose another run_id")
        return run_id

    def claim(self, queue: str, owner: str, run_id: str | None = None) -> Claimed | None:
        """The next run that is due: queued, or with a lease that is over; None if there is none. `run_id`: only this one."""
        with self.transaction() as db:
            while (row := self._due(db, queue, run_id)) is not None:
                run_id, agent, task, deps, session, drives, seen, count = row
                drives = 1 if count > seen + 1 else drives + 1  # the first event of a drive says only that it goes on
                if drives <= MAX_DRIVES:
                    break
                self._give_up(db, run_id)
            else:
                return None
            if session is not None:
                try:
                    self.take_session(db, session, run_id)
                except RunBusy:  # another worker was faster; the next claim passes over this run
                    return None
            db.execute(
                f"UPDATE agentkit_runs SET owner = ?, lease_until = {self.now} + ?, status = 'running', drives = ?, seen = ?,"
                f" updated = {self.now} WHERE run_id = ?",
                (owner, self.lease, drives, count, run_id),
            )
        return Claimed(self, owner, run_id, agent, task, json.loads(deps), count > 0, drives)

    def _due(self, db: Database, queue: str, run_id: str | None) -> Any:
        only, given = ("AND run_id = ?", (run_id,)) if run_id else ("", ())
        return db.execute(
            f"SELECT run_id, agent, task, deps, session, drives, seen, {_COUNT} {self._where_due} {only}"
            f" ORDER BY priority DESC, created, run_id LIMIT 1{self.skip_locked}",
            (queue, *given),
        ).fetchone()

    def due(self, queue: str, limit: int) -> list[tuple[str, int, str]]:
        """The next runs that are due: the id, the priority, and a text that differs each time that it becomes due anew."""
        with self.reading() as db:
            rows = db.execute(
                f"SELECT run_id, priority, {_COUNT}, drives, {self.now} {self._where_due}"
                " ORDER BY priority DESC, created, run_id LIMIT ?",
                (queue, limit),
            ).fetchall()
        return [(run_id, priority, f"{seq}.{drives}.{int(now / self.lease)}") for run_id, priority, seq, drives, now in rows]

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
            f" error = COALESCE(error, ?), updated = {self.now} WHERE run_id = ?",
            (f"given up: {MAX_DRIVES} workers in a row ended before they had stored anything", run_id),
        )

    def defer(self, run_id: str, owner: str, seconds: float, error: str) -> None:
        """Give a run back that this worker could not drive. It is due again after so many seconds; after ten times it fails."""
        with self.transaction() as db:
            db.execute(
                f"UPDATE agentkit_runs SET owner = NULL, lease_until = NULL, run_at = {self.now} + ?, error = ?,"
                f" updated = {self.now}, status = CASE WHEN drives >= ? THEN 'failed' ELSE 'queued' END,"
                " stop_reason = CASE WHEN drives >= ? THEN 'error' ELSE NULL END"
                f" WHERE run_id = ? AND (owner = ? OR owner IS NULL) AND status NOT IN ({_LISTED})",
                (seconds, error, MAX_DRIVES, MAX_DRIVES, run_id, owner),
            )

    def is_idle(self, queue: str) -> bool:
        """Whether no run of the queue is due or driven."""
        driven = "SELECT 1 FROM agentkit_runs WHERE queue = ? AND status = 'running'"  # by somebody, or it is due soon
        with self.reading() as db:
            is_due = db.execute(f"SELECT 1 {self._where_due} LIMIT 1", (queue,)).fetchone()
            return not is_due and db.execute(f"{driven} LIMIT 1", (queue,)).fetchone() is None
