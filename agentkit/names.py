"""Names and ids as a server takes them, and back. Pure functions, so that a transcript's bytes stay the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from itertools import islice

__all__ = ["known_name", "nearest_names", "nine_characters", "wire_name"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MOST = 2_000
"""Names that are compared with what was said."""
_PREFIXES = ("functions.", "functions/", "functions:", "tools.", "default_api.")


@lru_cache(maxsize=1024)
def wire_name(name: str) -> str:
    """The name itself where servers take it (a letter, then up to 63 of `[A-Za-z0-9_-]`), else one like it.

    Most servers take names that begin with a digit or an underscore as well; Kimi does not.

    The end of such a name is made of a hash of the whole, so that two names do not become one.
    """
    if _NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    plain = plain if plain[:1].isalpha() else f"t{plain}"
    return f"{plain[:53]}_{sha256(name.encode('utf-8', 'replace')).hexdigest()[:10]}"


def known_name(said: str, names: Iterable[str]) -> str:
    """The name of the offered tool that a model means: by its name, its `wire_name`, or with the prefix that some
    templates put before it. What means none of them comes back as it is."""
    by_wire = {wire_name(name): name for name in names}
    if said in by_wire.values():
        return said
    for prefix in ("", *_PREFIXES):
        bare = said.removeprefix(prefix)
        if said.startswith(prefix) and bare in by_wire:
            return by_wire[bare]
    return said


def nearest_names(said: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names that share most pairs of letters with what was said, at least half of them; the nearest first.

    Its time is in proportion to the text; difflib's may grow with the square of it, and a model chooses what it says.
    """
    wanted = _pairs(said)
    shares = {name: 2 * len(wanted & (own := _pairs(name))) / (len(wanted) + len(own)) for name in islice(names, _MOST)}
    near = [name for name, share in shares.items() if share >= 0.5]
    return sorted(near, key=shares.__getitem__, reverse=True)[:count]


def _pairs(name: str) -> set[str]:
    text = f" {name.casefold()} "
    return {text[at : at + 2] for at in range(len(text) - 1)}


@lru_cache(maxsize=4096)
def nine_characters(call_id: str) -> str:
    """The id itself if it has nine letters and digits, as Mistral wants it, else nine that are made of it."""
    if _NINE.fullmatch(call_id):
        return call_id
    number = int.from_bytes(sha256(call_id.encode("utf-8", "replace")).digest()[:8], "big")
    made = ""
    for _ in range(9):
        number, digit = divmod(number, 62)
        made += _DIGITS[digit]
    return made
