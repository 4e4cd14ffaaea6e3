"""Text of servers that send all of it so far with each piece, in place of what is new. Pure."""

from __future__ import annotations

__all__ = ["Growing"]


class Growing:
    """Returns what is new in each piece of a text.

    A server sends the whole text each time if the second piece begins with the first one, and the third with the second. So the
    second piece is held back if it begins with the first one, which hardly happens in other streams. A rule or an ellipsis may
    come as "-", "--", "---": pieces of one character do not count.
    """

    __slots__ = ("_held", "_so_far", "is_plain")

    def __init__(self) -> None:
        self._so_far: str | None = None
        """The first piece; later all text of a server that sends it each time."""
        self._held = ""
        self.is_plain: bool | None = None
        """Whether pieces are new text only; None if that is not known yet."""

    def feed(self, piece: str) -> str:
        """The new text that is known after this piece."""
        if not piece or self.is_plain:
            return piece
        before = self._held or self._so_far
        if before is None:
            self._so_far = piece
            self.is_plain = None if piece.strip() else True
            return piece
        if self.is_plain is None:
            return self._second(piece) if not self._held else self._third(piece)
        return self._grown(piece)

    def _second(self, piece: str) -> str:
        if self._extends(piece, self._so_far or ""):
            self._held = piece
            return ""
        self.is_plain = True
        return piece

    def _third(self, piece: str) -> str:
        held, self._held = self._held, ""
        self.is_plain = not self._extends(piece, held)
        return held + piece if self.is_plain else self._grown(piece)

    def _grown(self, piece: str) -> str:
        """What a piece with the whole text adds to it."""
        before = self._so_far or ""
        new = "" if before.startswith(piece) else piece.removeprefix(before)
        self._so_far = before + new
        return new

    @staticmethod
    def _extends(piece: str, before: str) -> bool:
        return len(piece) > len(before) and piece.startswith(before) and len({*piece}) > 1

    def end(self) -> str:
        """The text that was still held back at the end."""
        held, self._held = self._held, ""
        return held
