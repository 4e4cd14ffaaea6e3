"""The shortest programs for what people do first: their lines are counted, and each is run as a program of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit.models.scripted import call
from agentkit.testing import DeepSeekSimulator, SimRequest

ROOT = Path(__file__).parent.parent
SHORT = ROOT / "examples" / "short"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


def run(name: str, answers: Any, folder: Path, *arguments: str, typed: str = "") -> str:
    with DeepSeekSimulator(answers) as simulator:
        env = {**os.environ, "AGENTKIT_BASE_URL": simulator.base_url, "AGENTKIT_API_KEY": "test", "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-W", "error", str(SHORT / name), *arguments]
        ended = subprocess.run(
            command, env=env, cwd=folder, capture_output=True, encoding="utf-8", timeout=60, check=False, input=typed
        )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def weather(request: SimRequest) -> Any:
    return "Sunny." if request.turn else call("get_weather", city="Paris")


def paying(request: SimRequest) -> Any:
    return f"It is {request.last['content']}." if request.turn else call("pay", amount=7)


def sorting(request: SimRequest) -> Any:
    is_triage = "Hand over" in str(request.messages[0]["content"])
    return call("transfer_to_refunds") if is_triage else "Here is your money."


def french(request: SimRequest) -> Any:
    return {"tea": "thé", "milk": "lait"}[str(request.last["content"])]


PROGRAMS: dict[str, tuple[int, Callable[[Path], str], str]] = {
    "hello_tool": (4, lambda folder: run("hello_tool.py", weather, folder), "Sunny.\n"),
    "typed_output": (5, lambda folder: run("typed_output.py", [call("final_answer", name="Rome")], folder), "Rome\n"),
    "stream_text": (3, lambda folder: run("stream_text.py", ["Once upon a time."], folder), "Once upon a time."),
    "approval": (6, lambda folder: run("approval.py", paying, folder, typed="y\n"), '{"amount": 7}? It is paid 7.\n'),
    "conversation": (4, lambda folder: _conversation(folder), "> Hello, Ann.\n> You are Ann, at message 4.\n"),
    "instructions_from_deps": (4, lambda folder: run("instructions_from_deps.py", _name, folder), "You talk to Ann.\n"),
    "image": (3, lambda folder: _image(folder), "A red dot.\n"),
    "handoff": (6, lambda folder: run("handoff.py", sorting, folder), "Here is your money.\n"),
    "map_inputs": (3, lambda folder: run("map_inputs.py", french, folder), "tea thé\nmilk lait\n"),
}


def _name(request: SimRequest) -> Any:
    return str(request.messages[0]["content"])


def _conversation(folder: Path) -> str:
    def answers(request: SimRequest) -> Any:
        return "Hello, Ann." if len(request.messages) == 1 else f"You are Ann, at message {len(request.messages) + 1}."

    return "".join(run("conversation.py", answers, folder, typed=f"{said}\n") for said in ("I am Ann.", "Who am I?"))


def _image(folder: Path) -> str:
    (folder / "dot.png").write_bytes(PNG)
    return run("image.py", ["A red dot."], folder, "dot.png")


def lines_of(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_short_program_does_what_it_says(name: str, tmp_path: Path) -> None:
    allowed, program, printed = PROGRAMS[name]
    assert lines_of(SHORT / f"{name}.py") <= allowed
    assert program(tmp_path) == printed


def test_the_offline_test_passes_without_a_server(tmp_path: Path) -> None:
    assert lines_of(SHORT / "test_offline.py") <= 6
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SHORT), os.environ.get("PYTHONPATH", "")]),
        "AGENTKIT_API_KEY": "test",
        "PYTEST_ADDOPTS": "",
    }
    with DeepSeekSimulator(weather) as simulator:  # the module that it imports runs its own program
        env["AGENTKIT_BASE_URL"] = simulator.base_url
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SHORT / "test_offline.py")]
        ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout


def test_every_short_program_is_here() -> None:
    assert {path.stem for path in SHORT.glob("*.py")} == {*PROGRAMS, "test_offline"}


def test_the_table_beside_other_frameworks_has_our_lines() -> None:
    page = (ROOT / "docs" / "lines.md").read_text(encoding="utf-8")
    written = {name: int(lines) for name, lines in re.findall(r"^\| `(\w+)`: [^|]*\| (\d+) \|", page, re.MULTILINE)}
    assert written == {path.stem: lines_of(path) for path in SHORT.glob("*.py")}
