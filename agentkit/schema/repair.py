"""The JSON text of a call's arguments: parsed strictly, or else repaired if it has only one possible meaning.

The tolerant parser consumes the whole text. It never closes an open string, list or object, so a cut call is never taken for a
complete one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NoReturn

from .unwrap import unwrapped

__all__ = ["BareWord", "LongNumber", "NotJson", "read_json"]

_SPACE = re.compile(r"[ \t\r\n\u00a0]+")
_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
_OPERAND = re.compile(r"//[ \t]*[\d(.+-]")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z_$][\w$]*(?:-[\w$]+)*", re.ASCII)
_PLAIN = re.compile(r"""[^"'“”‘’\\\x00-\x1f]+""")
_AFTER_STRING = re.compile(r"""\s*(?:[:}\]]|,\s*(?:["'“‘]|[\w$-]+\s*:))""")
"""Text that can follow the closing quote of a string."""
_NEXT_KEY = re.compile(r"""(["'])[\w$.-]{1,64}\1\s*:""")
_CLOSING = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_QUOTES = "\"'“”‘’"
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_MAX_DEPTH = 100
_SURE_DIGITS = 15
"""A float represents every decimal number with this many digits exactly."""


class NotJson(ValueError):
    """Text that is not JSON, and cannot be repaired without guessing."""


class BareWord(str):
    """A word without quotes as a value. It is valid only if the schema lists exactly this word."""

    __slots__ = ()


class LongNumber(float):
    """A number with more digits than a float can represent; `text` has all of them."""

    text: str

    def __new__(cls, text: str) -> LongNumber:  # noqa: D102
        made = super().__new__(cls, text)
        made.text = text
        return made


def read_json(text: str, *, name: str = "", keys: Iterable[str] | None = (), words: bool = True) -> tuple[Any, tuple[str, ...]]:
    """The value of JSON text, and its repairs; no repairs for standard JSON.

    A word without quotes becomes a `BareWord`, which the caller must resolve or refuse. A number that a float would round
    becomes a `LongNumber`. `unwrapped` explains `name`, `keys` and `words`. Raises `NotJson` for text that is cut or ambiguous:
    a key twice with different values, NaN, a number too large or too small for a float, or text after the value.
    """
    try:
        return _strictly(text), ()
    except NotJson:
        raise
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except ValueError as error:
        problem = str(error)
    inner, repairs = unwrapped(text, name, keys, words=words)
    if repairs:
        try:
            return _strictly(inner), tuple(repairs)
        except NotJson:
            raise
        except (ValueError, RecursionError):
            pass
    reader = _Tolerant(inner)
    try:
        value = reader.whole()
    except NotJson as error:
        raise NotJson(f"{problem} (and it cannot be repaired: {error})") from None
    return value, (*repairs, *reader.repairs)


def _strictly(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_float, parse_int=_int)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if not _same(made[key], value):
                raise NotJson(f"the key {key!r} is there twice with different values")
    return made


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, list | dict):
        return type(one) is type(other) and bool(one == other)
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)  # 1, 1.0 and true are not the same


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is no JSON number")


def _float(text: str) -> float:
    number = float(text)
    if len(text) <= _SURE_DIGITS and "e" not in text and "E" not in text:
        return number
    if number in (float("inf"), float("-inf")):
        raise NotJson(f"the number {text[:40]} is too large")
    if number:
        return number if Decimal(text) == Decimal(repr(number)) else LongNumber(text)
    if set(text.lower().partition("e")[0]) & set("123456789"):
        raise NotJson(f"the number {text[:40]} is too small")
    return number


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # CPython limits the digits of an int
        raise NotJson(f"a number of {len(text)} digits is too large") from None


class _Tolerant:
    """A parser of almost-JSON: comments, other quotes, bare keys, trailing commas, raw newlines, Python's constants."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._has_double = False
        self.repairs: list[str] = []

    def whole(self) -> Any:
        """The one value of the text, with only space and comments around it."""
        self._skip()
        value = self._value()
        self._skip()
        if isinstance(value, dict) and self._peek() == "}":
            self._at += 1
            self._repaired("one closing brace too many")
            self._skip()
        if self._at < len(self._text):
            self._fail("text after the value")
        return value

    def _fail(self, what: str) -> NoReturn:
        raise NotJson(f"{what} at character {self._at}")

    def _repaired(self, what: str) -> None:
        if what not in self.repairs:
            self.repairs.append(what)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self) -> None:
        while True:
            if found := _SPACE.match(self._text, self._at):
                if "\u00a0" in found[0]:
                    self._repaired("no-break space")
            elif found := _COMMENT.match(self._text, self._at):
                before = self._text[max(0, self._at - 40) : self._at]
                after_value = before.rstrip(" \t")[-1:].isalnum() and found[0][:2] != "/*"
                if after_value and (before[-1:].isalnum() or _OPERAND.match(found[0])):
                    self._fail("a comment that may be a part of the value")  # 7//2
                self._repaired("comment")
            else:
                return
            self._at = found.end()

    def _value(self) -> Any:
        start = self._peek()
        if start in ("{", "["):
            return self._nested(self._read_object if start == "{" else self._read_list)
        if start and start in _CLOSING:
            return self._string()
        if found := _NUMBER.match(self._text, self._at):
            self._at = found.end()
            self._end_of_word()
            return _float(found[0]) if set(found[0]) & set(".eE") else _int(found[0])
        if found := _WORD.match(self._text, self._at):
            self._at = found.end()
            return self._word(found[0])
        return self._fail(f"{start!r} is no value" if start else "the text ends too early")

    def _word(self, word: str) -> Any:
        if word not in _WORDS:
            self._repaired("bare word")
            return BareWord(word)
        if word[0].isupper():
            self._repaired("Python literal")
        return _WORDS[word]

    def _end_of_word(self) -> None:
        if self._peek() and (self._peek().isalnum() or self._peek() in "._+-"):
            self._fail("a number is not written as JSON has it")

    def _nested(self, read: Callable[[], Any]) -> Any:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail("nested too deeply")
        self._at += 1
        value = read()
        self._depth -= 1
        return value

    def _read_object(self) -> dict[str, Any]:
        pairs: list[tuple[str, Any]] = []
        self._skip()
        if self._peek() == "{":
            return self._doubled()
        while self._has_next("}", bool(pairs)):
            key = self._key()
            self._skip()
            if self._peek() != ":":
                self._fail(f"no colon after the key {key!r}")
            self._at += 1
            self._skip()
            pairs.append((key, self._value()))
        return _object(pairs)

    def _doubled(self) -> dict[str, Any]:
        """The object in `{{...}}`: templates escape braces by doubling them."""
        value: dict[str, Any] = self._value()
        self._skip()
        if self._peek() != "}":
            self._fail("an object where a key belongs")
        self._at += 1
        self._repaired("doubled braces")
        return value

    def _read_list(self) -> list[Any]:
        items: list[Any] = []
        while self._has_next("]", bool(items)):
            items.append(self._value())
        return items

    def _has_next(self, closing: str, has_items: bool) -> bool:
        """Whether another item follows. If not, the closing bracket is consumed."""
        self._skip()
        comma = has_items and self._peek() == ","
        if comma:
            self._at += 1
            self._skip()
        if self._peek() == closing:
            if comma:
                self._repaired("trailing comma")
            self._at += 1
            return False
        if not self._peek():
            self._fail("the text ends too early")
        if has_items and not comma:
            if closing != "}" or not self._is_at_key():
                self._fail(f"no comma before {self._peek()!r}")
            self._repaired("missing comma")
        return True

    def _is_at_key(self) -> bool:
        """Whether a quoted key begins here. It must not directly follow a quote, which could be inside a string."""
        is_apart = self._text[self._at - 1] not in _QUOTES
        return is_apart and _NEXT_KEY.match(self._text, self._at) is not None

    def _key(self) -> str:
        if self._peek() in _CLOSING:
            return self._string(is_key=True)
        found = _WORD.match(self._text, self._at)
        if not found:
            self._fail(f"{self._peek()!r} is no key")
        self._at = found.end()
        self._repaired("bare key")
        return found[0]

    def _string(self, *, is_key: bool = False) -> str:
        quote = self._peek()
        closing = _CLOSING[quote]
        if quote == '"':
            self._has_double = True
        else:
            self._repaired("single quotes" if quote == "'" else "smart quotes")
        self._at += 1
        parts: list[str] = []
        while True:
            if plain := _PLAIN.match(self._text, self._at):
                parts.append(plain[0])
                self._at = plain.end()
            char = self._peek()
            self._at += 1
            if not char:
                self._fail("a string has no end")
            if char == closing:
                return self._joined("".join(parts))
            if char == "\\":
                char = self._escaped()
            elif char == quote or (char in "\"'" and (is_key or self._may_end(quote))):
                self._fail("a quote inside a quoted text")
            elif char < " ":
                if char not in "\n\r\t":
                    self._fail("a control character in a string")
                self._repaired("raw newline")
            parts.append(char)

    def _may_end(self, quote: str) -> bool:
        """Whether a straight quote inside other quotes may end the string, in text with mixed quotes."""
        mixed = quote in "“‘" or self._has_double
        return mixed and _AFTER_STRING.match(self._text, self._at) is not None

    def _joined(self, text: str) -> str:
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._fail("a text holds half of a surrogate pair")

    def _escaped(self) -> str:
        char = self._peek()
        self._at += 1
        if char in _ESCAPES and char:
            return _ESCAPES[char]
        if char == "'":
            self._repaired("escaped single quote")
            return char
        digits = self._text[self._at : self._at + 4]
        if char != "u" or not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
            self._fail(f"the escape \\{char} is not JSON's")
        self._at += 4
        return chr(int(digits, 16))
