"""The load run in small, and runs that end in every way: nothing is lost, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the load run reads the limits of a POSIX system")


def test_runs_at_once_with_faults_all_end_right_and_leave_nothing() -> None:
    command = [sys.executable, "-m", "tests.load", "--runs", "60"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("ended right   60   errors none") == 2
    assert ended.stdout.count("left behind   0 tasks, 0 files and sockets") == 2


def test_a_thousand_runs_that_end_in_every_way_leave_nothing() -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.leaks"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("as they should") == 13
    assert "left behind: 0 tasks, 0 threads, 0 files and sockets" in ended.stdout
