"""Parses a model's JSON text to a validated value, or explains to the model what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import reduce
from typing import TYPE_CHECKING, Any

from .._dataclass import frozen_dataclass
from ..errors import ToolArgumentsInvalid
from ..names import wire_name
from ..redact import redact
from .coerce import bare_words, coerce
from .node import Nodes, resolve, subschemas
from .paths import child, format_path, preview
from .repair import NotJson, read_json
from .validate import Matcher, Rules, conversion_errors, count_comparisons

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["LONGEST_TEXT", "LONG_TEXT", "Validator"]

LONGEST_TEXT = 2 * 2**20
"""Characters. A longer text is refused without parsing. A model would need 400,000 tokens in one reply to write it."""
LONG_TEXT = 2 * 2**10
"""Characters. A longer text should be parsed in a thread, since repairing it may take more than a few milliseconds."""
_MANY_VALUES = 5_000
"""If there are more values, they are checked against the schema before pydantic runs. Pydantic makes an error object for each
wrong value, and blocks the whole process meanwhile."""
_MAX_VALUES = 200_000
_MAX_COMPARISONS = 10_000
"""Max comparisons of parts of a value with the branches of a recursive union, in addition to 50 per value."""
_MAX_HINT = 2_000
"""Max characters of the schemas in an explanation, or of another program's error."""
_MAX_WORD = 80
_MAX_PROBLEMS = 5
"""Max problems of one call in an explanation."""


@frozen_dataclass
class Validator:
    """An object's JSON Schema with its strict validation. `subject` is the name of the text in messages."""

    schema: dict[str, Any]
    validate_json: Callable[[str], Any]
    """Raises pydantic's ValidationError."""
    rules: Rules = field(default_factory=Rules)
    subject: str = "arguments"
    nodes: Nodes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", Nodes(self.schema))

    def parse(self, text: str | bytes, name: str = "", *, words: bool = True) -> tuple[Any, tuple[str, ...]]:
        """The validated value, and the repairs of the text and the value; no repairs for correct text.

        `name` is the tool's name, for calls that repeat it in their arguments. `words` says whether words may precede the
        object. Empty text counts as an empty object if the schema has no keys. Otherwise empty text is refused, since the call
        may have been cut at its first character. Raises `ToolArgumentsInvalid`; the message names each wrong value, its path,
        and what is expected.
        """
        value, repairs, _ = self.parse_all(text, name, words=words)
        return value, repairs

    def parse_all(self, text: str | bytes, name: str = "", *, words: bool = True) -> tuple[Any, tuple[str, ...], Any]:
        """As `parse`; also returns the repaired JSON value that was validated."""
        try:
            return self._parse(self._decoded(text), name, words=words)
        except RecursionError:
            raise ToolArgumentsInvalid(f"the {self.subject} are nested too deeply") from None

    def _decoded(self, text: str | bytes) -> str:
        if not isinstance(text, str | bytes):
            raise ToolArgumentsInvalid(f"the {self.subject} are no JSON text but {type(text).__name__}")
        if len(text) > LONGEST_TEXT:
            raise ToolArgumentsInvalid(
                f"the text of the {self.subject} is too large: {len(text):,} of at most {LONGEST_TEXT:,} characters"
            )
        try:
            return text.decode() if isinstance(text, bytes) else text
        except UnicodeDecodeError as error:
            raise ToolArgumentsInvalid(f"the text of the {self.subject} is not UTF-8: {error}") from None

    def _parse(self, text: str, name: str, *, words: bool) -> tuple[Any, tuple[str, ...], Any]:
        value, repairs = self._read(text, name, words=words)
        is_large = self._check_size(value, text)
        if "bare word" not in repairs:
            try:
                if is_large:
                    self._check_schema(value)
                return self._validated(value, None if repairs else text), repairs, value
            except ToolArgumentsInvalid:
                coerced, notes = coerce(value, self.nodes)
                if not notes:
                    raise
        else:  # a word without quotes is accepted only if the schema lists it
            coerced, notes = coerce(value, self.nodes)
            if left := bare_words(coerced):
                raise ToolArgumentsInvalid(
                    f"the text of the {self.subject} is not valid JSON: {left[0][:_MAX_WORD]} stands there without quotes"
                )
        if self._check_size(coerced, text):  # a string may have become many values
            self._check_schema(coerced)
        return self._validated(coerced, None), (*repairs, *notes), coerced

    def _check_schema(self, value: Any) -> None:
        if errors := Matcher(self.nodes).errors(value):
            raise ToolArgumentsInvalid("; ".join(errors[:_MAX_PROBLEMS])) from None

    def _check_size(self, value: Any, text: str) -> bool:
        """Refuse a value that pydantic would take long to validate: too many values, or too many readings of a recursive union.

        Returns whether pydantic could produce many errors for the value.
        """
        count = text.count(",") + text.count(":")
        if count > _MANY_VALUES:  # the commas may be inside strings
            count = _count_values(value)
        if count > _MAX_VALUES:
            raise ToolArgumentsInvalid(f"the {self.subject} hold {count:,} values; at most {_MAX_VALUES:,} are read")
        comparisons = count_comparisons(value, self.nodes) if self.nodes.is_recursive else 0
        if comparisons > _MAX_COMPARISONS + 50 * count:
            raise ToolArgumentsInvalid(
                f"the {self.subject} are nested too deeply for a type that can be read in several ways on each level"
            )
        return max(count, 5 * comparisons) > _MANY_VALUES

    def _read(self, text: str, name: str, *, words: bool) -> tuple[Any, tuple[str, ...]]:
        """The JSON value of the text, without anything that models put around it, and the repairs."""
        known = self.schema.get("properties", {})
        takes_any = self.schema.get("additionalProperties") is not False
        if not text.strip() or text.strip() == "null":
            if not known and not takes_any:
                return {}, ("no arguments taken as {}",)
            if not text.strip():
                raise ToolArgumentsInvalid(f"the text of the {self.subject} is empty; send one JSON object, at least {{}}")
        try:
            keys = None if takes_any else known
            value, repairs = read_json(text, name=name, keys=keys, words=words)
            value, removed = _without_envelopes(value, keys, name)
        except NotJson as error:
            raise ToolArgumentsInvalid(f"the text of the {self.subject} is not valid JSON: {error}") from None
        return value, (*repairs, *removed)

    def _validated(self, value: Any, text: str | None) -> Any:
        """Pydantic's result. `text` is the model's own text, if it needed no repair."""
        from pydantic import ValidationError

        try:
            result = self.validate_json(json.dumps(value) if text is None else text)
        except (RecursionError, ToolArgumentsInvalid):
            raise
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            if any(item["type"] in _EXTRA_KEY and len(item["loc"]) > 1 for item in found):
                self._check_schema(value)  # pydantic does not say which keys are known there
            raise ToolArgumentsInvalid(_explanation(found, self.schema, self.subject)) from None
        except Exception as error:  # raised by the program's own validator or constraint
            reason = redact(f"{type(error).__name__}: {error}"[:_MAX_HINT])
            raise ToolArgumentsInvalid(f"the {self.subject} cannot be validated: {reason}") from error
        if self.rules.is_plain and isinstance(value, dict):  # pydantic takes a list as positional arguments
            return result
        self._check_schema(value)
        if errors := conversion_errors(value, result, self.nodes, self.rules):
            raise ToolArgumentsInvalid("; ".join(errors[:_MAX_PROBLEMS]))
        return result


def _count_values(value: Any) -> int:
    """The number of JSON values in this one, including itself."""
    count, left = 1, [value]
    while left:
        container = left.pop()
        if isinstance(container, list | dict):
            count += len(container)
            items = container.values() if isinstance(container, dict) else container
            left += [item for item in items if isinstance(item, list | dict)]
    return count


def _without_envelopes(value: Any, known: Mapping[str, Any] | None, name: str) -> tuple[Any, list[str]]:
    """The object without the envelopes that models wrap it in, and descriptions of the removed envelopes.

    `known` are the keys that the object may have. If it may have any (None), no object counts as an envelope.
    """
    removed = []
    for _ in range(5):
        match value:
            case str() if value.strip()[:1] in ("{", "[", '"'):
                value, more = read_json(value, name=name, keys=known)
                removed += [*more, "JSON inside a JSON text"]
            case [dict() as only]:
                value = only
                removed.append("a list of one object")
            case dict() if known is not None and (envelope := _envelope(value, known, name)):
                value, what = envelope
                removed.append(what)
            case _:
                break
    return value, removed


_CONTENTS = ("arguments", "args", "parameters", "input", "kwargs", "properties")
"""Keys that hold the arguments in an envelope."""
_TITLES = ("name", "tool", "tool_name", "function", "function_name")
"""Keys that hold the tool's name in an envelope."""


def _envelope(value: Mapping[str, Any], known: Mapping[str, Any], name: str) -> tuple[Any, str] | None:
    """The content of an envelope, and its description; None if the object is not an envelope."""
    if any(key in known for key in value) or not 1 <= len(value) <= 3:
        return None
    match value:
        case {"type": "function", "function": dict() as inner} if len(value) == 2:
            return inner, "an envelope 'function'"
    contents = [key for key in value if key in _CONTENTS]
    titles = [key for key in value if key in _TITLES]
    others = [key for key in value if key not in (*contents, *titles)]
    is_type = all(key == "type" and value[key] in ("function", "object") for key in others)
    is_own = all(value[key] in (name, wire_name(name)) for key in titles)
    if len(contents) != 1 or len(titles) > 1 or not is_type or not is_own or not isinstance(value[contents[0]], dict | str):
        return None
    return value[contents[0]], "an envelope with the tool's name" if titles else f"an envelope {contents[0]!r}"


_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_NO_OBJECT = ("arguments_type", "unexpected_positional_argument")
_EXTRA_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def _explanation(found: list[ErrorDetails], schema: Mapping[str, Any], subject: str) -> str:
    """The text of a ValidationError for the model: each parameter, its value, what is expected, and its schema."""
    problems, schemas = [], {}
    known = list(schema.get("properties", {}))
    if any(item["type"] in _NO_OBJECT for item in found):
        keys = ", ".join(known) or ("none" if schema.get("additionalProperties") is False else "any")
        return f"the {subject} must be one JSON object with these keys: {keys}"
    for item in found[:_MAX_PROBLEMS]:
        if item["type"] == "json_invalid" and not item["loc"]:
            why = item["msg"].removeprefix("Invalid JSON: ")
            why = "a text holds half of a surrogate pair" if "hex escape" in why or "surrogate" in why else why
            return f"the text of the {subject} is not valid JSON: {why}"
        path = [part for part in item["loc"] if not str(part).startswith("function-")]  # pydantic's name of a validator
        problems.append(_problem(item, format_path(reduce(child, path, None), subject), known))
        if path and path[0] in known:
            schemas[str(path[0])] = schema["properties"][path[0]]
    return "; ".join(problems) + _hint(schemas, schema)


def _hint(schemas: dict[str, Any], root: Mapping[str, Any]) -> str:
    """The schemas with the definitions that they need; empty if that is too long."""
    needed: dict[str, Any] = {}
    left = list(schemas.values())
    for part in left:
        for ref in {inner["$ref"]: None for inner in subschemas(part) if "$ref" in inner}:
            name = ref.removeprefix("#/$defs/")
            if name not in needed:
                needed[name] = resolve(root, ref)
                left.append(needed[name])
        if len(needed) > _MAX_HINT // 30:
            return ""
    hint = json.dumps({**schemas, **({"$defs": needed} if needed else {})}, ensure_ascii=False)
    return f"\nschema: {hint}" if schemas and len(hint) <= _MAX_HINT else ""


def _problem(item: Mapping[str, Any], name: str, known: list[str]) -> str:
    if item["type"] in _MISSING:
        return f"{name}: required, but missing"
    if item["type"] == "unexpected_keyword_argument":
        return f"{name}: unknown parameter; known: {', '.join(known) or 'none'}"
    text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if item["type"] in ("value_error", "assertion_error"):  # a validator's message may contain secrets
        text = redact(text)
    return f"{name}: {text} (got {preview(item['input'])})"
