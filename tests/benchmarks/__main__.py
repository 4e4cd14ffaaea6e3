"""Print the table: medians over rounds in which both take turns, each measurement in a process of its own."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version

ROWS = (
    ("import", "us", "import, processor time (ms)", 1e-3),
    ("first tool", "us", "the first tool after it (ms)", 1e-3),
    ("pydantic", "us", "of that, the import of pydantic (ms)", 1e-3),
    ("step", "us", "a step of 10, processor time (us)", 1),
    ("step of 200", "us", "a step of 200 (us)", 1),
    ("step, 200 deltas", "us", "a step that streams 200 deltas (us)", 1),
    ("step, 100 runs at once", "us", "a step in 100 runs at once (us)", 1),
    ("20 tools of 100 ms", "ms", "20 async tools of 100 ms in one reply, wall time (ms)", 1),
    ("schema", "us", "the schema of a function (us)", 1),
)

OURS = ("first tool", "pydantic", "schema")
"""What the floor does not do."""


def measured(who: str, what: str, port: str) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.worker", who, what, port]
    found: dict[str, float] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    )
    return found


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    options.add_argument("--rounds", type=int, default=3)
    rounds = options.parse_args().rounds
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout and server.stdin
    port = server.stdout.readline().strip()
    print(
        f"agentkit {version('agentkit')} and a loop by hand over httpx {version('httpx')}, Python {platform.python_version()},"
    )
    print(f"{rounds} rounds in turn, medians\n")
    print(f"{'':56}{'agentkit':>10}{'floor':>10}{'ratio':>8}")
    for what, unit, label, scale in ROWS:
        both = ("agentkit",) if what in OURS else ("agentkit", "floor")
        seen: dict[str, list[float]] = {who: [] for who in both}
        for turn in range(rounds):
            for who in both if turn % 2 else both[::-1]:
                seen[who].append(measured(who, what, port)[unit] * scale)
        ours = statistics.median(seen["agentkit"])
        floor = statistics.median(seen["floor"]) if "floor" in seen else None
        rest = f"{floor:10.1f}{ours / floor:8.2f}" if floor else ""
        print(f"{label:56}{ours:10.1f}{rest}", flush=True)
    server.stdin.close()
    server.wait(timeout=10)


if __name__ == "__main__":
    main()
