"""The approval question at the terminal: it shows the call, and one key answers it."""

from __future__ import annotations

import json
import os
import select
import sys
import time
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from rich.cells import chop_cells

from ..names import with_article

__all__ = ["escaped", "fresh_key", "show_call"]

_SEEN = 0.5
"""Seconds for which a call is shown before the question. Keys pressed in this time were meant for something else."""
_QUIET = 0.3
"""Seconds without another key, after which a key counts as typed alone. The keys of a paste follow faster."""
_POLL = 0.1
"""Max seconds until a signal is noticed that came just before the wait for a key."""
_MAX_SHOWN = 1200
"""Max characters shown of one argument, escapes included."""
_MIN_SHOWN = 80
_MAX_SHOWN_TOTAL = 6000
_MAX_LINES = 40
"""Arguments that get a line of their own."""
_INDENT = 4
_MAX_MARKS = 3
"""Combining marks that may follow one letter."""

# letters, symbols and marks by category, but they show nothing or only change the character before them
_INVISIBLE = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC, 0x13441, 0x13442, 0x16FE4, 0x1D159}
    | {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)}
)


def show_call(name: str, arguments: Mapping[str, Any], width: int = 100, *, whole: bool = False) -> str:
    """A call as lines for a terminal: its name, then each argument as JSON, the longest first.

    So short arguments, such as most commands and paths, are right above the question. Characters that are invisible or change
    how others look are shown as JSON escapes, also in names. A line longer than `width` continues below, indented, so that no
    text can look like a line of its own. A long value is cut in the middle, with a count, except with `whole`.
    """
    lines = [f"? {_name(name)}"]
    texts = sorted(((_name(key), _json(value)) for key, value in arguments.items()), key=lambda item: -len(item[1]))
    rest = [] if whole else texts[: max(0, len(texts) - _MAX_LINES)]
    if rest:
        joined = ", ".join(f"{key}: {text}" for key, text in rest)
        lines.append(f"    and {len(rest):,} more arguments: {_cut(joined, _MAX_SHOWN)}")
        texts = texts[len(rest) :]
    room = sys.maxsize if whole else max(_MIN_SHOWN, min(_MAX_SHOWN, _MAX_SHOWN_TOTAL // max(1, len(texts))))
    lines += [f"    {key}: {_cut(text, room)}" for key, text in texts]
    if not arguments:
        lines.append("    no arguments")
    return "\n".join(row for line in lines for row in _rows(line, width))


def escaped(text: str) -> str:
    """The text with a JSON escape for each character that is invisible or changes how others look."""
    return "".join(_pieces(text))


def fresh_key(question: str) -> str | None:
    """Ask at the terminal, and return the key that is pressed after the question is shown.

    Earlier input is discarded, so the question is shown half a second late. If several keys come together, as from a paste, all
    of them are returned; Enter after a key is left out. Returns "" if the input has ended, and None, without asking, if there
    is no terminal.
    """
    if sys.platform == "win32":
        return _windows_key(question)
    import termios
    import tty

    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        time.sleep(_SEEN)
        tty.setcbreak(terminal, termios.TCSAFLUSH)
    except (AttributeError, OSError, ValueError, termios.error):  # closed, a pipe, or not a file
        return None
    try:
        print(question, end="", flush=True)  # noqa: T201
        return _typed(terminal)
    except OSError:  # the terminal was closed
        return ""
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def _typed(terminal: int) -> str:
    while not select.select([terminal], [], [], _POLL)[0]:
        pass
    typed = b""
    while data := os.read(terminal, 4096):
        typed += data
        if len(typed) > 4096 or not select.select([terminal], [], [], _QUIET)[0]:
            break
    return _without_enter(typed.decode(errors="replace"))


def _windows_key(question: str) -> str | None:
    if sys.platform != "win32" or not (sys.stdin and sys.stdin.isatty()):
        return None
    import msvcrt

    time.sleep(_SEEN)
    while msvcrt.kbhit():
        msvcrt.getwch()
    print(question, end="", flush=True)  # noqa: T201
    typed, quiet_at = "", float("inf")
    while time.monotonic() < quiet_at and len(typed) < 4096:
        if msvcrt.kbhit():
            typed, quiet_at = typed + msvcrt.getwch(), time.monotonic() + _QUIET
        else:
            time.sleep(0.01)
    if "\x03" in typed:
        raise KeyboardInterrupt
    return _without_enter(typed)


def _without_enter(typed: str) -> str:
    return typed[:-1] if len(typed) > 1 and typed[-1] in "\r\n" else typed


def _name(name: str) -> str:
    plain = name.isascii() and name.replace("-", "_").replace(".", "_").isidentifier()
    return _cut(name if plain else _json(name), 200)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, TypeError, RecursionError):  # a number with thousands of digits, keys that are not text, a cycle
        return f"({with_article(type(value).__name__)} that cannot be shown)"


def _cut(text: str, room: int) -> str:
    """The text, escaped, in at most `room` characters. A longer text is cut in the middle, with a count of what is left out."""
    shown = list(_pieces(text[: room + 1]))
    if len(text) <= room and sum(map(len, shown)) <= room:
        return "".join(shown)
    head = _fitting(shown, room * 2 // 3)
    tail = _fitting([*_pieces(text[-room:])][::-1], room // 3)[::-1]
    left_out = len(text) - len(head) - len(tail)
    return f"{''.join(head)} [... {left_out:,} characters are left out here ...] {''.join(tail)}"


def _fitting(pieces: list[str], room: int) -> list[str]:
    used = 0
    for count, piece in enumerate(pieces):
        used += len(piece)
        if used > room:
            return pieces[:count]
    return pieces


def _pieces(text: str) -> Iterator[str]:
    """The characters of the text, escaped where needed."""
    marks = _MAX_MARKS  # a mark before the first letter is escaped
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category[0] == "M" else 0 if category[0] in "LN" else _MAX_MARKS
        plain = category[0] in "LNPS" or char == " " or (category[0] == "M" and marks <= _MAX_MARKS)
        yield char if plain and ord(char) not in _INVISIBLE else json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def _rows(line: str, width: int) -> Iterator[str]:
    """The line in rows. A row breaks before a blank, which begins the next one, so that no blank is lost."""
    indent = " " * (2 * _INDENT)
    room = max(width, 40) - len(indent)
    start = 0
    while start < len(line) or not start:
        row = (chop_cells(line[start : start + 4 * room], room) or [""])[0]
        blank = row.rfind(" ")
        is_last = start + len(row) == len(line)
        row = row if is_last or blank < len(row) * 2 // 3 else row[:blank]
        yield (indent if start else "") + row
        start += len(row) or 1
