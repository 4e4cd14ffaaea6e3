"""Whether a JSON value has the shape of a schema: types, keys and allowed values, without bounds and formats.

Unions inside unions are tried along every path; whether a part of the value fits a part of the schema is therefore worked
out once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from .node import Node, Shape, is_of_type, key_of
from .paths import Path, inside, shown, written
from .repair import BareWord

__all__ = ["Fits", "readings"]

_MOST = 20
"""Misfits of one value that are looked for."""
_DATES = ("date", "date-time")
_DIGITS = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*", re.ASCII)
"""What a library may take for seconds since 1970, and nobody means by it."""


class Fits:
    """Answers for one value, which must not change meanwhile."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._admitted: dict[tuple[int, int], tuple[bool, Any]] = {}

    def admits(self, value: Any, part: Any) -> bool:
        """Whether the value has the shape of this part of the schema."""
        return self.admits_node(value, self.shape.node(part))

    def admits_node(self, value: Any, node: Node) -> bool:
        """As `admits`, for a node."""
        if not isinstance(value, list | dict):
            return self._admits(value, node)
        place = id(value), id(node)
        if place not in self._admitted:  # the value is kept, so that its id stays its own
            self._admitted[place] = self._admits(value, node), value
        return self._admitted[place][0]

    def _admits(self, value: Any, node: Node) -> bool:
        if isinstance(value, BareWord):
            return False
        if node.branches:
            return any(self.admits(value, branch) for branch in node.branches_for(value))
        if node.options is not None and key_of(value) not in node.allowed:
            return False
        if node.types and not any(is_of_type(value, name) for name in node.types):
            return False
        if isinstance(value, dict):
            return node.required <= value.keys() and all(
                (inner := node.of_key(key)) is not False and self.admits(item, inner) for key, item in value.items()
            )
        if isinstance(value, list):
            plain = () if node.places else self.shape.node(node.items).plain
            return not (node.is_set and _is_twice(value)) and all(
                type(item) in plain or self.admits(item, node.of_item(place)) for place, item in enumerate(value)
            )
        return True

    def misfits(self, value: Any, part: Any = None, path: Path = None) -> list[str]:
        """What the schema does not admit, each with its path; of several branches, by the one that it fits best."""
        node = self.shape.node(self.shape.schema if part is None else part)
        return list(islice(self._misfits_of(value, node, path), _MOST))

    def _misfits_of(self, value: Any, node: Node, path: Path) -> Iterator[str]:
        if node.branches:
            branches = [branch for branch in node.branches_for(value) if self._is_of(value, self.shape.node(branch))]
            found = [self.misfits(value, branch, path) for branch in branches]
            yield from min(found, key=len) if found else [f"{_name(path)}: {shown(value)} is none of the allowed types"]
        elif node.options is not None and key_of(value) not in node.allowed:
            yield f"{written(path)}: {shown(value)} is not one of {shown([*node.options[:50]])}"
        elif not self._is_of(value, node):
            yield f"{_name(path)}: {shown(value)} is not of type {' or '.join(node.types)}"
        elif isinstance(value, str) and node.format in _DATES and _DIGITS.fullmatch(value):
            yield f"{written(path)}: {shown(value)} is a number and no {node.format}"
        elif isinstance(value, dict):
            yield from self._misfits_of_keys(value, node, path)
        elif isinstance(value, list):
            if node.is_set and _is_twice(value):
                yield f"{written(path)}: an item is there twice: {shown(value)}"
            plain = () if node.places else self.shape.node(node.items).plain
            for place, item in enumerate(value):
                if type(item) not in plain:
                    yield from self.misfits(item, node.of_item(place), inside(path, place))

    def _misfits_of_keys(self, value: dict[str, Any], node: Node, path: Path) -> Iterator[str]:
        if not node.required <= value.keys():
            missing = (key for key in node.properties if key in node.required and key not in value)
            yield from (f"{written(inside(path, key))}: required, but missing" for key in missing)
        for key, item in value.items():
            inner = node.of_key(key)
            if inner is False:
                known = [*node.properties, *(f"those like {like}" for like in node.patterns)]
                yield f"{written(inside(path, key))}: unknown key; known: {', '.join(known) or 'none'}"
            else:
                yield from self.misfits(item, inner, inside(path, key))

    def _is_of(self, value: Any, node: Node) -> bool:
        return bool(node.branches) or not node.types or any(is_of_type(value, name) for name in node.types)


def _name(path: Path) -> str:
    return written(path) or "arguments"


def _is_twice(items: list[Any]) -> bool:
    """Whether two of the items are the same."""
    return len({key_of(item) for item in items}) < len(items)


def readings(value: Any, shape: Shape) -> int:
    """How many parts of the schema a library compares with parts of the value if it tries each branch of each union."""
    counted: dict[tuple[int, int], tuple[int, Any]] = {}

    def count(value: Any, part: Any) -> int:
        node = shape.node(part)
        place = id(value), id(node)
        if place not in counted:
            counted[place] = 1 + sum(count_inside(value, node)), value
        return counted[place][0]

    def count_inside(value: Any, node: Node) -> Iterator[int]:
        if node.branches:
            yield from (count(value, branch) for branch in node.branches_for(value))
        elif isinstance(value, dict) and "object" in node.types:
            yield from (count(item, node.of_key(key)) for key, item in value.items())
        elif isinstance(value, list) and "array" in node.types:
            yield from (count(item, node.of_item(place)) for place, item in enumerate(value))

    return count(value, shape.schema)
