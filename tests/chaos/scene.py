"""One run in a store, driven by one worker process after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentkit.store import Store, open_store

from .check import check, expected_requests
from .endpoint import Endpoint
from .ledger import Effect, effects
from .nursery import Nursery
from .play import approve_all

__all__ = ["Scene"]


@dataclass
class Scene:
    """A store, and what worker processes need."""

    address: str
    folder: Path
    endpoint: Endpoint
    nursery: Nursery

    def __post_init__(self) -> None:
        self.store: Store = open_store(self.address)
        self.tasks: dict[str, str] = {}

    @property
    def options(self) -> dict[str, Any]:
        """The options of a worker process."""
        return {"address": self.address, "endpoint": self.endpoint.url, "ledger": self.ledger, "concurrency": 1}

    @property
    def ledger(self) -> str:
        """The path of the ledger."""
        return str(self.folder / "ledger")

    @property
    def effects(self) -> list[Effect]:
        """The effects so far."""
        return effects(self.ledger)

    def submit(self, run_id: str, plan: str) -> None:
        """Queue a run."""
        self.tasks[run_id] = f"{run_id}: {plan}"
        self.store.submit(self.tasks[run_id], agent="chaos", run_id=run_id)

    def run(self, **options: Any) -> int:
        """Run a worker until nothing is due. Returns its exit code, or the signal that ended or stopped it, negative."""
        return self.nursery.run(**self.options, **options)

    def start(self, **options: Any) -> int:
        """Start a worker, and return its process id."""
        return self.nursery.start(**self.options, **options)

    def end_leases(self) -> None:
        """Let the leases be over, as if their time had passed."""
        with self.store.transaction() as db:
            db.execute("UPDATE agentkit_runs SET lease_until = 0 WHERE owner IS NOT NULL")

    def finish(self) -> None:
        """Drive on in other processes, with approvals, until all runs have ended."""
        self.end_leases()
        for _ in range(4):
            assert self.run() == 0
            if not self.store.runs(status="paused"):
                break
            approve_all(self.store)
        assert {run.status for run in self.store.runs()} == {"finished"}

    def wait_until(self, status: str, run_id: str = "r") -> None:
        """Wait until the run has this status."""
        until = time.monotonic() + 60
        while (found := self.store.get(run_id).status) != status:
            assert time.monotonic() < until, f"the run is {found}, not {status}"
            time.sleep(0.01)

    def check(self, *, kills: int) -> list[str]:
        """Check all runs after so many kills. Returns the calls that are uncertain."""
        uncertain = [call for run_id, task in self.tasks.items() for call in check(self.store, run_id, task, self.effects)]
        asked, expected = self.endpoint.requests.total(), sum(map(expected_requests, self.tasks.values()))
        assert expected <= asked <= expected + kills, f"{asked} model calls instead of {expected}"
        return uncertain
