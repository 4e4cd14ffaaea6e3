"""A tool's JSON Schema as a server takes it: what the server refuses is left out, or said in the description.

One schema that a server refuses takes the whole request with it. A loosened schema admits at least what the original
does, and arguments are validated against the original. Each rule names what some server refuses:

- root: `anyOf`, `oneOf`, `allOf`, `not` or `enum` at the root (OpenAI, Anthropic)
- references: `$ref` (Fireworks, Anthropic), or `$ref` beside a keyword that its target has too (Moonshot)
- keywords: all but the few that every server knows (Gemini, Moonshot, vLLM, llama.cpp)
- patterns: regular expressions with lookaround and the like, which only some engines know (OpenAI, Groq)
- tuples: `prefixItems`, and arrays without `items` (OpenAI, Gemini)
- types: a schema without a `type`, or with several (Gemini, Moonshot, llama.cpp)
- unions: a keyword beside `anyOf` (Gemini, Moonshot)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

__all__ = ["CAREFUL", "SchemaRule", "is_plain_pattern", "loosened"]

SchemaRule: TypeAlias = Literal["root", "references", "keywords", "patterns", "tuples", "types", "unions"]
CAREFUL: tuple[SchemaRule, ...] = ("root", "references", "keywords", "patterns", "tuples", "types", "unions")
"""All rules, for servers of which nothing else is known."""

_CORE = {
    "type", "description", "properties", "required", "additionalProperties", "items", "prefixItems", "anyOf", "enum",
    "$ref", "$defs", "definitions", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength",
}  # fmt: skip
_WORDS = {
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
"""How the description says a keyword that is left out. The others are only left out."""
_REPEATED = ("minLength", "maxLength", "minItems", "maxItems")
_MOST_REPEATED = 500
"""A grammar repeats a rule as often; that of llama.cpp must stay below 2,000 repetitions, those inside each other included."""
_ODD = re.compile(r"\(\?(?!:)|\\[AZzGQEKRXkpPN1-9]|[*+?}]\+")
"""Lookaround, flags, named groups, back references, possessive quantifiers; classes and anchors of some engines only."""
_MOST = 2_000
"""References that are written out; classes that share classes would grow without a bound."""
_LONGEST = 1_000
"""Characters of one keyword in words."""
_KEYWORDS_OF = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum"),
}
_JSON_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (dict, "object"), (list, "array"),
)  # fmt: skip
_SHAPES: dict[str, type] = {
    "properties": dict, "required": list, "enum": list, "anyOf": list, "oneOf": list, "allOf": list, "$ref": str
}  # fmt: skip
"""What is shaped otherwise says nothing: some programs write an empty object as a list, or null."""
_NULL = {"type": "null"}
_SCALARS: list[dict[str, Any]] = [{"type": name} for name in ("string", "number", "boolean", "object", "null")]
_ANYTHING = [*_SCALARS, {"type": "array", "items": {"anyOf": _SCALARS}}]
"""Any JSON value, as far as it can be said by a schema that does not hold itself."""


def loosened(schema: Mapping[str, Any], rules: Sequence[SchemaRule]) -> dict[str, Any]:
    """The schema of a tool's arguments by these rules, the same every time; a copy of it where there are none."""
    if not rules:
        return dict(schema)
    root = _without_root_unions(schema) if "root" in rules else dict(schema)
    try:
        made = _Loosening(schema, rules).node(root, ())
    except RecursionError:  # lists of lists of lists
        return dict(schema)
    if "references" in rules:
        made = {key: value for key, value in made.items() if key not in ("$defs", "definitions")}
    return made


def is_plain_pattern(pattern: object) -> bool:
    """Whether all engines read this regular expression, and alike."""
    return isinstance(pattern, str) and not _ODD.search(pattern.replace(r"\\", ""))


class _Loosening:
    def __init__(self, schema: Mapping[str, Any], rules: Sequence[SchemaRule]) -> None:
        self._schema = schema
        self._writes_out = "references" in rules
        self._rules = [rule for name, rule in _RULES.items() if name in rules]
        self._left = _MOST

    def node(self, node: Any, inside: tuple[str, ...]) -> dict[str, Any]:
        """A schema that stands inside the targets of these references."""
        made = dict(node) if isinstance(node, Mapping) else {}
        made = {key: value for key, value in made.items() if isinstance(value, _SHAPES.get(key, object))}
        while self._writes_out and "$ref" in made:
            made, inside = self._written_out(made, inside)
        for rule in self._rules:
            made = rule(made)
        if made.keys() == {"anyOf"} and len(made["anyOf"]) == 1:
            return self.node(made["anyOf"][0], inside)
        return {key: self._inner(key, value, inside) for key, value in made.items()}

    def _inner(self, key: str, value: Any, inside: tuple[str, ...]) -> Any:
        match key, value:
            case "properties" | "patternProperties", dict():
                return {name: self.node(inner, inside) for name, inner in value.items()}
            case "$defs" | "definitions", dict() if not self._writes_out:
                return {name: self.node(inner, inside) for name, inner in value.items()}
            case "items" | "additionalProperties", dict():
                return self.node(value, inside) if value or key == "items" else True
            case "anyOf" | "oneOf" | "allOf" | "prefixItems", list():
                return [self.node(inner, inside) for inner in value]
        return value

    def _written_out(self, node: dict[str, Any], inside: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The target of a reference, with what stands beside the reference; only its type where it holds itself."""
        path = str(node.pop("$ref"))
        target = self._target(path)
        self._left -= 1
        if path not in inside and self._left >= 0:
            return {**target, **node}, (*inside, path)
        kind = {"type": target["type"]} if isinstance(target.get("type"), str) else {}
        return {"description": f"the same as the {path.rpartition('/')[2]} that holds it", **kind, **node}, inside

    def _target(self, path: str) -> Mapping[str, Any]:
        found: Any = self._schema
        for part in path.removeprefix("#").strip("/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) and path.startswith("#/") else None
        return found if isinstance(found, Mapping) else {}


def _without_root_unions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The root as one object with the keys of all branches; those of a choice are not required."""
    made = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "allOf", "not", "enum", "if")}
    made |= {"type": "object", "properties": _well_shaped(schema, "properties")}
    required = [*_well_shaped(schema, "required")]
    for key in ("allOf", "anyOf", "oneOf"):
        for branch in _well_shaped(schema, key):
            inner = branch if isinstance(branch, Mapping) else {}
            made["properties"] = {**_well_shaped(inner, "properties"), **made["properties"]}
            required += _well_shaped(inner, "required") if key == "allOf" else []
    made.pop("required", None)
    if required:
        made["required"] = list(dict.fromkeys(required))
    return made


def _well_shaped(schema: Mapping[str, Any], key: str) -> Any:
    value = schema.get(key)
    return value if isinstance(value, _SHAPES[key]) else _SHAPES[key]()


def _keywords(node: dict[str, Any]) -> dict[str, Any]:
    """Only the keywords that all servers know; values are listed where all are texts."""
    for branch in node.pop("allOf", ()):
        node = _merged(node, branch)
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    if isinstance(node.get("const"), str):
        node["enum"] = [node.pop("const")]
    listed = node.get("enum", [node.get("const")] if "const" in node else [])
    kinds = list(dict.fromkeys(map(_type_of_value, listed)))
    if kinds and "type" not in node:
        node["type"] = kinds[0] if len(kinds) == 1 else kinds
    refused = {key for key in node if key not in _CORE}
    refused |= {key for key in _REPEATED if isinstance(node.get(key), int) and node[key] > _MOST_REPEATED}
    if "enum" in node and kinds != ["string"]:
        refused.add("enum")
    said = [_WORDS[key].format(_short(node[key])) for key in _WORDS if key in refused and _tells(key, node[key])]
    if "required" in node:
        node["required"] = [name for name in node["required"] if name in node.get("properties", ())]
    return _saying(said, {key: value for key, value in node.items() if key not in refused})


def _tells(key: str, value: Any) -> bool:
    return value is not None and value not in ([], {}) and not (key == "uniqueItems" and value is False)


def _patterns(node: dict[str, Any]) -> dict[str, Any]:
    if "pattern" not in node or is_plain_pattern(node["pattern"]):
        return node
    return _saying([_WORDS["pattern"].format(node.pop("pattern"))], node)


def _tuples(node: dict[str, Any]) -> dict[str, Any]:
    """Each array has one schema for its items: that of all places together."""
    places = node.pop("prefixItems", None) or node.get("items")
    if isinstance(places, list):
        kinds = [*places, *([node["items"]] if isinstance(node.get("items"), dict) else [])]
        kinds = [{key: value for key, value in kind.items() if key != "default"} for kind in kinds if isinstance(kind, dict)]
        different = [kind for at, kind in enumerate(kinds) if kind not in kinds[:at]]
        node["items"] = different[0] if len(different) == 1 else {"anyOf": different} if different else {}
    elif node.get("type") == "array" and not isinstance(node.get("items"), dict):
        node["items"] = {}
    return node


def _types(node: dict[str, Any]) -> dict[str, Any]:
    """Each schema has one type; several are a union, and any value is one of all types."""
    kind = node.get("type")
    if isinstance(kind, list):
        outside = {key: value for key, value in node.items() if key != "type"}
        return {"anyOf": [_only_of(name, outside) for name in kind], **_description_of(node)}
    if kind or "$ref" in node or "anyOf" in node or "oneOf" in node:
        return node
    meant = next((name for name, keys in _KEYWORDS_OF.items() if any(key in node for key in keys)), None)
    return {**node, "type": meant} if meant else {**node, "anyOf": _ANYTHING}


def _unions(node: dict[str, Any]) -> dict[str, Any]:
    """Nothing stands beside `anyOf`. A key that may be left out, and is null then, is shown without null."""
    if "properties" in node:
        required = node.get("required", ())
        node["properties"] = {
            name: inner if name in required else _without_null(inner) for name, inner in node["properties"].items()
        }
    if "anyOf" not in node:
        return node
    branches = [dict(branch) if isinstance(branch, Mapping) else {} for branch in node.pop("anyOf")]
    text = node.pop("description", "")
    if text and branches:  # once is enough
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
"""In the order in which a schema goes through them, before the schemas in it do."""


def _merged(node: dict[str, Any], branch: Any) -> dict[str, Any]:
    """The node with a branch of its `allOf`; where they contradict each other, the node's own word counts."""
    made = {**branch, **node} if isinstance(branch, Mapping) else node
    for key, join in (("properties", dict), ("required", list)):
        if made is not node and key in node and key in branch:
            made[key] = join([*_items(branch[key]), *_items(node[key])])
    return made


def _items(value: Any) -> Any:
    return value.items() if isinstance(value, Mapping) else value


def _type_of_value(value: Any) -> str:
    return next((name for kind, name in _JSON_TYPES if isinstance(value, kind)), "null")


def _only_of(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that this one of several types has."""
    others = {key for kind, keys in _KEYWORDS_OF.items() if kind != name.replace("integer", "number") for key in keys}
    made = {key: value for key, value in node.items() if key not in (*others, "description")}
    if "enum" in made:
        made["enum"] = [value for value in made["enum"] if _type_of_value(value) == name]
    return {"type": name, **{key: value for key, value in made.items() if key != "enum" or value}}


def _description_of(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": node["description"]} if "description" in node else {}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _saying(said: list[str], node: dict[str, Any]) -> dict[str, Any]:
    """The node with this in its description; an empty description is left out."""
    text, words = str(node.get("description") or "").strip(), "; ".join(said)
    rest = {key: value for key, value in node.items() if key != "description"}
    whole = f"{text} ({words})" if text and words else text or words
    return {**rest, "description": whole} if whole else rest
