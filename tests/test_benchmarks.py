"""The benchmark runs and prints its table; how fast anything is, no test says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.kit import unmeasured


def measured(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The benchmark in a process of its own, without the tracer of coverage, which would be measured too."""
    env = unmeasured(os.environ)
    command, folder = [sys.executable, "-m", *arguments], Path(__file__).parents[1]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_the_benchmark_prints_a_row_for_each_measurement() -> None:
    ended = measured("tests.benchmarks", "--rounds", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = re.findall(r"^(.{56}) *(\d+\.\d)(?: +(\d+\.\d) +(\d+\.\d\d))?$", ended.stdout, re.MULTILINE)
    assert len(rows) == 9, ended.stdout
    assert all(float(ours) > 0 for _label, ours, _floor, _ratio in rows)
    alone = [label.strip() for label, _ours, floor, _ratio in rows if not floor]
    assert alone == [
        "the first tool after it (ms)", "of that, the import of pydantic (ms)", "the schema of a function (us)"
    ]  # fmt: skip


def test_what_a_step_costs_by_length_number_and_processes_is_printed() -> None:
    ended = measured("tests.benchmarks.scale", "--small")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [line.split("|")[1:-1] for line in ended.stdout.splitlines() if re.match(r"\| \d", line)]
    assert [row[0].strip() for row in rows[:4]] == ["2", "4", "8", "2"] and len(rows) == 6
    sent = [float(row[1].replace(",", "")) for row in rows[:3]]
    assert sent[0] < sent[1] < sent[2], "a longer run sends more bytes a step"
    assert float(rows[3][1]) > 0 and float(rows[3][2]) > 0, "plain and over TLS"
    assert float(rows[5][1]) > 0


def test_what_a_limit_costs_a_fan_out_is_printed_and_overshoot_is_within_the_answers_in_flight() -> None:
    ended = measured("tests.benchmarks.fan_out", "--rounds", "1", "--sub-agents", "20")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [line.split("|")[1:-1] for line in ended.stdout.splitlines() if re.match(r"\| (cost|output|input)", line)]
    far, near = rows[:6], rows[6:]
    assert all(float(row[4]) > 0 for row in far) and len(near) == 6
    assert all(0 <= int(beyond) < int(in_flight) for _limit, _price, beyond, in_flight in near)
    assert [int(row[2]) for row in near if row[0].strip() == "output tokens"] == [0, 0]


def test_what_a_store_costs_is_printed() -> None:
    ended = measured("tests.benchmarks.store", "--small")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = {line[:44].strip(): line[44:].split() for line in ended.stdout.splitlines()[3:] if line[44:].strip()}
    assert [len(rows[f"step, {what} time (ms)"]) for what in ("processor", "wall")] == [3, 3]
    assert all(float(value) > 0 for value in rows["resume of 500 steps, wall time (ms)"])
    sizes = re.search(r"step 10: (\d+), by step 1,000: (\d+)", ended.stdout)
    assert sizes and int(sizes[2]) < 1.1 * int(sizes[1]), "a long run stores as much a step as a short one"
