"""Kill workers at random, and print what became of their runs."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.store.postgres import Postgres, find_programs

from .play import play


@contextmanager
def _address(kind: str, folder: Path) -> Iterator[str]:
    if kind.startswith("sqlite"):
        yield str(folder / "runs.db")
        return
    programs = find_programs()
    if programs is None:
        sys.exit("no Postgres on this machine: install postgresql")
    server = Postgres(programs)
    try:
        yield server.address
    finally:
        server.remove()


def main() -> None:
    """Run, check, and print a table."""
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    options.add_argument("--store", choices=["sqlite", "sqlite-normal", "postgres"], default="sqlite")
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--workers", type=int, default=3)
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = options.parse_args()
    print(f"store {given.store}, seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name, _address(given.store, Path(name)) as address:
        outcome = play(
            address,
            Path(name),
            runs=given.runs,
            kills=given.kills,
            workers=given.workers,
            seed=given.seed,
            normal=given.store == "sqlite-normal",
        )
    rows = {
        "runs, all done and right": outcome.runs,
        "workers killed": outcome.kills,
        "seconds": f"{outcome.seconds:.1f}",
        "model calls": outcome.requests,
        "model calls without kills": outcome.expected,
        "model calls allowed": outcome.allowed,
        **{f"effects of {name}": count for name, count in sorted(outcome.effects.items())},
        "effects under a key seen before (read, keyed)": outcome.repeated,
        "calls reported uncertain": outcome.uncertain,
    }
    for what, value in rows.items():
        print(f"{what:48}{value:>10}")


if __name__ == "__main__":
    main()
