"""A type as JSON Schema and as strict validation: closed where the classes do not say otherwise, lean, the same every time."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Literal

from .losses import Rules
from .parse import Validator

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["json_schema", "validator_of"]


def validator_of(adapter: TypeAdapter[Any]) -> Validator:
    """A strict validator of what the adapter describes; it refuses unknown keys where no class has its own rule."""
    from .closed import ClosedJsonSchema

    used: list[ClosedJsonSchema] = []

    def generator(**options: Any) -> ClosedJsonSchema:
        used.append(ClosedJsonSchema(**options))
        return used[0]

    make: Any = generator  # pydantic calls it as the class that it asks for
    schema = _lean(adapter.json_schema(schema_generator=make))
    rules = Rules(used[0].is_closed, used[0].drops, used[0].is_exact, _is_plain(schema))
    validate = functools.partial(adapter.validate_json, strict=True, extra="forbid" if rules.is_closed else None)
    return Validator(_with_sets_in_order(schema), validate, rules)


def json_schema(adapter: TypeAdapter[Any], *, mode: Literal["validation", "serialization"] = "validation") -> dict[str, Any]:
    """The JSON Schema of what the adapter validates or writes: lean, and closed where nothing else is said."""
    from .closed import ClosedJsonSchema

    return _lean(adapter.json_schema(schema_generator=ClosedJsonSchema, mode=mode))


def _lean(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without titles, which only cost tokens. Properties that are called title stay."""

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        result = {}
        for key, value in node.items():
            if key == "title" and isinstance(value, str):
                continue
            if key == "discriminator":
                result[key] = value
                continue
            if key in ("properties", "$defs", "patternProperties") and isinstance(value, dict):
                result[key] = {name: walk(sub) for name, sub in value.items()}
            else:
                result[key] = value if key in ("default", "const", "enum", "examples") else walk(value)
        return result

    cleaned: dict[str, Any] = walk(schema)
    return cleaned


_PLAIN_KEYS = {
    "type", "properties", "required", "additionalProperties", "items", "description", "default", "examples",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems",
}  # fmt: skip


def _is_plain(schema: Any) -> bool:
    """Whether the schema has only what strict validation holds by itself: no unions, options, sets, dates and open objects."""
    if not isinstance(schema, dict) or not schema.keys() <= _PLAIN_KEYS:
        return False
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    is_closed = schema.get("type") != "object" or schema.get("additionalProperties") is False
    return isinstance(schema.get("type"), str) and is_closed and all(map(_is_plain, inner))


def _with_sets_in_order(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the items of sets in defaults in one order; Python's differs from process to process."""
    definitions = schema.get("$defs", {})

    def ordered(value: Any, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            node = definitions.get(node["$ref"].rpartition("/")[2])
        if not isinstance(node, dict):
            return value
        if isinstance(value, list):
            items = [ordered(item, node.get("items")) for item in value]
            return sorted(items, key=json.dumps) if node.get("uniqueItems") else items
        if isinstance(value, dict):
            known, rest = node.get("properties", {}), node.get("additionalProperties")
            return {key: ordered(item, known.get(key, rest)) for key, item in value.items()}
        return value

    def walk(node: Any) -> None:
        for inner in node if isinstance(node, list) else node.values():
            if isinstance(inner, dict | list):
                walk(inner)
        if isinstance(node, dict) and isinstance(node.get("default"), dict | list):
            node["default"] = ordered(node["default"], node)

    walk(schema)
    return schema
