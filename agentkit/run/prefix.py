"""Compares the beginning of a prompt with the previous request: a server's cache serves only an unchanged beginning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

from .._dataclass import frozen_dataclass
from ..events import Event, ModelReplied
from ..messages import Message, bytes_of, message_text
from ..model import ModelRequest
from ..redact import redact

__all__ = ["CacheMiss", "cache_misses", "change"]

_UNIT = 128
"""Tokens per cache unit, the largest one observed (docs/deepseek.md). A cache serves whole units."""
_EXCERPT = 40
"""Characters of each excerpt."""
_CONTEXT = 8192
"""Bytes on both sides of a change that are searched for secrets: more than a private key has."""


@frozen_dataclass
class CacheMiss:
    """A step that read fewer tokens from the cache than the previous prompt had."""

    step: int
    """Number of the model call, from 1."""
    expected: int
    """Tokens of the previous prompt, which this one should repeat."""
    read: int
    """Tokens read from the cache."""
    why: str
    """What changed: the first different byte of the prompt's text, or something else."""

    def __str__(self) -> str:
        return f"step {self.step} read {self.read:,} of {self.expected:,} tokens from the cache: {self.why}"


def cache_misses(events: Iterable[Event]) -> list[CacheMiss]:
    """The steps of a run that the server's cache missed, as far as the server reports cache hits.

    A server without any hit in this run may have no cache. So a step counts only if its request changed, or if an earlier step
    had a hit. What changed is known only if the agent's middleware has a `CacheReport`.
    """
    found: list[CacheMiss] = []
    previous: ModelReplied | None = None
    replies = [event for event in events if isinstance(event, ModelReplied)]
    has_hits = False
    for step, reply in enumerate(replies, 1):
        read = reply.usage.cache_read_tokens
        if previous is not None and (has_hits or reply.changed) and read + _UNIT < previous.usage.input_tokens:
            found.append(CacheMiss(step, previous.usage.input_tokens, read, reply.changed or _other_reason(previous, reply)))
        has_hits = has_hits or read > 0
        previous = reply
    return found


def _other_reason(previous: ModelReplied, reply: ModelReplied) -> str:
    if previous.model != reply.model:
        return f"another model answered ({previous.model}, then {reply.model})"
    if not reply.same_prefix:
        return "the request was not compared with the one before; CacheReport() as the agent's last middleware does that"
    return "the request only grew; the server did not have its beginning in the cache, any more or yet"


def change(before: ModelRequest, messages: Sequence[Message], after: ModelRequest, same: int) -> str:
    """What changed in the beginning of a request; empty if the request only grew.

    `messages` are the messages of `before` when it was sent. `after` begins with the first `same` of them.
    """
    tools = _tools(before, after)
    if tools:
        return tools
    if same < len(messages):
        return after.reason or _message(messages, after.messages, same)
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
            return f"the setting {name} was {old!r:.{_EXCERPT}}, now {new!r:.{_EXCERPT}}"
    return ""


def _message(old: Sequence[Message], new: Sequence[Message], index: int) -> str:
    start, was = sum(map(bytes_of, old[:index])), old[index]
    if index >= len(new):
        return f"byte {start:,} of the prompt's text: message {index} ({was.role}) and what follows is not sent any more"
    now = new[index]
    texts = _encoded_text(was), _encoded_text(now)
    if texts[0] == texts[1]:
        what, (before, after) = _changed_field(was, now)
    else:
        at = _common(*texts)
        start, what, (before, after) = start + at, "", _excerpts(*texts, at)
    role = "" if now.role == was.role else f"({now.role}) "
    return f"byte {start:,} of the prompt's text: message {index} ({was.role}){what} was {before}, now {role}{after}"


def _changed_field(was: Message, now: Message) -> tuple[str, tuple[str, str]]:
    """The first field, besides the text, in which two messages differ, and excerpts of its values."""
    names = ("role", *(field.name for field in fields(was)))
    name = next(name for name in names if getattr(was, name) != getattr(now, name, None))
    old, new = (str(getattr(message, name)).encode(errors="replace") for message in (was, now))
    return f", its {name},", _excerpts(old, new, _common(old, new))


def _encoded_text(message: Message) -> bytes:
    return message_text(message).encode(errors="replace")


def _common(a: Sequence[object], b: Sequence[object]) -> int:
    """The length of the common beginning."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _excerpts(was: bytes, now: bytes, at: int) -> tuple[str, str]:
    """Excerpts from the first difference on, without secrets. The text before it is needed to recognise them."""
    start, end = max(0, at - _CONTEXT), at + _CONTEXT
    same, old, new = (redact(text.decode(errors="ignore")) for text in (was[start:at], was[start:end], now[start:end]))
    if same.endswith("[redacted]") or not (old.startswith(same) and new.startswith(same)):
        return "[redacted]", "[redacted]"  # the change is within a secret
    excerpt = slice(len(same), len(same) + _EXCERPT)
    return repr(old[excerpt]), repr(new[excerpt])
