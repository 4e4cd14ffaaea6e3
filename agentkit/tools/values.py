"""What a tool's function is given and gives back: arguments with their defaults; a value, something to await, or items."""

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

__all__ = ["completed_call", "copied", "is_async", "returned", "settled"]


def completed_call(arguments: Arguments, parse: Callable[[str], Arguments]) -> str:
    """The JSON text of a call with these arguments: what the model gave, and the defaults of the rest.

    A default that JSON cannot hold, or that would not be accepted back, is left out.
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
    """A deep copy of arguments, for code that decides on them: to change it changes nothing of the call.

    A value that cannot be copied is given as it is.
    """
    found = {}
    for name, value in values.items():
        try:
            found[name] = copy.deepcopy(value)
        except Exception:  # noqa: BLE001  of a type of the program's own
            found[name] = value
    return found


async def settled(run: Callable[[], Any], ctx: RunContext[Any], finish: Callable[[Any], Any] | None) -> Any:
    """The value of an async function: all items of a generator, each of which is reported as progress."""
    result = run()
    if inspect.isasyncgen(result):
        async with contextlib.aclosing(result):
            value: Any = [_reported(item, ctx) async for item in result]
    else:
        value = await result
    return finish(value) if finish else value


def returned(result: Any, ctx: RunContext[Any], finish: Callable[[Any], Any] | None) -> Any:
    """What a sync function comes to: finished, unless there is something to await."""
    value = [_reported(item, ctx) for item in result] if inspect.isgenerator(result) else result
    return value if finish is None or inspect.isawaitable(value) or inspect.isasyncgen(value) else finish(value)


def is_async(fn: object) -> bool:
    """Whether calling it gives something to await, or an asynchronous generator."""
    return inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)


def _reported(item: Any, ctx: RunContext[Any]) -> Any:
    ctx.progress(item)
    return item
