"""The arguments of one call, from streamed pieces. A piece is a fragment, the arguments so far, or all of them again. Pure."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from pydantic_core import from_json

from .pieces import Text

__all__ = ["ArgumentText", "contains", "is_object"]

_MARK = re.compile(r'[{}\[\]"\\]')
_PLACEHOLDERS = ("{}", "null", '""')
"""Texts that servers send as arguments before the real ones."""
_MAX_PLACEHOLDER = 8


class ArgumentText:
    """The arguments of one call as JSON text, from pieces of any kind.

    A piece is a fragment, or a snapshot of all arguments so far. The pieces are joined. If the result is no JSON object, the
    last snapshot counts instead, provided that it contains everything before it.
    """

    __slots__ = ("_depth", "_escaped", "_in_text", "_scanned", "_size", "_starts", "_values_closed", "has_streamed", "text")

    def __init__(self) -> None:
        self.text = Text()
        self._starts = list[int]()
        """Indexes of the pieces at which snapshots begin."""
        self.has_streamed = False
        """Whether any arguments were sent to observers."""
        self._begin(0)

    def _begin(self, piece: int) -> None:
        """Begin a snapshot with the piece at this index."""
        self._starts.append(piece)
        self._size = 0
        self._scanned, self._depth, self._values_closed = piece, 0, 0
        self._in_text = self._escaped = False

    def add(self, piece: str) -> str:
        """Add a piece. Returns the part of it that observers have not seen."""
        known = self._length_sent(piece) if "{" in piece and self._size and piece.lstrip()[0] == "{" else None
        piece = new = self.text.add(piece)
        if known is not None:
            self._begin(len(self.text.pieces) - 1)
            new = piece[known:]
        if not self._size and piece.strip() in _PLACEHOLDERS:
            new = ""
        self._size += len(piece)
        if new:
            self.has_streamed = True
        return new

    def _length_sent(self, piece: str) -> int | None:
        """Characters of a new snapshot that observers already have; None if the piece is a fragment."""
        if self._size <= len(piece) and piece.startswith(self.snapshot):
            return self._size if self.has_streamed else 0
        if self.is_whole or (self._size <= _MAX_PLACEHOLDER and self.snapshot.strip() in _PLACEHOLDERS):
            return len(piece) if self.has_streamed else 0
        return None

    @property
    def size(self) -> int:
        """Characters of the last snapshot."""
        return self._size

    @property
    def snapshot(self) -> str:
        """The last snapshot; all the text if there is only one."""
        return "".join(self.text.pieces[self._starts[-1] :])

    @property
    def is_whole(self) -> bool:
        """Whether the last snapshot is one object with all its brackets closed. Each piece is scanned only once."""
        pieces = self.text.pieces
        for at in range(self._scanned, len(pieces)):
            self._scan(pieces[at])
        self._scanned = len(pieces)
        return self._values_closed == 1 and self._depth == 0

    def _scan(self, piece: str) -> None:
        start = 1 if self._escaped and piece else 0
        self._escaped = False
        for mark in _MARK.finditer(piece, start):
            if mark.start() < start:
                continue  # it is escaped
            sign = mark[0]
            if sign == '"':
                self._in_text = not self._in_text
            elif not self._in_text:
                self._depth += (sign in "{[") - (sign in "}]")
                self._values_closed += sign in "}]" and self._depth == 0
            elif sign == "\\":
                start = mark.end() + 1
                self._escaped = start > len(piece)

    def final_text(self) -> str:
        """The complete arguments."""
        joined = str(self.text)
        if len(self._starts) == 1 or _object(joined) is not None:
            return joined
        pieces = self.text.pieces
        texts = ["".join(pieces[start:end]) for start, end in pairwise((*self._starts, len(pieces)))]
        snapshots = [text for text in texts if text.strip() not in _PLACEHOLDERS] or texts
        is_one = all(contains(later, earlier) for earlier, later in pairwise(snapshots))
        return snapshots[-1] if is_one and _object(snapshots[-1]) is not None else joined


def contains(later: str, earlier: str) -> bool:
    """Whether `later` holds everything of `earlier`: the same text, or each key with an equal or a longer value."""
    if earlier.strip() in _PLACEHOLDERS or later.startswith(earlier.rstrip()):
        return True
    old, new = _object(earlier), _object(later)
    return old is not None and new is not None and _has_grown(old, new)


def _has_grown(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    match old:
        case dict():
            return all(name in new and _has_grown(value, new[name]) for name, value in old.items())
        case list():
            return len(old) <= len(new) and all(map(_has_grown, old, new))
        case str():
            return bool(new.startswith(old))
    return bool(old == new)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = from_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def is_object(text: str) -> bool:
    """Whether the text is one whole JSON object."""
    return _object(text) is not None
