"""Thinking text between `<think>` and `</think>` in the content, for any split of the stream. Pure."""

from __future__ import annotations

from typing import Literal

__all__ = ["THINK_TAGS", "ThinkTags", "tagged"]

THINK_TAGS = "<think>"
"""As `Profile.reasoning_back`: the thinking text goes back in the content, between the tags."""
_OPEN, _CLOSE = THINK_TAGS, "</think>"


def tagged(reasoning: str, text: str) -> str:
    """The content that a server with tags wrote: its thinking text between them, then the answer."""
    return f"{_OPEN}{reasoning}{_CLOSE}\n\n{text}"


class ThinkTags:
    """Splits the pieces of a content into thinking text and answer.

    The opening tag counts only at the beginning of the content. Without a closing tag, everything is thinking text.
    """

    def __init__(self) -> None:
        self._state: Literal["start", "inside", "after"] = "start"
        self._buffer = ""

    def feed(self, text: str) -> tuple[str, str]:
        """The thinking text and the answer that are known after this piece."""
        self._buffer += text
        if self._state == "start":
            start = self._buffer.lstrip()
            if _OPEN.startswith(start[: len(_OPEN)]) and len(start) < len(_OPEN):
                return "", ""
            self._state = "inside" if start.startswith(_OPEN) else "after"
            self._buffer = start.removeprefix(_OPEN) if self._state == "inside" else self._buffer
        thought = self._thought() if self._state == "inside" else ""
        if self._state == "inside":
            return thought, ""
        answer, self._buffer = self._buffer, ""
        return thought, answer

    def _thought(self) -> str:
        thought, closing, rest = self._buffer.partition(_CLOSE)
        if closing:
            self._state, self._buffer = "after", rest.lstrip("\n")
            return thought
        partial = next((n for n in range(len(_CLOSE) - 1, 0, -1) if self._buffer.endswith(_CLOSE[:n])), 0)
        thought = self._buffer[: len(self._buffer) - partial]
        self._buffer = self._buffer[len(thought) :]
        return thought

    def end(self) -> tuple[str, str]:
        """The thinking text and the answer that were still held back at the end of the content."""
        buffered, self._buffer = self._buffer, ""
        return (buffered, "") if self._state == "inside" else ("", buffered)
