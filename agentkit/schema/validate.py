"""Two validations in addition to pydantic's: a JSON value against its schema, and pydantic's result against the JSON value.

Pydantic alone ignores keys, digits and types that a conversion loses. Such a call would not be the one that the model meant.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from enum import Enum
from functools import lru_cache
from itertools import islice
from numbers import Number
from typing import Any

from .._dataclass import frozen_dataclass
from .node import Node, Nodes, key_of
from .paths import Path, child, format_path, preview
from .repair import BareWord, LongNumber

__all__ = ["Matcher", "Rules", "conversion_errors", "count_comparisons"]

_MAX_ERRORS = 20
"""Max errors to collect for one value."""
_DATES = ("date", "date-time")
_TIMES = (date, time, timedelta)
_TIMESTAMP = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*", re.ASCII)
"""Text that pydantic interprets as seconds since 1970, which no model means."""
_INTEGER = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?(/[1-9]\d*)?", re.ASCII)
_DIGITS = re.compile(r"\s*[+-]?[\d_.]+\s*", re.ASCII)
_UNKNOWN: Any = object()
"""Stands for a result that cannot be found."""


class Matcher:
    """Compares one JSON value with its schema: types, keys and allowed values, but not bounds and formats.

    Nested unions try every combination, so the result for each pair of value and schema is cached. The value must not change
    meanwhile.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._results: dict[tuple[int, int], tuple[bool, Any]] = {}

    def matches(self, value: Any, part: Any) -> bool:
        """Whether the value matches this part of the schema."""
        return self.matches_node(value, self._nodes.of(part))

    def matches_node(self, value: Any, node: Node) -> bool:
        """As `matches`, for a node."""
        if not isinstance(value, list | dict):
            return self._matches(value, node)
        key = id(value), id(node)
        if key not in self._results:  # storing the value keeps its id from being reused
            self._results[key] = self._matches(value, node), value
        return self._results[key][0]

    def _matches(self, value: Any, node: Node) -> bool:
        if type(value) in node.plain:
            return True
        if isinstance(value, BareWord):
            return False
        if node.branches:
            return any(self.matches(value, branch) for branch in node.branches_for(value))
        if (node.enum is not None and key_of(value) not in node.enum_keys) or not node.is_of_types(value):
            return False
        if isinstance(value, dict):
            return node.required <= value.keys() and all(
                (inner := node.for_key(key)) is not False and self.matches(item, inner) for key, item in value.items()
            )
        if isinstance(value, list):
            plain = self._plain_items(node)
            return not _repeats(value, node) and all(
                type(item) in plain or self.matches(item, node.for_item(at)) for at, item in enumerate(value)
            )
        return True

    def _plain_items(self, node: Node) -> frozenset[type]:
        """The Python classes of items that need no comparison."""
        return frozenset() if node.prefix_items else self._nodes.of(node.items).plain

    def errors(self, value: Any, part: Any = None, path: Path = None) -> list[str]:
        """The errors of the value, each with its path. For a union, the errors of the branch with the fewest errors."""
        node = self._nodes.of(self._nodes.schema if part is None else part)
        return [] if type(value) in node.plain else list(islice(self._errors(value, node, path), _MAX_ERRORS))

    def _errors(self, value: Any, node: Node, path: Path) -> Iterator[str]:
        if node.is_converted:
            return
        if node.branches:
            branches = [branch for branch in node.branches_for(value) if self._nodes.of(branch).may_be(value)]
            found = [self.errors(value, branch, path) for branch in branches]
            if found:
                yield from min(found, key=len)
            else:
                yield f"{format_path(path, 'arguments')}: {preview(value)} is none of the allowed types"
        elif node.enum is not None and key_of(value) not in node.enum_keys:
            yield f"{format_path(path)}: {preview(value)} is not one of {preview([*node.enum[:50]])}"
        elif not node.is_of_types(value):
            yield f"{format_path(path, 'arguments')}: {preview(value)} is not of type {' or '.join(node.types)}"
        elif isinstance(value, str) and node.format in _DATES and _TIMESTAMP.fullmatch(value):
            yield f"{format_path(path)}: {preview(value)} is a number and no {node.format}"
        elif isinstance(value, dict):
            yield from self._key_errors(value, node, path)
        elif isinstance(value, list):
            yield from self._item_errors(value, node, path)

    def _item_errors(self, value: list[Any], node: Node, path: Path) -> Iterator[str]:
        if _repeats(value, node):
            yield f"{format_path(path)}: an item is there twice: {preview(value)}"
        plain = self._plain_items(node)
        for at, item in enumerate(value):
            if type(item) not in plain:
                yield from self.errors(item, node.for_item(at), child(path, at))

    def _key_errors(self, value: dict[str, Any], node: Node, path: Path) -> Iterator[str]:
        if not node.required <= value.keys():
            missing = (key for key in node.properties if key in node.required and key not in value)
            yield from (f"{format_path(child(path, key))}: required, but missing" for key in missing)
        for key, item in value.items():
            inner = node.for_key(key)
            if inner is False:
                known = [*node.properties, *(f"those like {like}" for like in node.patterns)]
                yield f"{format_path(child(path, key))}: unknown key; known: {', '.join(known) or 'none'}"
            else:
                yield from self.errors(item, inner, child(path, key))


def _repeats(items: list[Any], node: Node) -> bool:
    """Whether the node is a set and two items are equal."""
    return node.is_set and len({key_of(item) for item in items}) < len(items)


def count_comparisons(value: Any, nodes: Nodes) -> int:
    """The number of comparisons of value and schema that pydantic makes if it tries each branch of each union."""
    counted: dict[tuple[int, int], tuple[int, Any]] = {}

    def count(value: Any, part: Any) -> int:
        node = nodes.of(part)
        key = id(value), id(node)
        if key not in counted:
            inner: Iterable[tuple[Any, Any]] = ()
            if node.branches:
                inner = ((value, branch) for branch in node.branches_for(value))
            elif isinstance(value, dict) and "object" in node.types:
                inner = ((item, node.for_key(key)) for key, item in value.items())
            elif isinstance(value, list) and "array" in node.types:
                inner = ((item, node.for_item(at)) for at, item in enumerate(value))
            counted[key] = 1 + sum(count(*pair) for pair in inner), value
        return counted[key][0]

    return count(value, nodes.schema)


# --- pydantic's result


@frozen_dataclass
class Rules:
    """How the types behind a schema treat keys and numbers."""

    forbids_extra: bool = True
    """Pydantic refuses every unknown key. False if some class has its own rule."""
    drops_extra: bool = False
    """Some TypedDict ignores unknown keys, and its result does not show them."""
    is_exact: bool = False
    """Some type keeps all digits of a number."""
    is_plain: bool = False
    """There are only closed objects, lists and plain types, so pydantic's strict validation is enough."""


def conversion_errors(value: Any, result: Any, nodes: Nodes, rules: Rules) -> list[str]:
    """Errors for parts of the JSON value that the validated result lost, each with its path.

    Such a part is digits of a number, one of two keys or items with the same meaning, a key that a class does not know, or the
    type of a value that a wrong branch of a union accepted.
    """
    return list(islice(_Comparison(rules, nodes).of(value, result, nodes.schema, None), _MAX_ERRORS))


class _Comparison:
    def __init__(self, rules: Rules, nodes: Nodes) -> None:
        self._rules, self._nodes = rules, nodes

    def of(self, value: Any, result: Any, part: Any, path: Path) -> Iterator[str]:
        """The errors of one value. `part` is its schema; None inside a union, where pydantic's choice of branch is unknown."""
        node = None if part is None else self._nodes.of(part)
        if node and (node.is_converted or any(self._nodes.of(branch).is_converted for branch in node.branches)):
            return
        node = None if node is None or node.branches else node
        if getattr(type(result), "__pydantic_root_model__", False):
            result = result.root
        match value:
            case LongNumber() if self._rules.is_exact and not isinstance(result, float):
                digits = value.text[:80]
                yield f"{format_path(path)}: the number {digits} has more digits than a JSON number can keep; send it as a text"
            case list():
                yield from self._of_list(value, result, node, path)
            case dict() if isinstance(result, Mapping):
                yield from self._of_mapping(value, result, node, path)
            case dict():
                if not self._rules.forbids_extra and (unknown := _unknown_keys(value, type(result))):
                    yield f"{format_path(child(path, unknown[0]))}: unknown key of {type(result).__name__}"
                for key, item in value.items():
                    yield from self.of(item, getattr(result, key, None), node and node.for_key(key), child(path, key))
            case bool() | int() | float() | str() if node is None and not _is_same_kind(value, result):
                yield f"{format_path(path)}: {preview(value)} would be taken for {result!r:.80}"

    def _of_list(self, value: list[Any], result: Any, node: Node | None, path: Path) -> Iterator[str]:
        if isinstance(result, set | frozenset) and len(result) < len(value):
            yield f"{format_path(path)}: several of its items mean the same: {preview(value)}"
            return
        in_order = isinstance(result, list | tuple) and len(result) == len(value)
        for at, item in enumerate(value):
            converted = result[at] if in_order else _UNKNOWN
            yield from self.of(item, converted, node and node.for_item(at), child(path, at))

    def _of_mapping(self, value: dict[str, Any], result: Mapping[Any, Any], node: Node | None, path: Path) -> Iterator[str]:
        if len(result) < len(value) and not (self._rules.drops_extra and result.keys() <= value.keys()):
            or_unknown = "" if self._rules.forbids_extra else ", or are unknown"
            yield f"{format_path(path, 'arguments')}: several of its keys mean the same{or_unknown}: {preview([*value])}"
        elif all(isinstance(key, str) for key in result):
            for key, item in value.items():
                yield from self.of(item, result.get(key, _UNKNOWN), node and node.for_key(key), child(path, key))
        else:
            for (text, item), (key, converted) in zip(value.items(), result.items(), strict=False):
                if not _is_written_as(text, key):
                    yield f"{format_path(child(path, text))}: the key is not written as {type(key).__name__}"
                yield from self.of(item, converted, node and node.for_key(text), child(path, text))


def _is_same_kind(value: Any, result: Any) -> bool:
    """Whether a union's result has the same kind as the value: true is not 1, and the text 2026 is not a time in 1970."""
    if isinstance(result, Enum):
        result = result.value
    if isinstance(value, str):
        if isinstance(result, _TIMES):
            return not _DIGITS.fullmatch(value)
        return not isinstance(result, Number) or bool(_NUMBER.fullmatch(value))
    return isinstance(value, bool) == isinstance(result, bool) or not isinstance(result, Number)


def _is_written_as(text: str, key: Any) -> bool:
    """Whether the text is the usual spelling of this key: 1 and not 01, true and not yes, a date and not digits."""
    if isinstance(key, bool):
        return text in ("true", "false")
    if isinstance(key, int) or isinstance(getattr(key, "value", None), int):
        return bool(_INTEGER.fullmatch(text))
    if isinstance(key, Number):
        return bool(_NUMBER.fullmatch(text))
    return isinstance(key, str) or not _DIGITS.fullmatch(text)


def _unknown_keys(value: dict[str, Any], kind: type) -> list[str]:
    """The keys that the class does not know; none if it has its own rule for unknown keys."""
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
