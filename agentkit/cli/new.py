"""`agentkit new`: a small project with an agent, tools, tests and CI."""

from __future__ import annotations

import json
import keyword
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from .exits import UsageError
from .new_files import FILES
from .screen import Screen

__all__ = ["make_project"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TAKEN = frozenset({"agentkit", "agentkit_tools", "agentkit_pytest", "pytest", "tests", "test"}) | sys.stdlib_module_names
"""Names of modules that the project's package would hide, or that would hide it."""


def make_project(folder: Path, screen: Screen) -> None:
    """Write the project into `folder`, which must be missing or empty. Its last part is the project's name.

    Raises `UsageError` if the name is not one of a Python package, or if the folder has files.
    """
    name = folder.name
    package = name.replace("-", "_").lower()
    if not _NAME.fullmatch(name) or keyword.iskeyword(package) or package in _TAKEN:
        raise UsageError(
            f"{name!r} cannot be the name of a project; allowed: letters, digits, - and _, and no taken module name"
        )
    source = _requirement()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there already; name a folder that is new or empty")
        for path, text in FILES.items():
            file = folder / path.replace("PACKAGE", package)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_filled(text, name, package, source), encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error
    _introduce(screen, folder, package, source)


def _filled(text: str, name: str, package: str, source: str) -> str:
    return text.replace("PACKAGE", package).replace("PROJECT", name).replace("REQUIREMENT", source)


def _requirement() -> str:
    """Where pip finds this agentkit: its git address if it was installed from one, otherwise its folder.

    The package index has another project named agentkit, so the name alone is never enough.
    """
    try:
        installed = json.loads(distribution("agentkit").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        installed = {}
    git = installed.get("vcs_info", {})
    if git.get("vcs") == "git":
        return f"agentkit[cli] @ git+{installed['url']}@{git.get('commit_id', 'HEAD')}"
    return f"agentkit[cli] @ {installed.get('url') or Path(__file__).parents[2].as_uri()}"


def _introduce(screen: Screen, folder: Path, package: str, source: str) -> None:
    screen.line(f"{folder}: {', '.join(path.replace('PACKAGE', package) for path in FILES)}")
    screen.line()
    screen.line(f"  cd {folder}")
    screen.line("  python -m pytest                                           # offline, with the simulator")
    screen.line(f'  agentkit run "How many words has this text?" --agent {package}.agent:build_agent')
    if "@ git+" not in source:
        screen.line()
        screen.line(
            "! requirements.txt names agentkit's folder on this machine, which CI cannot see: put its git address there",
            "yellow",
        )
