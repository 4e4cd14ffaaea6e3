"""Names and ids: those that a store can hold, and the forms that servers accept, with the way back. Pure functions."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import lru_cache, reduce
from hashlib import sha256
from importlib import import_module
from itertools import islice
from typing import Any

from .errors import SettingsError

__all__ = [
    "check_name", "is_storable", "known_name", "nearest_names", "nine_characters", "object_at", "reduced", "wire_name",
    "with_article",
]  # fmt: skip

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MAX_COMPARED = 2_000
"""Max names that `nearest_names` compares."""
_SUFFIX = re.compile(r"(?:<\|.*|:\d{1,4})\Z", re.DOTALL)
"""What templates leave at the end of a name: gpt-oss's `<|channel|>commentary`, or the number of Kimi's ids."""
_PREFIXES = ("functions.", "functions/", "functions:", "tools.", "default_api.")


@lru_cache(maxsize=1024)
def wire_name(name: str) -> str:
    """The name itself if servers accept it (a letter, then up to 63 of `[A-Za-z0-9_-]`), or else a similar name.

    Most servers also accept names that begin with a digit or an underscore; Kimi does not.

    A changed name ends with a hash of the original, so that two names do not become the same.
    """
    if _NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    plain = plain if plain[:1].isalpha() else f"t{plain}"
    return f"{plain[:53]}_{sha256(name.encode('utf-8', 'replace')).hexdigest()[:10]}"


def known_name(requested: str, names: Iterable[str]) -> str:
    """The name of the tool that a model means: by its name, its `wire_name`, or with what templates add before or after it.

    A name that matches no tool is returned unchanged.
    """
    by_wire = {wire_name(name): name for name in names}
    if requested in by_wire.values():
        return requested
    for text in (requested, _SUFFIX.sub("", requested)):
        for prefix in ("", *_PREFIXES):
            bare = text.removeprefix(prefix)
            if text.startswith(prefix) and bare in by_wire:
                return by_wire[bare]
    return requested


def nearest_names(requested: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most similar to the requested one, the nearest first. They share at least half of their letter pairs with it.

    The time is linear in the length of the text. With difflib it could be quadratic, and a model may request a very long name.
    """
    wanted = _pairs(requested)
    shares = {name: 2 * len(wanted & (own := _pairs(name))) / (len(wanted) + len(own)) for name in islice(names, _MAX_COMPARED)}
    near = [name for name, share in shares.items() if share >= 0.5]
    return sorted(near, key=shares.__getitem__, reverse=True)[:count]


def _pairs(name: str) -> set[str]:
    text = f" {name.casefold()} "
    return {text[at : at + 2] for at in range(len(text) - 1)}


@lru_cache(maxsize=4096)
def nine_characters(call_id: str) -> str:
    """The id itself if it is nine letters or digits, as Mistral requires, or else nine characters derived from it."""
    if _NINE.fullmatch(call_id):
        return call_id
    number = int.from_bytes(sha256(call_id.encode("utf-8", "replace")).digest()[:8], "big")
    short = ""
    for _ in range(9):
        number, digit = divmod(number, 62)
        short += _DIGITS[digit]
    return short


def check_name(what: str, value: object) -> None:
    """Raise `SettingsError` unless the value is a text that is not empty, can be stored, and has at most 500 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 500 or not is_storable(value):
        raise SettingsError(f"{what} is {value!r:.80}; allowed: a text of 1 to 500 characters that UTF-8 can hold, without NUL")


def is_storable(text: str) -> bool:
    """Whether a database can hold the text: it has no NUL and no lone surrogate, as bytes that are not UTF-8 give in Python."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def with_article(kind: str) -> str:
    """The name of a type as a message has it: "a str", "an int", "an Agent", "a UUID"; "None" for that of None."""
    if kind == "NoneType":
        return "None"
    return f"an {kind}" if re.match(r"[aeio]|un(?!i)|up", kind, re.IGNORECASE) else f"a {kind}"


def object_at(module: str, qualname: str) -> Any:
    """The object of this name in a module that is imported, or None."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def reduced(made: object, function: object) -> tuple[Any, ...] | None:
    """The pickle of what a decorator has made of a function: its place. None if it is not there under the function's name."""
    place = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "")
    return (_unpickled, place) if object_at(*place) is made else None


def _unpickled(module: str, qualname: str) -> Any:
    return reduce(getattr, qualname.split("."), import_module(module))
