"""The rows of sessions: which run has one, and its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import RunBusy
from ..events import RunFinished
from ..run.state import RunState
from .database import ENDED, Database
from .rows import Blob, messages_from, messages_to, value_of

if TYPE_CHECKING:
    from .drive import StoreLog

__all__ = ["SessionRows"]


class SessionRows:
    """A run has its session from its beginning to its end."""

    now: str
    """The database's time, in seconds since 1970, as an SQL expression."""

    def _session_messages(self, db: Database, session: str, length: int | None = None) -> list[Any]:
        given = session, 2**31 - 1 if length is None else length
        rows = db.execute(
            "SELECT position, data FROM agentkit_session_messages WHERE session = ? AND position < ? ORDER BY position", given
        ).fetchall()
        large: dict[int, list[tuple[str, str]]] = {}
        for position, path, text in db.execute(
            "SELECT m.position, m.path, b.data FROM agentkit_session_blobs AS m JOIN agentkit_blobs AS b ON b.hash = m.hash"
            " WHERE m.session = ? AND m.position < ?",
            given,
        ).fetchall():
            large.setdefault(position, []).append((path, text))
        return messages_from(value_of(data, large.get(position, ())) for position, data in rows)

    def put_blob(self, db: Database, blob: Blob) -> None:
        """Store a large text, if it is not there. The row is locked, so that no `prune` takes it away."""
        db.execute(
            "INSERT INTO agentkit_blobs (hash, data) VALUES (?, ?) ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash",
            (blob.hash, blob.data),
        )

    def _enter_session(self, db: Database, session: str, run_id: str) -> list[Any]:
        """Give the session to this run, and return its messages. Raises `RunBusy` if another run has it."""
        self.take_session(db, session, run_id)
        db.execute(
            "UPDATE agentkit_runs SET"
            " session_from = (SELECT s.length FROM agentkit_sessions AS s WHERE s.session = agentkit_runs.session),"
            " session_to = (SELECT s.length FROM agentkit_sessions AS s WHERE s.session = agentkit_runs.session)"
            " WHERE run_id = ? AND session_from IS NULL",
            (run_id,),
        )
        return self._session_messages(db, session)

    def take_session(self, db: Database, session: str, run_id: str) -> None:
        """Give the session to this run. Raises `RunBusy` if another run has it."""
        db.execute(
            f"INSERT INTO agentkit_sessions (session, created, updated) VALUES (?, {self.now}, {self.now})"
            " ON CONFLICT (session) DO UPDATE SET session = excluded.session",  # which locks the row
            (session,),
        )
        holder = db.execute(
            f"SELECT r.run_id, r.status, r.owner IS NOT NULL AND r.lease_until >= {self.now}"
            " FROM agentkit_sessions AS s JOIN agentkit_runs AS r ON r.run_id = s.run_id WHERE s.session = ?",
            (session,),
        ).fetchone()
        if holder is not None and holder[0] != run_id and holder[1] not in ENDED:
            error = RunBusy(
                f"run {holder[0]!r} of the session {session!r} has not ended; it is {holder[1]}. Resume it, or cancel it"
            )
            error.ends_soon = bool(holder[2]) or holder[1] == "queued"
            raise error
        db.execute("UPDATE agentkit_sessions SET run_id = ? WHERE session = ?", (run_id, session))

    def _is_latest(self, db: Database, session: str, session_to: int | None) -> bool:
        """Whether no other run has added to the session since. Else the run goes on without it."""
        row = db.execute("SELECT length FROM agentkit_sessions WHERE session = ?", (session,)).fetchone()
        return row is None or session_to is None or row[0] == session_to

    def _leave_session(self, db: Database, log: StoreLog, last: RunFinished) -> None:
        """Add the messages of a run that has ended, if the model said anything in it; after a resume, only the further ones."""
        state: RunState = last.result.state
        row = db.execute(
            "SELECT s.length, s.length - r.session_from FROM agentkit_sessions AS s"
            " JOIN agentkit_runs AS r ON r.run_id = s.run_id WHERE s.session = ? AND s.run_id = ?",
            (log.session, log.run_id),
        ).fetchone()
        if row is None:
            return
        length, added = row
        rows = messages_to(state.messages[state.new_from + added :]) if state.steps else []
        for position, new in enumerate(rows, length):
            db.execute(
                "INSERT INTO agentkit_session_messages (session, position, data) VALUES (?, ?, ?)",
                (log.session, position, new.data),
            )
            for blob in new.blobs:
                self.put_blob(db, blob)
                db.execute(
                    "INSERT INTO agentkit_session_blobs (session, position, path, hash) VALUES (?, ?, ?, ?)",
                    (log.session, position, blob.path, blob.hash),
                )
        length += len(rows)
        db.execute(
            f"UPDATE agentkit_sessions SET run_id = NULL, length = ?, updated = {self.now} WHERE session = ?",
            (length, log.session),
        )
        db.execute("UPDATE agentkit_runs SET session_to = ? WHERE run_id = ?", (length, log.run_id))
