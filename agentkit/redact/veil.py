"""Removes the keys of a run's model from its events, and from streamed pieces of text."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar
from urllib.parse import quote

from ..events import (
    ApprovalGiven,
    CallReconciled,
    Delta,
    Event,
    MessageAdded,
    ModelReplied,
    ReasoningDelta,
    ResultGiven,
    Retrying,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolArgsDelta,
    ToolFinished,
    ToolProgress,
)
from ..messages import Assistant, System, ToolCall, ToolResult, User
from ..model import DeltaSink, info_of
from ..parts import Part

__all__ = ["Pieces", "Veil"]

E = TypeVar("E", bound=Event)

_OUTSIDE_FIELDS: dict[type[Any], tuple[str, ...]] = {
    RunStarted: ("messages",),
    MessageAdded: ("message",),
    ModelReplied: ("message", "model", "finish_reason", "changed"),
    ToolFinished: ("result", "error", "output", "artifact"),
    ApprovalGiven: ("arguments",),
    ResultGiven: ("content",),
    CallReconciled: ("reason",),
    RunFinished: ("error",),
    Retrying: ("error",),
    ToolProgress: ("data",),
}
"""Event fields that hold text from outside. The texts in other fields were in one of these before."""
_FIELDS: dict[type[Any], tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind) if field.name != "role")
    for kind in (System, User, Assistant, ToolCall, ToolResult)
}
_IN_ADDRESS = ":/?#[]@!$&'()*+,;=%~"
_MAX_DEPTH = 5
"""Max depth of lists and dicts that are searched. A tool may report any progress value, even one that contains itself."""


class Veil:
    """Hides the keys of a model in everything that a run records, streams and sends."""

    def __init__(self, model: Any) -> None:
        self.hiders = info_of(model).hiders

    def hide(self, text: str, *, more_follows: bool = False) -> str:
        """The text without the keys. `more_follows`: as in `Hider.hide`."""
        for hider in self.hiders:
            text = hider.hide(text, more_follows=more_follows)
        return text

    def over(self, event: E) -> E:
        """The event without the keys; the same object if it contains none."""
        names = _OUTSIDE_FIELDS.get(type(event)) if any(self.hiders) else None
        if names is None or not self._finds([getattr(event, name) for name in names], _MAX_DEPTH + 1):
            return event
        changed: E = self._changed(event, names)
        return changed

    def _finds(self, value: Any, depth: int) -> bool:
        """Whether a text in the value contains a key. All its texts are searched as one, since most are short."""
        texts: list[str] = []
        _collect(value, depth, texts)
        whole = "\0".join(texts)
        return any([hider.finds(whole) for hider in self.hiders])  # noqa: C419  faster: there is one, as a rule

    def _changed(self, value: Any, names: Iterable[str], depth: int = _MAX_DEPTH) -> Any:
        return replace(value, **{name: self._hidden(getattr(value, name), depth) for name in names})

    def _hidden(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.hide(value)
        if not self._finds(value, depth):
            return value
        if type(value) in (tuple, list):
            return type(value)(self._hidden(item, depth - 1) for item in value)
        if type(value) is dict:
            return {self._hidden(name, depth - 1): self._hidden(item, depth - 1) for name, item in value.items()}
        if isinstance(value, Part):
            return self._part(value)
        return self._changed(value, _FIELDS[type(value)], depth - 1)

    def _part(self, part: Part) -> Part:
        name, address = self.hide(part.name), quote(self.hide(part.address), safe=_IN_ADDRESS)
        if part.address:
            return type(part)(name=name, address=address)
        return type(part).from_bytes(self.hide(_as_text(part)).encode("latin-1"), part.media_type, name=name)


def _collect(value: Any, depth: int, texts: list[str]) -> None:
    """Add the texts in the value to `texts`."""
    kind = type(value)
    if isinstance(value, str):
        texts.append(value)
    elif depth > 0 and kind in _FIELDS:
        for name in _FIELDS[kind]:
            if inner := getattr(value, name):  # most fields are a text, or empty
                texts.append(inner) if inner.__class__ is str else _collect(inner, depth - 1, texts)
    elif depth > 0 and kind in (tuple, list):
        for item in value:
            _collect(item, depth - 1, texts)
    elif depth > 0 and kind is dict:
        for pair in value.items():
            _collect(pair, depth, texts)
    elif isinstance(value, Part):
        texts += value.name, value.address, _as_text(value)


def _as_text(part: Part) -> str:
    """The bytes of a part as text, in which keys, which are ASCII, can be found."""
    return part.data.decode("latin-1")


class Pieces:
    """Passes the pieces of one reply to `show`. Text that may be the beginning of a key is held back until the next piece."""

    def __init__(self, veil: Veil, show: DeltaSink) -> None:
        self._hiders, self._veil, self._show = veil.hiders, veil, show
        self._pending: TextDelta | ReasoningDelta | ToolArgsDelta | None = None

    def show(self, delta: Delta) -> Awaitable[None]:
        """Pass on a piece, except for text that must be held back."""
        if self._pending is not None or isinstance(delta, Retrying):
            return self._take(delta)
        for hider in self._hiders:
            if hider and hider.touches(delta.text):
                return self._take(delta)
        return self._show(delta)

    async def _take(self, delta: Delta) -> None:
        if isinstance(delta, Retrying):  # the earlier pieces are void
            self._pending = None
            await self._show(self._veil.over(delta))
            return
        if self._pending is not None and _channel(self._pending) != _channel(delta):
            await self.end()
        if self._pending is not None:
            delta = replace(delta, text=self._pending.text + delta.text)
        text = self._veil.hide(delta.text, more_follows=True)
        kept = max(hider.partial_at_end(text) for hider in self._hiders)
        self._pending = replace(delta, text=text[len(text) - kept :]) if kept else None
        if kept < len(text) or not text:
            await self._show(delta if text == delta.text and not kept else replace(delta, text=text[: len(text) - kept]))

    async def end(self) -> None:
        """Pass on the text that was held back: the reply has ended."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await self._show(replace(pending, text=self._veil.hide(pending.text)))


def _channel(delta: TextDelta | ReasoningDelta | ToolArgsDelta) -> tuple[type, int]:
    return type(delta), delta.index if isinstance(delta, ToolArgsDelta) else 0
