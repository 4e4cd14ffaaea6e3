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

__all__ = ["async_value", "completed_call", "copied", "is_async", "sync_value"]


def completed_call(arguments: Arguments, parse: Callable[[str], Arguments]) -> str:
    """The JSON text of a call with these arguments: those that the model gave, completed with defaults.

    If JSON cannot hold a default, it is left out. If the completed text would parse to other values, all defaults are.
    """
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    given, full = arguments.given, {**arguments.given}
    for name in arguments.values.keys() - given.keys() if given.keys() <= arguments.values.keys() else ():
        with contextlib.suppress(PydanticSerializationError, ValueError):
            full[name] = to_jsonable_python(arguments.values[name], by_alias=True)
    with contextlib.suppress(ToolArgumentsInvalid, ValueError):
        ordered = {name: full[name] for name in (*given, *(n for n in arguments.values if n in full))}
        text = json.dumps(ordered, ensure_ascii=False, allow_nan=False)
        if parse(text).values == arguments.values:
            return text
    return json.dumps(dict(given), ensure_ascii=False)


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
