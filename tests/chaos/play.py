"""Runs, workers, and kills at random."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.store import Store, open_store

from .check import check, expected_requests
from .endpoint import Endpoint
from .ledger import effects
from .nursery import Nursery

__all__ = ["Outcome", "approve_all", "play"]

PLANS = (
    "read keyed plain note",
    "keyed+note+keyed plain read+plain",
    "read pay note keyed",
    "helper plain",
    "plain helper~keyed,pay,plain note",
    "read+read+read note+note keyed+plain+pay plain",
)
CONCURRENCY = 4
_DEADLINE = 600.0


@dataclass
class Outcome:
    """What came of it."""

    runs: int
    kills: int = 0
    seconds: float = 0.0
    requests: int = 0
    expected: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    """Effects of calls that ran again under the same key."""
    uncertain: int = 0

    @property
    def allowed(self) -> int:
        """The model calls that may be made: the expected ones, and those that were in flight at a kill."""
        return self.expected + self.kills * CONCURRENCY


def approve_all(store: Store) -> None:
    """Approve each call that waits."""
    for run in store.runs(status="paused"):
        for waiting in run.pending:
            store.approve(run.run_id, waiting["id"])


def play(
    address: str,
    folder: Path,
    *,
    runs: int,
    kills: int,
    workers: int,
    seed: int,
    lease: float = 2.0,
    delay: float = 0.01,
    normal: bool = False,
) -> Outcome:
    """Submit the runs, kill workers while they are driven, and check every run. Raises AssertionError."""
    rng, ledger, began = random.Random(seed), str(folder / "ledger"), time.monotonic()
    tasks = {f"r{n}": f"r{n}: {PLANS[n % len(PLANS)]}" for n in range(runs)}
    outcome = Outcome(runs, expected=sum(map(expected_requests, tasks.values())))
    kill_at = sorted(rng.sample(range(1, outcome.expected), kills))
    store = open_store(address)
    with Endpoint(delay) as endpoint, Nursery() as nursery:
        for run_id, task in tasks.items():
            store.submit(task, agent="chaos", run_id=run_id)
        start: dict[str, Any] = {
            "address": address,
            "endpoint": endpoint.url,
            "ledger": ledger,
            "lease": lease,
            "normal": normal,
        }
        alive = [nursery.start(**start, concurrency=CONCURRENCY) for _ in range(workers)]
        while not store.is_idle("default") or store.runs(status="paused"):
            approve_all(store)
            while kill_at and endpoint.requests.total() >= kill_at[0]:
                kill_at.pop(0)
                time.sleep(rng.random() * 2 * delay)  # into the steps that follow the model's reply
                victim = rng.randrange(workers)
                nursery.kill(alive[victim])
                alive[victim] = nursery.start(**start, concurrency=CONCURRENCY)
                outcome.kills += 1
            assert time.monotonic() - began < _DEADLINE, [run for run in store.runs() if run.status != "finished"]
            time.sleep(0.01)
    outcome.seconds = time.monotonic() - began
    _check(store, tasks, endpoint, ledger, outcome)
    store.close()
    return outcome


def _check(store: Store, tasks: dict[str, str], endpoint: Endpoint, ledger: str, outcome: Outcome) -> None:
    seen = effects(ledger)
    uncertain: Sequence[str] = [call for run_id, task in tasks.items() for call in check(store, run_id, task, seen)]
    outcome.uncertain = len(uncertain)
    outcome.effects = Counter(effect["tool"] for effect in seen)
    outcome.repeated = len(seen) - len({effect["key"] for effect in seen})
    outcome.requests = endpoint.requests.total()
    assert not endpoint.problems, endpoint.problems
    assert outcome.requests <= outcome.allowed, f"{outcome.requests} model calls, {outcome.allowed} are allowed"
