"""Words for the model: counts, cuts with a note, and bytes as text."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable
from itertools import islice

__all__ = ["clip", "count", "decode", "looks_binary", "nearest"]

_TEXT_CODECS = re.compile(
    r"ascii|utf-(8|16|32)([-_](sig|le|be))?|iso8859-\d+|latin-1|cp\d+|koi8-[rut]|mac-\w+|gbk?|gb2312|gb18030|hz|"
    r"big5(hkscs)?|shift_jis\w*|euc_\w+|iso2022_\w+|johab|tis-620"
)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def count(number: int, noun: str) -> str:
    """`1,234 lines` or `1 line`: the plural is the noun with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clip(text: str, limit: int, *, around: int = 0) -> str:
    """The text, or at most `limit` characters of it near index `around`, with what was cut said in words."""
    if len(text) <= limit:
        return text
    start = max(0, min(around - limit // 3, len(text) - limit))
    lead = "..." if start else ""
    return f"{lead}{text[start : start + limit]}... [cut: showed {limit:,} of {len(text):,} characters of this line]"


def looks_binary(data: bytes) -> bool:
    """Whether these bytes are no text: a NUL byte near the start, and no mark of UTF-16."""
    return b"\0" in data[:8192] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def decode(data: bytes, charset: str = "utf-8") -> tuple[str, str]:
    """The bytes as text, and a note, empty when every byte had a meaning.

    A byte order mark wins over `charset`. A charset that is unknown, or not one of plain text, counts as UTF-8; bytes
    without a meaning become U+FFFD and are counted in the note.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            data, charset = data[len(mark) :], name
            break
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = ""
    codec = name if _TEXT_CODECS.fullmatch(name) else "utf-8"
    try:
        return data.decode(codec), ""
    except UnicodeDecodeError:
        text = data.decode(codec, "replace")
        return text, f"[not valid {codec}: {count(text.count(chr(0xFFFD)), 'unreadable character')} shown as �]"


def nearest(word: str, known: Iterable[str], *, most: int = 5) -> str:
    """`; nearest: a, b` for a misspelt word, or what there is, or nothing when there is nothing."""
    names = list(islice(known, 2000))
    close = difflib.get_close_matches(word, names, n=most, cutoff=0.6)
    if close:
        return f"; nearest: {', '.join(close)}"
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"; there are: {', '.join(sorted(names)[:most])}{more}" if names else ""
