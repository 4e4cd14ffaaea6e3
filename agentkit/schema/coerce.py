"""Values that nearly fit a JSON Schema, made to fit where that loses nothing and can mean one thing only.

A text is never touched where the schema admits a text: '007' stays what it is for a string parameter. It knows the part of
JSON Schema that pydantic writes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from typing import Any

from .node import Node, Shape, is_of_type, key_of, type_of
from .paths import Path, inside, written
from .repair import BareWord, LongNumber, NotJson, read_json
from .unwrap import plain_key
from .validate import Fits

__all__ = ["bare_words", "coerce"]

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,300})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,300})(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
_SEVERAL = re.compile(r"[,;|\n\r\t，、；]|\A\s*[\"'].*[\"']\s*\Z", re.DOTALL)
_MOST = 50
"""Mendings that are named."""
_NO: Any = object()


def coerce(value: Any, shape: Shape) -> tuple[Any, tuple[str, ...]]:
    """The value with its misfits mended, and what was done, each with its path. What cannot be mended stays."""
    mended, done = _Mending(shape).mend(value, shape.schema, None)
    return mended, tuple(done)


def bare_words(value: Any) -> list[str]:
    """The words without quotes that are left in a value."""
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


class _Mending:
    """Mends a value; `wraps` says whether one value may become a list of it."""

    def __init__(self, shape: Shape, *, wraps: bool = True, fits: Fits | None = None) -> None:
        self._shape, self._wraps = shape, wraps
        self._fits = fits or Fits(shape)
        self._made: dict[tuple[int, int, bool, frozenset[int]], tuple[Any, list[str], Any]] = {}
        self._wrapping: frozenset[int] = frozenset()
        self._plain: _Mending | None = None

    def mend(self, value: Any, part: Any, path: Path, *, is_item: bool = False) -> tuple[Any, list[str]]:
        """The value, mended where one mending fits, and what was done. An item of a list does not become a list."""
        node = self._shape.node(part)
        if not isinstance(value, list | dict):
            return self._mend(value, node, path, is_item)
        place = id(value), id(node), is_item, self._wrapping
        if place not in self._made:  # the value is kept, so that its id stays its own
            self._made[place] = *self._mend(value, node, path, is_item), value
        return self._made[place][:2]

    def _mend(self, value: Any, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        if node.branches:
            return self._one_of(value, node, path, is_item)
        if isinstance(value, dict) and "object" in node.types:
            return self._object(value, node, path)
        if isinstance(value, list) and "array" in node.types:
            return self._list(value, node, path)
        if not node.types or self._admits(value, node):
            return _whole_number(value, node, path)
        for name in node.types:
            mended, done = self._as(name, value, node, path, is_item)
            if mended is not _NO and self._admits(mended, node):
                return mended, [*done, f"{_name(path)}: {type_of(value)} taken as {name}"]
        return value, []

    def _admits(self, value: Any, node: Node) -> bool:
        return self._fits.admits_node(value, node)

    # --- unions

    def _one_of(self, value: Any, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        """Mended by the branches that it can fit; as it is when it fits one, or when they disagree."""
        branches = node.branches_for(value)
        admitting = [branch for branch in branches if self._fits.admits(value, branch)]
        if self._plain is None:
            self._plain = _Mending(self._shape, wraps=False, fits=self._fits) if self._wraps else self
        found = self._plain._mendings(value, admitting or [*branches], path, is_item)
        if not found and self._wraps:  # a list of one is the last resort
            found = self._mendings(value, [*branches], path, is_item)
        return found[0] if len(found) == 1 else (value, [])

    def _mendings(self, value: Any, branches: list[Any], path: Path, is_item: bool) -> list[tuple[Any, list[str]]]:
        """The different values that the branches make of this one, each with what was done."""
        found: dict[Any, tuple[Any, list[str]]] = {}
        for branch in branches:
            mended, done = self.mend(value, branch, path, is_item=is_item)
            if self._fits.admits(mended, branch):
                found.setdefault(key_of(mended), (mended, done))
        return list(found.values())

    # --- objects and lists

    def _object(self, value: dict[str, Any], node: Node, path: Path) -> tuple[dict[str, Any], list[str]]:
        done: list[str] = []
        mended: dict[str, Any] = {}
        strange = Counter(map(plain_key, value)) if node.is_closed and not value.keys() <= node.properties.keys() else {}
        for key, item in value.items():
            name = node.by_plain_key.get(plain_key(key), "") if key not in node.properties and strange else ""
            if name and strange[plain_key(key)] == 1:
                _note(done, [f"{written(inside(path, name))}: key {key!r} taken as {name!r}"])
            else:
                name = key
            part = node.of_key(name)
            if item is None and name in node.properties and name not in node.required and not self._fits.admits(None, part):
                _note(done, [f"{written(inside(path, name))}: null taken as not given"])
                continue
            mended[name], more = self.mend(item, part, inside(path, name))
            _note(done, more)
        return mended, done

    def _list(self, value: list[Any], node: Node, path: Path) -> tuple[list[Any], list[str]]:
        done: list[str] = []
        items = []
        for place, item in enumerate(value):
            mended, more = self.mend(item, node.of_item(place), inside(path, place), is_item=True)
            items.append(mended)
            _note(done, more)
        if node.is_set:
            once = list({key_of(item): item for item in reversed(items)}.values())[::-1]
            if len(once) < len(items):
                _note(done, [f"{written(path)}: an item that is there twice taken once"])
                return once, done
        return items, done

    # --- one value as another type

    def _as(self, name: str, value: Any, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        """The value as this JSON type, or `_NO`; and what was done for it."""
        text = value.strip() if isinstance(value, str) else ""
        match name:
            case _ if isinstance(value, BareWord):
                return (str(value) if name == "string" and node.options is not None else _NO), []
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
        return _NO, []

    def _may_wrap(self, node: Node, is_item: bool) -> bool:
        """Whether a value may become a list of one: not a list of fixed places, a list in a list, or the same list again.

        A tree whose children are made lists on each level is a guess on each level.
        """
        return self._wraps and not is_item and not node.places and id(node) not in self._wrapping

    def _list_of(self, value: Any, node: Node, path: Path) -> tuple[list[Any], list[str]]:
        """A list of one value."""
        around = self._wrapping
        self._wrapping = around | {id(node)}
        try:
            mended, done = self.mend(value, node.of_item(0), path, is_item=True)
        finally:
            self._wrapping = around
        return [mended], done

    def _read(self, name: str, text: str, node: Node, path: Path, is_item: bool) -> tuple[Any, list[str]]:
        """The object or list that is written in a text."""
        try:
            value, repairs = read_json(text)
        except NotJson:
            return _NO, []
        if name == "array" and isinstance(value, dict) and self._may_wrap(node, is_item):
            mended, done = self._list_of(value, node, path)
            return mended, [*(f"{_name(path)}: {repair}" for repair in repairs), *done]
        if not is_of_type(value, name):
            return _NO, []
        mended, done = self._mend(value, node, path, is_item)
        return mended, [*(f"{_name(path)}: {repair}" for repair in repairs), *done]


def _name(path: Path) -> str:
    return written(path) or "arguments"


def _note(done: list[str], more: list[str]) -> None:
    """Add what was done; a lot of it ends in a word."""
    if len(done) <= _MOST:
        done += more
        if len(done) > _MOST:
            done[_MOST:] = ["and others"]


def _whole_number(value: Any, node: Node, path: Path) -> tuple[Any, list[str]]:
    """2.0 is an integer in JSON Schema, and an int in Python."""
    if not isinstance(value, float) or "integer" not in node.types or "number" in node.types:
        return value, []
    exact = Decimal(value.text if isinstance(value, LongNumber) else repr(value))
    if exact != int(exact):
        return value, []
    return int(exact), [f"{written(path)}: {exact} taken as integer"]


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
    return _NO


def _is_list_like(value: Any) -> bool:
    """Whether a text may be several items, so that making it one of them would be a guess."""
    if not isinstance(value, str):
        return False
    return not value.strip() or bool(_SEVERAL.search(value)) or value.strip() in ("null", "None")
