"""`agentkit new`: the project that it makes is run as a user would."""

from __future__ import annotations

import ast
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from agentkit.cli.simulate import _try_out
from agentkit.testing import DeepSeekSimulator, call

from .helpers import ROOT, cli, environment, process, script, tools_file

PYTHON = (sys.executable, "-W", "error")


def made(folder: Path, name: str = "text-helper") -> Path:
    result = cli("new", str(folder / name))
    assert (result.exit_code, result.stderr) == (0, "")
    return folder / name


def test_its_tests_pass_as_generated_and_can_fail(tmp_path: Path) -> None:
    project = made(tmp_path)
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    result = process(*arguments, command=PYTHON, cwd=project)
    assert (result.returncode, "5 passed" in result.stdout) == (0, True), result.stdout
    tools = project / "text_helper" / "tools.py"
    tools.write_text(tools.read_text(encoding="utf-8").replace("len(text.split())", "0"), encoding="utf-8")
    assert "2 failed, 3 passed" in process(*arguments, command=PYTHON, cwd=project).stdout


def test_its_agent_runs_from_the_command_line(tmp_path: Path) -> None:
    project = made(tmp_path)
    with DeepSeekSimulator(script(call("count_words", text="a b"), "Two.")) as simulator:
        options = ("--agent", "text_helper.agent:build_agent", "--base-url", simulator.base_url, "--quiet")
        result = process("run", "How long?", *options, cwd=project)
    assert (result.returncode, result.stdout, result.stderr) == (0, "Two.\n", "")
    assert simulator.requests[1].last["content"] == "2" and simulator.errors == []


def test_the_command_that_is_printed_leads_to_its_tool(tmp_path: Path) -> None:
    result = cli("new", str(tmp_path / "text-helper"))
    printed = next(line for line in result.stdout.splitlines() if "agentkit run" in line)
    with DeepSeekSimulator(_try_out) as simulator:
        arguments = shlex.split(printed)[1:]
        ran = process(*arguments, "--base-url", simulator.base_url, "--quiet", cwd=tmp_path / "text-helper")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "The answer is: 1\n", "")


def test_what_it_writes_is_well_formed_and_formatted(tmp_path: Path) -> None:
    project = made(tmp_path)
    texts = [file.read_text(encoding="utf-8") for file in project.rglob("*") if file.is_file()]
    assert not any(word in text for text in texts for word in ("PACKAGE", "PROJECT", "REQUIREMENT"))
    assert tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"] == "text-helper"
    for file in project.rglob("*.py"):
        ast.parse(file.read_text(encoding="utf-8"))
    assert process("-m", "ruff", "format", "--no-cache", "--check", ".", command=(sys.executable,), cwd=project).returncode == 0
    assert process("-m", "ruff", "check", "--no-cache", ".", command=(sys.executable,), cwd=project).returncode == 0


def test_it_installs_this_agentkit_and_not_that_of_the_index(tmp_path: Path) -> None:
    lines = (made(tmp_path) / "requirements.txt").read_text(encoding="utf-8").splitlines()
    named = [line for line in lines if line.startswith("agentkit")]
    assert named == [f"agentkit[cli] @ {ROOT.resolve().as_uri()}"]


@pytest.mark.parametrize("name", ["json", "agentkit", "class", "tests", "1st", "a b", "über", "a.b", "-x"])
def test_a_name_that_cannot_be_a_package_is_refused(tmp_path: Path, name: str) -> None:
    result = cli("new", "--", str(tmp_path / name))
    assert result.exit_code == 2 and "cannot be the name of a project" in result.stderr
    assert [*tmp_path.iterdir()] == []


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine", encoding="utf-8")
    result = cli("new", str(tmp_path / "mine"))
    assert result.exit_code == 2 and "is there already" in result.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["README.md"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (made(tmp_path, "empty") / "empty" / "agent.py").is_file()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def make(x):\n    return x\n", "must do without arguments"),
        ("def make():\n    return 3\n", "is an int, not an Agent"),
        ("def make():\n    1 / 0\n", "raised ZeroDivisionError"),
    ],
)
def test_a_function_that_makes_no_agent_is_one_message(tmp_path: Path, body: str, told: str) -> None:
    result = process("run", "Hi", "--agent", f"{tools_file(tmp_path, body)}:make", env=environment())
    assert (result.returncode, result.stderr.count("\n")) == (2, 1) and told in result.stderr
