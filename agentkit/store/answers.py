"""The rows of answers: approvals and results that were given to calls. The first one counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from ..events import ApprovalGiven, ResultGiven
from .database import Database
from .listing import answered_calls

if TYPE_CHECKING:
    from .drive import StoreLog

__all__ = ["AnswerRows"]


class AnswerRows:
    """An answer is stored before the run goes on with it, whoever gives it."""

    now: str
    """The database's time, in seconds since 1970, as an SQL expression."""

    def _keep_answer(self, db: Database, log: StoreLog, event: ApprovalGiven | ResultGiven) -> None:
        """Keep an answer that was given to the process that drives the run. Raises `StoreError` if another one came first."""
        kind, answer = given_as(event)
        is_new = self._put_answer(db, log.run_id, event.call_id, kind, json.dumps(answer))
        if is_new or event.call_id in log.known_answers:
            return
        (first,) = db.execute(
            "SELECT answer FROM agentkit_answers WHERE run_id = ? AND call_id = ?", (log.run_id, event.call_id)
        ).fetchone()
        if json.loads(first) != answer:
            raise StoreError(f"the call {event.call_id!r} was answered meanwhile, with {first}; that answer counts")

    def _put_answer(self, db: Database, run_id: str, call_id: str, kind: str, answer: str) -> bool:
        """Store the answer if it is the first of its kind. The result of an outside call takes the place of its approval."""
        new = db.execute(
            f"INSERT INTO agentkit_answers (run_id, call_id, kind, answer, at) VALUES (?, ?, ?, ?, {self.now})"
            " ON CONFLICT (run_id, call_id) DO UPDATE SET kind = excluded.kind, answer = excluded.answer, at = excluded.at"
            " WHERE agentkit_answers.kind <> excluded.kind",
            (run_id, call_id, kind, answer),
        )
        return bool(new.rowcount)

    def _note_answer(self, db: Database, run_id: str, call_id: str, pending: str) -> None:
        """A call that a paused run waits for was answered: why an earlier answer was refused is of no interest any more."""
        calls = [call if call["id"] != call_id else _without_error(call) for call in json.loads(pending)]
        error = "error" if any("error" in call for call in calls) else "NULL"
        status = "queued" if self._is_answered(db, run_id, pending) else "paused"
        db.execute(
            f"UPDATE agentkit_runs SET pending = ?, error = {error}, status = ? WHERE run_id = ? AND status = 'paused'",
            (json.dumps(calls), status, run_id),
        )

    def _is_answered(self, db: Database, run_id: str, pending: str) -> bool:
        """Whether all calls that a run waits for have an answer, and a worker can go on with it."""
        answered = answered_calls(db, run_id)
        return all((call["id"], call["kind"]) in answered for call in json.loads(pending)) and bool(
            db.execute("SELECT 1 FROM agentkit_runs WHERE run_id = ? AND queue IS NOT NULL", (run_id,)).fetchone()
        )

    def _refuse_answers(self, db: Database, run_id: str, misfits: Mapping[str, str]) -> None:
        """Forget answers that do not fit their calls, and keep why with the calls that wait."""
        for call_id in misfits:
            db.execute("DELETE FROM agentkit_answers WHERE run_id = ? AND call_id = ?", (run_id, call_id))
        (pending,) = db.execute("SELECT pending FROM agentkit_runs WHERE run_id = ?", (run_id,)).fetchone()
        if pending is not None:
            calls = [{**call, "error": misfits[call["id"]]} if call["id"] in misfits else call for call in json.loads(pending)]
            waits = "UPDATE agentkit_runs SET status = 'paused', pending = ? WHERE run_id = ?"
            db.execute(waits, (json.dumps(calls), run_id))


def _without_error(call: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in call.items() if name != "error"}


def given_as(event: ApprovalGiven | ResultGiven) -> tuple[str, Any]:
    """The kind of an answer, and the answer as it was given."""
    if isinstance(event, ResultGiven):
        return "result", json.loads(event.content) if event.is_json else event.content
    by = {"by": event.by} if event.by else {}
    if event.arguments is not None:
        return "approval", {"args": json.loads(event.arguments), **by}
    if event.reason:
        return "approval", {"deny": event.reason, **by}
    return "approval", {"approve": event.approved, **by} if by else event.approved
