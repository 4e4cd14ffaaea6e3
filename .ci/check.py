"""The one check: format, lint, types and tests, the same at hand and in CI.

    python .ci/check.py              all of it
    python .ci/check.py lint types   only these; the steps are: format, lint, types, tests, table
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
STEPS = {
    "format": [PYTHON, "-m", "ruff", "format", "--check", "--diff", "."],
    "lint": [PYTHON, "-m", "ruff", "check", "."],
    "types": [PYTHON, "-m", "mypy"],
    "tests": [PYTHON, "-m", "pytest", "-n", "auto", "--durations=10"],
}


def table() -> None:
    """Lines per module, for `agentkit` and `tools`."""
    total = 0
    for folder in ("agentkit", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = path.read_text(encoding="utf-8").splitlines()
            total += len(lines)
            print(f"{len(lines):6}  {path.relative_to(ROOT)}")
    print(f"{total:6}  in all")


def main(wanted: list[str]) -> int:
    """Run the steps, each to its end, and say which failed."""
    unknown = [name for name in wanted if name not in (*STEPS, "table")]
    if unknown:
        print(f"no step {', '.join(unknown)}; the steps are: {', '.join(STEPS)}, table")
        return 2
    failed = []
    for name in wanted or [*STEPS]:
        print(f"== {name}", flush=True)
        if name == "table":
            table()
        elif subprocess.run(STEPS[name], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"check: failed: {', '.join(failed)}" if failed else "check: all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
