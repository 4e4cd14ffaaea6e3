"""The property tests and the load run with a random seed: `python -m tests.nightly`.

It prints the seed first, and the command that repeats the run with it: `--seed N`. A property that does not set its number of
examples gets 1,000; `--runs N` sets the runs of the load run. Exits with 1 if something failed, and says what.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from pathlib import Path

__all__ = ["commands", "main", "property_tests"]

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 2**32 - 1


def property_tests() -> list[str]:
    """The test files that use hypothesis."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if "from hypothesis import" in path.read_text(encoding="utf-8")]


def commands(seed: int, runs: int) -> list[list[str]]:
    """What is run, each in a process of its own."""
    hypothesis = ["--hypothesis-profile=nightly", f"--hypothesis-seed={seed}"]
    tests = ["-m", "pytest", "-q", "-n", "auto", *hypothesis, *property_tests()]
    load = ["-m", "tests.load", "--runs", str(runs), "--seed", str(seed)]
    return [tests] if sys.platform == "win32" else [tests, load]  # the load run reads the limits of a POSIX system


def main(arguments: list[str]) -> int:
    """Run them all, each to its end."""
    options = argparse.ArgumentParser(prog="python -m tests.nightly")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randint(0, LARGEST))
    options.add_argument("--runs", type=int, default=500)
    given = options.parse_args(arguments)
    again = f"python -m tests.nightly --seed {given.seed} --runs {given.runs}"
    print(f"== seed {given.seed}; to repeat: {again}", flush=True)
    failed = []
    for command in commands(given.seed, given.runs):
        print(f"== python {' '.join(command)}", flush=True)
        if subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode:
            failed.append(command[1])
    print(f"nightly: failed: {', '.join(failed)}; to repeat: {again}" if failed else f"nightly: all passed, seed {given.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
