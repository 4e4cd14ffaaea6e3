"""Converts what a tool's function gets and returns: arguments with defaults; plain values, awaitables and generators."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ToolArgumentsInvalid
from ..schema import Arguments
from .context import RunContext

__all__ = ["async_value", "completed_call", "completes", "copied", "is_async", "sync_value"]


def completed_call(arguments: Arguments, parse: Callable[[str], Arguments]) -> str:
    """The JSON text of a call with these arguments: those that the model gave, completed with defaults.

    If JSON cannot hold a default, it is left out. If the completed text would parse to other values, all defaults are.
    """
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    given, full = arguments.given, {**arguments.given}
    nested = {**given}
    for name, value in arguments.values.items() if given.keys() <= arguments.values.keys() else ():
        with contextlib.suppress(PydanticSerializationError, ValueError):
            if name not in given:
                nested[name] = full[name] = to_jsonable_python(value, by_alias=True)
            elif isinstance(given[name], dict | list):
                nested[name] = _with_defaults(given[name], to_jsonable_python(value, by_alias=True))
    for completed in (nested, full) if nested != full else (full,):
        if (text := _same_call(completed, arguments, parse)) is not None:
            return text
    return json.dumps(dict(given), ensure_ascii=False)


def _same_call(full: dict[str, Any], arguments: Arguments, parse: Callable[[str], Arguments]) -> str | None:
    """The completed arguments as text, given ones first; None if they would not parse to the same values."""
    names = (*arguments.given, *(name for name in arguments.values if name in full and name not in arguments.given))
    with contextlib.suppress(ToolArgumentsInvalid, ValueError):
        text = json.dumps({name: full[name] for name in names}, ensure_ascii=False, allow_nan=False)
        if parse(text).values == arguments.values:
            return text
    return None


def _with_defaults(given: Any, dumped: Any) -> Any:
    """What the model gave, with the keys that only the validated value has: the defaults inside models."""
    if isinstance(given, dict) and isinstance(dumped, dict):
        return {
            **{key: _with_defaults(item, dumped.get(key)) for key, item in given.items()},
            **{key: item for key, item in dumped.items() if key not in given},
        }
    if isinstance(given, list) and isinstance(dumped, list) and len(given) == len(dumped):
        return [_with_defaults(item, other) for item, other in zip(given, dumped, strict=True)]
    return given


def completes(full: Any, given: Any) -> bool:
    """Whether `full` is what the model gave, with defaults added."""
    if isinstance(full, dict) and isinstance(given, dict):
        return all(key in full and completes(full[key], item) for key, item in given.items())
    if isinstance(full, list) and isinstance(given, list):
        return len(full) == len(given) and all(completes(*pair) for pair in zip(full, given, strict=True))
    return bool(full == given)


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of arguments for code that decides on a call, so that it cannot change the call.

    A value that cannot be copied is passed as it is.
    """
    found = {}
    for name, value in values.items():
        try:
            found[name] = copy.deepcopy(value)
        except Exception:  # noqa: BLE001  the type is the program's own
            found[name] = value
    return found


async def async_value(run: Callable[[], Any], ctx: RunContext[Any], finish: Callable[[Any], Any] | None) -> Any:
    """The value of an async function. For a generator, the list of its items, each also reported as progress."""
    result = run()
    if inspect.isasyncgen(result):
        async with contextlib.aclosing(result):
            value: Any = [_report_item(item, ctx) async for item in result]
    else:
        value = await result
    return finish(value) if finish else value


def sync_value(result: Any, ctx: RunContext[Any], finish: Callable[[Any], Any] | None) -> Any:
    """The value of a sync function, finished unless it must be awaited. For a generator, the list of its items."""
    value = [_report_item(item, ctx) for item in result] if inspect.isgenerator(result) else result
    return value if finish is None or inspect.isawaitable(value) or inspect.isasyncgen(value) else finish(value)


def is_async(fn: object) -> bool:
    """Whether the function is a coroutine function or an asynchronous generator function."""
    return inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)


def _report_item(item: Any, ctx: RunContext[Any]) -> Any:
    ctx.progress(item)
    return item
