"""The tables, and how an older database becomes a newer one. The same SQL for SQLite and Postgres."""

from __future__ import annotations

__all__ = ["APPLICATION", "MIGRATIONS", "VERSION"]

APPLICATION = 0x61676B74
"""The `application_id` of a SQLite file of ours: "agkt"."""

_V1 = """
CREATE TABLE agentkit_runs (
    run_id TEXT PRIMARY KEY, parent_id TEXT, root_id TEXT NOT NULL, session TEXT, session_from INTEGER, session_to INTEGER,
    history TEXT, status TEXT NOT NULL, stop_reason TEXT, error TEXT, output TEXT, output_blobs TEXT, pending TEXT,
    uncertain TEXT,
    steps INTEGER NOT NULL DEFAULT 0, usage TEXT, cost DOUBLE PRECISION,
    seen INTEGER NOT NULL DEFAULT 0,
    owner TEXT, lease_until DOUBLE PRECISION, broken INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0,
    queue TEXT, agent TEXT, task TEXT, deps TEXT, priority INTEGER NOT NULL DEFAULT 0, run_at DOUBLE PRECISION,
    created DOUBLE PRECISION NOT NULL, updated DOUBLE PRECISION NOT NULL
);
CREATE INDEX agentkit_runs_due ON agentkit_runs (queue, status, priority, created);
CREATE INDEX agentkit_runs_tree ON agentkit_runs (root_id);
CREATE INDEX agentkit_runs_session ON agentkit_runs (session);
CREATE TABLE agentkit_events (
    run_id TEXT NOT NULL, seq INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (run_id, seq)
){clustered};
CREATE TABLE agentkit_blobs (hash TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE agentkit_event_blobs (
    run_id TEXT NOT NULL, seq INTEGER NOT NULL, path TEXT NOT NULL, hash TEXT NOT NULL REFERENCES agentkit_blobs (hash),
    PRIMARY KEY (run_id, seq, path)
);
CREATE INDEX agentkit_event_blobs_hash ON agentkit_event_blobs (hash);
CREATE TABLE agentkit_answers (
    run_id TEXT NOT NULL, call_id TEXT NOT NULL, kind TEXT NOT NULL, answer TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (run_id, call_id)
);
CREATE TABLE agentkit_sessions (
    session TEXT PRIMARY KEY, run_id TEXT, length INTEGER NOT NULL DEFAULT 0,
    created DOUBLE PRECISION NOT NULL, updated DOUBLE PRECISION NOT NULL
);
CREATE TABLE agentkit_session_messages (
    session TEXT NOT NULL, position INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (session, position)
);
CREATE TABLE agentkit_session_blobs (
    session TEXT NOT NULL, position INTEGER NOT NULL, path TEXT NOT NULL, hash TEXT NOT NULL REFERENCES agentkit_blobs (hash),
    PRIMARY KEY (session, position, path)
);
CREATE INDEX agentkit_session_blobs_hash ON agentkit_session_blobs (hash);
CREATE TABLE agentkit_rates (name TEXT PRIMARY KEY, full_at DOUBLE PRECISION NOT NULL);
CREATE TABLE agentkit_agents (digest TEXT PRIMARY KEY, data TEXT NOT NULL);
"""

MIGRATIONS: tuple[str, ...] = (_V1,)
"""The statements that make version n + 1 of a database of version n. A released one is never changed.

`{clustered}` is what makes a table one tree that is ordered by its key: `WITHOUT ROWID` in SQLite, nothing in Postgres.
"""

VERSION = len(MIGRATIONS)
