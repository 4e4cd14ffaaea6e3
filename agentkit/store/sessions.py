"""Conversations that go on over several runs."""

from __future__ import annotations

from ..errors import RunBusy, SettingsError
from ..messages import Message
from ..names import check_name
from .database import ENDED
from .sql import SqlStore

__all__ = ["Session"]


class Session:
    """A conversation in a store: `agent.run("...", store=store, session=name)` goes on with it.

    The messages of a run are added when it ends, if the model has answered at least once.
    """

    def __init__(self, store: SqlStore, name: str) -> None:
        self._store, self.name = store, name

    def __repr__(self) -> str:
        return f"Session({self.name!r})"

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, without instructions; empty if there is none."""
        with self._store.reading() as db:
            return self._store._session_messages(db, self.name)

    def fork(self, name: str, *, length: int | None = None) -> Session:
        """A new conversation that begins with the first `length` messages of this one (None: all).

        Raises `SettingsError` if there is a conversation of the new name, if this one has not begun, or if it is shorter.
        """
        check_name("session", name)
        if length is not None and (not isinstance(length, int) or length < 0):
            raise SettingsError(f"length is {length!r:.80}; allowed: a whole number of messages, or None")
        store = self._store
        with store.transaction() as db:
            found = db.execute(
                "SELECT count(*) FROM agentkit_session_messages WHERE session = ? AND position < ?",
                (self.name, 2**31 - 1 if length is None else min(length, 2**31 - 1)),
            ).fetchone()[0]
            if not found and length != 0:
                raise SettingsError(f"the session {self.name!r} has no messages; there is nothing to fork")
            if length is not None and found < length:
                raise SettingsError(f"the session {self.name!r} has {found} messages; length is {length}")
            made = db.execute(
                f"INSERT INTO agentkit_sessions (session, created, updated) VALUES (?, {store.now}, {store.now})"
                " ON CONFLICT (session) DO NOTHING",
                (name,),
            )
            if not made.rowcount:
                raise SettingsError(f"there is a session {name!r} already; choose another name")
            for table, columns in (("agentkit_session_messages", "data"), ("agentkit_session_blobs", "path, hash")):
                db.execute(
                    f"INSERT INTO {table} (session, position, {columns})"
                    f" SELECT ?, position, {columns} FROM {table} WHERE session = ? AND position < ?",
                    (name, self.name, found),
                )
            db.execute("UPDATE agentkit_sessions SET length = ? WHERE session = ?", (found, name))
        return Session(store, name)

    def delete(self) -> None:
        """Delete the conversation and all of its runs. Raises `RunBusy` if one of them has not ended."""
        store = self._store
        with store.transaction() as db:
            runs = db.execute("SELECT run_id, status FROM agentkit_runs WHERE session = ?", (self.name,)).fetchall()
            for run_id, status in runs:
                if status not in ENDED:
                    raise RunBusy(f"run {run_id!r} of the session {self.name!r} has not ended; it is {status}")
            for run_id, _ in runs:
                store.delete_tree(db, run_id)
            for table in ("agentkit_session_blobs", "agentkit_session_messages", "agentkit_sessions"):
                db.execute(f"DELETE FROM {table} WHERE session = ?", (self.name,))
            store.drop_blobs(db)
