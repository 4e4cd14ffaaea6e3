"""Text for the model: counts, cuts that say so, bytes as text, names made visible, and the nearest known name."""

from __future__ import annotations

import codecs
import difflib
import heapq
import re
import unicodedata
from collections.abc import Iterable
from itertools import islice

__all__ = [
    "clip",
    "count",
    "decode",
    "encoding_lost",
    "ends_with_crlf",
    "line_start",
    "looks_binary",
    "mark_of",
    "nearest",
    "visible",
]

_TEXT_CODECS = re.compile(
    r"ascii|utf-(8|16|32)([-_](sig|le|be))?|iso8859-\d+|latin-1|cp\d+|koi8-[rut]|mac-\w+|gbk?|gb2312|gb18030|hz|"
    r"big5(hkscs)?|shift_jis\w*|euc_\w+|iso2022_\w+|johab|tis-620"
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PIECE = 65_536
"""A call into C that holds the interpreter sees at most this much of a large input."""
_JOINERS = "\u200c\u200d"
"""Zero-width characters that names in Persian and emoji need."""
_LONGEST_NAME = 255


def count(number: int, noun: str) -> str:
    """`1,234 lines` or `1 line`: the plural is the noun with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clip(text: str, limit: int, *, around: int = 0) -> str:
    """The text, or at most `limit` characters of it near index `around` and a note that says what was cut."""
    if len(text) <= limit:
        return text
    start = max(0, min(around - limit // 3, len(text) - limit))
    lead = "..." if start else ""
    return f"{lead}{text[start : start + limit]}... [cut: showed {limit:,} of {len(text):,} characters of this line]"


def visible(name: str) -> str:
    """The name with control characters, bidirectional overrides and other invisible characters as escapes.

    Bytes that are not UTF-8 become U+FFFD.

    A name on disk may contain a line break and imitate the lines around it; escaped, it stays one name on one line.
    """
    if name.isascii() and name.isprintable():
        return name
    return "".join(_escaped(char) if _is_invisible(char) else char for char in name)


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in _JOINERS


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a name that is not UTF-8
        return "\ufffd"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def mark_of(data: bytes) -> tuple[bytes, str]:
    """The byte order mark that the data starts with, and its encoding; an empty mark and utf-8 without one."""
    return next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))


def looks_binary(data: bytes) -> bool:
    """Whether these bytes are no text: a NUL byte near the start, and no mark of an encoding that has such bytes."""
    return b"\0" in data[:8192] and mark_of(data)[1] == "utf-8"


def encoding_lost(data: bytes) -> str:
    """Says what encoding is lost if UTF-8 text replaces this data; empty if none is lost."""
    if looks_binary(data):
        return "before, it was binary, or UTF-16 without a byte order mark"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(b"" if mark_of(data)[0] else data)  # a cut last character is no error
    except UnicodeDecodeError:
        return "before, it was not UTF-8, and its encoding is unknown"
    return ""


def decode(data: bytes, charset: str = "utf-8") -> tuple[str, str]:
    """The bytes as text, and a note that is empty when every byte could be decoded.

    A byte order mark wins over `charset`. An unknown charset, or one that is not for plain text, counts as UTF-8. Bytes
    that cannot be decoded become U+FFFD, and the note counts them.
    """
    mark, name = mark_of(data)
    if not mark:
        try:
            name = codecs.lookup(charset).name
        except (LookupError, ValueError):
            name = ""
    codec = name if _TEXT_CODECS.fullmatch(name) else "utf-8"
    data = data[len(mark) :]
    try:
        return data.decode(codec), ""
    except UnicodeDecodeError:
        decoder = codecs.getincrementaldecoder(codec)("replace")
        pieces = [decoder.decode(data[start : start + _PIECE]) for start in range(0, len(data), _PIECE)]
        text = "".join([*pieces, decoder.decode(b"", final=True)])
        return text, f"[not valid {codec}: {count(text.count(chr(0xFFFD)), 'unreadable character')} shown as �]"


def ends_with_crlf(text: str) -> bool:
    """Whether most lines of the text end with CR LF."""
    return text.count("\r\n") * 2 > text.count("\n")


def line_start(text: str, number: int) -> int:
    """The index at which the line of that number starts, counted from 0. The text must have that line."""
    at = 0
    while number:
        here = text.count("\n", at, at + _PIECE)
        if here < number:
            number, at = number - here, at + _PIECE
            continue
        for _ in range(number):
            at = text.index("\n", at) + 1
        return at
    return at


def nearest(word: str, known: Iterable[str], *, most: int = 5, before: str = "") -> str:
    """`; nearest: a, b` for a misspelt word, or some of the known names, or nothing when there are none.

    Each name is shown with what comes `before` it, such as its folder.

    The thorough comparison takes time with the product of two lengths, so it sees only the 50 likeliest names.
    """
    names = list(islice(known, 2000))
    word = word[:_LONGEST_NAME]
    matcher = difflib.SequenceMatcher(b=word)

    def likely(name: str) -> float:
        matcher.set_seq1(name[:_LONGEST_NAME])
        return matcher.quick_ratio()

    close = difflib.get_close_matches(word, heapq.nlargest(50, names, key=likely), n=most, cutoff=0.6)
    shown = ", ".join(visible(before + name) for name in close or sorted(names)[:most])
    if close:
        return f"; nearest: {shown}"
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"; there are: {shown}{more}" if names else ""
