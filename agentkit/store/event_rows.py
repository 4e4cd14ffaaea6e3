"""The rows of events, and what they are read as."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from ..events import LastingEvent, RunStarted
from .database import Database
from .rows import decoded

__all__ = ["EventRows"]

_MAX_SEQ = 2**31 - 1


class EventRows:
    """The events of a run are numbered from 0, without gaps."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Database]:
        """A connection that reads one snapshot and locks nothing."""

    @abstractmethod
    def _session_messages(self, db: Database, session: str, length: int | None = None) -> list[Any]: ...

    def events(self, run_id: str, *, after: int = -1) -> list[LastingEvent]:
        """The events of a run after number `after`, in order; none for a run that is not there.

        Raises ValueError for what cannot be read.
        """
        with self.reading() as db:
            return self._events(db, run_id, min(max(after, -1), _MAX_SEQ))

    def _events(self, db: Database, run_id: str, after: int = -1) -> list[LastingEvent]:
        rows = db.execute(
            "SELECT seq, data FROM agentkit_events WHERE run_id = ? AND seq > ? ORDER BY seq", (run_id, after)
        ).fetchall()
        large: dict[int, list[tuple[str, str]]] = {}
        for seq, path, text in db.execute(
            "SELECT e.seq, e.path, b.data FROM agentkit_event_blobs AS e JOIN agentkit_blobs AS b ON b.hash = e.hash"
            " WHERE e.run_id = ? AND e.seq > ?",
            (run_id, after),
        ).fetchall():
            large.setdefault(seq, []).append((path, text))
        if [seq for seq, _ in rows] != list(range(after + 1, after + 1 + len(rows))):
            raise ValueError(f"the events of run {run_id!r} have gaps: they were changed from outside")
        found = [_event(run_id, seq, data, large.get(seq, ())) for seq, data in rows]
        if found and isinstance(found[0], RunStarted):
            found[0] = self._with_history(db, run_id, found[0])
        return found

    def _with_history(self, db: Database, run_id: str, first: RunStarted) -> RunStarted:
        row = db.execute("SELECT session, history FROM agentkit_runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None or row[1] is None:
            return first
        at, length = json.loads(row[1])["at"], json.loads(row[1])["length"]
        history = self._session_messages(db, row[0], length)
        if len(history) < length:
            raise ValueError(f"run {run_id!r} goes on with the session {row[0]!r}, whose messages were deleted")
        return replace(first, messages=(*first.messages[:at], *history, *first.messages[at:]))


def _event(run_id: str, seq: int, data: str, blobs: Sequence[tuple[str, str]]) -> LastingEvent:
    try:
        return decoded(data, blobs)
    except ValueError as error:
        raise ValueError(f"event {seq} of run {run_id!r} cannot be read: {error}") from error
