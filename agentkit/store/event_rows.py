"""The rows of events, and what they are read as."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
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
        if not rows:
            return []
        if [seq for seq, _ in rows] != list(range(after + 1, after + 1 + len(rows))):
            raise ValueError(f"the events of run {run_id!r} have gaps: they were changed from outside")
        row: Any = db.execute(
            "SELECT session, history, EXISTS (SELECT 1 FROM agentkit_event_blobs AS e WHERE e.run_id = r.run_id)"
            " FROM agentkit_runs AS r WHERE r.run_id = ?",
            (run_id,),
        ).fetchone()
        session, history, has_blobs = row if row is not None else ("", None, True)
        large = self._large_texts(db, run_id, after) if has_blobs else {}
        found = [_event(run_id, seq, data, large.get(seq, ())) for seq, data in rows]
        if history is not None and isinstance(found[0], RunStarted):
            found[0] = self._with_history(db, run_id, found[0], session, json.loads(history))
        return found

    def _large_texts(self, db: Database, run_id: str, after: int) -> dict[int, list[tuple[str, str]]]:
        large: dict[int, list[tuple[str, str]]] = {}
        for seq, path, text in db.execute(
            "SELECT e.seq, e.path, b.data FROM agentkit_event_blobs AS e JOIN agentkit_blobs AS b ON b.hash = e.hash"
            " WHERE e.run_id = ? AND e.seq > ?",
            (run_id, after),
        ).fetchall():
            large.setdefault(seq, []).append((path, text))
        return large

    def _with_history(
        self, db: Database, run_id: str, first: RunStarted, session: str, history: Mapping[str, int]
    ) -> RunStarted:
        """The first event with the conversation that it goes on with, which is stored with the session."""
        at, length = history["at"], history["length"]
        messages = self._session_messages(db, session, length)
        if len(messages) < length:
            raise ValueError(f"run {run_id!r} goes on with the session {session!r}, whose messages were deleted")
        return replace(first, messages=(*first.messages[:at], *messages, *first.messages[at:]))


def _event(run_id: str, seq: int, data: str, blobs: Sequence[tuple[str, str]]) -> LastingEvent:
    try:
        return decoded(data, blobs)
    except ValueError as error:
        raise ValueError(f"event {seq} of run {run_id!r} cannot be read: {error}") from error
