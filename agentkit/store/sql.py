"""What both stores do, in SQL that both databases understand."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._threads import Threads
from ..errors import RunBusy, RunExists, StoreError
from ..events import ApprovalGiven, LastingEvent, ResultGiven, RunFinished, RunStarted
from .answers import AnswerRows
from .database import ENDED, Database, Lazy
from .drive import Drive, new_owner
from .event_rows import EventRows
from .rows import Row
from .session_rows import SessionRows
from .status import changes_of

if TYPE_CHECKING:
    from .drive import StoreLog

__all__ = ["SqlStore", "has_begun"]

T = TypeVar("T")


class SqlStore(SessionRows, AnswerRows, EventRows):
    """Stored runs in a database: driving them. `Management` has what is done with them from outside."""

    share_lock = row_lock = ""
    """What makes a `SELECT` lock its rows, so that nobody changes them before the transaction ends: `row_lock` for oneself."""
    lease = 30.0
    """Seconds for which a process has a run without renewing it. The database's clock counts."""

    noted: set[str]
    """Which parts of agents this process has stored."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Database]:
        """A connection in a transaction that may write. It is committed at the end, or rolled back by an exception."""

    @abstractmethod
    def write(self, work: Callable[[Database | Lazy], bool], threads: Threads) -> bool | Awaitable[bool]:
        """Do this work in a transaction: at once, or in a thread. Then the result is awaited."""

    @abstractmethod
    def end_cancelled(self, drive: Drive) -> None:
        """Write the end of a run that is cancelled, instead of driving it."""

    # --- driving a run

    def begin(self, run_id: str, *, session: str | None = None) -> Drive:
        """Make a new run, and drive it.

        Raises `RunExists` if there is a run of this id, and `RunBusy` if another run of the session has not ended.
        """
        owner = new_owner()
        with self.transaction() as db:
            made = db.execute(
                f"INSERT INTO agentkit_runs (run_id, root_id, session, status, owner, lease_until, created, updated)"
                f" VALUES (?, ?, ?, 'running', ?, {self.now} + ?, {self.now}, {self.now})"
                # a run whose process ended before it stored anything is begun again
                " ON CONFLICT (run_id) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until,"
                " session = excluded.session, session_from = NULL, session_to = NULL, status = excluded.status, cancelled = 0,"
                " stop_reason = NULL, error = NULL WHERE agentkit_runs.queue IS NULL"
                " AND NOT EXISTS (SELECT 1 FROM agentkit_events AS e WHERE e.run_id = agentkit_runs.run_id)"
                f" AND (agentkit_runs.owner IS NULL OR agentkit_runs.lease_until < {self.now})",
                (run_id, run_id, session, owner, self.lease),
            )
            if not made.rowcount:
                raise RunExists(f"there is a run {run_id!r} in the store, which {self._as_it_is(db, run_id)}")
            history = self._enter_session(db, session, run_id) if session else []
        return Drive(self, run_id, owner, session=session, history=history)

    def reopen(self, run_id: str, *, claimed_by: str | None = None) -> Drive:
        """Drive a run of the store, which the worker `claimed_by` must still have if that is given.

        Raises `StoreError` if there is no such run, and `RunBusy` if another process drives it.
        """
        owner = claimed_by or new_owner()
        is_free = "owner = ?" if claimed_by else f"(owner IS NULL OR owner = ? OR lease_until < {self.now})"
        with self.transaction() as db:
            if claimed_by is None and db.execute(_NOT_BEGUN, (run_id,)).fetchone():
                raise StoreError(f"run {run_id!r} has no events; it {self._as_it_is(db, run_id)}")
            taken = db.execute(
                f"UPDATE agentkit_runs SET owner = ?, lease_until = {self.now} + ?, updated = {self.now},"
                " cancelled = CASE WHEN status IN ('running', 'queued', 'paused') THEN cancelled ELSE 0 END,"
                " status = CASE WHEN status = 'queued' THEN 'running' ELSE status END"
                f" WHERE run_id = ? AND parent_id IS NULL AND {is_free}",
                (owner, self.lease, run_id, owner),
            )
            row = db.execute(
                f"SELECT status, session, owner, lease_until - {self.now}, root_id, session_to, cancelled"
                " FROM agentkit_runs WHERE run_id = ?",
                (run_id,),
            ).fetchone()
            if row is None:
                raise StoreError(f"there is no run {run_id!r} in {self}")
            if row[4] != run_id:
                raise StoreError(f"{run_id!r} is a child run of {row[4]!r}; resume that one, which drives it on")
            if not taken.rowcount and row[2] is None:
                raise RunBusy(f"run {run_id!r} is not claimed by this worker any more; it is {row[0]}")
            if not taken.rowcount:
                raise RunBusy(f"run {run_id!r} is driven by {row[2]}, whose lease ends in {max(0.0, row[3]):.0f} s")
            session = row[1] if row[1] and self._is_latest(db, row[1], row[5]) else None
            history = self._enter_session(db, session, run_id) if session else []
            answers = db.execute("SELECT kind, call_id, answer FROM agentkit_answers WHERE run_id = ?", (run_id,)).fetchall()
        given: dict[str, dict[str, Any]] = {"approval": {}, "result": {}}
        for kind, call_id, answer in answers:
            given[kind][call_id] = json.loads(answer)
        drive = Drive(self, run_id, owner, session=session, history=history, answers=given)
        drive.is_cancelled = bool(row[6])
        return drive

    def renew(self, run_id: str, owner: str) -> tuple[bool, bool]:
        """Renew the lease. Returns whether this owner still has the run, and whether it is to be cancelled."""
        with self.transaction() as db:
            kept = db.execute(
                f"UPDATE agentkit_runs SET lease_until = {self.now} + ?, updated = {self.now}"
                " WHERE run_id = ? AND owner = ? RETURNING cancelled",
                (self.lease, run_id, owner),
            ).fetchone()
        return kept is not None, bool(kept and kept[0])

    def release(self, run_id: str, owner: str) -> None:
        """Give the run back. A run of a queue that has not ended is queued again; one that has not begun is forgotten."""
        with self.transaction() as db:
            db.execute(
                "DELETE FROM agentkit_runs WHERE run_id = ? AND owner = ? AND queue IS NULL"
                " AND NOT EXISTS (SELECT 1 FROM agentkit_events AS e WHERE e.run_id = agentkit_runs.run_id)",
                (run_id, owner),
            )
            db.execute(
                "UPDATE agentkit_runs SET owner = NULL, lease_until = NULL,"
                " status = CASE WHEN status = 'running' AND queue IS NOT NULL THEN 'queued' ELSE status END"
                " WHERE run_id = ? AND owner = ?",
                (run_id, owner),
            )

    def refuse_answers(self, run_id: str, owner: str, misfits: Mapping[str, str], error: str) -> None:
        """Forget these answers, which do not fit their calls. A run that has paused waits for others, and `error` says why."""
        with self.transaction() as db:
            noted = f"UPDATE agentkit_runs SET error = ?, updated = {self.now} WHERE run_id = ? AND owner = ?"
            if db.execute(noted, (error, run_id, owner)).rowcount:
                self._refuse_answers(db, run_id, misfits)

    def append_rows(
        self,
        db: Database | Lazy,
        log: StoreLog,
        seq: int,
        events: Sequence[LastingEvent],
        *,
        rows: Sequence[Row],
        history: Mapping[str, int] | None = None,
    ) -> bool:
        """Store these events of a drive. Returns whether the run is to be cancelled. Raises `RunBusy` if the run was lost.

        They are stored only if this drive has the run at the top, and if they follow the last event of their run.
        """
        assert not isinstance(db, Lazy)
        if seq == 0 and log.parent_id is not None:
            db.execute(
                f"INSERT INTO agentkit_runs (run_id, parent_id, root_id, status, created, updated)"
                f" VALUES (?, ?, ?, 'running', {self.now}, {self.now}) ON CONFLICT (run_id) DO NOTHING",
                (log.run_id, log.parent_id, log.root_id),
            )
            self._check_parent(db, log)
        own = db.execute(
            "SELECT cancelled, (SELECT max(e.seq) FROM agentkit_events AS e WHERE e.run_id = ?) FROM agentkit_runs AS r"
            f" WHERE r.run_id = ? AND r.owner = ?{self.share_lock}",
            (log.run_id, log.root_id, log.owner),
        ).fetchone()
        if own is None or own[1] != (seq - 1 if seq else None):
            if self._is_stored(db, log, seq, rows, is_end=isinstance(events[-1], RunFinished)):
                return False
            raise RunBusy(self._why_lost(db, log, seq))
        for number, row in enumerate(rows, seq):
            db.execute("INSERT INTO agentkit_events (run_id, seq, data) VALUES (?, ?, ?)", (log.run_id, number, row.data))
            self._put_blobs(db, log.run_id, number, row)
        self._update_run(db, log, events, history)
        return bool(own[0])

    def _check_parent(self, db: Database, log: StoreLog) -> None:
        """Raise `StoreError` if there is a run with the id of this one that is not a child of the same run."""
        row = db.execute("SELECT parent_id FROM agentkit_runs WHERE run_id = ?", (log.run_id,)).fetchone()
        if row is not None and row[0] != log.parent_id:
            raise StoreError(
                f"there is a run {log.run_id!r} already, which is not a child run of {log.parent_id!r}; give the runs of your"
                " program other ids: those of child runs are made of the parent's id, a colon and the number of the call"
            )

    def _update_run(
        self, db: Database, log: StoreLog, events: Sequence[LastingEvent], history: Mapping[str, int] | None
    ) -> None:
        """Write what these events change in the row of their run, and in its session."""
        for event in events:
            if (
                isinstance(event, ApprovalGiven | ResultGiven)
                and log.parent_id is None
                and not isinstance(events[0], RunStarted)
            ):
                self._keep_answer(db, log, event)
        changes = changes_of(events)
        if history is not None:
            changes["history"] = json.dumps(history)
        if not changes:
            return
        if changes.get("status") == "paused" and self._is_answered(db, log.run_id, changes["pending"]):
            changes["status"] = "queued"
        has_ended = isinstance(events[-1], RunFinished) and log.parent_id is None
        self.set_columns(db, log.run_id, changes | ({"owner": None, "lease_until": None} if has_ended else {}))
        if has_ended:
            self._end_children(db, log.run_id)
            if log.session:
                self._leave_session(db, log, cast("RunFinished", events[-1]))

    def set_columns(self, db: Database, run_id: str, changes: Mapping[str, Any]) -> None:
        """Write these columns of the row of a run."""
        columns = "".join(f", {name} = ?" for name in changes)
        db.execute(f"UPDATE agentkit_runs SET updated = {self.now}{columns} WHERE run_id = ?", (*changes.values(), run_id))

    def _end_children(self, db: Database, root_id: str) -> None:
        """The run at the top has ended: its child runs that have not are not driven on."""
        db.execute(
            "UPDATE agentkit_runs SET status = 'cancelled', pending = NULL WHERE root_id = ? AND parent_id IS NOT NULL"
            " AND status IN ('running', 'paused')",
            (root_id,),
        )

    def _is_stored(self, db: Database, log: StoreLog, seq: int, rows: Sequence[Row], *, is_end: bool) -> bool:
        """Whether this drive has stored exactly these rows already: the server went away before it could confirm them.

        With its end, a run was given back, and another drive may have it.
        """
        stored = db.execute(
            "SELECT e.data FROM agentkit_events AS e JOIN agentkit_runs AS r ON r.run_id = ? AND (r.owner = ? OR ?)"
            " WHERE e.run_id = ? AND e.seq >= ? ORDER BY e.seq",
            (log.root_id, log.owner, is_end, log.run_id, seq),
        ).fetchall()
        return [data for (data,) in stored] == [row.data for row in rows]

    def _put_blobs(self, db: Database, run_id: str, seq: int, row: Row) -> None:
        for blob in row.blobs:
            self.put_blob(db, blob)
            db.execute(
                "INSERT INTO agentkit_event_blobs (run_id, seq, path, hash) VALUES (?, ?, ?, ?)",
                (run_id, seq, blob.path, blob.hash),
            )

    def _why_lost(self, db: Database, log: StoreLog, seq: int) -> str:
        root = db.execute("SELECT owner FROM agentkit_runs WHERE run_id = ?", (log.root_id,)).fetchone()
        if root is None:
            return f"run {log.root_id!r} is not in the store any more"
        if root[0] != log.owner:
            return f"run {log.run_id!r} is not driven by {log.owner} any more, but by {root[0] or 'nobody'}"
        count = db.execute("SELECT count(*) FROM agentkit_events WHERE run_id = ?", (log.run_id,)).fetchone()[0]
        return f"event {seq} of run {log.run_id!r}, which has {count} events: another process drives it"

    def note_parts(self, parts: Mapping[str, Any]) -> None:
        """Store the parts of an agent by their names and digests. Of the fields of `extra_body`, only the names are stored."""
        from pydantic_core import to_json

        with self.transaction() as db:
            for digest, part in parts.items():
                known = {**part, "extra_body": [*part["extra_body"]]} if isinstance(part, dict) else part
                db.execute(
                    "INSERT INTO agentkit_agents (digest, data) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING",
                    (digest, to_json(known, inf_nan_mode="strings", serialize_unknown=True).decode()),
                )

    def part(self, name: str, digest: str) -> Any:
        """A part of an agent ("tools", "output" or "settings") by its digest in a fingerprint; None if it is not known."""
        with self.reading() as db:
            row = db.execute("SELECT data FROM agentkit_agents WHERE digest = ?", (f"{name}:{digest}",)).fetchone()
        return json.loads(row[0]) if row else None

    # --- deleting

    def delete_tree(self, db: Database, root: str) -> None:
        """Delete a run and its child runs."""
        tree = "(SELECT run_id FROM agentkit_runs WHERE root_id = ?)"
        for table in ("agentkit_events", "agentkit_event_blobs", "agentkit_answers"):
            db.execute(f"DELETE FROM {table} WHERE run_id IN {tree}", (root,))
        db.execute("DELETE FROM agentkit_runs WHERE root_id = ?", (root,))

    def drop_blobs(self, db: Database) -> None:
        """Delete the large texts that no event and no message of a session has any more."""
        unused = "hash NOT IN (SELECT hash FROM agentkit_event_blobs) AND hash NOT IN (SELECT hash FROM agentkit_session_blobs)"
        found = db.execute(f"SELECT hash FROM agentkit_blobs WHERE {unused}{self.row_lock}").fetchall()
        for (hash,) in found:  # each is looked at again, now that nobody else can come to use it
            db.execute(f"DELETE FROM agentkit_blobs WHERE hash = ? AND {unused}", (hash,))

    def events_of(self, log: StoreLog) -> list[LastingEvent]:
        """The events of the log of a drive. Raises `StoreError` if another run has the id of a child run."""
        with self.reading() as db:
            if log.parent_id is not None:
                self._check_parent(db, log)
            return self._events(db, log.run_id)

    def _as_it_is(self, db: Database, run_id: str) -> str:
        """What a run is, and what can be done with it."""
        row = db.execute("SELECT status, queue, error FROM agentkit_runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            return "is gone"
        status, queue, error = row
        if has_begun(db, run_id):
            return f"is {status}: resume it, or choose another run_id"
        why = f" ({error})" if error else ""
        if status in ENDED:
            return f"is {status}, and never began{why}: choose another run_id"
        gone = "its process is about to begin it; if that is gone, run it with this run_id again when its lease is over"
        return f"is {status}, and has not begun{why}: {f'a worker of the queue {queue!r} begins it' if queue else gone}"


_NOT_BEGUN = (
    "SELECT 1 FROM agentkit_runs AS r WHERE run_id = ? AND parent_id IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM agentkit_events AS e WHERE e.run_id = r.run_id)"
)


def has_begun(db: Database, run_id: str) -> bool:
    """Whether the run has an event."""
    return bool(db.execute("SELECT 1 FROM agentkit_events WHERE run_id = ? LIMIT 1", (run_id,)).fetchone())
