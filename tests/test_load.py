"""The load run in small, and runs that end in every way: nothing is lost, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("resource", reason="the load run reads the limits of a POSIX system")

from tests.load import KINDS, Client, Server, wrong


def test_runs_at_once_with_faults_all_end_right_and_leave_nothing() -> None:
    command = [sys.executable, "-m", "tests.load", "--runs", "60"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("ended right   60   errors none") == 2
    assert ended.stdout.count("faults        6 (2 503, 1 500, 1 429, 1 hangup, 1 cut)") == 2
    assert ended.stdout.count("left behind   0 tasks, 0 threads, 0 files and sockets") == 2


CLIENT = Client(
    right=60, errors={}, calls=120, seconds=1, cpu=1, kilobytes=3000, tasks=0, threads=0, sockets=0, unclosed=[],
)  # fmt: skip
SERVER = Server(requests=186, faults={"503": 2, "500": 1, "429": 1, "hangup": 1, "cut": 1}, at_once=60, refused=[])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"right": 59}, "end right"),
        ({"errors": {"TimedOut": 1}}, "end right"),
        ({"calls": 121}, "ran twice"),
        ({"refused": ["no"]}, "refused"),
        ({"faults": dict.fromkeys(KINDS, 0), "requests": 180}, "kind of fault"),
        ({"faults": {"503": 6}}, "kind of fault"),
        ({"requests": 185}, "one more request"),
        ({"at_once": 2}, "at once"),
        ({"tasks": 1}, "left"),
        ({"threads": 1}, "left"),
        ({"sockets": 1}, "left"),
        ({"unclosed": ["unclosed transport"]}, "garbage"),
        ({"kilobytes": 30_000}, "memory"),
    ],
)
def test_the_load_run_fails_for_each_thing_that_is_wrong(changes: dict[str, Any], words: str) -> None:
    client = replace(CLIENT, **{name: value for name, value in changes.items() if hasattr(CLIENT, name)})
    server = replace(SERVER, **{name: value for name, value in changes.items() if hasattr(SERVER, name)})
    found = wrong(client, server, 60)
    assert len(found) == bool(words) and all(words in text for text in found)


def test_a_thousand_runs_that_end_in_every_way_leave_nothing() -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.leaks"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("as they should") == 13
    assert "left behind: 0 tasks, 0 threads, 0 files and sockets" in ended.stdout
