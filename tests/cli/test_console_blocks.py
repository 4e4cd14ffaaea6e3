"""The console blocks of the docs: each command is run, and prints what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agentkit.testing import DeepSeekSimulator

from .helpers import ROOT, environment, process

PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if "```console" in page.read_text(encoding="utf-8")]
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def lines(text: str) -> list[str]:
    """The lines without what is different each time: times, and blanks at their ends."""
    return [re.sub(r"\d+(\.\d)? m?s$", "N ms", line.rstrip()) for line in text.strip().splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```console\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with DeepSeekSimulator() as simulator:
        settings = environment(AGENTKIT_BASE_URL=simulator.base_url, XDG_STATE_HOME=str(tmp_path / "state"))
        for command, expected in (pair for block in blocks for pair in COMMAND.findall(block)):
            program, *args = shlex.split(command)
            if program == "cat":  # the page shows the file before it is used
                (tmp_path / args[0]).write_text(expected, encoding="utf-8")
                continue
            assert program == "agentkit"
            result = process(*args, cwd=tmp_path, env=settings)
            assert (lines(result.stdout), result.stderr) == (lines(expected), ""), command
