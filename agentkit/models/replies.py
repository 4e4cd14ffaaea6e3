"""Replies of the chat-completions API, read with tolerance. Pure; with `wire.py` the only place that names its JSON keys.

Servers differ in where thinking text, usage and errors stand, in how call deltas are keyed, and in what they leave out.
The rules here take all of these forms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import uuid4

from pydantic_core import from_json, to_json

from ..errors import (
    BadRequest,
    ContextTooLong,
    InsufficientBalance,
    ModelError,
    Overloaded,
    RateLimited,
    StreamBroken,
    error_for_status,
)
from ..events import ReasoningDelta, TextDelta, ToolArgsDelta
from ..messages import BYTES_PER_TOKEN, Assistant, ToolCall, Usage
from .thinking import ThinkTags

__all__ = ["Parts", "ReplyReader", "read_chunk", "read_error", "read_whole"]

_CONTEXT_TEXTS = (
    "maximum context length",
    "max context length",
    "model's context length",
    "context length of only",
    "context window",
    "context size",
    "maximum model length",
    "max_seq_len",
    "model token limit",
    "range of input length",
    "prompt is too long",
    "prompt exceeds max length",
    "reduce the length of the messages",
)
"""How servers say that a prompt does not fit, in lower case; most of them with status 400, llama.cpp also with 500."""
_CONTEXT_CODES = ("context_length_exceeded", "1261")
_QUOTA_CODES = ("insufficient_quota", "exceeded_current_quota_error", "1113")
"""Codes of a 429 that is an empty account: OpenAI, Moonshot, Zhipu."""
_TEMPLATE_TEXTS = ("jinja", "chat template", "chat_template")
"""A fault of the request that comes as a 500: llama.cpp's template does not take the messages."""
_MODEL_FAULTS = ("tool_use_failed",)
"""Codes of a 400 that is the model's fault and not the request's: Groq, for a call that it could not read."""
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "invalid_api_key": 401,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 402,
}
_STATUS_OF_MINIMAX = {1002: 429, 1039: 429, 1004: 401, 2049: 401, 1008: 402, 2013: 400}
_NEVER = (501, 505)
"""Faults of a server that a wait does not mend."""
_MOST_TOKENS = 2**53
_NOTHING = Usage()
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, as some servers escape the characters that they split."""


Piece: TypeAlias = TextDelta | ReasoningDelta | ToolArgsDelta


@dataclass(slots=True, eq=False)
class _Call:
    """A call as it grows; `key` is the server's index, if it gave one, `place` its position in the reply."""

    key: int | None
    place: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a whole reply held. `usage` is what the server counted, `uncounted` an estimate of what it did not."""

    message: Assistant
    finish_reason: str
    model: str
    usage: Usage
    uncounted: Usage


class ReplyReader:
    """Takes the chunks of a streamed reply in; `feed` says what is new for a watcher, `parts` gives the whole.

    `sent` is the size of the request in bytes: with it, tokens that the server does not count are estimated.
    """

    def __init__(self, *, think_tags: bool = False, sent: int = 0) -> None:
        self._sent = sent
        self._tags = ThinkTags() if think_tags else None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []
        self._usage: Mapping[str, Any] | None = None
        self._finish = ""
        self._model = ""
        self._thought_field: str | None = None
        self._half = ""
        self._may_be_plain = False
        """Whether a piece of text stands for itself: no thinking tags, no half of a character before it."""

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come."""
        return bool(self._finish)

    @property
    def text(self) -> str:
        """The text of the answer that has come."""
        return "".join(self._text)

    @property
    def usage(self) -> Usage:
        """What the server has counted."""
        return read_usage(self._usage)

    def uncounted(self, counted: Usage) -> Usage:
        """What is missing in the server's count of the tokens so far, by estimate; nothing before anything came."""
        if counted.input_tokens and counted.output_tokens:
            return _NOTHING
        came = [*self._text, *self._reasoning, *(piece for call in self._calls for piece in (call.name, *call.arguments))]
        if not came or not self._sent:
            return _NOTHING
        answer = -(-len("".join(came).encode(errors="replace")) // BYTES_PER_TOKEN)
        return Usage(0, 0 if counted.input_tokens else self._sent // BYTES_PER_TOKEN, 0 if counted.output_tokens else answer)

    def feed(self, chunk: Any) -> Sequence[Piece]:
        """Take one chunk in. Raises the error that it carries, or `StreamBroken` if it has no known form."""
        if self._may_be_plain and (plain := self._plain(chunk)) is not None:
            return plain
        return self._any(chunk)

    def _plain(self, chunk: Any) -> Sequence[Piece] | None:
        """A chunk with one piece of text or thinking text and nothing else, as nearly all of them are; None for another."""
        try:
            (choice,) = chunk["choices"]
            delta = choice["delta"]
            if choice.get("finish_reason") or choice.get("index") or choice.get("usage") or delta.get("tool_calls"):
                return None
            if chunk.get("usage") or "error" in chunk or "x_groq" in chunk or "reasoning_details" in delta:
                return None
            text, thought = delta.get("content"), delta.get(self._thought_field or "reasoning_content")
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        if text and not thought and text.__class__ is str and text.isascii() and "reasoning" not in delta:
            self._text.append(text)
            return (TextDelta(text),)
        if thought and not text and thought.__class__ is str and self._thought_field:
            self._reasoning.append(thought)
            return (ReasoningDelta(thought),)
        return None

    def _any(self, chunk: Any) -> Sequence[Piece]:
        if not isinstance(chunk, dict):
            raise StreamBroken(f"a stream chunk is {type(chunk).__name__}, not an object")
        if _is_error(chunk):
            raise read_error(None, to_json(chunk))
        self._model = _text(chunk.get("model")) or self._model
        usage = chunk.get("usage") or _mapping(chunk.get("x_groq")).get("usage")
        choice = _first_choice(chunk)
        found: Sequence[Piece] = ()
        if choice:
            usage = usage or choice.get("usage")
            delta = choice.get("delta")
            if isinstance(delta, dict):
                found = self._delta(delta, whole=False)
            else:
                found = self._delta(_mapping(choice.get("message")), whole=True)
            self._finish = _text(choice.get("finish_reason")) or self._finish
        if usage and isinstance(usage, dict):
            self._usage = usage
        self._may_be_plain = not (self._tags or self._half) and bool(self._model)
        return found

    def _delta(self, delta: Mapping[str, Any], *, whole: bool) -> list[Piece]:
        found: list[Piece] = []
        text, thought = _content(delta.get("content"))
        thought = self._thought(delta) or thought
        if self._tags and text:
            inside, text = self._tags.feed(text)
            thought += inside
        if self._half or (not text.isascii() and _HALF.search(text)):
            text = self._joined(text)
        if thought:
            self._reasoning.append(thought)
            found.append(ReasoningDelta(thought))
        if text:
            self._text.append(text)
            found.append(TextDelta(text))
        pieces = delta.get("tool_calls")
        if isinstance(pieces, list):
            by_place = whole or len(pieces) > 1
            one_each = whole and not self._calls  # in a whole reply each entry is a call, whatever its index says
            for place, piece in enumerate(pieces):
                if isinstance(piece, dict):
                    piece = {**piece, "index": place} if one_each else piece
                    if (made := self._call_piece(piece, place if by_place else None)) is not None:
                        found.append(made)
        return found

    def _joined(self, text: str) -> str:
        """The text with the half of a character that the last piece ended in, without one that it ends in itself."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _thought(self, delta: Mapping[str, Any]) -> str:
        """The thinking text of one field only, as some servers send the same text in two."""
        names = (self._thought_field,) if self._thought_field else ("reasoning_content", "reasoning", "reasoning_details")
        for name in names:
            value = delta.get(name)
            if value and (thought := value if isinstance(value, str) else _content(value)[0]):
                self._thought_field = name
                return thought
        return ""

    def _call_piece(self, piece: Mapping[str, Any], place: int | None) -> ToolArgsDelta | None:
        function = _mapping(piece.get("function"))
        index, name, arguments = piece.get("index"), _text(function.get("name")), function.get("arguments")
        text = arguments if isinstance(arguments, str) else "" if arguments is None else to_json(arguments).decode()
        call = self._call_of(index if isinstance(index, int) else place, _text(piece.get("id")), name, text)
        if name != call.name:
            call.name += name
        if text and not (_is_object(text) and text == "".join(call.arguments)):  # the whole object, sent again
            call.arguments.append(text)
            return ToolArgsDelta(call.place, call.name, text)
        return None

    def _call_of(self, key: int | None, call_id: str, name: str, text: str) -> _Call:
        """The call that a piece belongs to: a new id begins a new call even at a known index, and so does a name after
        arguments that are whole, unless it brings the same ones again."""
        same_key = self._calls if key is None else [c for c in self._calls if c.key == key]
        last = same_key[-1] if same_key else None
        if call_id:
            found = next((c for c in same_key if c.id == call_id), None)
            if found is None and last is not None and key is not None and (not last.id or not (name or _is_whole(last))):
                found = last  # its id comes late, or changes with each piece
        else:
            found = last
            if last is not None and name and last.name and _is_whole(last):
                again = key is not None and (not text or text == "".join(last.arguments))
                found = last if again else None
        if found is None:
            found = _Call(key, len(self._calls))
            self._calls.append(found)
        found.id = found.id or call_id
        return found

    def parts(self) -> Parts:
        """The whole reply, its calls in the order of their index, each with an id of its own."""
        ordered = sorted(self._calls, key=lambda c: c.key if c.key is not None else 0)
        calls, seen = [], set[str]()
        for call in ordered:
            call_id = call.id if call.id and call.id not in seen else f"call_{uuid4().hex[:24]}"
            seen.add(call_id)
            arguments = "".join(call.arguments)
            calls.append(ToolCall(call_id, call.name.strip(), arguments if arguments.strip() else "{}"))
        if calls and not self._finish and not all(_is_whole(call) for call in ordered):
            raise StreamBroken("the reply ended without a finish reason, in the middle of a tool call")
        if self._tags:
            thought, rest = self._tags.end()
            self._reasoning.append(thought)
            self._text.append(rest)
        text = self.text + ("\ufffd" if self._half else "")
        message = Assistant(text, "".join(self._reasoning), tuple(calls))
        finish = self._finish or ("tool_calls" if calls else "stop")
        counted = self.usage
        return Parts(message, finish, self._model, counted, self.uncounted(counted))


def read_whole(data: bytes, reader: ReplyReader | None = None) -> Parts:
    """A reply that came in one piece, by a reader that has read nothing yet.

    Raises `StreamBroken` for an empty or cut body, or the error that it carries.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise StreamBroken("the server closed the connection without a reply")
    reply = read_chunk(text, "the reply")
    if isinstance(reply, dict) and isinstance(reply.get("data"), dict) and "choices" not in reply:
        reply = reply["data"]
    reader = reader or ReplyReader()
    reader.feed(reply)
    if not isinstance(reply, dict) or not _first_choice(reply):
        raise StreamBroken("the reply has no choice in it", body=_cut(text))
    return reader.parts()


def read_chunk(data: bytes, what: str = "a stream chunk") -> Any:
    """The JSON of a reply or of a chunk. Raises `StreamBroken`, with the beginning of the text, if it is not whole."""
    try:
        return from_json(data)
    except ValueError as error:
        reason = error
    try:  # it takes half a character, as an escape that goes on in the next chunk
        return json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise StreamBroken(f"{what} is not whole JSON: {reason}", body=_cut(data, 200)) from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _first_choice(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = chunk.get("choices")
    found = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    return next((c for c in found if not c.get("index")), {})


def _is_error(chunk: Mapping[str, Any]) -> bool:
    if chunk.get("error") or ("choices" not in chunk and ("message" in chunk or "detail" in chunk)):
        return True
    # MiniMax's own status: it comes with HTTP 200, and with `choices` that are empty
    return bool(_mapping(chunk.get("base_resp")).get("status_code")) and not chunk.get("choices")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_object(text: str) -> bool:
    return text[0] == "{" and text[-1] == "}"


def _is_whole(call: _Call) -> bool:
    """Whether its arguments are a whole JSON object; they are joined only where they end like one."""
    if not call.arguments or not call.arguments[-1].rstrip().endswith("}"):
        return False
    try:
        from_json("".join(call.arguments))
    except ValueError:
        return False
    return True


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
        elif isinstance(piece := part.get("text", part.get("summary")), str):
            text += piece
    return text, thought


def read_usage(usage: Mapping[str, Any] | None) -> Usage:
    """What the server counted of one reply, whichever of the known names it has; a missing or odd count is 0."""
    if not usage:
        return Usage(requests=1)
    prompt, answer = _mapping(usage.get("prompt_tokens_details")), _mapping(usage.get("completion_tokens_details"))
    cached = (prompt.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens"))
    input_tokens = _count(usage.get("prompt_tokens"))
    return Usage(
        requests=1,
        input_tokens=input_tokens,
        output_tokens=_count(usage.get("completion_tokens")),
        cache_read_tokens=min(input_tokens, next((_count(c) for c in cached if c is not None), 0)),
        reasoning_tokens=_count(answer.get("reasoning_tokens")),
    )


def _count(value: Any) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return count if 0 <= count <= _MOST_TOKENS else 0


def read_error(status: int | None, body: bytes, headers: Mapping[str, str] | None = None) -> ModelError:
    """The typed error of a refused request, or of an error inside a reply (`status` None).

    The envelope may be an object with `error` as an object or a text, a flat object, a list, or no JSON at all. The header
    `x-should-retry: false` is obeyed, as OpenAI's SDK does.
    """
    headers = headers or {}
    details = _error_details(body)
    message = str(details.get("message") or _cut(body, 300) or "no text")
    code = details.get("code") or details.get("type")
    if status is None:
        status = _status_inside(details)
    kind: type[ModelError] = error_for_status(status) if status else Overloaded
    kind = _refined(kind, status, message.lower(), (_word(details.get("code")), _word(details.get("type"))))
    where = f"HTTP {status}" if status else "an error inside the reply"
    return kind(
        f"{where}: {message}",
        status=status,
        body=_cut(body),
        code=None if code is None else str(code),
        request_id=headers.get("x-ds-trace-id") or headers.get("x-request-id"),
        retryable=False if status in _NEVER or headers.get("x-should-retry", "").lower() == "false" else None,
    )


def _word(code: Any) -> str:
    return "" if code is None else str(code)


def _refined(kind: type[ModelError], status: int | None, message: str, codes: tuple[str, str]) -> type[ModelError]:
    """The kind of error by its text and codes, where the status says too little."""
    if kind is RateLimited and any(code in codes for code in _QUOTA_CODES):
        return InsufficientBalance
    if status in (None, 400) and any(code in codes for code in _MODEL_FAULTS):
        return StreamBroken
    if (kind is BadRequest or status in (None, 500)) and (  # an overloaded server may speak of its window as well
        any(code in codes for code in _CONTEXT_CODES) or any(text in message for text in _CONTEXT_TEXTS)
    ):
        return ContextTooLong
    if kind is Overloaded and any(text in message for text in _TEMPLATE_TEXTS):
        return BadRequest
    return kind


def _status_inside(details: Mapping[str, Any]) -> int | None:
    """The HTTP status that an error inside a reply amounts to: its own number, else by its type."""
    for name in ("status", "code"):
        number = _count(details.get(name))
        if 400 <= number < 600:
            return number
    if (number := _count(details.get("status_code"))) in _STATUS_OF_MINIMAX:
        return _STATUS_OF_MINIMAX[number]
    words = (_text(details.get("type")), _text(details.get("code")))
    return next((_STATUS_OF_TYPE[word] for word in words if word in _STATUS_OF_TYPE), None)


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
    if isinstance(error, str):
        return {"message": error}
    status = _mapping(_mapping(error).get("base_resp"))
    return {"message": status.get("status_msg"), **status} if status else _mapping(error)


def _cut(body: bytes, limit: int = 2000) -> str:
    return body[:limit].decode("utf-8", "replace").strip()
