"""JSON text that a model wrote, as a validated value; and what to tell the model when it does not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from ..errors import ToolArgumentsInvalid
from ..names import wire_name
from ..redact import redact
from .coerce import bare_words, coerce
from .node import Nodes
from .paths import child, format_path, preview
from .repair import NotJson, read_json
from .validate import Matcher, Rules, conversion_errors, count_comparisons

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["LONGEST_TEXT", "LONG_TEXT", "Validator"]

LONGEST_TEXT = 2 * 2**20
"""Characters; a longer text is refused unread. A model that writes 400,000 tokens in one reply does not get there."""
LONG_TEXT = 2 * 2**10
"""Characters; a longer text is better read in a thread, as mending it may take more than a few milliseconds."""
_LOOKED_AT_FIRST = 5_000
"""The shape of more values is compared with the schema before the library validates them: it makes an error of each wrong
one, and nothing else of the process runs meanwhile."""
_MOST_VALUES = 200_000
_MOST_READINGS = 10_000
"""How often parts of a value may be compared with parts of a type that holds itself in a union."""


@dataclass(frozen=True, slots=True)
class Validator:
    """A JSON Schema of an object, and the strict validation that belongs to it; `subject` names the text in messages."""

    schema: dict[str, Any]
    validate_json: Callable[[str], Any]
    """Raises pydantic's ValidationError."""
    rules: Rules = field(default_factory=Rules)
    subject: str = "arguments"
    nodes: Nodes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", Nodes(self.schema))

    def parse(self, text: str | bytes, name: str = "", *, words: bool = True) -> tuple[Any, tuple[str, ...]]:
        """The validated value, and what was mended in the text: nothing when it was right as it came.

        `name` is the tool's, for calls that repeat it in their arguments; `words` says whether words may stand before the
        object. Empty text counts as an empty object where the schema knows no key, and is refused elsewhere: it may be a
        call that was cut at its first character. Raises `ToolArgumentsInvalid` with a message that names each wrong value,
        where it is, and what is expected.
        """
        value, repairs, _ = self.parse_all(text, name, words=words)
        return value, repairs

    def parse_all(self, text: str | bytes, name: str = "", *, words: bool = True) -> tuple[Any, tuple[str, ...], Any]:
        """As `parse`, and the JSON value that was validated: the text's own, with its repairs."""
        try:
            return self._parse(self._text(text), name, words=words)
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

    def _parse(self, text: str, name: str, *, words: bool) -> tuple[Any, tuple[str, ...], Any]:
        value, repairs = self._read(text, name, words=words)
        is_large = self._check_size(value, text)
        if "bare word" in repairs:
            return self._with_bare_words(value, repairs, text)
        try:
            if is_large:
                self._check_shape(value)
            return self._validated(value, None if repairs else text), repairs, value
        except ToolArgumentsInvalid:
            mended, more = coerce(value, self.nodes)
            if not more:
                raise
        if self._check_size(mended, text):  # there may be more in it: what was a text
            self._check_shape(mended)
        return self._validated(mended, None), (*repairs, *more), mended

    def _explain(self, error: ValidationError, value: Any) -> str:
        """What the model is told of the library's error."""
        found = error.errors(include_url=False, include_context=False)
        wrong = Matcher(self.nodes).errors(value) if _has_strange_key(found) else []
        return "; ".join(wrong[:_SHOWN]) or _explanation(found, self.schema, self.subject)

    def _check_shape(self, value: Any) -> None:
        if wrong := Matcher(self.nodes).errors(value):
            raise ToolArgumentsInvalid("; ".join(wrong[:_SHOWN]))

    def _check_size(self, value: Any, text: str) -> bool:
        """Refuse what would take long to validate: more values than a model writes, and types with too many readings.

        True where the library would make many errors of a value that does not fit.
        """
        count = text.count(",") + text.count(":")
        if count > _LOOKED_AT_FIRST:  # they may be in texts
            count = _values(value)
        if count > _MOST_VALUES:
            raise ToolArgumentsInvalid(f"the {self.subject} hold {count:,} values; at most {_MOST_VALUES:,} are read")
        tries = count_comparisons(value, self.nodes) if self.nodes.is_recursive else 0
        if tries > _MOST_READINGS + 50 * count:
            raise ToolArgumentsInvalid(
                f"the {self.subject} are nested too deeply for a type that can be read in several ways on each level"
            )
        return max(count, 5 * tries) > _LOOKED_AT_FIRST

    def _with_bare_words(self, value: Any, repairs: tuple[str, ...], text: str) -> tuple[Any, tuple[str, ...], Any]:
        """A word without quotes counts where the schema lists it, and is refused elsewhere."""
        mended, more = coerce(value, self.nodes)
        if left := bare_words(mended):
            raise ToolArgumentsInvalid(
                f"the text of the {self.subject} is not valid JSON: {left[0][:_LONGEST_WORD]} stands there without quotes"
            )
        self._check_size(mended, text)
        return self._validated(mended, None), (*repairs, *more), mended

    def _read(self, text: str, name: str, *, words: bool) -> tuple[Any, tuple[str, ...]]:
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
            opened, taken_off = _opened(value, keys, name)
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
            raise ToolArgumentsInvalid(self._explain(error, value)) from None
        except Exception as error:  # of a validator or a constraint of the program's own
            told = redact(f"{type(error).__name__}: {error}"[:_LONGEST_HINT])
            raise ToolArgumentsInvalid(f"the {self.subject} cannot be validated: {told}") from error
        if self.rules.is_plain and isinstance(value, dict):  # a list would pass for arguments by position
            return result
        wrong = Matcher(self.nodes).errors(value) or conversion_errors(value, result, self.nodes, self.rules)
        if wrong:  # a library passes over keys and digits, and takes true for 1
            raise ToolArgumentsInvalid("; ".join(wrong[:_SHOWN]))
        return result


def _values(value: Any) -> int:
    """How many values are in it, itself included."""
    count, left = 1, [value]
    while left:
        outer = left.pop()
        if isinstance(outer, list | dict):
            count += len(outer)
            items = outer.values() if isinstance(outer, dict) else outer
            left += [item for item in items if isinstance(item, list | dict)]
    return count


def _opened(value: Any, known: Mapping[str, Any] | None, name: str) -> tuple[Any, list[str]]:
    """The object inside the envelopes that models put it in, and what was taken off.

    Where any key may be given (`known` is None) an object is no envelope.
    """
    taken_off = []
    for _ in range(5):
        match value:
            case str() if value.strip()[:1] in ("{", "[", '"'):
                value, more = read_json(value, name=name, keys=known)
                taken_off += [*more, "JSON inside a JSON text"]
            case [dict() as only]:
                value = only
                taken_off.append("a list of one object")
            case dict() if known is not None and (envelope := _envelope(value, known, name)):
                value, what = envelope
                taken_off.append(what)
            case _:
                break
    return value, taken_off


_CONTENTS = ("arguments", "args", "parameters", "input", "kwargs", "properties")
"""The keys under which models put the arguments."""
_TITLES = ("name", "tool", "tool_name", "function", "function_name")
"""The keys beside them that name the tool."""


def _envelope(value: Mapping[str, Any], known: Mapping[str, Any], name: str) -> tuple[Any, str] | None:
    """What is in the envelope, and what the envelope is; None for an object that is none."""
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


_REFERENCE = re.compile(r'"#/\$defs/([^"]+)"')
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_LONGEST_HINT = 2000
_LONGEST_WORD = 80
_SHOWN = 5
"""Problems of a call that the model is told."""
_NO_OBJECT = ("arguments_type", "unexpected_positional_argument")


def _has_strange_key(found: list[ErrorDetails]) -> bool:
    """Whether a nested object has a key that is not known there; pydantic does not say which are."""
    kinds = ("extra_forbidden", "unexpected_keyword_argument")
    return any(item["type"] in kinds and len(item["loc"]) > 1 for item in found)


def _explanation(found: list[ErrorDetails], schema: Mapping[str, Any], subject: str) -> str:
    """A ValidationError in words for the model: parameter, value, what is expected, and the parameter's schema."""
    problems, schemas = [], {}
    known = list(schema.get("properties", {}))
    if any(item["type"] in _NO_OBJECT for item in found):
        keys = ", ".join(known) or ("none" if schema.get("additionalProperties") is False else "any")
        return f"the {subject} must be one JSON object with these keys: {keys}"
    for item in found[:_SHOWN]:
        if item["type"] == "json_invalid" and not item["loc"]:
            why = item["msg"].removeprefix("Invalid JSON: ")
            why = "a text holds half of a surrogate pair" if "hex escape" in why or "surrogate" in why else why
            return f"the text of the {subject} is not valid JSON: {why}"
        path = [part for part in item["loc"] if not str(part).startswith("function-")]  # pydantic's name of a validator
        problems.append(_problem(item, format_path(reduce(child, path, None), subject), known))
        if path and path[0] in known:
            schemas[str(path[0])] = schema["properties"][path[0]]
    return "; ".join(problems) + _hint(schemas, schema.get("$defs", {}))


def _hint(schemas: dict[str, Any], definitions: Mapping[str, Any]) -> str:
    """The schemas with the definitions that they refer to, also by way of others, unless they are long."""
    needed: dict[str, Any] = {}
    left: list[Any] = [schemas]
    size = 0
    while left and size <= _LONGEST_HINT:
        text = json.dumps(left.pop(), ensure_ascii=False)
        size += len(text)
        for name in _REFERENCE.findall(text) if size <= _LONGEST_HINT else ():
            if name in definitions and name not in needed:
                needed[name] = definitions[name]
                left.append(definitions[name])
    hint = json.dumps({**schemas, **({"$defs": needed} if needed else {})}, ensure_ascii=False) if size <= _LONGEST_HINT else ""
    return f"\nschema: {hint}" if schemas and 0 < len(hint) <= _LONGEST_HINT else ""


def _problem(item: Mapping[str, Any], name: str, known: list[str]) -> str:
    if item["type"] in _MISSING:
        return f"{name}: required, but missing"
    if item["type"] == "unexpected_keyword_argument":
        return f"{name}: unknown parameter; known: {', '.join(known) or 'none'}"
    text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if item["type"] in ("value_error", "assertion_error"):  # the words of a validator, which may know secrets
        text = redact(text)
    return f"{name}: {text} (got {preview(item['input'])})"
