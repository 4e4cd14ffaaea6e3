"""The shared view of a JSON Schema: references, child schemas, types and branches of a node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote

from .repair import BareWord
from .unwrap import plain_key

__all__ = [
    "Converted",
    "Inliner",
    "Node",
    "Nodes",
    "follow",
    "is_of_type",
    "key_of",
    "map_children",
    "resolve",
    "subschemas",
    "type_of",
    "well_formed",
]

_CHILDREN = {
    "items": "one", "additionalProperties": "one", "anyOf": "list", "oneOf": "list", "allOf": "list", "prefixItems": "list",
    "properties": "map", "patternProperties": "map", "$defs": "map", "definitions": "map",
}  # fmt: skip
"""The keywords that hold schemas: one, a list of them, or a map from names to them."""
_CLASSES = {"integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,), "null": (type(None),)}
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
_KEYWORDS: dict[str, Any] = {
    "type": (str, list), "properties": dict, "patternProperties": dict, "required": list, "enum": list, "prefixItems": list,
    "anyOf": list, "oneOf": list, "allOf": list, "discriminator": dict, "$ref": str,
}  # fmt: skip
_MAX_INLINED = 2_000
"""Max references that are inlined. Without a limit, classes that share classes would grow exponentially."""


class Converted(dict[str, Any]):
    """The schema of a value that the program's own code reads before pydantic does: a validator, or an Enum's `_missing_`.

    That code may admit more than the schema.
    """

    __slots__ = ()


def resolve(root: Mapping[str, Any], ref: Any) -> Mapping[str, Any]:
    """The schema that a `$ref` in `root` points to (RFC 6901). If there is none, an empty schema, which admits any value."""
    if not isinstance(ref, str) or ref.partition("/")[0] != "#":
        return {}
    found: Any = root
    for part in unquote(ref).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def follow(root: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its reference replaced by the target. Keywords next to the reference win over the target's."""
    return Inliner(root).inline(schema, (), lambda ref: {})[0]


def well_formed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without keywords whose value has a wrong type: some programs write an empty object as a list or null."""
    return {key: value for key, value in schema.items() if isinstance(value, _KEYWORDS.get(key, object))}


def map_children(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of the schema with each child schema changed. A child may be `true`, or malformed.

    Only children under keywords of `Node` are changed. Schemas under `not` and `if` stay: loosening them would make the whole
    schema stricter.
    """
    made = dict(schema)
    for key in schema:
        if key in _CHILDREN:
            match _CHILDREN[key], schema[key]:
                case "one", dict() as value:
                    made[key] = change(value)
                case "list", list() as value:
                    made[key] = [change(inner) for inner in value]
                case "map", dict() as value:
                    made[key] = {name: change(inner) for name, inner in value.items()}
    return made


def subschemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema itself and every schema inside it, in order. References are not followed."""
    yield schema
    children: list[Any] = []
    map_children(schema, children.append)
    for child in children:
        if isinstance(child, dict):
            yield from subschemas(child)


class Inliner:
    """Replaces references by their targets, up to a max number of references."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MAX_INLINED

    def inline(
        self, schema: Mapping[str, Any], parents: tuple[str, ...], stub: Callable[[str], Mapping[str, Any]]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """As `follow`; also returns `parents` extended by the replaced references.

        `stub` returns the replacement of a reference that is recursive, or that exceeds the limit.
        """
        made = dict(schema)
        while isinstance(ref := made.pop("$ref", None), str):
            self._left -= 1
            if ref in parents or self._left < 0:
                made = {**stub(ref), **made}
            else:
                made, parents = {**resolve(self._root, ref), **made}, (*parents, ref)
        return made, parents


@dataclass(slots=True, eq=False)
class Node:
    """A schema with its reference followed. The fields are named as in JSON Schema; `branches` are `anyOf` or `oneOf`."""

    types: tuple[str, ...] = ()
    """The allowed JSON types; empty for any."""
    branches: tuple[Any, ...] = ()
    discriminator: str = ""
    """The key whose value selects the branch; empty if there is none."""
    mapping: Mapping[Any, Any] = field(default_factory=dict)
    """The branch of each value of the discriminator."""
    enum: Sequence[Any] | None = None
    """The allowed values; None for any."""
    enum_keys: frozenset[Any] = frozenset()
    """The `key_of` each allowed value."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    by_plain_key: Mapping[str, str] = field(default_factory=dict)
    """Names of properties by their `plain_key`; an empty name if two properties share the key."""
    patterns: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    additional: Any = True
    """The schema of all other keys; False if they are refused."""
    prefix_items: Sequence[Any] = ()
    items: Any = True
    is_set: bool = False
    format: str = ""
    plain: frozenset[type] = frozenset()
    """The Python classes whose values are all allowed."""
    is_converted: bool = False
    """Whether the program's own validator reads the value first, so that only its result has to fit the schema."""

    @property
    def children(self) -> tuple[Any, ...]:
        """The schemas of its branches, keys and items."""
        keys = (*self.properties.values(), *self.patterns.values(), self.additional)
        return (*self.branches, *keys, *self.prefix_items, self.items)

    def for_key(self, key: str) -> Any:
        """The schema of this key's value; False if the key is refused."""
        if key in self.properties:
            return self.properties[key]
        return next((inner for pattern, inner in self.patterns.items() if _matches(pattern, key)), self.additional)

    def for_item(self, index: int) -> Any:
        """The schema of the item at this index."""
        return self.prefix_items[index] if index < len(self.prefix_items) else self.items

    def branches_for(self, value: Any) -> tuple[Any, ...]:
        """The branches that the value can belong to, by its discriminator."""
        if self.discriminator and isinstance(value, dict) and self.discriminator in value:
            chosen = self.mapping.get(str(value[self.discriminator]))
            return self.branches if chosen is None else (chosen,)
        return self.branches

    def is_of_types(self, value: Any) -> bool:
        """Whether the value has one of the types. Always true for a union, whose branches have the types."""
        return bool(self.branches) or not self.types or any(is_of_type(value, name) for name in self.types)

    def may_be(self, value: Any) -> bool:
        """Whether a program that gets the value could take it: it has one of the types, or is converted first."""
        return self.is_converted or self.is_of_types(value)


_ANY = Node()


class Nodes:
    """The nodes of a schema. Each is made on first use, and cached."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._nodes: dict[int, Node] = {}

    def of(self, part: Any) -> Node:
        """The node of a part of the schema. `true` and anything malformed admit any value."""
        if not isinstance(part, dict):
            return _ANY
        found = self._nodes.get(id(part))
        return self._nodes.setdefault(id(part), self._new_node(part)) if found is None else found

    @cached_property
    def is_recursive(self) -> bool:
        """Whether any node contains itself."""
        parents: list[int] = []
        done: set[int] = set()
        to_visit: list[tuple[Any, bool]] = [(self.schema, True)]
        while to_visit:
            part, is_new = to_visit.pop()
            node_id = id(self.of(part))
            if not is_new:
                done.add(parents.pop())
            elif node_id in parents:
                return True
            elif node_id not in done:
                parents.append(node_id)
                to_visit += [(part, False), *((inner, True) for inner in self.of(part).children if isinstance(inner, dict))]
        return False

    def _new_node(self, part: Mapping[str, Any]) -> Node:
        is_converted = isinstance(part, Converted) or isinstance(resolve(self.schema, part.get("$ref")), Converted)
        part = well_formed(follow(self.schema, part) if "$ref" in part else part)
        enum = part.get("enum", [part["const"]] if "const" in part else None)
        names = part.get("type", list(dict.fromkeys(map(type_of, part.get("enum", ())))))
        types = (names,) if isinstance(names, str) else tuple(names)
        branches = tuple(part.get("anyOf") or part.get("oneOf") or ())
        properties = part.get("properties", {})
        by_plain_key: dict[str, str] = {}
        for name in properties:
            plain = plain_key(name)
            by_plain_key[plain] = "" if plain in by_plain_key else name
        discriminator = part.get("discriminator", {})
        is_bound = branches or enum is not None or "format" in part
        return Node(
            types=types,
            branches=branches,
            discriminator=discriminator.get("propertyName", ""),
            mapping={value: {"$ref": target} for value, target in discriminator.get("mapping", {}).items()},
            enum=enum,
            enum_keys=frozenset(map(key_of, enum or ())),
            properties=properties,
            by_plain_key=by_plain_key,
            patterns=part.get("patternProperties", {}),
            required=frozenset(part.get("required", ())),
            additional=part.get("additionalProperties", True),
            prefix_items=part.get("prefixItems", ()),
            items=part.get("items", True),
            is_set=bool(part.get("uniqueItems")),
            format=part.get("format", ""),
            is_converted=is_converted,
            plain=frozenset(() if is_bound else (kind for name in types for kind in _CLASSES.get(name, ()))),
        )


def key_of(value: Any) -> tuple[type, Any]:
    """A key that is equal only for equal JSON values: true is not 1, and 1 is not 1.0."""
    return type(value), json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value


def is_of_type(value: Any, name: str) -> bool:
    """Whether a value has this JSON type; 2.0 is an integer."""
    if name in ("integer", "number"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return not isinstance(value, bool) and (whole or (name == "number" and isinstance(value, float)))
    return isinstance(value, _TYPES.get(name, ())) and not isinstance(value, BareWord)


def type_of(value: Any) -> str:
    """The name of a value's JSON type."""
    if isinstance(value, BareWord):
        return "bare word"
    if isinstance(value, float):
        return "number"
    return next((name for name in ("boolean", "integer", "number", *_TYPES) if is_of_type(value, name)), "value")


def _matches(pattern: str, key: str) -> bool:
    """Whether the key matches. True for an invalid pattern, which is left to the validation."""
    matcher = _matcher(pattern)
    return matcher is None or bool(matcher.isinstance_python(key))


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> Any:
    """A matcher that takes linear time, unlike Python's `re`; None for an invalid pattern."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return None
