"""Rewrites a tool's JSON Schema for a server: keywords that the server refuses are removed, or put into the description.

A server that refuses one schema refuses the whole request. A loosened schema admits everything that the original admits, and
arguments are validated against the original. Each rule names something that some servers refuse:

- root: `anyOf`, `oneOf`, `allOf`, `not` or `enum` at the root (OpenAI, Anthropic)
- references: `$ref` (Fireworks, Anthropic), or `$ref` next to a keyword that its target also has (Moonshot)
- keywords: all except the few that every server supports (Gemini, Moonshot, vLLM, llama.cpp)
- patterns: regular expressions with lookaround and similar, which only some engines support (OpenAI, Groq)
- tuples: `prefixItems`, and arrays without `items` (OpenAI, Gemini)
- types: a schema without a `type`, or with several types (Gemini, Moonshot, llama.cpp)
- unions: a keyword next to `anyOf` (Gemini, Moonshot)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from .node import Inliner, follow, map_children, resolve, type_of, well_formed

__all__ = ["CAREFUL", "SchemaRule", "is_plain_pattern", "loosened"]

SchemaRule: TypeAlias = Literal["root", "references", "keywords", "patterns", "tuples", "types", "unions"]
CAREFUL: tuple[SchemaRule, ...] = ("root", "references", "keywords", "patterns", "tuples", "types", "unions")
"""All rules, for an unknown server."""

_CORE = {
    "type", "description", "properties", "required", "additionalProperties", "items", "prefixItems", "anyOf", "enum",
    "$ref", "$defs", "definitions", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength",
}  # fmt: skip
_PHRASES = {
    "const": "always {}",
    "enum": "one of: {}",
    "format": "format: {}",
    "pattern": "pattern: {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "uniqueItems": "no item twice",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} keys",
    "maxProperties": "at most {} keys",
    "propertyNames": "keys: {}",
    "patternProperties": "keys by pattern: {}",
    "default": "default: {}",
    "examples": "for example: {}",
}
"""Descriptions of removed keywords. Keywords that are not listed are removed without a description."""
_REPEATED = ("minLength", "maxLength", "minItems", "maxItems")
_MAX_REPEATED = 500
"""Max repetitions to ask of a grammar. llama.cpp allows 2,000, with nested repetitions multiplied."""
_ODD = re.compile(r"\(\?(?!:)|\\[AZzGQEKRXkpPN1-9]|[*+?}]\+")
"""Lookaround, flags, named groups, back references, possessive quantifiers, and classes that not all engines support."""
_MAX_PHRASE = 1_000
"""Max characters of one keyword's value in a description."""
_KEYWORDS_OF = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum"),
}
_NULL = {"type": "null"}
_SCALARS: list[dict[str, Any]] = [{"type": name} for name in ("string", "number", "boolean", "object", "null")]
_ANYTHING = [*_SCALARS, {"type": "array", "items": {"anyOf": _SCALARS}}]
"""Any JSON value, as far as a schema without recursion can express it."""


def loosened(schema: Mapping[str, Any], rules: Sequence[SchemaRule]) -> dict[str, Any]:
    """The schema of a tool's arguments, rewritten by these rules. It is deterministic. Without rules, it is a copy."""
    if not rules:
        return dict(schema)
    root = _without_root_unions(schema) if "root" in rules else dict(schema)
    try:
        return _Loosening(schema, rules).node(root, ())
    except RecursionError:  # lists of lists of lists
        return dict(schema)


def is_plain_pattern(pattern: object) -> bool:
    """Whether all engines interpret this regular expression in the same way."""
    return isinstance(pattern, str) and not _ODD.search(pattern.replace(r"\\", ""))


class _Loosening:
    def __init__(self, root: Mapping[str, Any], rules: Sequence[SchemaRule]) -> None:
        self._root = root
        self._inliner = Inliner(root) if "references" in rules else None
        self._rules = [rule for name, rule in _RULES.items() if name in rules]

    def node(self, node: Any, parents: tuple[str, ...]) -> dict[str, Any]:
        """The loosened form of a part of the schema. `parents` are the references that lead to it."""
        made = dict(node) if isinstance(node, Mapping) else {}
        if self._inliner:
            made, parents = self._inliner.inline(made, parents, self._stub)
            made = {key: value for key, value in made.items() if key not in ("$defs", "definitions")}
        made = well_formed(made)
        if self._inliner and "allOf" in made:  # its branches may be merged into the node
            branches = [branch for branch in made["allOf"] if isinstance(branch, Mapping)]
            inlined = [self._inliner.inline(branch, parents, self._stub) for branch in branches]
            made["allOf"] = [branch for branch, _ in inlined]
            parents = tuple(dict.fromkeys(ref for _, refs in inlined for ref in refs)) or parents
        for rule in self._rules:
            made = rule(made)
        if made.keys() == {"anyOf"} and len(made["anyOf"]) == 1:
            return self.node(made["anyOf"][0], parents)
        if made.get("additionalProperties") == {}:
            made["additionalProperties"] = True
        return map_children(made, lambda inner: self.node(inner, parents))

    def _stub(self, ref: str) -> dict[str, Any]:
        """The replacement of a recursive reference: the target's type, and its name in the description."""
        kind = resolve(self._root, ref).get("type")
        name = ref.rpartition("/")[2].strip("#") or "schema"
        return {"description": f"the same as the {name} that holds it", **({"type": kind} if isinstance(kind, str) else {})}


def _without_root_unions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The root as one object with the keys of all branches. Keys from `anyOf` and `oneOf` are optional."""
    root, schema = schema, well_formed(follow(schema, schema))
    made = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "allOf", "not", "enum", "if")}
    made |= {"type": "object", "properties": schema.get("properties", {})}
    required = [*schema.get("required", ())]
    for key in ("allOf", "anyOf", "oneOf"):
        for branch in schema.get(key, ()):
            inner = well_formed(follow(root, branch)) if isinstance(branch, Mapping) else {}
            made["properties"] = {**inner.get("properties", {}), **made["properties"]}
            required += inner.get("required", []) if key == "allOf" else []
    made.pop("required", None)
    if required:
        made["required"] = list(dict.fromkeys(required))
    return made


def _keywords(node: dict[str, Any]) -> dict[str, Any]:
    """Only the keywords that all servers support. An `enum` stays only if all its values are strings, and none is empty."""
    for branch in node.pop("allOf", ()):
        node = _merged(node, branch)
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    if isinstance(node.get("const"), str):
        node["enum"] = [node.pop("const")]
    listed = node.get("enum", [node.get("const")] if "const" in node else [])
    kinds = list(dict.fromkeys(map(type_of, listed)))
    if kinds and "type" not in node:
        node["type"] = kinds[0] if len(kinds) == 1 else kinds
    refused = {key for key in node if key not in _CORE}
    refused |= {key for key in _REPEATED if isinstance(node.get(key), int) and node[key] > _MAX_REPEATED}
    if "enum" in node and (kinds != ["string"] or "" in listed):
        refused.add("enum")
    words = [_PHRASES[key].format(_short(node[key])) for key in _PHRASES if key in refused and _is_informative(key, node[key])]
    if "required" in node:
        node["required"] = [name for name in node["required"] if name in node.get("properties", ())]
    return _describing(words, {key: value for key, value in node.items() if key not in refused})


def _is_informative(key: str, value: Any) -> bool:
    return value is not None and value not in ([], {}) and not (key == "uniqueItems" and value is False)


def _patterns(node: dict[str, Any]) -> dict[str, Any]:
    if "pattern" not in node or is_plain_pattern(node["pattern"]):
        return node
    return _describing([_PHRASES["pattern"].format(node.pop("pattern"))], node)


def _tuples(node: dict[str, Any]) -> dict[str, Any]:
    """One schema for all items of an array."""
    item_schemas = node.pop("prefixItems", None) or node.get("items")
    if isinstance(item_schemas, list):
        kinds = [*item_schemas, *([node["items"]] if isinstance(node.get("items"), dict) else [])]
        kinds = [{key: value for key, value in kind.items() if key != "default"} for kind in kinds if isinstance(kind, dict)]
        different = [kind for at, kind in enumerate(kinds) if kind not in kinds[:at]]
        node["items"] = different[0] if len(different) == 1 else {"anyOf": different} if different else {}
    elif node.get("type") == "array" and not isinstance(node.get("items"), dict):
        node["items"] = {}
    return node


def _types(node: dict[str, Any]) -> dict[str, Any]:
    """One type for each schema: several types become a union. No type becomes the implied type, or a union of all types."""
    kind = node.get("type")
    if isinstance(kind, list):
        shared = {key: value for key, value in node.items() if key != "type"}
        return {"anyOf": [_only_of(name, shared) for name in kind], **_description_of(node)}
    if kind or "$ref" in node or "anyOf" in node or "oneOf" in node:
        return node
    implied = next((name for name, keys in _KEYWORDS_OF.items() if any(key in node for key in keys)), None)
    return {**node, "type": implied} if implied else {**node, "anyOf": _ANYTHING}


def _unions(node: dict[str, Any]) -> dict[str, Any]:
    """No keyword next to `anyOf`. An optional key with the default null loses its null branch."""
    if "properties" in node:
        required = node.get("required", ())
        node["properties"] = {
            name: inner if name in required else _without_null(inner) for name, inner in node["properties"].items()
        }
    if "anyOf" not in node:
        return node
    branches = [dict(branch) if isinstance(branch, Mapping) else {} for branch in node.pop("anyOf")]
    text = node.pop("description", "")
    if text and branches:  # the description is needed only once
        own = branches[0].get("description", "")
        branches[0]["description"] = f"{text} {own}".strip()
    return {"anyOf": [{**node, **branch} for branch in branches]}


def _without_null(node: Any) -> Any:
    branches = node.get("anyOf") if isinstance(node, Mapping) else None
    if not isinstance(branches, list) or node.get("default", "") is not None:
        return node
    others = [branch for branch in branches if branch != _NULL]
    return {**{key: value for key, value in node.items() if key != "default"}, "anyOf": others} if others else node


_RULES = {"keywords": _keywords, "patterns": _patterns, "tuples": _tuples, "types": _types, "unions": _unions}
"""The rules in the order in which they are applied to a schema. They are applied to a schema before its children."""


def _merged(node: dict[str, Any], branch: Any) -> dict[str, Any]:
    """The node with a branch of its `allOf` merged into it; the node's own keywords win."""
    made = {**branch, **node} if isinstance(branch, Mapping) else node
    for key, join in (("properties", dict), ("required", list)):
        if made is not node and key in node and key in branch:
            made[key] = join([*_items(branch[key]), *_items(node[key])])
    return made


def _items(value: Any) -> Any:
    return value.items() if isinstance(value, Mapping) else value


def _only_of(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The node restricted to one of its types, with only the keywords of that type."""
    others = {key for kind, keys in _KEYWORDS_OF.items() if kind != name.replace("integer", "number") for key in keys}
    made = {key: value for key, value in node.items() if key not in (*others, "description")}
    if "enum" in made:
        made["enum"] = [value for value in made["enum"] if type_of(value) == name]
    return {"type": name, **{key: value for key, value in made.items() if key != "enum" or value}}


def _description_of(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": node["description"]} if "description" in node else {}


def _short(value: Any) -> str:
    text = value if value and isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_PHRASE else f"{text[:_MAX_PHRASE]}..."


def _describing(words: list[str], node: dict[str, Any]) -> dict[str, Any]:
    """The node with these words added to its description. An empty description is removed."""
    text, more = str(node.get("description") or "").strip(), "; ".join(words)
    rest = {key: value for key, value in node.items() if key != "description"}
    whole = f"{text} ({more})" if text and more else text or more
    return {**rest, "description": whole} if whole else rest
