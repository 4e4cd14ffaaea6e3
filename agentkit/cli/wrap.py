"""Breaks streamed text into lines between words, by the columns that a terminal needs for it."""

from __future__ import annotations

import re

from rich.cells import cell_len

__all__ = ["Wrapper", "rows_of_parts", "wrapped"]

_WORD = re.compile(r"[^\s\u1100-\U0010ffff]+")
_PIECE = re.compile(rf"\n|[^\S\n]+|{_WORD.pattern}|\S")
"""A line feed, blanks, a word, or one wide character. Lines may break on both sides of a wide one, as of Chinese text."""

_DOT = " · "


class Wrapper:
    """Wraps text that comes in pieces. The last word of a piece is held back, since the next piece may continue it.

    A word as long as a row is not held back. It stays whole, so that it can be copied: the terminal breaks it.
    """

    def __init__(self) -> None:
        self._column = 0
        self._blanks = ""
        self._word = ""
        self._in_word = False
        """Whether a word was written last, which the next piece may continue."""

    def add(self, text: str, width: int) -> str:
        """The text to write now, with line feeds where the next word would not fit."""
        pieces = _PIECE.findall(self._word + text)
        self._word = ""
        if pieces and not pieces[-1].isspace() and cell_len(pieces[-1]) < width:
            self._word = pieces.pop()
        return "".join(self._placed(piece, width) for piece in pieces)

    def rest(self, width: int) -> str:
        """What was held back."""
        word, self._word = self._word, ""
        shown = self._placed(word, width) if word else ""
        self._in_word = False
        return shown

    def _placed(self, piece: str, width: int) -> str:
        goes_on, self._in_word = self._in_word, _WORD.match(piece) is not None
        if piece == "\n":
            self._column, self._blanks = 0, ""
            return piece
        if piece.isspace():
            self._blanks = (self._blanks + piece).expandtabs(4)
            return ""
        blanks, self._blanks = self._blanks, ""
        needed = len(blanks) + cell_len(piece)
        is_same_word = goes_on and self._in_word
        if self._column and self._column + needed > width and not is_same_word:
            blanks, self._column, needed = "\n", 0, cell_len(piece)
        self._column = (self._column + needed - 1) % width + 1
        return blanks + piece


def wrapped(text: str, width: int) -> str:
    """A whole text, with line feeds between words."""
    wrapper = Wrapper()
    return wrapper.add(text, width) + wrapper.rest(width)


def rows_of_parts(text: str, width: int) -> str:
    """A line of parts that stand between middle dots, in as many rows as it needs, the later ones indented.

    No part is broken, if it fits in a row.
    """
    first, *more = text.split(_DOT)
    rows = [first]
    for part in more:
        if cell_len(rows[-1]) + len(_DOT) + cell_len(part) <= width:
            rows[-1] += _DOT + part
        else:
            rows.append(f"  {part}")
    return "\n".join(rows)
