"""Converts values that nearly fit a JSON Schema, if the conversion loses nothing and has only one possible meaning.

If the schema admits a string, a string is never converted: '007' for a string parameter is not a number. Only keywords that
pydantic generates are supported.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from typing import Any

from .node import Node, Nodes, is_of_type, key_of, type_of
from .paths import Path, child, format_path
from .repair import BareWord, LongNumber, NotJson, read_json
from .unwrap import plain_key
from .validate import Matcher

__all__ = ["bare_words", "coerce"]

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,300})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,300})(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
_LIST_LIKE = re.compile(r"[,;|\n\r\t，、；]|\A\s*[\"'].*[\"']\s*\Z", re.DOTALL)
_MAX_NOTES = 50
"""Max conversions that are listed."""
_NOT_CONVERTED: Any = object()


def coerce(value: Any, nodes: Nodes) -> tuple[Any, tuple[str, ...]]:
    """The converted value, and a note of each conversion with its path. Values that cannot be converted stay unchanged."""
    made, notes = _Coercion(nodes).convert(value, nodes.schema, None)
    return made, tuple(notes)


def bare_words(value: Any) -> list[str]:
    """The `BareWord`s in a value."""
    found, left = [], [value]
    while left:
        match left.pop():
            case BareWord() as word:
                found.append(str(word))
            case list() as items:
                left += items
            case dict() as items:
                left += items.values()
    return found


class _Coercion:
    """Converts one value. `wraps` says whether a single value may become a list of one."""

    def __init__(self, nodes: Nodes, *, wraps: bool = True, matcher: Matcher | None = None) -> None:
        self._nodes, self._wraps = nodes, wraps
        self._matcher = matcher or Matcher(nodes)
        self._converted: dict[tuple[int, int, bool, frozenset[int]], tuple[Any, list[str], Any]] = {}
        self._wrapping: frozenset[int] = frozenset()
        self._without_wrapping: _Coercion | None = None

    def convert(self, value: Any, part: Any, path: Path, *, is_item: bool = False) -> tuple[Any, list[str]]:
        """The value, converted if exactly one conversion fits, and its notes. A list's item never becomes a list itself."""
        node = self._nodes.of(part)
        if not isinstance(value, list | dict):
            return self._convert(value, node, path, is_item)
        key = id(value), id(node), is_item, self._wrapping
        if key not in self._converted:  # storing the value keeps its id from being reused
            self._converted[key] = *self._convert(value, node, path, is_item), value
        return self._converted[key][:2]

    def _convert(self, value: Any, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        if node.branches:
            return self._union(value, node, path, is_item)
        if isinstance(value, dict) and "object" in node.types:
            return self._object(value, node, path)
        if isinstance(value, list) and "array" in node.types:
            return self._list(value, node, path)
        if not node.types or self._matcher.matches_node(value, node):
            return _whole_number(value, node, path)
        for name in node.types:
            made, notes = self._as(name, value, node, path, is_item)
            if made is not _NOT_CONVERTED and self._matcher.matches_node(made, node):
                return made, [*notes, f"{format_path(path, 'arguments')}: {type_of(value)} taken as {name}"]
        return value, []

    def _union(self, value: Any, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        """The value as its branches convert it; unchanged if it matches a branch, or if the branches disagree."""
        branches = node.branches_for(value)
        matching = [branch for branch in branches if self._matcher.matches(value, branch)]
        if self._without_wrapping is None:
            self._without_wrapping = _Coercion(self._nodes, wraps=False, matcher=self._matcher) if self._wraps else self
        found = self._without_wrapping._conversions(value, matching or [*branches], path, is_item)
        if not found and self._wraps:  # wrapping in a list is the last resort
            found = self._conversions(value, [*branches], path, is_item)
        return found[0] if len(found) == 1 else (value, [])

    def _conversions(self, value: Any, branches: list[Any], path: Path, is_item: bool) -> list[tuple[Any, list[str]]]:
        """The distinct values that the branches convert this one to, each with its notes."""
        found: dict[Any, tuple[Any, list[str]]] = {}
        for branch in branches:
            made, notes = self.convert(value, branch, path, is_item=is_item)
            if self._matcher.matches(made, branch):
                found.setdefault(key_of(made), (made, notes))
        return list(found.values())

    def _object(self, value: dict[str, Any], node: Node, path: Path) -> tuple[dict[str, Any], list[str]]:
        notes: list[str] = []
        made: dict[str, Any] = {}
        misspelt = node.additional is False and not value.keys() <= node.properties.keys()
        spellings = Counter(map(plain_key, value)) if misspelt else {}
        for key, item in value.items():
            name = node.by_plain_key.get(plain_key(key), "") if key not in node.properties and spellings else ""
            if name and spellings[plain_key(key)] == 1:
                _note(notes, [f"{format_path(child(path, name))}: key {key!r} taken as {name!r}"])
            else:
                name = key
            part = node.for_key(name)
            is_optional = name in node.properties and name not in node.required
            if item is None and is_optional and not self._matcher.matches(None, part):
                _note(notes, [f"{format_path(child(path, name))}: null taken as not given"])
                continue
            made[name], more = self.convert(item, part, child(path, name))
            _note(notes, more)
        return made, notes

    def _list(self, value: list[Any], node: Node, path: Path) -> tuple[list[Any], list[str]]:
        notes: list[str] = []
        items = []
        for at, item in enumerate(value):
            made, more = self.convert(item, node.for_item(at), child(path, at), is_item=True)
            items.append(made)
            _note(notes, more)
        if node.is_set:
            unique = list({key_of(item): item for item in reversed(items)}.values())[::-1]
            if len(unique) < len(items):
                _note(notes, [f"{format_path(path)}: an item that is there twice taken once"])
                return unique, notes
        return items, notes

    def _as(self, name: str, value: Any, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        """The value as this JSON type, or `_NOT_CONVERTED`, and its notes."""
        text = value.strip() if isinstance(value, str) else ""
        match name:
            case _ if isinstance(value, BareWord):
                return (str(value) if name == "string" and node.enum is not None else _NOT_CONVERTED), []
            case "integer" | "number":
                return _as_number(name, value, text), []
            case "boolean" if text in _BOOLEANS:
                return _BOOLEANS[text], []
            case "null" if text in ("null", "None"):
                return None, []
            case "object" | "array" if text[:1] in ("{", "["):
                return self._read(name, text, node, path, is_item)
            case "array" if value is not None and self._may_wrap(node, is_item) and not _is_list_like(value):
                return self._list_of(value, node, path)
        return _NOT_CONVERTED, []

    def _may_wrap(self, node: Node, is_item: bool) -> bool:
        """Whether a value may become a list of one here.

        False for a tuple, for a list inside a list, and for a recursive list: wrapping on each level of a tree would be a guess
        on each level.
        """
        return self._wraps and not is_item and not node.prefix_items and id(node) not in self._wrapping

    def _list_of(self, value: Any, node: Node, path: Path) -> tuple[list[Any], list[str]]:
        """A list of one value."""
        wrapping_before = self._wrapping
        self._wrapping = wrapping_before | {id(node)}
        try:
            made, notes = self.convert(value, node.for_item(0), path, is_item=True)
        finally:
            self._wrapping = wrapping_before
        return [made], notes

    def _read(self, name: str, text: str, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        """The object or list that a string holds as JSON."""
        try:
            value, repairs = read_json(text)
        except NotJson:
            return _NOT_CONVERTED, []
        if name == "array" and isinstance(value, dict) and self._may_wrap(node, is_item):
            made, notes = self._list_of(value, node, path)
        elif is_of_type(value, name):
            made, notes = self._convert(value, node, path, is_item)
        else:
            return _NOT_CONVERTED, []
        return made, [*(f"{format_path(path, 'arguments')}: {repair}" for repair in repairs), *notes]


def _note(notes: list[str], more: list[str]) -> None:
    """Add notes, up to a limit."""
    if len(notes) <= _MAX_NOTES:
        notes += more
        if len(notes) > _MAX_NOTES:
            notes[_MAX_NOTES:] = ["and others"]


def _whole_number(value: Any, node: Node, path: Path) -> tuple[Any, list[str]]:
    """2.0 becomes 2 for an integer: it is one in JSON Schema, but not for pydantic's strict int."""
    if not isinstance(value, float) or "integer" not in node.types or "number" in node.types:
        return value, []
    exact = Decimal(value.text if isinstance(value, LongNumber) else repr(value))
    if exact != int(exact):
        return value, []
    return int(exact), [f"{format_path(path)}: {exact} taken as integer"]


def _as_number(name: str, value: Any, text: str) -> Any:
    match name:
        case "integer" if _INTEGER.fullmatch(text):
            return int(text)
        case "integer" if isinstance(value, float) and value.is_integer():  # 1.0 for Literal[1]
            return int(value)
        case "number" if _NUMBER.fullmatch(text) and abs(float(text)) != float("inf"):
            return json.loads(text)
        case "number" if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
    return _NOT_CONVERTED


def _is_list_like(value: Any) -> bool:
    """Whether a string may hold several items, so that taking it as one item would be a guess."""
    if not isinstance(value, str):
        return False
    return not value.strip() or bool(_LIST_LIKE.search(value)) or value.strip() in ("null", "None")
