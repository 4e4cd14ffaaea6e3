"""What is installed: every package, and only the dependencies that were agreed on."""

from __future__ import annotations

import re
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
    wanted = [*PROJECT["project"]["dependencies"], *groups["cli"], *groups["docs"], *groups["dev"]]
    names = {entry.split(">")[0].split("[")[0] for entry in wanted} - {"agentkit"}
    assert names <= locked


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {package.lower().replace("_", "-"): version for package, version in found}


def test_the_lock_with_hashes_has_the_versions_of_the_constraints() -> None:
    constraints, locked = pins("constraints.txt"), pins("requirements.lock")
    assert constraints.items() <= locked.items()
    assert {*locked} - {*constraints} == {"setuptools", "httpx2-jsfetch"}  # to build with; for emscripten only
    assert "colorama" in locked  # what pytest needs on Windows


def test_every_package_of_the_lock_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins("requirements.lock"))
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in text and "--index" not in text


def test_ci_installs_only_what_has_a_known_hash() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    download = next(place for place, line in enumerate(lines) if "pip download" in line)
    assert "--require-hashes" in lines[download] and "requirements.lock" in lines[download]
    offline = next(place for place, line in enumerate(lines) if "PIP_NO_INDEX=1" in line)
    first_install = next(place for place, line in enumerate(lines) if line.startswith("bash -euc"))
    assert download < offline < first_install
    assert "--cov-fail-under=" in "\n".join(lines)
