"""What validation lost of a model's value: digits of a number, one of two keys or items that mean the same, a key of a class,
the type of a value that another branch of a union took.

A library that converts may do this without a word; each is a call that was not meant.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from enum import Enum
from functools import lru_cache
from itertools import islice
from numbers import Number
from typing import Any

from .node import Node, Shape
from .paths import Path, inside, shown, written
from .repair import LongNumber

__all__ = ["Rules", "losses"]

_INTEGER = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?(/[1-9]\d*)?", re.ASCII)
_DIGITS = re.compile(r"\s*[+-]?[\d_.]+\s*", re.ASCII)
_TIMES = (date, time, timedelta)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the types of a schema do with keys and numbers."""

    is_closed: bool = True
    """Validation refuses every key that the classes do not know; else some of them have their own rule."""
    drops: bool = False
    """A TypedDict ignores other keys, and its result does not show it."""
    is_exact: bool = False
    """There are numbers that keep all digits."""
    is_plain: bool = False
    """There are only closed objects, lists and plain types, so strict validation is all that is needed."""


def losses(value: Any, result: Any, shape: Shape, rules: Rules) -> list[str]:
    """What is in the JSON value and not in the validated one, in words for the model, each with its path."""
    return list(islice(_Comparison(rules, shape).of(value, result, shape.schema, None), _MOST))


class _Comparison:
    def __init__(self, rules: Rules, shape: Shape) -> None:
        self._rules, self._shape = rules, shape

    def of(self, value: Any, result: Any, part: Any, path: Path) -> Iterator[str]:
        """`part` is the schema of the value; None inside a union, where it is not known which branch was taken."""
        node = None if part is None else self._shape.node(part)
        node = None if node is None or node.branches else node
        if getattr(type(result), "__pydantic_root_model__", False):
            result = result.root
        match value:
            case LongNumber() if self._rules.is_exact and not isinstance(result, float):
                digits = value.text[:80]
                yield f"{written(path)}: the number {digits} has more digits than a JSON number can keep; send it as a text"
            case list():
                yield from self._of_list(value, result, node, path)
            case dict() if isinstance(result, Mapping):
                yield from self._of_mapping(value, result, node, path)
            case dict():
                if not self._rules.is_closed and (dropped := _dropped(value, type(result))):
                    yield f"{written(inside(path, dropped[0]))}: unknown key of {type(result).__name__}"
                for key, item in value.items():
                    yield from self.of(item, getattr(result, key, None), node and node.of_key(key), inside(path, key))
            case bool() | int() | float() | str() if node is None and not _is_alike(value, result):
                yield f"{written(path)}: {shown(value)} would be taken for {result!r:.80}"

    def _of_list(self, value: list[Any], result: Any, node: Node | None, path: Path) -> Iterator[str]:
        if isinstance(result, set | frozenset) and len(result) < len(value):
            yield f"{written(path)}: several of its items mean the same: {shown(value)}"
            return
        in_order = isinstance(result, list | tuple) and len(result) == len(value)
        for place, item in enumerate(value):
            made = result[place] if in_order else _UNKNOWN
            yield from self.of(item, made, node and node.of_item(place), inside(path, place))

    def _of_mapping(self, value: dict[str, Any], result: Mapping[Any, Any], node: Node | None, path: Path) -> Iterator[str]:
        if len(result) < len(value) and not (self._rules.drops and result.keys() <= value.keys()):
            or_lost = "" if self._rules.is_closed else ", or are unknown"
            yield f"{written(path) or 'arguments'}: several of its keys mean the same{or_lost}: {shown([*value])}"
        elif all(isinstance(key, str) for key in result):
            for key, item in value.items():
                yield from self.of(item, result.get(key, _UNKNOWN), node and node.of_key(key), inside(path, key))
        else:
            for (text, item), (key, made) in zip(value.items(), result.items(), strict=False):
                if not _says(text, key):
                    yield f"{written(inside(path, text))}: the key is not written as {type(key).__name__}"
                yield from self.of(item, made, node and node.of_key(text), inside(path, text))


_UNKNOWN: Any = object()
"""A result that cannot be found."""
_MOST = 20
"""Losses that are looked for."""


def _is_alike(value: Any, result: Any) -> bool:
    """Whether the branch that was taken left the value what it is: true is not 1, and the text 2026 no moment of 1970."""
    if isinstance(result, Enum):
        result = result.value
    if isinstance(value, str):
        if isinstance(result, _TIMES):
            return not _DIGITS.fullmatch(value)
        return not isinstance(result, Number) or bool(_NUMBER.fullmatch(value))
    return isinstance(value, bool) == isinstance(result, bool) or not isinstance(result, Number)


def _says(text: str, key: Any) -> bool:
    """Whether the text of a key is the usual one of its value: 1 and not 01, true and not yes, a date and no digits."""
    if isinstance(key, bool):
        return text in ("true", "false")
    if isinstance(key, int) or isinstance(getattr(key, "value", None), int):
        return bool(_INTEGER.fullmatch(text))
    if isinstance(key, Number):
        return bool(_NUMBER.fullmatch(text))
    return isinstance(key, str) or not _DIGITS.fullmatch(text)


def _dropped(value: dict[str, Any], kind: type) -> list[str]:
    """The keys that the class does not know and says nothing about."""
    config = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}
    known = _keys_of(kind)
    return [key for key in value if key not in known] if known is not None and config.get("extra") is None else []


@lru_cache(maxsize=1024)
def _keys_of(kind: type) -> frozenset[str] | None:
    """The names and aliases of the fields of a model or dataclass; None for another class."""
    names: dict[str, Any] = getattr(kind, "model_fields", None) or getattr(kind, "__pydantic_fields__", {})
    if not names and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        notes = {f.name: getattr(hints.get(f.name), "__metadata__", ()) for f in dataclasses.fields(kind)}
        return frozenset(notes).union(*(_aliases(note) for several in notes.values() for note in several))
    if not names:
        return None
    return frozenset(names).union(*(_aliases(field) for field in names.values()))


def _aliases(field: Any) -> set[str]:
    given = {getattr(field, "alias", None), *getattr(getattr(field, "validation_alias", None), "choices", ())}
    return {name for name in (*given, getattr(field, "validation_alias", None)) if isinstance(name, str)}
