"""Loads tools and agents from files and modules that the user names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .._importing import loading
from ..agent import Agent
from ..errors import AgentError
from ..names import with_article
from ..tools.registry import ToolRegistry
from ..tools.tool import AnyTool, Tool
from .exits import UsageError

__all__ = ["file_tools", "load_agent", "load_function", "load_tools"]

_OURS = f"{Path(__file__).parent.parent}{os.sep}"
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def load_tools(sources: Sequence[str]) -> list[AnyTool]:
    """The tools and registries at the top level of each source: a .py file, or a dotted module.

    Functions that are not decorated are not offered to a model. Raises `UsageError` for a source that cannot be loaded or has
    no tool, and `ToolDefinitionError` for two tools with the same name.
    """
    registry = ToolRegistry()
    for source in sources:
        module = _load(source)
        found = [value for value in vars(module).values() if isinstance(value, Tool | ToolRegistry)]
        if not ToolRegistry(found):
            raise UsageError(f"{source} has no tools. {_remedy(module)}")
        registry.add(found)
    return list(registry)


def load_agent(source: str, given: str = "--agent") -> Agent[Any]:
    """The agent at `module:name` or `file.py:name`, or the one that the function of this name returns.

    Raises `UsageError` if there is none. It says where the source was `given`.
    """
    path, name, module = _module_of(source, given, "my_agents.py:agent")
    found = vars(module).get(name)
    if inspect.isfunction(found):
        found = _called(found, f"{given} {source}")
    if inspect.iscoroutine(found):
        found.close()
        raise UsageError(f"{given} {source}: {name} is an async function; a plain function may return the agent")
    if isinstance(found, Agent):
        return found
    agents = [known for known, value in vars(module).items() if isinstance(value, Agent)]
    kind = f"{name} in {path} is {with_article(type(found).__name__)}, not an Agent"
    what = kind if name in vars(module) else f"{path} has no {name}"
    raise UsageError(f"{given} {source}: {what}; its agents: {', '.join(agents) or 'none'}")


def load_function(source: str, given: str = "--deps") -> Callable[..., Any]:
    """The function at `module:name` or `file.py:name`. Raises `UsageError` if there is none."""
    path, name, module = _module_of(source, given, "my_deps.py:make")
    found = vars(module).get(name)
    if not callable(found):
        kind = f"{name} in {path} is {with_article(type(found).__name__)}, not a function"
        raise UsageError(f"{given} {source}: {kind if name in vars(module) else f'{path} has no {name}'}")
    function: Callable[..., Any] = found
    return function


def _module_of(source: str, given: str, example: str) -> tuple[str, str, ModuleType]:
    """The two parts of `module:name`, and the module."""
    path, _, name = source.rpartition(":")
    if not path or not name:
        raise UsageError(f"{given} {source}: write it as module:name or file.py:name, for example {example}")
    try:
        return path, name, _load(path)
    except UsageError as error:
        raise UsageError(f"{given} {source}: {error}") from error


def _called(function: Callable[[], Any], source: str) -> Any:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise UsageError(f"{source}: the function must do without arguments; {error}") from error
    try:
        return function()
    except (AgentError, OSError):
        raise
    except Exception as error:  # the user's own code may raise anything
        raise UsageError(f"{source} raised {type(error).__name__}: {error}{_where(error)}") from error


def file_tools(folder: str) -> list[AnyTool]:
    """Tools that read the files under `folder`, and a calculator."""
    try:
        import agentkit_tools
    except ModuleNotFoundError as error:
        if error.name != "agentkit_tools":
            raise
        raise UsageError('agentkit_tools is not installed; in a checkout of agentkit: pip install -e ".[cli]"') from None
    try:
        return [*agentkit_tools.file_tools(folder), agentkit_tools.calculator()]
    except ValueError as error:
        raise UsageError(f"--files {folder}: {error}") from None


def _remedy(module: ModuleType) -> str:
    plain = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    note = f"Not decorated, so not offered to a model: {', '.join(plain)}. " if plain else ""
    return f"{note}Make a function a tool with @tool (from agentkit import tool)"


def _load(source: str) -> ModuleType:
    is_file = source.endswith(".py") or "/" in source or "\\" in source
    if is_file and not Path(source).is_file():
        raise UsageError(f"there is no file {source}")
    with loading() as here:
        try:
            return _load_file(Path(source).resolve()) if is_file else _load_module(source)
        except (Exception, SystemExit) as error:  # the user's own code ran, and may raise anything
            if isinstance(error, UsageError):
                raise
            raise UsageError(_why_not_loaded(source, is_file, error, here.refused)) from error


def _why_not_loaded(source: str, is_file: bool, error: BaseException, refused: Exception | None) -> str:
    if refused is not None:
        statements = [frame for frame in traceback.extract_tb(refused.__traceback__) if frame.name == "<module>"]
        return f"{source} cannot be loaded: {refused}{_line(statements)}"
    if isinstance(error, ModuleNotFoundError):
        if not is_file and error.name and (source == error.name or source.startswith(f"{error.name}.")):
            return f"there is no module {source}; a file is named with its .py, such as tools.py"
        return f"{source} cannot be loaded: {error}{_where(error)}"
    return f"{source} cannot be loaded: {type(error).__name__}: {error}{_where(error)}"


def _where(error: BaseException) -> str:
    """The last line of the user's own code that led to the error. A syntax error has a text that names its line."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(("<", _OURS))]
    return _line([frame for frame in frames if not frame.filename.startswith(_INSTALLED)] or frames)


def _line(frames: Sequence[traceback.FrameSummary]) -> str:
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    """The module of this file, loaded once. Its name cannot hide another module. It can import its neighbours."""
    name = f"_agentkit_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
