"""Values that nearly fit a JSON Schema, made to fit where that loses nothing and can mean one thing only.

A text is never touched where the schema admits a text: '007' stays what it is for a string parameter. It knows the part of
JSON Schema that pydantic writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from .repair import BareWord, LongNumber, NotJson, read_json

__all__ = ["bare_words", "coerce", "joined", "misfits", "shown"]

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,300})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,300})(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
_SEVERAL = re.compile(r"[,;|\n\r\t，、；]|\A\s*[\"'].*[\"']\s*\Z", re.DOTALL)


def coerce(value: Any, schema: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The value with its misfits mended, and what was done, each with its path. What cannot be mended stays."""
    fitting = _Fitting(schema.get("$defs", {}))
    mended = fitting.mend(value, schema, "")
    return mended, tuple(fitting.repairs)


def misfits(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """What the schema's types, keys and allowed values do not admit, each with its path: an unknown key, true for 1."""
    return list(_Fitting(schema.get("$defs", {})).misfits(value, schema, ""))


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


def bare_words(value: Any) -> list[str]:
    """The words without quotes that are left in a value."""
    match value:
        case BareWord():
            return [str(value)]
        case list():
            return [word for item in value for word in bare_words(item)]
        case dict():
            return [word for item in value.values() for word in bare_words(item)]
    return []


def shown(value: Any) -> str:
    """A value in a message for the model: its JSON, at most 80 characters of it, and none that UTF-8 does not have."""
    text = json.dumps(value, ensure_ascii=False, default=repr).encode("utf-8", "replace").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def joined(path: str, key: str) -> str:
    """The path of a key in an object."""
    return f"{path}.{key}" if path else key


class _Fitting:
    def __init__(self, definitions: Mapping[str, Any], *, wraps: bool = True, inside: tuple[Any, ...] = ()) -> None:
        self._definitions = definitions
        self._wraps = wraps
        """Whether one value may become a list of it."""
        self._inside = inside
        """The lists that are being made of one value: a type that holds itself could go on for ever."""
        self.repairs: list[str] = []

    def _resolved(self, node: Any) -> Mapping[str, Any]:
        """The schema that a reference stands for; for `true`, the schema of anything."""
        seen = 0
        while isinstance(node, Mapping) and "$ref" in node and seen < 20:
            node = self._definitions.get(node["$ref"].rpartition("/")[2], {})
            seen += 1
        return node if isinstance(node, Mapping) else {}

    def _branches(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        branches = node.get("anyOf") or node.get("oneOf") or ()
        return [self._resolved(branch) for branch in branches]

    # --- does it fit?

    def admits(self, value: Any, node: Any) -> bool:
        """Whether the value has the schema's shape: types, keys and allowed values, without bounds and formats."""
        if isinstance(value, BareWord):
            return False
        node = self._resolved(node)
        if branches := self._branches(node):
            return any(self.admits(value, branch) for branch in branches)
        allowed = node.get("enum", [node["const"]] if "const" in node else None)
        if allowed is not None and not any(_same(value, option) for option in allowed):
            return False
        if "type" in node and not any(_is(value, name) for name in _types(node)):
            return False
        if isinstance(value, dict):
            return all(key in value for key in node.get("required", ())) and all(
                (inner := _of_key(node, key)) is not False and self.admits(item, inner) for key, item in value.items()
            )
        if isinstance(value, list):
            return not (node.get("uniqueItems") and _twice(value)) and all(
                self.admits(item, self._item(node, place)) for place, item in enumerate(value)
            )
        return True

    def _item(self, node: Mapping[str, Any], place: int) -> Any:
        prefix = node.get("prefixItems", ())
        return prefix[place] if place < len(prefix) else node.get("items", {})

    # --- make it fit

    def mend(self, value: Any, node: Any, path: str) -> Any:
        """The value, mended where one mending fits."""
        node = self._resolved(node)
        if branches := self._branches(node):
            return self._one_of(value, branches, path)
        if isinstance(value, dict) and ("object" in _types(node)):
            return self._object(value, node, path)
        if isinstance(value, list) and ("array" in _types(node)):
            items = [self.mend(item, self._item(node, place), f"{path}[{place}]") for place, item in enumerate(value)]
            return self._once(items, path) if node.get("uniqueItems") else items
        if self.admits(value, node) or not _types(node):
            return self._whole_number(value, node, path)
        for name in _types(node):
            mended = self._as(name, value, node, path)
            if mended is not _NO and self.admits(mended, node):
                self.repairs.append(f"{path or 'arguments'}: {_kind(value)} taken as {name}")
                return mended
        return value

    def _one_of(self, value: Any, branches: list[Mapping[str, Any]], path: str) -> Any:
        """Mended by the branches that it can fit; as it is when it fits one, or when they disagree."""
        admitting = [branch for branch in branches if self.admits(value, branch)]
        found = self._mendings(value, admitting or branches, path, wraps=False)
        if not found and self._wraps:  # a list of one is the last resort
            found = self._mendings(value, branches, path, wraps=True)
        if len(found) != 1:
            return value
        self.repairs += found[0][1]
        return found[0][0]

    def _mendings(
        self, value: Any, branches: list[Mapping[str, Any]], path: str, *, wraps: bool
    ) -> list[tuple[Any, list[str]]]:
        """The different values that the branches make of this one, each with what was mended."""
        found: list[tuple[Any, list[str]]] = []
        for branch in branches:
            trial = _Fitting(self._definitions, wraps=wraps, inside=self._inside)
            mended = trial.mend(value, branch, path)
            if self.admits(mended, branch) and not any(_same(mended, other) for other, _ in found):
                found.append((mended, trial.repairs))
        return found

    def _whole_number(self, value: Any, node: Mapping[str, Any], path: str) -> Any:
        """2.0 is an integer in JSON Schema, and an int in Python."""
        if not isinstance(value, float) or "integer" not in _types(node) or "number" in _types(node):
            return value
        exact = Decimal(value.text if isinstance(value, LongNumber) else repr(value))
        if exact != int(exact):
            return value
        self.repairs.append(f"{path}: {exact} taken as integer")
        return int(exact)

    def _once(self, items: list[Any], path: str) -> list[Any]:
        """The items of a set, each once."""
        once = [item for place, item in enumerate(items) if not any(_same(item, other) for other in items[:place])]
        if len(once) < len(items):
            self.repairs.append(f"{path}: an item that is there twice taken once")
        return once

    def _object(self, value: dict[str, Any], node: Mapping[str, Any], path: str) -> dict[str, Any]:
        properties, required = node.get("properties", {}), node.get("required", ())
        closed = node.get("additionalProperties") is False
        mended: dict[str, Any] = {}
        for key, item in value.items():
            name = self._key(key, value, properties, path) if closed else key
            if name in properties and item is None and name not in required and not self.admits(None, properties[name]):
                self.repairs.append(f"{joined(path, name)}: null taken as not given")
                continue
            mended[name] = self.mend(item, _of_key(node, name), joined(path, name))
        return mended

    def _key(self, key: str, value: Mapping[str, Any], properties: Mapping[str, Any], path: str) -> str:
        """The known key that this one is, if it differs in case and separators only and no other key means the same."""
        if key in properties:
            return key
        known = [name for name in properties if _plain(name) == _plain(key)]
        if len(known) != 1 or sum(_plain(other) == _plain(key) for other in value) != 1:
            return key
        self.repairs.append(f"{joined(path, known[0])}: key {key!r} taken as {known[0]!r}")
        return known[0]

    def _as(self, name: str, value: Any, node: Mapping[str, Any], path: str) -> Any:
        """The value as this JSON type, or `_NO`."""
        text = value.strip() if isinstance(value, str) else ""
        match name:
            case _ if isinstance(value, BareWord):
                return str(value) if name == "string" and ("enum" in node or "const" in node) else _NO
            case "integer" | "number":
                return _as_number(name, value, text)
            case "boolean" if text in _BOOLEANS:
                return _BOOLEANS[text]
            case "null" if text in ("null", "None"):
                return None
            case "object" | "array" if text[:1] in ("{", "["):
                return self._read(name, text, node, path)
            case "array" if self._wraps and value is not None and not (isinstance(value, str) and _is_list_like(value)):
                return self._list_of(value, node, path)
        return _NO

    def _list_of(self, value: Any, node: Mapping[str, Any], path: str) -> Any:
        if any(node is outer for outer in self._inside):
            return _NO
        inner = _Fitting(self._definitions, inside=(*self._inside, node))
        mended = inner.mend(value, self._item(node, 0), path)
        self.repairs += inner.repairs
        return [mended]

    def _read(self, name: str, text: str, node: Mapping[str, Any], path: str) -> Any:
        """The object or list that is written in a text."""
        try:
            value, repairs = read_json(text)
        except NotJson:
            return _NO
        if name == "array" and isinstance(value, dict):
            value = [value]
        if not _is(value, name):
            return _NO
        self.repairs += [f"{path or 'arguments'}: {repair}" for repair in repairs]
        return self.mend(value, node, path)

    # --- what does not fit?

    def misfits(self, value: Any, node: Any, path: str) -> Iterator[str]:
        """What the schema does not admit, each with its path; of several branches, by the one that it fits best."""
        node = self._resolved(node)
        if branches := self._branches(node):
            found = [list(self.misfits(value, branch, path)) for branch in branches if self._is_of(value, branch)]
            yield from min(found, key=len, default=[f"{path or 'arguments'}: {shown(value)} is none of the allowed types"])
            return
        allowed = node.get("enum", [node["const"]] if "const" in node else None)
        if allowed is not None and not any(_same(value, option) for option in allowed):
            yield f"{path}: {shown(value)} is not one of {shown(allowed)}"
        elif not self._is_of(value, node):
            yield f"{path or 'arguments'}: {shown(value)} is not of type {' or '.join(_types(node))}"
        elif isinstance(value, str) and node.get("format") in _DATES and _DIGITS.fullmatch(value):
            yield f"{path}: {shown(value)} is a number and no {node['format']}"
        elif isinstance(value, dict):
            yield from self._misfits_of_keys(value, node, path)
        elif isinstance(value, list):
            if node.get("uniqueItems") and _twice(value):
                yield f"{path}: an item is there twice: {shown(value)}"
            for place, item in enumerate(value):
                yield from self.misfits(item, self._item(node, place), f"{path}[{place}]")

    def _misfits_of_keys(self, value: dict[str, Any], node: Mapping[str, Any], path: str) -> Iterator[str]:
        for key in node.get("required", ()):
            if key not in value:
                yield f"{joined(path, key)}: required, but missing"
        for key, item in value.items():
            inner = _of_key(node, key)
            if inner is False:
                known = [*node.get("properties", ()), *(f"those like {like}" for like in node.get("patternProperties", ()))]
                yield f"{joined(path, key)}: unknown key; known: {', '.join(known) or 'none'}"
            else:
                yield from self.misfits(item, inner, joined(path, key))

    def _is_of(self, value: Any, node: Mapping[str, Any]) -> bool:
        return bool(self._branches(node)) or not _types(node) or any(_is(value, name) for name in _types(node))


_DATES = ("date", "date-time")
_DIGITS = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*", re.ASCII)
"""What a library may take for seconds since 1970, and nobody means by it."""
_NO: Any = object()
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def _of_key(node: Mapping[str, Any], key: str) -> Any:
    """The schema of this key's value; False where the key is not allowed."""
    if key in node.get("properties", ()):
        return node["properties"][key]
    for pattern, inner in node.get("patternProperties", {}).items():
        if _finds(pattern, key):
            return inner
    return node.get("additionalProperties", True)


def _finds(pattern: str, key: str) -> bool:
    """Whether the key matches; a pattern that Python does not know is left to the validation."""
    try:
        return re.search(pattern, key) is not None
    except re.error:
        return True


def _twice(items: list[Any]) -> bool:
    return any(_same(item, other) for place, item in enumerate(items) for other in items[:place])


def _types(node: Mapping[str, Any]) -> list[str]:
    """The JSON types that the schema admits; none where it says nothing of them."""
    names = node.get("type")
    if names is None and "enum" in node:
        names = list(dict.fromkeys(map(_kind, node["enum"])))
    return [names] if isinstance(names, str) else list(names or ())


def _is(value: Any, name: str) -> bool:
    if name in ("integer", "number"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return not isinstance(value, bool) and (whole or (name == "number" and isinstance(value, float)))
    return isinstance(value, _TYPES.get(name, ())) and not isinstance(value, BareWord)


def _same(one: Any, other: Any) -> bool:
    if type(one) is type(other) is list:
        return len(one) == len(other) and all(map(_same, one, other))
    if type(one) is type(other) is dict:
        return one.keys() == other.keys() and all(_same(item, other[key]) for key, item in one.items())
    return type(one) is type(other) and bool(one == other)


def _kind(value: Any) -> str:
    if isinstance(value, BareWord):
        return "bare word"
    if isinstance(value, float):
        return "number"
    return next((name for name in ("boolean", "integer", "number", *_TYPES) if _is(value, name)), "value")


def _plain(key: str) -> str:
    return key.casefold().replace("_", "").replace("-", "").replace(" ", "")


def _is_list_like(text: str) -> bool:
    """Whether a text may be several items, so that making it one of them would be a guess."""
    return not text.strip() or bool(_SEVERAL.search(text)) or text.strip() in ("null", "None")
