"""JSON text that a model wrote, as a validated value; and what to tell the model when it does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .coerce import bare_words, coerce, joined, misfits, shown
from .errors import ToolArgumentsInvalid
from .losses import Rules, losses
from .redact import redact
from .repair import NotJson, read_json

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["LONGEST_TEXT", "Validator"]

LONGEST_TEXT = 8 * 2**20
"""A longer text is refused unread. Far more than a model can write in one reply, or a context window holds."""


@dataclass(frozen=True, slots=True)
class Validator:
    """A JSON Schema of an object, and the strict validation that belongs to it; `subject` names the text in messages."""

    schema: dict[str, Any]
    validate_json: Callable[[str], Any]
    """Raises pydantic's ValidationError."""
    rules: Rules = field(default_factory=Rules)
    subject: str = "arguments"

    def parse(self, text: str | bytes, name: str = "") -> tuple[Any, tuple[str, ...]]:
        """The validated value, and what was mended in the text: nothing when it was right as it came.

        `name` is the tool's, for calls that repeat it in their arguments. Empty text counts as an empty object where the
        schema knows no key, and is refused elsewhere: it may be a call that was cut at its first character. Raises
        `ToolArgumentsInvalid` with a message that names each wrong value, where it is, and what is expected.
        """
        value, repairs, _ = self.parse_all(text, name)
        return value, repairs

    def parse_all(self, text: str | bytes, name: str = "") -> tuple[Any, tuple[str, ...], Any]:
        """As `parse`, and the JSON value that was validated: the text's own, with its repairs."""
        try:
            return self._parse(self._text(text), name)
        except RecursionError:
            raise ToolArgumentsInvalid(f"the {self.subject} are nested too deeply") from None

    def _text(self, text: str | bytes) -> str:
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

    def _parse(self, text: str, name: str) -> tuple[Any, tuple[str, ...], Any]:
        value, repairs = self._read(text, name)
        if "bare word" in repairs:
            return self._with_bare_words(value, repairs)
        try:
            return self._validated(value, None if repairs else text), repairs, value
        except ToolArgumentsInvalid:
            mended, more = coerce(value, self.schema)
            if not more:
                raise
        return self._validated(mended, None), (*repairs, *more), mended

    def _with_bare_words(self, value: Any, repairs: tuple[str, ...]) -> tuple[Any, tuple[str, ...], Any]:
        """A word without quotes counts where the schema lists it, and is refused elsewhere."""
        mended, more = coerce(value, self.schema)
        if left := bare_words(mended):
            raise ToolArgumentsInvalid(
                f"the text of the {self.subject} is not valid JSON: {left[0]} stands there without quotes"
            )
        return self._validated(mended, None), (*repairs, *more), mended

    def _read(self, text: str, name: str) -> tuple[Any, tuple[str, ...]]:
        known = self.schema.get("properties", {})
        takes_any = self.schema.get("additionalProperties") is not False
        if not text.strip() or text.strip() == "null":
            if not known and not takes_any:
                return {}, ("no arguments taken as {}",)
            if not text.strip():
                raise ToolArgumentsInvalid(f"the text of the {self.subject} is empty; send one JSON object, at least {{}}")
        try:
            value, repairs = read_json(text)
            opened, taken_off = _opened(value, None if takes_any else known, name)
        except NotJson as error:
            raise ToolArgumentsInvalid(f"the text of the {self.subject} is not valid JSON: {error}") from None
        return opened, (*repairs, *taken_off)

    def _validated(self, value: Any, text: str | None) -> Any:
        from pydantic import ValidationError

        try:
            result = self.validate_json(json.dumps(value) if text is None else text)
        except RecursionError:
            raise
        except ValidationError as error:
            strange = misfits(value, self.schema) if _has_strange_key(error) else []
            raise ToolArgumentsInvalid("; ".join(strange[:5]) or _explain(error, self.schema, self.subject)) from None
        except Exception as error:  # of a validator or a constraint of the program's own
            told = redact(f"{type(error).__name__}: {error}"[:_LONGEST_HINT])
            raise ToolArgumentsInvalid(f"the {self.subject} cannot be validated: {told}") from error
        if self.rules.is_plain and isinstance(value, dict):  # a list would pass for arguments by position
            return result
        wrong = misfits(value, self.schema) or losses(value, result, self.schema, self.rules)
        if wrong:  # a library passes over keys and digits, and takes true for 1
            raise ToolArgumentsInvalid("; ".join(wrong[:5]))
        return result


def _opened(value: Any, known: Mapping[str, Any] | None, name: str) -> tuple[Any, list[str]]:
    """The object inside the envelopes that models put it in, and what was taken off.

    Where any key may be given (`known` is None) an object is no envelope.
    """
    taken_off = []
    for _ in range(5):
        match value:
            case str() if value.strip()[:1] in ("{", "[", '"'):
                value, more = read_json(value)
                taken_off += [*more, "JSON inside a JSON text"]
            case [dict() as only]:
                value = only
                taken_off.append("a list of one object")
            case dict() if known is not None and (envelope := _envelope(value, known, name)):
                value = value[envelope[0]]
                taken_off.append(envelope[1])
            case _:
                break
    return value, taken_off


def _envelope(value: Mapping[Any, Any], known: Mapping[str, Any], name: str) -> tuple[str, str] | None:
    """The key of the envelope's content, and what the envelope is; None for an object that is none."""
    match value:
        case {"name": str() as said, **rest} if said == name and "name" not in known and (inner := _inner(rest, known)):
            return inner, "an envelope with the tool's name"
        case {"arguments": dict() | str(), **rest} if not rest and "arguments" not in known:
            return "arguments", "an envelope 'arguments'"
        case {"args": dict() | str(), **rest} if not rest and "args" not in known:
            return "args", "an envelope 'args'"
    return None


def _inner(rest: Mapping[Any, Any], known: Mapping[str, Any]) -> str:
    """The key under which an envelope holds the arguments; empty if it is none."""
    found = [key for key in rest if key in ("arguments", "args", "parameters") and key not in known]
    return found[0] if len(rest) == len(found) == 1 else ""


_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_LONGEST_HINT = 2000
_NO_OBJECT = ("arguments_type", "unexpected_positional_argument")


def _has_strange_key(error: ValidationError) -> bool:
    """Whether a nested object has a key that is not known there; pydantic does not say which are."""
    kinds = ("extra_forbidden", "unexpected_keyword_argument")
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return any(item["type"] in kinds and len(item["loc"]) > 1 for item in found)


def _explain(error: ValidationError, schema: Mapping[str, Any], subject: str) -> str:
    """A ValidationError in words for the model: parameter, value, what is expected, and the parameter's schema."""
    problems, schemas = [], {}
    known = list(schema.get("properties", {}))
    found = error.errors(include_url=False, include_context=False)
    if any(item["type"] in _NO_OBJECT for item in found):
        keys = ", ".join(known) or ("none" if schema.get("additionalProperties") is False else "any")
        return f"the {subject} must be one JSON object with these keys: {keys}"
    for item in found[:5]:
        if item["type"] == "json_invalid" and not item["loc"]:
            why = item["msg"].removeprefix("Invalid JSON: ")
            why = "a text holds half of a surrogate pair" if "hex escape" in why or "surrogate" in why else why
            return f"the text of the {subject} is not valid JSON: {why}"
        path = [part for part in item["loc"] if not str(part).startswith("function-")]  # pydantic's name of a validator
        problems.append(_problem(item, _written(path) or subject, known))
        if path and path[0] in known:
            schemas[str(path[0])] = schema["properties"][path[0]]
    hint = json.dumps(_with_definitions(schemas, schema.get("$defs", {})), ensure_ascii=False)
    return "; ".join(problems) + (f"\nschema: {hint}" if schemas and len(hint) <= _LONGEST_HINT else "")


def _written(path: Iterable[str | int]) -> str:
    text = ""
    for part in path:
        text = f"{text}[{part}]" if isinstance(part, int) else joined(text, part)
    return text


def _with_definitions(schemas: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas with the definitions that they refer to, also by way of others."""
    needed: dict[str, Any] = {}
    while True:
        text = json.dumps([schemas, needed])
        more = {name: d for name, d in definitions.items() if name not in needed and f'"#/$defs/{name}"' in text}
        if not more:
            return {**schemas, **({"$defs": needed} if needed else {})}
        needed |= more


def _problem(item: Mapping[str, Any], name: str, known: list[str]) -> str:
    if item["type"] in _MISSING:
        return f"{name}: required, but missing"
    if item["type"] == "unexpected_keyword_argument":
        return f"{name}: unknown parameter; known: {', '.join(known) or 'none'}"
    text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if item["type"] in ("value_error", "assertion_error"):  # the words of a validator, which may know secrets
        text = redact(text)
    return f"{name}: {text} (got {shown(item['input'])})"
