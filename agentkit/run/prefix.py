"""What of a prompt's beginning changed from one request to the next: a server's cache serves only what stayed the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from ..events import Event, ModelReplied
from ..messages import Message, bytes_of, message_text
from ..model import ModelRequest
from ..redact import redact

__all__ = ["CacheMiss", "cache_misses", "change"]

_UNIT = 128
"""Tokens by which a cache may round down: the largest unit that was observed (docs/deepseek.md)."""
_SHOWN = 40
_AROUND = 8192
"""Bytes on both sides of a change in which secrets are looked for: more than a private key has."""


@dataclass(frozen=True, slots=True)
class CacheMiss:
    """A step whose prompt was read from the cache less far than the step before had sent it."""

    step: int
    """The model call, from 1."""
    expected: int
    """Tokens of the prompt before, which this one should repeat."""
    read: int
    """Tokens that came from the cache."""
    why: str
    """The first byte of the prompt's text that changed, or what else did."""

    def __str__(self) -> str:
        return f"step {self.step} read {self.read:,} of {self.expected:,} tokens from the cache: {self.why}"


def cache_misses(events: Iterable[Event]) -> list[CacheMiss]:
    """The steps of a run that the cache did not serve, as far as the server counts its hits.

    A server that has counted none in this run is not known to have a cache, so a step counts where the request itself changed,
    or where an earlier one was served. What changed is known if the agent had a `CacheReport` among its middleware.
    """
    found: list[CacheMiss] = []
    before: ModelReplied | None = None
    replies = [event for event in events if isinstance(event, ModelReplied)]
    counts = False
    for step, reply in enumerate(replies, 1):
        read = reply.usage.cache_read_tokens
        if before is not None and (counts or reply.changed) and read + _UNIT < before.usage.input_tokens:
            found.append(CacheMiss(step, before.usage.input_tokens, read, reply.changed or _elsewhere(before, reply)))
        counts = counts or read > 0
        before = reply
    return found


def _elsewhere(before: ModelReplied, reply: ModelReplied) -> str:
    if before.model != reply.model:
        return f"another model answered ({before.model}, then {reply.model})"
    if not reply.same_prefix:
        return "the request was not compared with the one before; CacheReport() as the agent's last middleware does that"
    return "the request only grew; the server did not have its beginning in the cache, any more or yet"


def change(before: ModelRequest, messages: Sequence[Message], after: ModelRequest, same: int) -> str:
    """What changed in the beginning of a request; nothing where it only grew.

    `messages` are those that `before` had when it was sent, and `same` says how many of them `after` begins with.
    """
    tools = _tools(before, after)
    if tools:
        return tools
    if same < len(messages):
        return _message(messages, after.messages, same)
    return _settings(before, after)


def _tools(before: ModelRequest, after: ModelRequest) -> str:
    if before.tools is after.tools:
        return ""
    old, new = ({tool.name: tool for tool in request.tools} for request in (before, after))
    parts = [f"{name} is new" for name in new if name not in old]
    parts += [f"{name} is gone" for name in old if name not in new]
    parts += [f"{name} is described otherwise" for name in new if name in old and old[name] != new[name]]
    return f"the tools, which stand first: {', '.join(parts)}" if parts else ""


def _settings(before: ModelRequest, after: ModelRequest) -> str:
    if before.tool_choice != after.tool_choice:
        return f"tool_choice was {before.tool_choice!r}, now {after.tool_choice!r}"
    for name in () if before.settings is after.settings else (field.name for field in fields(after.settings)):
        old, new = getattr(before.settings, name), getattr(after.settings, name)
        if old != new:
            return f"the setting {name} was {old!r:.{_SHOWN}}, now {new!r:.{_SHOWN}}"
    return ""


def _message(old: Sequence[Message], new: Sequence[Message], place: int) -> str:
    start, was = sum(map(bytes_of, old[:place])), old[place]
    if place >= len(new):
        return f"byte {start:,} of the prompt's text: message {place} ({was.role}) and what follows is not sent any more"
    now = new[place]
    texts = _said(was), _said(now)
    if texts[0] == texts[1]:
        what, (before, after) = _beside(was, now)
    else:
        at = _common(*texts)
        start, what, (before, after) = start + at, "", _shown(*texts, at)
    role = "" if now.role == was.role else f"({now.role}) "
    return f"byte {start:,} of the prompt's text: message {place} ({was.role}){what} was {before}, now {role}{after}"


def _beside(was: Message, now: Message) -> tuple[str, tuple[str, str]]:
    """The field in which messages differ that say the same, and its values."""
    names = ("role", *(field.name for field in fields(was)))
    name = next(name for name in names if getattr(was, name) != getattr(now, name, None))
    old, new = (str(getattr(message, name)).encode(errors="replace") for message in (was, now))
    return f", its {name},", _shown(old, new, _common(old, new))


def _said(message: Message) -> bytes:
    return message_text(message).encode(errors="replace")


def _common(a: Sequence[object], b: Sequence[object]) -> int:
    """How many of both beginnings are the same."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _shown(was: bytes, now: bytes, at: int) -> tuple[str, str]:
    """The beginnings of what differs, without secrets, which are known by what stands before them."""
    start, end = max(0, at - _AROUND), at + _AROUND
    same, old, new = (redact(text.decode(errors="ignore")) for text in (was[start:at], was[start:end], now[start:end]))
    if same.endswith("[redacted]") or not (old.startswith(same) and new.startswith(same)):
        return "[redacted]", "[redacted]"  # the change is within a secret
    shown = slice(len(same), len(same) + _SHOWN)
    return repr(old[shown]), repr(new[shown])
