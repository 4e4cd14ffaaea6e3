"""What is installed: every package, and only the dependencies that were agreed on."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_installed() -> None:
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "agentkit").rglob("__init__.py")}
    expected = {".".join(folder.parts) for folder in folders} | {"agentkit_tools"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_the_core_depends_on_six_packages_and_no_more() -> None:
    names = {entry.split(">")[0] for entry in PROJECT["project"]["dependencies"]}
    assert names == {"pydantic", "httpx", "tenacity", "docstring-parser", "sniffio", "h11"}


def test_the_ready_made_tools_are_the_folder_tools() -> None:
    import agentkit_tools

    assert Path(agentkit_tools.__file__).parent == ROOT / "tools"


def test_the_pytest_plugin_stands_outside_the_package_that_it_must_not_load() -> None:
    assert PROJECT["project"]["entry-points"]["pytest11"] == {"agentkit": "agentkit_pytest"}
    assert "agentkit_pytest" in PROJECT["tool"]["setuptools"]["py-modules"]


def test_the_lock_names_every_dependency_of_the_checks() -> None:
    locked = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()}
    groups = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *groups["cli"], *groups["dev"]]
    names = {entry.split(">")[0].split("[")[0] for entry in wanted} - {"agentkit"}
    assert names <= locked
