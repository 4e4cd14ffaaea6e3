"""The ready-made tools use the public API alone, and importing them does no work."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import agentkit_tools
from agentkit import Tool
from agentkit_tools import calculator, clock, file_tools, http_tools, shell, sqlite_tools
from agentkit_tools._child import python_of

SOURCES = sorted(Path(agentkit_tools.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_only_the_public_api_is_used(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        match node:
            case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] == "agentkit":
                assert module == "agentkit"
                assert {alias.name for alias in node.names} <= {
                    "ModelRetry",
                    "RunContext",
                    "Tool",
                    "ToolRegistry",
                    "tool",
                }
            case ast.Import(names=names):
                assert not any(alias.name.split(".")[0] == "agentkit" for alias in names)
            case ast.Call(func=ast.Name(id=name)):
                assert name not in ("eval", "exec", "compile", "__import__")


def test_importing_loads_no_client_and_no_database() -> None:
    code = (
        "import sys, agentkit; before = set(sys.modules); import agentkit_tools;"
        "print(sorted({'httpx', 'ssl', 'sqlite3', 'multiprocessing'} & (set(sys.modules) - before)))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def every_tool(folder: Path) -> list[Tool[..., Any]]:
    (folder / "x.db").touch()
    web = http_tools(methods=("GET", "POST"))
    return [
        *file_tools(folder, write=True),
        *web,
        *sqlite_tools(folder / "x.db", write=True),
        shell(["ls"]),
        calculator(),
        clock(),
    ]


def test_labels_leave_no_way_round_a_policy(tmp_path: Path) -> None:
    tools = every_tool(tmp_path)
    assert len(tools) == 13
    for made in tools:
        assert not (made.read_only and made.open_world), f"{made.name} may send data, but a policy lets every reader pass"
        if not made.read_only:
            assert made.sensitive, f"{made.name} changes or sends, but a policy cannot tell what or where"
            assert {*made.sensitive} <= {*made.parameters["properties"]}
        trusted = made.name in ("calculate", "current_time")
        assert made.output == ("trusted" if trusted else "untrusted")


def test_the_python_of_a_child_is_found_where_this_one_is_embedded(tmp_path: Path) -> None:
    assert python_of("/usr/bin/python3.11", "/nowhere") == "/usr/bin/python3.11"
    with pytest.raises(RuntimeError, match="'/usr/bin/uwsgi' is not Python, and there is none in"):
        python_of("/usr/bin/uwsgi", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").touch()
    assert python_of("/usr/bin/uwsgi", str(tmp_path)) == str(tmp_path / "bin" / "python3")


def test_every_export_is_there() -> None:
    assert {name for name in vars(agentkit_tools) if name in agentkit_tools.__all__} == {
        "CurrentTime", "calculator", "clock", "file_tools", "http_tools", "shell", "sqlite_tools",
    }  # fmt: skip
