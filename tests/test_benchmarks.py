"""The benchmark runs and prints its table; how fast anything is, no test says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_prints_a_row_for_each_measurement() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--rounds", "1"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = re.findall(r"^(.{56}) *(\d+\.\d)(?: +(\d+\.\d) +(\d+\.\d\d))?$", ended.stdout, re.MULTILINE)
    assert len(rows) == 7, ended.stdout
    assert all(float(ours) > 0 for _label, ours, _floor, _ratio in rows)
    assert [label.strip() for label, _ours, floor, _ratio in rows if not floor] == ["the schema of a function (us)"]
