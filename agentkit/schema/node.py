"""A JSON Schema to be looked up in: what can be worked out of a part of it is worked out once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from .repair import BareWord
from .unwrap import plain_key

__all__ = ["Node", "Shape", "is_of_type", "key_of", "type_of"]

_PLAIN = {"integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,), "null": (type(None),)}
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


@dataclass(slots=True, eq=False)
class Node:
    """A part of a schema, its reference followed. `anyOf` and `oneOf` are `branches`."""

    types: tuple[str, ...] = ()
    """The JSON types that it admits; none where it says nothing of them."""
    branches: tuple[Any, ...] = ()
    tag: str = ""
    """The key whose value chooses the branch; empty where nothing does."""
    by_tag: Mapping[Any, Any] = field(default_factory=dict)
    options: Sequence[Any] | None = None
    """The values that it allows; None for any."""
    allowed: frozenset[Any] = frozenset()
    """Their keys (`key_of`)."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    by_plain_key: Mapping[str, str] = field(default_factory=dict)
    """The properties whose names differ in more than case and separators."""
    patterns: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    rest: Any = True
    """The schema of other keys; False: there are none."""
    places: Sequence[Any] = ()
    """The schemas of the first items."""
    items: Any = True
    is_set: bool = False
    format: str = ""
    plain: frozenset[type] = frozenset()
    """The types of Python's whose values it admits, whatever they are."""

    @property
    def is_closed(self) -> bool:
        """Whether no other keys are allowed."""
        return self.rest is False

    @property
    def parts(self) -> tuple[Any, ...]:
        """The parts of the schema that are in it."""
        return (
            *self.branches, *self.properties.values(), *self.patterns.values(), self.rest, *self.places, self.items
        )  # fmt: skip

    def of_key(self, key: str) -> Any:
        """The schema of this key's value; False where the key is not allowed."""
        if key in self.properties:
            return self.properties[key]
        return next((inner for pattern, inner in self.patterns.items() if _finds(pattern, key)), self.rest)

    def of_item(self, place: int) -> Any:
        """The schema of the item at this place."""
        return self.places[place] if place < len(self.places) else self.items

    def branches_for(self, value: Any) -> tuple[Any, ...]:
        """The branches that this value can be of, as far as its tag tells."""
        if self.tag and isinstance(value, dict) and self.tag in value:
            chosen = self.by_tag.get(str(value[self.tag]))
            return self.branches if chosen is None else (chosen,)
        return self.branches


_ANY = Node()


class Shape:
    """The nodes of a schema, each made when it is first needed."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._definitions = schema.get("$defs", {})
        self._nodes: dict[int, Node] = {}

    def node(self, part: Any) -> Node:
        """The node of a part of the schema. `true`, and what is no schema, is that of anything."""
        if not isinstance(part, dict):
            return _ANY
        found = self._nodes.get(id(part))
        return self._nodes.setdefault(id(part), self._made(self._target(part))) if found is None else found

    @cached_property
    def holds_itself(self) -> bool:
        """Whether some part of it stands inside itself."""
        around: list[int] = []
        done: set[int] = set()
        left: list[tuple[Any, bool]] = [(self.schema, True)]
        while left:
            part, is_new = left.pop()
            place = id(self.node(part))
            if not is_new:
                done.add(around.pop())
            elif place in around:
                return True
            elif place not in done:
                around.append(place)
                left += [(part, False), *((inner, True) for inner in self.node(part).parts if isinstance(inner, dict))]
        return False

    def _target(self, part: Any) -> Mapping[str, Any]:
        seen = 0
        while isinstance(part, dict) and "$ref" in part and seen < 20:
            part = self._definitions.get(part["$ref"].rpartition("/")[2], {})
            seen += 1
        return part if isinstance(part, dict) else {}

    def _made(self, part: Mapping[str, Any]) -> Node:
        options = part.get("enum", [part["const"]] if "const" in part else None)
        names = part.get("type", list(dict.fromkeys(map(type_of, part.get("enum", ())))))
        properties = part.get("properties", {})
        by_plain_key: dict[str, str] = {}
        for name in properties:
            plain = plain_key(name)
            by_plain_key[plain] = "" if plain in by_plain_key else name
        tag = part.get("discriminator", {})
        types = (names,) if isinstance(names, str) else tuple(names)
        branches = tuple(part.get("anyOf") or part.get("oneOf") or ())
        is_bound = branches or options is not None or "format" in part
        return Node(
            types=types,
            branches=branches,
            plain=frozenset(() if is_bound else (kind for name in types for kind in _PLAIN.get(name, ()))),
            tag=tag.get("propertyName", ""),
            by_tag={value: {"$ref": target} for value, target in tag.get("mapping", {}).items()},
            options=options,
            allowed=frozenset(map(key_of, options or ())),
            properties=properties,
            by_plain_key=by_plain_key,
            patterns=part.get("patternProperties", {}),
            required=frozenset(part.get("required", ())),
            rest=part.get("additionalProperties", True),
            places=part.get("prefixItems", ()),
            items=part.get("items", True),
            is_set=bool(part.get("uniqueItems")),
            format=part.get("format", ""),
        )


def key_of(value: Any) -> tuple[type, Any]:
    """The same for equal JSON values and for no others: true is not 1, and 1 is not 1.0."""
    return type(value), json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value


def is_of_type(value: Any, name: str) -> bool:
    """Whether a value is of this JSON type; 2.0 is an integer."""
    if name in ("integer", "number"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return not isinstance(value, bool) and (whole or (name == "number" and isinstance(value, float)))
    return isinstance(value, _TYPES.get(name, ())) and not isinstance(value, BareWord)


def type_of(value: Any) -> str:
    """The JSON type of a value, in words."""
    if isinstance(value, BareWord):
        return "bare word"
    if isinstance(value, float):
        return "number"
    return next((name for name in ("boolean", "integer", "number", *_TYPES) if is_of_type(value, name)), "value")


def _finds(pattern: str, key: str) -> bool:
    """Whether the key matches; a pattern that is not known here is left to the validation."""
    matcher = _matcher(pattern)
    return matcher is None or bool(matcher.isinstance_python(key))


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> Any:
    """A regular expression whose time is in proportion to the key, which Python's own is not; None if it cannot be read."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return None
