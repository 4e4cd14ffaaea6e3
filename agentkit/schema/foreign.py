"""JSON Schemas that others have written: a check that they can be used, and the validation of values against them.

The keywords are those of draft 2020-12 without `unevaluated...`, `$dynamicRef` and references to other documents. `format` is a
note, as the draft has it. https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import unquote

from ..errors import ToolArgumentsInvalid, ToolDefinitionError
from .node import is_of_type, key_of
from .parse import Validator
from .paths import Path, child, format_path, preview
from .signature import Arguments, Signature

__all__ = ["foreign_signature", "foreign_validator"]

_MAX_ERRORS = 5
_MAX_STEPS = 200_000
"""Max comparisons of one value with a part of the schema: nested unions of references can need very many."""


class _OneDict(Signature):
    """The function gets all arguments as one dict and, if it takes two parameters, the context."""

    is_of_function: ClassVar = False

    def bind(self, arguments: Arguments, context: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values = json.loads(json.dumps(dict(arguments.values)))  # its own: the function may change them
        return ((values, context) if self.context else (values,)), {}


def foreign_signature(call: Any, name: str, description: str, parameters: Any, context: type) -> Signature:
    """The signature of a function of one dict. Raises `ToolDefinitionError` for a function or a schema that cannot be used."""
    if not callable(call):
        raise ToolDefinitionError(f"tool {name!r}: call is {call!r:.80}; allowed: a function of a dict of arguments")
    try:
        required = [
            p for p in inspect.signature(call).parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
        ]
    except (TypeError, ValueError):  # built in
        required = []
    validator = foreign_validator(parameters, f"tool {name!r}")
    return _OneDict(description, validator, {"context": context} if len(required) > 1 else {})


def foreign_validator(schema: Any, label: str) -> Validator:
    """The validator of an object's schema. Raises `ToolDefinitionError` for a schema that cannot be used; it says why."""
    try:
        own = json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolDefinitionError(f"{label}: parameters is no JSON Schema: {error}") from None
    if not isinstance(own, dict) or own.get("type", "object") != "object":
        raise ToolDefinitionError(f"{label}: parameters is {preview(schema)}; allowed: the JSON Schema of an object")
    own = {"type": "object", "properties": {}, **own}
    _check(own, own, label, None)

    def validate(text: str) -> Any:
        value = json.loads(text)
        found = _Validation(own)
        errors = [error for error, _ in zip(found.errors(value, own, None), range(_MAX_ERRORS), strict=False)]
        if errors:
            raise ToolArgumentsInvalid("; ".join(errors))
        return value

    return Validator(own, validate)


_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in _TYPES for name in names)


_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
_COUNT = _is_count, "a whole number of at least 0"
_BOUND = _is_number, "a number"
_OPEN_BOUND = (lambda value: isinstance(value, int | float)), "a number"  # in draft 4, true or false
_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one or several of {', '.join(_TYPES)}"),
    **dict.fromkeys(
        ("anyOf", "oneOf"), (lambda value: isinstance(value, list) and value != [], "a list of schemas, not empty")
    ),
    "enum": (lambda value: isinstance(value, list), "a list of values"),
    "required": (_is_names, "a list of names"),
    "dependentRequired": (
        lambda value: isinstance(value, dict) and all(map(_is_names, value.values())),
        "lists of names by name",
    ),
    "uniqueItems": (lambda value: isinstance(value, bool), "true or false"),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    **dict.fromkeys(("minimum", "maximum"), _BOUND),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _OPEN_BOUND),
    **{f"{side}{what}": _COUNT for side in ("min", "max") for what in ("Length", "Items", "Properties", "Contains")},
}
"""The values that keywords may have, and how a message says it. Schemas within a schema are checked by themselves."""


def _check(part: Any, root: dict[str, Any], label: str, path: Path) -> None:
    if isinstance(part, bool):
        return
    where = f"{label}: the schema at {format_path(path, 'its root')}"
    if not isinstance(part, dict):
        raise ToolDefinitionError(f"{where} is {preview(part)}; allowed: an object, true or false")
    for keyword, value in part.items():
        is_allowed, allowed = _VALUES.get(keyword, (None, ""))
        if is_allowed is not None and not is_allowed(value):
            raise ToolDefinitionError(f"{where}: {keyword} is {preview(value)}; allowed: {allowed}")
    if "$ref" in part:
        _resolve(root, part["$ref"], where)
    for inner_path, inner in _inner_schemas(part, where, path):
        _check(inner, root, label, inner_path)
    for pattern in (*([part["pattern"]] if "pattern" in part else ()), *part.get("patternProperties", ())):
        _check_pattern(pattern, where)


def _inner_schemas(part: dict[str, Any], where: str, path: Path) -> Iterator[tuple[Path, Any]]:
    for keyword, inner in part.items():
        if keyword in _NAMED and not isinstance(inner, dict):
            raise ToolDefinitionError(f"{where}: {keyword} is {preview(inner)}; allowed: an object of schemas")
        if keyword in _LISTED and not isinstance(inner, list):
            raise ToolDefinitionError(f"{where}: {keyword} is {preview(inner)}; allowed: a list of schemas")
        if keyword in _NAMED:
            yield from ((child(child(path, keyword), name), schema) for name, schema in inner.items())
        elif keyword in _LISTED or (keyword in _SINGLE and isinstance(inner, list)):  # the last is draft 4's tuple
            yield from ((child(child(path, keyword), index), schema) for index, schema in enumerate(inner))
        elif keyword in _SINGLE:
            yield child(path, keyword), inner


def _check_pattern(pattern: Any, where: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ToolDefinitionError(f"{where}: the pattern {preview(pattern)} cannot be compiled: {error}") from None


def _resolve(root: Mapping[str, Any], ref: Any, where: str = "the schema") -> Any:
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):  # an anchor has a name without a slash
        raise ToolDefinitionError(
            f"{where}: $ref is {preview(ref)}; allowed: a place in the schema itself, such as #/$defs/City"
        )
    found: Any = root
    for key in ref.split("/")[1:]:
        key = unquote(key).replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ToolDefinitionError(f"{where}: $ref {ref!r} leads nowhere") from None
    return found


class _Validation:
    """One validation of a value. It counts its steps, as unions and references can need very many."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root, self._steps = root, 0

    def is_valid(self, value: Any, part: Any, path: Path) -> bool:
        return next(self.errors(value, part, path), None) is None

    def errors(self, value: Any, part: Any, path: Path) -> Iterator[str]:
        """What is wrong with the value, in words for the model."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise ToolArgumentsInvalid("the arguments are too large, or nested too deeply, for their schema")
        if part is True or part == {}:
            return
        if part is False:
            yield f"{format_path(path)}: not allowed"
            return
        if "$ref" in part:
            yield from self.errors(value, _resolve(self._root, part["$ref"]), path)
        yield from self._own_errors(value, part, path)
        yield from self._combined(value, part, path)
        if isinstance(value, dict):
            yield from self._object(value, part, path)
        elif isinstance(value, list):
            yield from self._list(value, part, path)
        elif isinstance(value, str):
            yield from _text(value, part, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield from _number(value, part, path)

    def _own_errors(self, value: Any, part: dict[str, Any], path: Path) -> Iterator[str]:
        names = part.get("type", [])
        names = [names] if isinstance(names, str) else names
        if names and not any(is_of_type(value, name) for name in names):
            yield f"{format_path(path, 'arguments')}: {preview(value)} is not of type {' or '.join(names)}"
        if "enum" in part and key_of(value) not in map(key_of, part["enum"]):
            yield f"{format_path(path)}: {preview(value)} is not one of {preview(part['enum'])}"
        if "const" in part and key_of(value) != key_of(part["const"]):
            yield f"{format_path(path)}: {preview(value)} is not {preview(part['const'])}"

    def _combined(self, value: Any, part: dict[str, Any], path: Path) -> Iterator[str]:
        for inner in part.get("allOf") or ():
            yield from self.errors(value, inner, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword not in part:
                continue
            found = [list(self.errors(value, inner, path)) for inner in part[keyword]]
            fitting = sum(not errors for errors in found)
            if not fitting:
                yield from min(found, key=len, default=[f"{format_path(path)}: nothing is allowed here"])
            elif fitting > 1 and keyword == "oneOf":
                yield f"{format_path(path)}: {preview(value)} fits {fitting} of the alternatives, and may fit one only"
        if "not" in part and self.is_valid(value, part["not"], path):
            yield f"{format_path(path)}: {preview(value)} is excluded"
        if "if" in part:
            branch = part.get("then" if self.is_valid(value, part["if"], path) else "else", True)
            yield from self.errors(value, branch, path)

    def _object(self, value: dict[str, Any], part: dict[str, Any], path: Path) -> Iterator[str]:
        for name in part.get("required", ()):
            if name not in value:
                yield f"{format_path(child(path, name))}: required, but missing"
        yield from self._dependent(value, part, path)
        properties, patterns = part.get("properties") or {}, part.get("patternProperties") or {}
        for name, item in value.items():
            where = child(path, name)
            schemas = [properties[name]] if name in properties else []
            schemas += [inner for pattern, inner in patterns.items() if re.search(pattern, name)]
            if not schemas and part.get("additionalProperties") is False:
                yield f"{format_path(where)}: unknown key; known: {', '.join(properties) or 'none'}"
                continue
            for inner in schemas or [part.get("additionalProperties", True)]:
                yield from self.errors(item, inner, where)
            yield from self.errors(name, part.get("propertyNames", True), where)
        yield from _size(len(value), part, "Properties", "keys", path)

    def _dependent(self, value: dict[str, Any], part: dict[str, Any], path: Path) -> Iterator[str]:
        for name, needed in (part.get("dependentRequired", {})).items():
            missing = [other for other in needed if other not in value] if name in value else []
            yield from (f"{format_path(child(path, other))}: required beside {name}, but missing" for other in missing)
        for name, inner in (part.get("dependentSchemas") or {}).items():
            if name in value:
                yield from self.errors(value, inner, path)

    def _list(self, value: list[Any], part: dict[str, Any], path: Path) -> Iterator[str]:
        items = part.get("items", True)
        first = part.get("prefixItems") or (items if isinstance(items, list) else [])
        rest = part.get("additionalItems", True) if isinstance(items, list) else items
        for index, item in enumerate(value):
            yield from self.errors(item, first[index] if index < len(first) else rest, child(path, index))
        if part.get("uniqueItems") and len({key_of(item) for item in value}) < len(value):
            yield f"{format_path(path)}: an item is there twice"
        if "contains" in part:
            count = sum(self.is_valid(item, part["contains"], path) for item in value)
            if not part.get("minContains", 1) <= count <= part.get("maxContains", math.inf):
                yield f"{format_path(path)}: {count} items are of the kind that is needed"
        yield from _size(len(value), part, "Items", "items", path)


def _size(size: int, part: dict[str, Any], unit: str, what: str, path: Path) -> Iterator[str]:
    low, high = part.get(f"min{unit}", 0), part.get(f"max{unit}", math.inf)
    if size < low:
        yield f"{format_path(path, 'arguments')}: {size} {what}, at least {low} are needed"
    if size > high:
        yield f"{format_path(path, 'arguments')}: {size} {what}, at most {high} are allowed"


def _text(value: str, part: dict[str, Any], path: Path) -> Iterator[str]:
    yield from _size(len(value), part, "Length", "characters", path)
    if "pattern" in part and not re.search(part["pattern"], value):
        yield f"{format_path(path)}: {preview(value)} does not match the pattern {part['pattern']}"


def _number(value: float, part: dict[str, Any], path: Path) -> Iterator[str]:
    low, high = part.get("minimum"), part.get("maximum")
    above, below = part.get("exclusiveMinimum"), part.get("exclusiveMaximum")
    if above is True:  # draft 4
        low, above = None, low
    if below is True:
        high, below = None, high
    if low is not None and value < low:
        yield f"{format_path(path)}: {value} is less than {low}"
    if high is not None and value > high:
        yield f"{format_path(path)}: {value} is greater than {high}"
    if isinstance(above, int | float) and not isinstance(above, bool) and value <= above:
        yield f"{format_path(path)}: {value} is not greater than {above}"
    if isinstance(below, int | float) and not isinstance(below, bool) and value >= below:
        yield f"{format_path(path)}: {value} is not less than {below}"
    step = part.get("multipleOf")
    if step and not math.isclose(value / step, round(value / step), rel_tol=1e-12):
        yield f"{format_path(path)}: {value} is not a multiple of {step}"
