"""The answer as far as it has come, while the model is still writing it."""

from __future__ import annotations

from typing import Any

from ..events import Event, PartialOutput, Retrying, TextDelta, ToolArgsDelta

__all__ = ["PartialAnswer"]

_FIRST = 8
_GROWTH = 1.1
"""The text is read again when it is a tenth longer. So reading takes time in proportion to its length, however long it gets."""


class PartialAnswer:
    """Reads the growing JSON of an answer from the pieces of a reply.

    `tool` is the name of the tool that gives the answer; without one, the answer is the text. A value that is no object is the
    one key of an object, `answer`.
    """

    def __init__(self, tool: str | None, *, is_object: bool) -> None:
        self._tool, self._is_object = tool, is_object
        self._reset()

    def _reset(self) -> None:
        self._pieces: list[str] = []
        self._size, self._next = 0, _FIRST
        self._last: Any = None

    def after(self, delta: Event) -> PartialOutput | None:
        """What is new after this piece: the value so far, if it has changed. Broken or cut parts are left out."""
        if isinstance(delta, Retrying):
            self._reset()  # the earlier pieces are void
            return None
        is_answer = isinstance(delta, ToolArgsDelta) and delta.name == self._tool
        if not is_answer and not (self._tool is None and isinstance(delta, TextDelta)):
            return None
        text: str = delta.text  # type: ignore[union-attr]
        self._pieces.append(text)
        self._size += len(text)
        if self._size < self._next:
            return None
        self._next = int(self._size * _GROWTH) + 1
        return self._read()

    def _read(self) -> PartialOutput | None:
        from pydantic_core import from_json

        text = "".join(self._pieces)
        self._pieces = [text]
        try:
            value = from_json(text, allow_partial=True)
        except ValueError:
            return None
        if isinstance(value, dict) and not self._is_object:
            value = value.get("answer")
        if value in (None, {}, [], "") or value == self._last:
            return None
        self._last = value
        return PartialOutput(value)
