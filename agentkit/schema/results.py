"""The type of a function's result, and its JSON Schema."""

from __future__ import annotations

import inspect
import typing
from collections import abc
from collections.abc import Callable
from typing import Any

from ..errors import ToolDefinitionError
from ..parts import Part, ToolReturn
from .annotations import annotated_function, type_hints
from .signature import brief, described, label_of

__all__ = ["result_schema", "result_type", "yields"]

_GENERATORS = (abc.Iterator, abc.AsyncIterator, abc.Iterable, abc.AsyncIterable, abc.Generator, abc.AsyncGenerator)


def result_type(fn: Callable[..., Any]) -> Any:
    """The annotated result type of the function, as pydantic accepts it; a list for a generator. None without an annotation.

    Raises `ToolDefinitionError` for an annotation that cannot be evaluated.
    """
    kind = type_hints(fn, result=True).get("return")
    origin = typing.get_origin(kind)
    if origin in (abc.Coroutine, abc.Awaitable):
        kind = typing.get_args(kind)[-1]
    elif origin in _GENERATORS and yields(fn):
        kind = list[typing.get_args(kind)[0]]  # type: ignore[misc]
    if isinstance(made := described(kind), Exception):
        raise ToolDefinitionError(f"{label_of(fn)}: its result cannot be described: {brief(made)}") from made
    return made


def result_schema(fn: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of the function's result, as it is rendered for the model; empty without an annotation.

    Raises `ToolDefinitionError` for a type that JSON cannot represent.
    """
    from .generator import adapter_of, json_schema

    kind = result_type(fn)
    if isinstance(kind, type) and issubclass(kind, Part | ToolReturn):
        return {"type": "string"}
    try:
        return json_schema(adapter_of(Any if kind is None else kind), mode="serialization")
    except Exception as error:
        raise ToolDefinitionError(f"{label_of(fn)}: its result cannot be described: {brief(error)}") from error


def yields(fn: Callable[..., Any]) -> bool:
    """Whether the function is a generator."""
    source = annotated_function(fn)
    return inspect.isgeneratorfunction(source) or inspect.isasyncgenfunction(source)
