"""Thinking text that stands in the content between `<think>` and `</think>`, at any split of the stream. Pure."""

from __future__ import annotations

from typing import Literal

__all__ = ["ThinkTags"]

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkTags:
    """Takes the pieces of a content in; gives back what of it is thinking text and what is the answer.

    The tag opens at the beginning of the content or not at all; what is not closed is thinking text to the end.
    """

    def __init__(self) -> None:
        self._at: Literal["start", "inside", "after"] = "start"
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """Thinking text and answer that are certain with this piece."""
        self._held += text
        if self._at == "start":
            begun = self._held.lstrip()
            if _OPEN.startswith(begun[: len(_OPEN)]) and len(begun) < len(_OPEN):
                return "", ""
            self._at = "inside" if begun.startswith(_OPEN) else "after"
            self._held = begun.removeprefix(_OPEN) if self._at == "inside" else self._held
        thought = self._thought() if self._at == "inside" else ""
        if self._at == "inside":
            return thought, ""
        answer, self._held = self._held, ""
        return thought, answer

    def _thought(self) -> str:
        thought, closed, rest = self._held.partition(_CLOSE)
        if closed:
            self._at, self._held = "after", rest.lstrip("\n")
            return thought
        kept = next((n for n in range(len(_CLOSE) - 1, 0, -1) if self._held.endswith(_CLOSE[:n])), 0)
        thought = self._held[: len(self._held) - kept]
        self._held = self._held[len(thought) :]
        return thought

    def end(self) -> tuple[str, str]:
        """What was held back, at the end of the content."""
        held, self._held = self._held, ""
        return (held, "") if self._at == "inside" else ("", held)
