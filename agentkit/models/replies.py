"""Replies of the chat-completions API, read with tolerance. Pure; with `wire.py` the only place that names its JSON keys.

Servers differ in where thinking text, usage and errors stand, in how call deltas are keyed, and in what they leave out.
The rules here take all of these forms; docs/servers.md lists which server sends which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pydantic_core import from_json, to_json

from ..errors import ContextTooLong, ModelError, Overloaded, StreamBroken, error_for_status
from ..events import ReasoningDelta, TextDelta, ToolArgsDelta
from ..messages import Assistant, ToolCall, Usage

__all__ = ["Parts", "ReplyReader", "read_error", "read_whole"]

_CONTEXT_TEXTS = ("maximum context length", "context_length_exceeded", "context window", "prompt is too long")


@dataclass(slots=True)
class _Call:
    """A call as it grows; `key` is the server's index, if it gave one."""

    key: int | None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a whole reply held. `usage` is zero but for the request where the server counted nothing."""

    message: Assistant
    finish_reason: str
    model: str
    usage: Usage


class ReplyReader:
    """Takes the chunks of a streamed reply in; `feed` says what is new for a watcher, `parts` gives the whole."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._usage: Mapping[str, Any] | None = None
        self._finish = ""
        self._model = ""
        self._reasoning_field: str | None = None

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come."""
        return bool(self._finish)

    def feed(self, chunk: Any) -> Iterator[TextDelta | ReasoningDelta | ToolArgsDelta]:
        """Take one chunk in. Raises the error that it carries, or `StreamBroken` if it has no known form."""
        if not isinstance(chunk, dict):
            raise StreamBroken(f"a stream chunk is {type(chunk).__name__}, not an object")
        if chunk.get("error"):
            raise read_error(None, to_json(chunk))
        self._model = chunk.get("model") or self._model
        usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        choice = _first_choice(chunk)
        if choice:
            usage = usage or choice.get("usage")
            yield from self._delta(_mapping(choice.get("delta") or choice.get("message")))
            self._finish = choice.get("finish_reason") or self._finish
        if isinstance(usage, dict):
            self._usage = usage

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[TextDelta | ReasoningDelta | ToolArgsDelta]:
        text, thought = _content(delta.get("content"))
        thought = self._thought(delta) or thought
        if thought:
            self._reasoning.append(thought)
            yield ReasoningDelta(thought)
        if text:
            self._text.append(text)
            yield TextDelta(text)
        for place, piece in enumerate(delta.get("tool_calls") or ()):
            if isinstance(piece, dict):
                yield from self._call_piece(piece, place)

    def _thought(self, delta: Mapping[str, Any]) -> str:
        """The thinking text of one field only, as some servers send the same text in two."""
        names = (self._reasoning_field,) if self._reasoning_field else ("reasoning_content", "reasoning")
        for name in names:
            value = delta.get(name)
            if isinstance(value, str) and value:
                self._reasoning_field = name
                return value
        return ""

    def _call_piece(self, piece: Mapping[str, Any], place: int) -> Iterator[ToolArgsDelta]:
        function = _mapping(piece.get("function"))
        call = self._call_of(piece.get("index"), piece.get("id") or "", place)
        name = function.get("name")
        if isinstance(name, str) and name and name != call.name:
            call.name += name
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else "" if arguments is None else to_json(arguments).decode()
        if text and not (len(text) > 1 and text == "".join(call.arguments) and _is_object(text)):
            call.arguments.append(text)
            yield ToolArgsDelta(self._calls.index(call), call.name, text)

    def _call_of(self, key: Any, call_id: str, place: int) -> _Call:
        """The call that a piece belongs to: a new id begins a new call even at a known index."""
        key = key if isinstance(key, int) else None
        known = next((c for c in reversed(self._calls) if c.key == key), None) if key is not None else None
        if key is None and self._calls:
            known = next((c for c in self._calls if c.id == call_id), None) if call_id else self._calls[-1]
        if known is None or (call_id and known.id and known.id != call_id):
            known = next((c for c in self._calls if call_id and c.id == call_id and c.key == key), None)
        if known is None:
            known = _Call(key)
            self._calls.append(known)
        known.id = known.id or call_id
        return known

    def parts(self) -> Parts:
        """The whole reply, its calls in the order of their index, each with an id of its own."""
        ordered = sorted(self._calls, key=lambda c: c.key if c.key is not None else 0)
        calls, seen = [], set[str]()
        for call in ordered:
            call_id = call.id if call.id and call.id not in seen else f"call_{uuid4().hex[:24]}"
            seen.add(call_id)
            calls.append(ToolCall(call_id, call.name.strip(), "".join(call.arguments) or "{}"))
        message = Assistant("".join(self._text), "".join(self._reasoning), tuple(calls))
        finish = self._finish or ("tool_calls" if calls else "stop")
        return Parts(message, finish, self._model, read_usage(self._usage))


def read_whole(data: bytes) -> Parts:
    """A reply that came in one piece. Raises `StreamBroken` for an empty or cut body, or the error that it carries."""
    text = data.strip()
    if not text:
        raise StreamBroken("the server closed the connection without a reply")
    try:
        reply = from_json(text)
    except ValueError as error:
        raise StreamBroken(f"the reply is not whole JSON: {error}", body=_cut(text)) from None
    if isinstance(reply, dict) and isinstance(reply.get("data"), dict) and "choices" not in reply:
        reply = reply["data"]
    reader = ReplyReader()
    list(reader.feed(reply))
    if not isinstance(reply, dict) or not _first_choice(reply):
        raise StreamBroken("the reply has no choice in it", body=_cut(text))
    return reader.parts()


def _first_choice(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = chunk.get("choices")
    found = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    return next((c for c in found if not c.get("index")), {})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_object(text: str) -> bool:
    return text.startswith("{") and text.endswith("}")


def _content(content: Any) -> tuple[str, str]:
    """Text and thinking text of a content field: a string, null, or a list of parts."""
    if isinstance(content, str):
        return content, ""
    text, thought = "", ""
    for part in content if isinstance(content, list) else ():
        part = _mapping(part)
        if part.get("type") == "thinking":
            inner = part.get("thinking")
            thought += inner if isinstance(inner, str) else _content(inner)[0]
        elif isinstance(part.get("text"), str):
            text += part["text"]
    return text, thought


def read_usage(usage: Mapping[str, Any] | None) -> Usage:
    """The counts of one reply, whichever of the known names they have; a missing or odd count is 0."""
    if not usage:
        return Usage(requests=1)
    prompt, answer = _mapping(usage.get("prompt_tokens_details")), _mapping(usage.get("completion_tokens_details"))
    cached = (prompt.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens"))
    return Usage(
        requests=1,
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cache_read_tokens=next((_count(c) for c in cached if c is not None), 0),
        reasoning_tokens=_count(answer.get("reasoning_tokens")),
    )


def _count(value: Any) -> int:
    try:
        return max(0, int(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def read_error(status: int | None, body: bytes, headers: Mapping[str, str] | None = None) -> ModelError:
    """The typed error of a refused request, or of an error inside a reply (`status` None).

    The envelope may be an object with `error` as an object or a text, a flat object, a list, or no JSON at all.
    """
    headers = headers or {}
    details = _error_details(body)
    message = str(details.get("message") or _cut(body) or "no text")
    code = details.get("code") or details.get("type")
    found = details.get("status") or details.get("code")
    if status is None and isinstance(found, int) and 400 <= found < 600:
        status = found
    kind: type[ModelError] = error_for_status(status) if status else Overloaded
    if kind.__name__ == "BadRequest" and any(text in message.lower() for text in _CONTEXT_TEXTS):
        kind = ContextTooLong
    where = f"HTTP {status}" if status else "an error inside the reply"
    return kind(
        f"{where}: {message}",
        status=status,
        body=_cut(body),
        code=None if code is None else str(code),
        request_id=headers.get("x-ds-trace-id") or headers.get("x-request-id"),
    )


def _error_details(body: bytes) -> Mapping[str, Any]:
    try:
        data = from_json(body)
    except ValueError:
        return {}
    if isinstance(data, list) and data:
        data = data[0]
    if isinstance(data, str):
        return {"message": data}
    error = _mapping(data).get("error", data)
    return {"message": error} if isinstance(error, str) else _mapping(error)


def _cut(body: bytes, limit: int = 2000) -> str:
    return body[:limit].decode("utf-8", "replace").strip()
