"""A JSON Schema in the form of the strict function mode (docs/deepseek.md), or the reason why there is none.

All references are inlined, and every key is required; an optional key may be null instead. Constraints that the mode does not
support are removed, since agentkit validates the arguments anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from .loosen import is_plain_pattern
from .node import Inliner

__all__ = ["NotStrict", "strict_schema"]

_KEPT = ("type", "description", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_FORMATS = ("email", "hostname", "ipv4", "ipv6", "uuid")
_NULL = {"type": "null"}


class NotStrict(ValueError):
    """A schema without a strict form; the message says where and why."""


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The strict form of an object's schema. Raises `NotStrict`."""
    return _Strict(schema).node(schema, "", ())


class _Strict:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._inliner = Inliner(root)

    def node(self, node: Any, path: str, parents: tuple[str, ...]) -> dict[str, Any]:
        """The strict form of a part of the schema. `parents` are the references that lead to it."""
        where = path or "the arguments"

        def refuse(ref: str) -> NoReturn:
            if ref in parents:
                raise NotStrict(f"{where}: {ref.rpartition('/')[2]} holds itself, and references must be inline")
            raise NotStrict(f"{where}: the schema is too large with its references inline")

        if isinstance(node, Mapping):
            node, parents = self._inliner.inline(node, parents, refuse)
        if not isinstance(node, Mapping) or not {"type", "anyOf", "oneOf", "enum", "const"} & node.keys():
            raise NotStrict(f"{where}: any value is allowed, and each must have a type")
        branches = node.get("anyOf") or node.get("oneOf")
        if not branches and isinstance(node.get("type"), list):
            branches = [{**node, "type": name} for name in node["type"]]
        if not branches:
            return self._plain(node, path, parents)
        made = {"anyOf": [self.node(branch, path, parents) for branch in branches]}
        return {**made, "description": node["description"]} if "description" in node else made

    def _plain(self, node: Mapping[str, Any], path: str, parents: tuple[str, ...]) -> dict[str, Any]:
        made = {key: node[key] for key in _KEPT if key in node and (key != "pattern" or is_plain_pattern(node[key]))}
        if "const" in node:
            made["enum"] = [node["const"]]
        if "type" not in made:
            raise NotStrict(f"{path or 'the arguments'}: the allowed values are of several types")
        if node.get("format") in _FORMATS:
            made["format"] = node["format"]
        if made["type"] == "object":
            made |= self._object(node, path, parents)
        if made["type"] == "array":
            made["items"] = self._items(node, path, parents)
        return made

    def _object(self, node: Mapping[str, Any], path: str, parents: tuple[str, ...]) -> dict[str, Any]:
        if node.get("additionalProperties") is not False:
            raise NotStrict(f"{path or 'the arguments'}: keys of any name are allowed, and all must be listed")
        if not node.get("properties"):
            raise NotStrict(f"{path or 'the arguments'}: there is no key, and one at least is needed")
        properties = {}
        for name, value in node.get("properties", {}).items():
            made = self.node(value, f"{path}.{name}" if path else name, parents)
            properties[name] = made if name in node.get("required", ()) else _nullable(made)
        return {"properties": properties, "required": list(properties), "additionalProperties": False}

    def _items(self, node: Mapping[str, Any], path: str, parents: tuple[str, ...]) -> dict[str, Any]:
        prefix = node.get("prefixItems")
        if prefix:
            kinds = [self.node(item, f"{path}[{index}]", parents) for index, item in enumerate(prefix)]
            different = [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]
            return different[0] if len(different) == 1 else {"anyOf": different}
        return self.node(node.get("items", {}), f"{path}[]", parents)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    branches = schema.get("anyOf", [schema])
    if _NULL in branches:
        return schema
    description = schema.get("description")
    plain = [{key: value for key, value in branch.items() if key != "description"} for branch in branches]
    made: dict[str, Any] = {"anyOf": [*(branches if "anyOf" in schema else plain), _NULL]}
    return {**made, "description": description} if description else made
