"""A served folder, and beside it what the file tools must never reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit import ToolRegistry
from agentkit_tools import file_tools


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A served folder `app`, and beside it what must never be reached."""
    served = tmp_path / "app"
    (served / "src" / "deep").mkdir(parents=True)
    (served / "a.txt").write_text("one\ntwo\nthree\n")
    (served / "src" / "main.py").write_text("import os\n# TODO: More\n")
    (served / "src" / "deep" / "x.py").write_text("todo\n")
    (served / ".env").write_text("KEY=canary")
    (tmp_path / "app-secret").mkdir()
    (tmp_path / "app-secret" / "key").write_text("canary")
    (tmp_path / "secret").write_text("canary")
    return served


@pytest.fixture
def tools(root: Path) -> ToolRegistry:
    return file_tools(root, write=True)
