"""Text that arrives in pieces. A piece may end in half of a surrogate pair. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

__all__ = ["Text", "joined_halves", "json_of"]

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair. Servers that split text by UTF-16 units escape the two halves in two chunks."""


def joined_halves(text: str) -> str:
    """The text with its surrogate pairs joined. A lone half becomes U+FFFD."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def json_of(value: Any) -> bytes:
    """The value as JSON, with its surrogate pairs joined."""
    try:
        return to_json(value)
    except PydanticSerializationError:
        return to_json(json.loads(joined_halves(json.dumps(value, ensure_ascii=False))))


class Text:
    """Joins pieces of a text. Half of a surrogate pair is held back until the other half comes; a lone half becomes U+FFFD."""

    __slots__ = ("_half", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0
        """Characters so far."""
        self._half = ""

    def __bool__(self) -> bool:
        return bool(self.pieces or self._half)

    def __str__(self) -> str:
        """The whole text so far."""
        return "".join(self.pieces) + ("\ufffd" if self._half else "")

    def add(self, piece: str) -> str:
        """Add a piece. Returns the text that is complete now: everything except half of a surrogate pair at its end."""
        if self._half or (not piece.isascii() and _HALF.search(piece)):
            piece = self._joined(piece)
        if piece:
            self.pieces.append(piece)
            self.size += len(piece)
        return piece

    def _joined(self, piece: str) -> str:
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return joined_halves(piece)
