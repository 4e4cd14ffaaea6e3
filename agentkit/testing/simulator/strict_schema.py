"""The schemas that a strict tool may have (docs/deepseek.md, and texts seen from the server)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["schema_errors"]

Types: TypeAlias = Mapping[str, set[str]]

_COMMON = {"type", "description", "title", "enum", "anyOf", "$ref", "$def", "const", "default"}
_BY_TYPE: Types = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items"},
    "string": {"pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "boolean": set(),
    "null": set(),
}
_FORMATS = ("email", "hostname", "ipv4", "ipv6", "uuid")
_SHAPES: Mapping[str, type] = {"properties": dict, "required": list, "anyOf": list, "$def": dict}
_ONE_REQUIRED = "one of `type`, `anyOf`, `$ref` field is required"


def schema_errors(parameters: Mapping[str, Any] | None, *, null: bool = True) -> Iterator[str]:
    """The errors in the parameters of a strict function, each with its path; none if they are valid.

    `null`: whether the type null is accepted. The documentation does not list it, and no test of it is known.
    """
    types = _BY_TYPE if null else {name: keys for name, keys in _BY_TYPE.items() if name != "null"}
    root = parameters or {"type": "object", "properties": {}}
    if root.get("type") != "object":
        yield "the root must have the type `object`"
    yield from _node(root, types)


def _node(node: Any, known: Types) -> Iterator[str]:
    if not isinstance(node, dict):
        yield "a schema must be an object"
        return
    if not any(key in node for key in ("type", "anyOf", "$ref")):
        yield _ONE_REQUIRED
        return
    if misshapen := [key for key, shape in _SHAPES.items() if key in node and not isinstance(node[key], shape)]:
        yield f"field `{misshapen[0]}`: invalid type"
        return
    types = node.get("type", [])
    types = types if isinstance(types, list) else [types]
    if unknown := [name for name in types if name not in list(known)]:
        yield f"field `type`: unknown variant `{unknown[0]}`"
        return
    allowed = _COMMON.union(*(known[name] for name in types))
    yield from (f"field `{key}` is not supported" for key in node if key not in allowed)
    if node.get("format", "email") not in _FORMATS:
        yield f"field `format`: unknown variant `{node['format']}`"
    if "object" in types:
        yield from _object(node, known)
    if "array" in types:
        yield from _inside("items", node.get("items", {}), known)
    yield from _branches(node, known)
    for name, definition in node.get("$def", {}).items():
        yield from _inside(name, definition, known)


def _object(node: Mapping[str, Any], known: Types) -> Iterator[str]:
    properties = node.get("properties") or {}
    if not properties:
        yield "An object with no properties is not allowed."
        return
    additional = node.get("additionalProperties")
    if isinstance(additional, dict):
        yield "field `additionalProperties`: invalid type: map, expected a boolean"
    elif additional is not False:
        yield "field `additionalProperties` must be false"
    required = node.get("required") or ()
    yield from (f"field `required`: property `{name}` is missing" for name in properties if name not in required)
    for name, inner in properties.items():
        yield from _inside(name, inner, known)


def _branches(node: Mapping[str, Any], known: Types) -> Iterator[str]:
    for branch in node.get("anyOf", ()):
        if isinstance(branch, dict) and ("anyOf" in branch or "$ref" in branch) and "type" not in branch:
            yield "field `anyOf`: missing field `type`"
        else:
            yield from _inside("anyOf", branch, known)


def _inside(name: str, node: Any, known: Types) -> Iterator[str]:
    yield from (f"field `{name}`: {error}" for error in _node(node, known))
