"""`agentkit map`: one run for each line of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.testing import DeepSeekSimulator, Failure, SimRequest
from tests.cli.helpers import process


def french(request: SimRequest) -> Any:
    said = str(request.last["content"])
    return Failure(400) if said == "bad" else {"tea": "thé", "milk": "lait"}[said]


def run(path: Path, *options: str, **more: Any) -> Any:
    with DeepSeekSimulator(french) as simulator:
        return process("map", str(path), "--base-url", simulator.base_url, *options, **more)


def test_each_line_has_a_result(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('"tea"\n\n{"input": "milk", "id": 7}\n', encoding="utf-8")
    result = run(path)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr) == (0, "2 inputs, 0 without an answer\n")
    assert {line["input"]: line["output"] for line in lines} == {"tea": "thé", "milk": "lait"}


def test_results_are_appended_to_a_file_and_a_failure_is_in_its_line(tmp_path: Path) -> None:
    path, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    path.write_text("tea\nbad\n", encoding="utf-8")
    result = run(path, "--out", str(out), "--quiet", "-c", "1")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")
    first, second = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert first["output"] == "thé" and second["error"].startswith("BadRequest: HTTP 400")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("in.jsonl", "tea\n", "line 1: no JSON"),
        ("in.jsonl", "[1]\n", "allowed: a text, or an object"),
        ("gone.txt", None, "gone.txt"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_anything_is_sent(
    tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text, encoding="utf-8")
    result = run(path)
    assert result.returncode == 2 and says in result.stderr and result.stdout == ""


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    path, out = tmp_path / "in.txt", tmp_path / "no" / "out.jsonl"
    path.write_text("tea\n", encoding="utf-8")
    result = run(path, "--out", str(out))
    says = f"agentkit: --out {out}: the file cannot be written: No such file or directory\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", says)
