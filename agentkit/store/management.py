"""What is done with stored runs from outside: listing, answers, cancelling, forking, and the queue."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ..errors import SettingsError, StoreError
from ..events import ApprovalGiven, LastingEvent, ResultGiven, RunFinished, stamp
from ..messages import ToolCall
from ..names import check_name
from ..run.approvals import answer_of
from ..run.ending import closing_answers
from ..run.fork import in_own_logs
from ..run.result import RunResult
from ..run.state import RunState
from .database import ENDED, Database
from .drive import Drive, StoreLog, new_owner
from .listing import COLUMNS, StoredRun, answered_calls, place_of, run_of
from .queue import Queue
from .rows import encoded
from .sessions import Session
from .sql import has_begun
from .status import changes_of, summary_of

__all__ = ["Management", "StoredRun"]

Answered: TypeAlias = Literal["done", "same"]


class Management(Queue):
    """Blocking and thread-safe calls, which take milliseconds. In an event loop, make them with `asyncio.to_thread`."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections. The store can still be used; it opens others then."""

    def session(self, name: str) -> Session:
        """The conversation of this name. It need not exist."""
        check_name("session", name)
        return Session(self, name)

    def sessions(self) -> list[str]:
        """The names of all conversations, the newest first."""
        with self.reading() as db:
            rows = db.execute("SELECT session FROM agentkit_sessions ORDER BY updated DESC, session").fetchall()
        return [name for (name,) in rows]

    def runs(self, *, status: str | None = None, children: bool = False, limit: int | None = None) -> list[StoredRun]:
        """The runs, the newest first, or those with this `status`. Child runs are left out without `children`."""
        if status is not None and status not in (allowed := ("queued", "running", "paused", *ENDED)):
            raise SettingsError(f"status is {status!r:.80}; allowed: {', '.join(allowed)}")
        where = ["1 = 1", *(["status = ?"] if status else []), *([] if children else ["parent_id IS NULL"])]
        with self.reading() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM agentkit_runs AS r WHERE {' AND '.join(where)} ORDER BY created DESC, run_id LIMIT ?",
                (*([status] if status else []), 2**31 - 1 if limit is None else limit),
            ).fetchall()
            return [run_of(db, row) for row in rows]

    def get(self, run_id: str) -> StoredRun:
        """The run with this id. Raises `StoreError` if there is none."""
        with self.reading() as db:
            row = db.execute(f"SELECT {COLUMNS} FROM agentkit_runs AS r WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                raise StoreError(f"there is no run {run_id!r} in {self}")
            return run_of(db, row)

    def submitted(self, run_id: str) -> Any:
        """The JSON value that a run was submitted with, of which workers make its deps; None for a run of no queue."""
        with self.reading() as db:
            row = db.execute("SELECT deps FROM agentkit_runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None:
            raise StoreError(f"there is no run {run_id!r} in {self}")
        return json.loads(row[0] or "null")

    def state(self, run_id: str) -> RunState:
        """The state of a run, folded from its events. Raises `StoreError` if there is no such run, or it has not begun."""
        return RunState.replay(self._begun(run_id))

    def _begun(self, run_id: str) -> list[LastingEvent]:
        """The events of a run. Raises `StoreError` if there are none."""
        events = self.events(run_id)
        if not events:
            raise StoreError(f"run {run_id!r} has no events yet; it is {self.get(run_id).status}")
        return events

    def approve(self, run_id: str, call_id: str, answer: bool | Mapping[str, Any] = True) -> Answered:
        """Answer a call that waits for an approval, as `approvals` of `Agent.resume` does. The first answer counts.

        Returns "done", or "same" if the same answer was given before. A run of a queue goes on when all calls that it waits for
        are answered; any other run, with `agent.resume(run_id, store=store)`. Raises `StoreError` if the call has another
        answer, or does not wait.
        """
        answer_of(answer, ToolCall(call_id, "the call", ""), None)
        return self._answer(run_id, call_id, "approval", json.dumps(answer))

    def answer(self, run_id: str, call_id: str, value: Any) -> Answered:
        """Give the result of a call of an outside tool, a value that JSON can hold. Otherwise as `approve`."""
        try:
            return self._answer(run_id, call_id, "result", json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise SettingsError(f"the result of {call_id} is {value!r:.80}; allowed: what JSON can hold ({error})") from None

    def _answer(self, run_id: str, call_id: str, kind: str, text: str) -> Answered:
        with self.transaction() as db:
            row = db.execute(
                f"SELECT status, pending, parent_id FROM agentkit_runs WHERE run_id = ?{self.row_lock}", (run_id,)
            ).fetchone()
            if row is None:
                raise StoreError(f"there is no run {run_id!r} in {self}")
            known = db.execute(
                "SELECT answer FROM agentkit_answers WHERE run_id = ? AND call_id = ? AND kind = ?", (run_id, call_id, kind)
            ).fetchone()
            if known is None:
                self._check_waiting(db, run_id, call_id, kind, row)
                self._put_answer(db, run_id, call_id, kind, text)
                if row[1] is not None:
                    self._note_answer(db, run_id, call_id, row[1])
            elif json.loads(known[0]) != json.loads(text):
                raise StoreError(
                    f"the call {call_id!r} of run {run_id!r} was answered before, with {known[0]}; that answer counts"
                )
            elif row[0] in ENDED and call_id not in self._used_answers(db, run_id):
                raise StoreError(f"too late: run {run_id!r} has ended without the answer; it is {row[0]}")
        return "same" if known else "done"

    def _used_answers(self, db: Database, run_id: str) -> set[str]:
        """The calls whose answers the run has gone on with."""
        return {event.call_id for event in self._events(db, run_id) if isinstance(event, ApprovalGiven | ResultGiven)}

    def _check_waiting(self, db: Database, run_id: str, call_id: str, kind: str, row: Any) -> None:
        """Raise unless this call waits, or is about to: a run that has just asked pauses a moment later."""
        status, pending, parent_id = row
        if parent_id is not None:
            root_id, before = place_of(db, run_id)
            raise StoreError(f"{run_id!r} is a child run of {root_id!r}; answer the call {before + call_id!r} of that one")
        if status in ENDED:
            raise StoreError(f"too late: run {run_id!r} has ended; it is {status}")
        waiting = {call["id"]: call["kind"] for call in json.loads(pending or "[]")}
        if status == "running":
            state = RunState.replay(self._events(db, run_id))
            waiting = {**dict.fromkeys((c.id for c in state.waiting), "approval"), **{c.id: "result" for c in state.outside}}
        if call_id not in waiting:
            answered = answered_calls(db, run_id)
            listed = ", ".join(name for name, waits in waiting.items() if (name, waits) not in answered) or "none"
            raise StoreError(f"no call {call_id!r} of run {run_id!r} waits; waiting: {listed} (the run is {status})")
        if waiting[call_id] != kind:
            raise StoreError(f"the call {call_id!r} waits for {_A[waiting[call_id]]}, not for {_A[kind]}")

    def cancel(self, run_id: str) -> Literal["done", "asked", "same"]:
        """Cancel a run. "done": it is cancelled. "asked": the process that drives it ends it. "same": it was cancelled before.

        Raises `StoreError` if there is no such run, or it has ended otherwise.
        """
        owner = new_owner()
        with self.transaction() as db:
            row = db.execute(
                f"SELECT status, owner IS NOT NULL AND lease_until >= {self.now}, root_id FROM agentkit_runs"
                f" WHERE run_id = ?{self.row_lock}",
                (run_id,),
            ).fetchone()
            if row is None:
                raise StoreError(f"there is no run {run_id!r} in {self}")
            status, is_driven, root_id = row
            if root_id != run_id:
                raise StoreError(f"{run_id!r} is a child run of {root_id!r}; cancel that one")
            if status == "cancelled":
                return "same"
            if status in ENDED:
                raise StoreError(f"too late: run {run_id!r} has ended; it is {status}")
            if is_driven:
                db.execute("UPDATE agentkit_runs SET cancelled = 1 WHERE run_id = ?", (run_id,))
                return "asked"
            # from here on it is this one's: a worker that had it stores nothing more, and none takes it
            if not has_begun(db, run_id):
                ended = f"status = 'cancelled', stop_reason = 'cancelled', owner = NULL, updated = {self.now}"
                db.execute(f"UPDATE agentkit_runs SET {ended} WHERE run_id = ?", (run_id,))
                return "done"
            taken = f"UPDATE agentkit_runs SET owner = ?, lease_until = {self.now} + ? WHERE run_id = ?"
            db.execute(taken, (owner, self.lease, run_id))
        try:
            self.end_cancelled(self.reopen(run_id, claimed_by=owner))
        finally:
            self.release(run_id, owner)
        return "done"

    def end_cancelled(self, drive: Drive) -> None:
        """Write the end of a run that is cancelled, instead of driving it."""
        state = RunState.replay(self.events(drive.run_id))
        seq = len(state.events)
        if not seq:
            with self.transaction() as db:
                db.execute(
                    f"UPDATE agentkit_runs SET status = 'cancelled', stop_reason = 'cancelled', updated = {self.now}"
                    " WHERE run_id = ? AND owner = ?",
                    (drive.run_id, drive.owner),
                )
            return
        last = RunFinished("cancelled", result=RunResult(None, state))
        end: list[LastingEvent] = [*closing_answers(state, "ended"), last]
        for event in end:
            state.apply(stamp(event, time.time()))
        events = state.events[seq:]
        with self.transaction() as db:
            self.append_rows(db, drive.log, seq, events, rows=[encoded(event) for event in events])

    def fork(self, run_id: str, *, at: int, new_id: str | None = None) -> str:
        """A new run with the events before number `at` (from 0) of this one. Returns its id. Its calls have new keys.

        It is not of a session. If this run is of a queue, the new one is queued there too, unless it has ended. Raises
        `SettingsError` if a call of those events goes on in a child run, and `RunExists`.
        """
        if new_id is not None:
            check_name("new_id", new_id)
        events = self.state(run_id).events
        _check_forkable(events, run_id, at)
        fork = RunState.replay(events).fork(until=at, run_id=new_id)
        drive = self.begin(fork.run_id)
        try:
            with self.transaction() as db:
                rows = [encoded(event) for event in fork.events]
                self.append_rows(db, StoreLog(drive, fork.run_id), 0, fork.events, rows=rows)
                self.set_columns(db, fork.run_id, {**changes_of(fork.events, fork), **summary_of(fork)})
                for name in ("queue", "agent", "task", "deps", "priority"):
                    db.execute(
                        f"UPDATE agentkit_runs SET {name} = (SELECT o.{name} FROM agentkit_runs AS o WHERE o.run_id = ?)"
                        " WHERE run_id = ?",
                        (run_id, fork.run_id),
                    )
        finally:
            self.release(fork.run_id, drive.owner)
        return fork.run_id

    def prune(self, *, older_than: float) -> int:
        """Delete the runs that ended at least `older_than` seconds ago, with their child runs. Returns how many runs.

        The conversations of sessions stay.
        """
        if not older_than >= 0:
            raise SettingsError(f"older_than is {older_than!r}; allowed: seconds, 0 or more")
        with self.transaction() as db:
            ended = f"status IN ('finished', 'failed', 'cancelled') AND updated <= {self.now} - ? AND parent_id IS NULL"
            roots = db.execute(f"SELECT run_id FROM agentkit_runs WHERE {ended}", (older_than,)).fetchall()
            for (root,) in roots:
                self.delete_tree(db, root)
            self.drop_blobs(db)
        return len(roots)


_A = {"approval": "an approval", "result": "a result"}


def _check_forkable(events: Sequence[LastingEvent], run_id: str, at: int) -> None:
    """Raise `SettingsError` if there is no such place, or a call goes on in a child run there, which belongs to this run."""
    state, inside = RunState(), dict[int, str]()
    for number, event in enumerate(events, 1):
        state.apply(event)
        if calls := in_own_logs(state.open_calls):
            inside[number] = calls[0]
    allowed = [number for number in range(1, len(events) + 1) if number not in inside]
    if at not in allowed:
        why = f"it has {len(events)} events"
        if at in inside:
            why = f"its call {inside[at]} goes on in a child run there, which two runs cannot share"
        raise SettingsError(f"at is {at!r:.80}; of run {run_id!r}, {why}; allowed: {_ranges(allowed)}")


def _ranges(numbers: Sequence[int]) -> str:
    """The numbers in words, such as "1 to 3, 7"."""
    known = {*numbers}
    firsts = [number for number in numbers if number - 1 not in known]
    lasts = [number for number in numbers if number + 1 not in known]
    return ", ".join(f"{first} to {last}" if first < last else f"{first}" for first, last in zip(firsts, lasts, strict=True))
