"""The shape of the code: layers, cycles, sizes, public names, and what an import of the package does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

import agentkit
from agentkit._moved import MOVED

ROOT = Path(__file__).parent.parent

LAYERS: list[set[str]] = [
    {
        "errors",
        "messages",
        "event_types",
        "events",
        "model",
        "names",
        "parts",
        "prices",
        "redact",
        "_importing",
        "_moved",
        "_renamed",
        "_sync",
        "_threads",
        "_dataclass",
        "_typing",
    },
    {"schema", "history"},
    {"tools", "models"},
    {"policy"},
    {"run"},
    {"_agent_forms", "_agent_parts", "_agent_tool", "_given", "_per_run", "_stored", "agent", "mapping"},
    {"middleware", "web", "store", "team", "otel", "testing", "pytest_plugin", "__init__"},
    {"mcp", "server", "evals", "cli", "__main__"},
]
"""From the lowest up. `__init__` is the public face, which only the edges may use."""

PUBLIC = [
    "Agent", "AgentChanged", "AgentError", "ApprovalGiven", "ApprovalRequired", "Assistant", "Audio", "AuthError",
    "BadRequest", "CallJudged", "CallReconciled", "CallSuspended", "ChatModel", "CircuitOpen", "ConnectionFailed",
    "ContentFiltered", "ContextTooLong", "Done", "EmptyReply", "EndpointWarning", "Event", "Fallback", "File", "Image",
    "InsecureServer", "InsufficientBalance", "KeepTurns", "LimitReached", "Limiter", "Limits", "LogFailed", "MapItem",
    "Message", "MessageAdded", "Middleware", "MissingKey", "Model", "ModelError", "ModelInfo", "ModelReplied", "ModelReply",
    "ModelRequest", "ModelRetry", "ModelSettings", "ModelWrapper", "Nested", "NotDone", "OutputInvalid", "Overloaded",
    "PartialOutput", "Profile", "RateLimited", "ReasoningDelta", "ReplyTooLarge", "ResultGiven", "Retry", "Retrying",
    "RunBusy", "RunContext", "RunExists", "RunFinished", "RunInfo", "RunPaused", "RunResult", "RunResumed", "RunStarted",
    "RunState", "RunStream", "ScriptedModel", "SettingsError", "StepStarted", "StopRun", "StoreError", "StreamBroken",
    "SyncRunStream", "SyncTextStream", "System", "TextDelta", "TextStream", "TimedOut", "Tool", "ToolArgsDelta",
    "ToolArgumentsInvalid", "ToolCall", "ToolDefinitionError", "ToolDefinitionWarning", "ToolFinished", "ToolProgress",
    "ToolRegistry", "ToolResult", "ToolReturn", "ToolStarted", "Toolset", "Unknown", "Usage", "UsageAdded", "User", "as_tool",
    "guardrail", "load_messages", "tool",
]  # fmt: skip

HEAVY = [
    "pydantic",
    "httpx",
    "tenacity",
    "docstring_parser",
    "typer",
    "rich",
    "prompt_toolkit",
    "starlette",
    "uvicorn",
    "openai",
    "pytest",
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / "agentkit").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
TOOLS = {module_name(path): path for path in sorted((ROOT / "tools").rglob("*.py"))}
TOOL_TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in TOOLS.items()}


def imported(name: str, tree: ast.AST, packages: Iterable[str], modules: Iterable[str]) -> Iterator[str]:
    """The modules that a module imports: at its top, in its functions, and for type checkers."""
    package = name if name in packages else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in modules else source


PACKAGES = {name for name, path in FILES.items() if path.name == "__init__.py"}
GRAPH = {
    name: {found for found in imported(name, tree, PACKAGES, FILES) if found in FILES and found != name}
    for name, tree in TREES.items()
}


def layer(name: str) -> int:
    part = [*name.split("."), "__init__"][1]
    found = [number for number, names in enumerate(LAYERS) if part in names]
    assert len(found) == 1, f"{name} is in {len(found)} layers: give it one in LAYERS"
    return found[0]


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Modules that import each other in a ring, or None."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        ring = next((ring for after in graph.get(name, ()) if (ring := search(after, [*path, name]))), None)
        done.add(name)
        return ring

    return next((ring for name in graph if (ring := search(name, []))), None)


def test_the_reading_of_imports_itself() -> None:
    source = (
        "import a.b\nfrom . import x\nfrom .y import z\nif TYPE_CHECKING:\n    from ..w import v\ndef f():\n    from q import r"
    )
    modules = ["p.s.x", "p.s.y", "p.w.v"]
    assert list(imported("p.s.m", ast.parse(source), ["p", "p.s"], modules)) == ["a.b", "p.s.x", "p.s.y", "p.w.v", "q"]
    assert list(imported("p.s", ast.parse("from .x import n"), ["p", "p.s"], modules)) == ["p.s.x"]
    assert cycle({"a": ["b"], "b": ["c", "d"], "c": [], "d": ["b"]}) == ["b", "d", "b"]
    assert cycle({"a": ["b", "c"], "b": ["c"], "c": []}) is None
    assert GRAPH["agentkit._agent_parts"] >= {"agentkit.errors", "agentkit.models.chat", "agentkit.run.spec"}


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down_or_sideways(name: str) -> None:
    upward = sorted(found for found in GRAPH[name] if layer(found) > layer(name))
    assert not upward, f"{name} (layer {layer(name)}) imports {', '.join(upward)} from above"


def test_contributing_has_each_room_on_its_layer() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]*) \|", page, re.MULTILINE)
    listed = {(int(number), room) for number, rooms in rows for room in re.findall(r"`(\w+)/?`", rooms)}
    parts = {[*name.split("."), "__init__"][1] for name in FILES}
    assert listed == {(number, room) for number, rooms in enumerate(LAYERS) for room in rooms & parts}


def test_the_schema_room_imports_only_itself_and_the_lowest_layer() -> None:
    room = [name for name in FILES if name.split(".")[:2] == ["agentkit", "schema"]]
    outside = {found for name in room for found in GRAPH[name] if found not in room}
    assert len(room) > 10
    assert {layer(found) for found in outside} == {0}


def test_no_module_imports_itself_by_a_detour() -> None:
    assert cycle(GRAPH) is None


LONGER = {"connections.py": 400}
"""What is one story, and would be longer in parts."""
LONG = {("shell.py", "shell"): 50, ("sqlite.py", "sqlite_tools"): 50, ("simulator.py", "__init__"): 50}
"""What is mostly docstring and parameters."""


@pytest.mark.parametrize("path", [*FILES.values(), *TOOLS.values()], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGER.get(path.name, 350)
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = [(function.name, (function.end_lineno or 0) - function.lineno + 1) for function in functions]
    long = [f"{name}: {count} lines" for name, count in lines if count > LONG.get((path.name, name), 40)]
    assert not long


def defined(tree: ast.Module) -> set[str]:
    """The names that a module gives to something at its top, imports included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                names |= {alias.asname or alias.name for alias in aliases}
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                found: list[str] = ast.literal_eval(value)
                return found
    return None


def taken(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """For each module, the names that others import from it."""
    names: dict[str, set[str]] = {name: set() for name in trees}
    for other, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for source in {*imported(other, ast.Module([node], []), PACKAGES, FILES)} & {*trees}:
                    names[source] |= {alias.name for alias in node.names}
    return names


TAKEN = taken(TREES)


@pytest.mark.parametrize("name", [*FILES, *TOOLS])
def test_all_lists_what_is_there_and_what_other_modules_take(name: str) -> None:
    tree = {**TREES, **TOOL_TREES}[name]
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = {node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")}
    listed = exported(tree)
    assert listed is not None or not public, "no __all__"
    names = {*(listed or ())}
    assert names <= defined(tree) and len(names) == len(listed or ())
    assert public & TAKEN.get(name, set()) <= names
    if name.count(".") == 1 and name in FILES:  # the modules of the core; the inside of a package is its own affair
        assert public <= names


@pytest.mark.parametrize("name", TOOLS)
def test_the_ready_made_tools_use_the_public_face_only(name: str) -> None:
    found = {one for one in imported(name, TOOL_TREES[name], ["tools"], TOOLS) if one.split(".")[0] == "agentkit"}
    assert found <= {"agentkit"}
    used = {
        alias.name
        for node in ast.walk(TOOL_TREES[name])
        if isinstance(node, ast.ImportFrom) and node.module == "agentkit"
        for alias in node.names
    }
    assert used <= {*PUBLIC}


def test_the_public_names_are_these() -> None:
    assert sorted(agentkit.__all__) == sorted(PUBLIC)
    assert all(hasattr(agentkit, name) for name in PUBLIC)
    with pytest.raises(AttributeError, match="module 'agentkit' has no attribute 'Nope'"):
        _ = agentkit.Nope


def test_every_public_name_says_what_it_is() -> None:
    unions = {"Event", "Message"}  # aliases; their members speak for themselves
    docs = {name: getattr(agentkit, name).__doc__ or "" for name in PUBLIC if name not in unions}
    generated = [name for name, doc in docs.items() if not doc.strip() or doc.startswith(f"{name}(")]
    assert not generated


WATCHED_IMPORT = """
import os, sys

class Watched(type(os.environ)):
    def __getitem__(self, key):
        frame = sys._getframe(1)
        while frame and frame.f_globals.get("__name__") in ("os", "_collections_abc", __name__) and frame.f_back:
            frame = frame.f_back
        readers.append(frame.f_globals.get("__name__", "?"))
        return super().__getitem__(key)

readers = []
os.environ.__class__ = Watched
os.environ.get("PROBE")
readers.clear()
before = set(sys.modules)
import agentkit
after = set(sys.modules) - before
assert os.environ.get("PROBE") is None and readers, "the watch does not work"
names = [name for name in readers[:-1] if name.split(".")[0] == "agentkit"]
heavy = sorted(after & set(sys.argv[1].split(",")))
threads = sys.modules["threading"].active_count()
sys.stderr.write(repr((names, heavy, threads)))
"""


def test_importing_agentkit_does_no_work_and_loads_nothing_heavy() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    modules = {entry.split(">")[0].split("[")[0] for entry in extras["cli"]} | {*HEAVY}
    command = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{WATCHED_IMPORT}",
        ",".join(modules),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    assert done.stderr == repr(([], [], 1)), "environment read by, heavy modules loaded, threads running"


@pytest.mark.parametrize(("old", "new"), [pair for pair in MOVED.items() if pair[0] != "tool"])
def test_a_module_that_has_moved_can_be_imported_from_where_it_was(old: str, new: str) -> None:
    sys.modules.pop(f"agentkit.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"agentkit.{old} is now agentkit.{new}"):
        found = import_module(f"agentkit.{old}")
    assert found is import_module(f"agentkit.{new}")


def test_the_decorator_stays_the_decorator_when_its_module_is_imported_by_its_earlier_name() -> None:
    script = (
        "from agentkit.tool import ToolRegistry; from agentkit import tool; import agentkit.tool as module; print(tool, module)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<function tool")
