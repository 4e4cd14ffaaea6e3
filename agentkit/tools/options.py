"""The options of `@tool`, and the checks of their values."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypedDict

from ..errors import ToolDefinitionError
from .reconcile import Reconcile

__all__ = ["ToolOptions", "check_known", "check_name", "check_option", "names_of"]


class ToolOptions(TypedDict, total=False):
    """The options of `@tool`. The fields of `Tool` document them."""

    name: str
    description: str
    timeout: float | None
    retries: int | None
    max_output: int | None
    returns: bool
    parallel: bool
    sequential: bool
    final: bool
    strict: bool
    approval: bool | Callable[..., bool]
    enabled: bool | Callable[[Any], bool | Awaitable[bool]]
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    sensitive: Iterable[str]
    reconcile: Reconcile | None
    output: Literal["untrusted", "trusted"]
    trusted_fields: Iterable[str]


_MIN = {"retries": 0, "max_output": 100}
_OUTPUTS = ("untrusted", "trusted")
_FLAGS = ("returns", "parallel", "sequential", "final", "strict", "read_only", "destructive", "idempotent", "open_world")


def check_known(what: str, options: Iterable[str]) -> None:
    """Raise `ToolDefinitionError` for an option that does not exist."""
    if unknown := sorted({*options} - {*ToolOptions.__annotations__}):
        raise ToolDefinitionError(f"{what} has no option {', '.join(unknown)}; it has {', '.join(ToolOptions.__annotations__)}")


def check_option(tool: str, option: str, value: Any) -> None:
    """Raise `ToolDefinitionError`, which says what is allowed, if an option of a tool cannot have this value."""
    match option:
        case "description" if not isinstance(value, str):
            allowed = "text"
        case "timeout" if value is not None and not (_is_number(value) and 0 < value < math.inf):
            allowed = "None or seconds above 0"
        case "retries" | "max_output" if value is not None and not (_is_whole(value) and value >= _MIN[option]):
            allowed = f"None or a whole number of at least {_MIN[option]}"
        case "reconcile" if value is not None and not _takes(value, 2):
            allowed = "None, or a function of the idempotency key and the arguments"
        case "output" if value not in _OUTPUTS:
            allowed = ", ".join(_OUTPUTS)
        case "approval" if not (isinstance(value, bool) or (callable(value) and not _is_async(value))):
            allowed = "True, False, or a plain function of the arguments"
        case "enabled" if not (isinstance(value, bool) or callable(value)):
            allowed = "True, False, or a function of the run's context"
        case _ if option in _FLAGS and not isinstance(value, bool):
            allowed = "True, False"
        case _:
            return
    raise ToolDefinitionError(f"tool {tool!r}: {option} is {value!r:.80}; allowed: {allowed}")


_NAME = re.compile(r"(?=\S)[^<>\x00-\x1f\x7f]{1,200}(?<=\S)")
"""Servers accept only 64 of fewer kinds of characters; `wire_name` maps other names."""


def check_name(name: object) -> None:
    """Raise `ToolDefinitionError` for an invalid tool name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ToolDefinitionError(
            f"tool name {name!r}: a name has 1 to 200 printable characters except for < and >; give one with @tool(name=...)"
        )


def names_of(tool: str, option: str, value: Any) -> tuple[str, ...]:
    """The names in an option, from any iterable. Names of a set are sorted."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ToolDefinitionError(f"tool {tool!r}: {option} is {value!r:.80}; allowed: names, as a tuple or a list")
    names = tuple(value)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise ToolDefinitionError(f"tool {tool!r}: {option} holds {wrong[0]!r:.80}; allowed: names")
    return tuple(sorted(names)) if isinstance(value, set | frozenset) else names


def _takes(value: Any, count: int) -> bool:
    """Whether the value can be called with so many positional arguments. True if Python cannot tell, as of built-in ones."""
    try:
        signature = inspect.signature(value)
    except ValueError:
        return True
    except TypeError:  # not callable
        return False
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_async(value: Any) -> bool:
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__)
