"""What the program says of itself: its version, its name as a module, and the completion of a shell."""

from __future__ import annotations

import re
import sys
import tomllib

import pytest

import agentkit
from agentkit.cli.app import app

from .helpers import ROOT, environment, process

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.mark.parametrize("module", ["agentkit", "agentkit.cli"])
@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_that_of_the_installed_package(module: str, option: str) -> None:
    result = process("-W", "error", "-m", module, option, command=(sys.executable,))
    assert (result.returncode, result.stdout, result.stderr) == (0, f"agentkit {VERSION}\n", "")


def test_the_package_has_the_version_and_reads_it_only_when_asked() -> None:
    assert agentkit.__version__ == VERSION
    code = "import sys, agentkit; print('importlib.metadata' in sys.modules, '__version__' in vars(agentkit))"
    assert process("-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", command=(sys.executable,)).stdout == (
        "False False\n"
    )


def test_without_an_installed_package_the_version_is_unknown() -> None:
    code = "import sys, importlib.metadata, agentkit; sys.path.clear(); print(agentkit.__version__)"
    result = process("-c", code, command=(sys.executable,))
    assert (result.stdout, result.stderr) == ("0+unknown\n", "")


def test_python_m_agentkit_is_the_program() -> None:
    result = process("demo", command=(sys.executable, "-W", "error", "-m", "agentkit"))
    assert (result.returncode, result.stderr) == (0, "")
    assert "After the discount 15,281 EUR are left." in result.stdout


@pytest.mark.parametrize(
    ("typed", "offered"), [("agentkit ch", ["chat", "check-endpoint"]), ("agentkit tools --j", ["--json"])]
)
def test_a_shell_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    code = "import sys; sys.argv = ['agentkit']; from agentkit.cli import main; main()"
    asked = {"_AGENTKIT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    result = process("-c", code, command=(sys.executable,), env=environment(**asked))
    assert result.stdout.split() == offered


def test_the_completion_of_each_shell_can_be_shown() -> None:
    code = "import sys; sys.argv = ['agentkit', '--show-completion', 'zsh']; from agentkit.cli import main; main()"
    result = process("-c", code, command=(sys.executable,), env=environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"))
    assert result.returncode == 0 and "#compdef agentkit" in result.stdout


def test_the_docs_list_each_command() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `agentkit ")]
    listed = {word for row in rows for word in re.findall(r"`(?:agentkit )?([a-z-]+)", row)}
    assert listed == {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
