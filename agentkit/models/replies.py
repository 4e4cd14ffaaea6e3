"""Replies of the chat-completions API, parsed leniently. Pure. Only this module and `wire.py` name the API's JSON keys.

Servers differ in where they put thinking text, usage and errors, in how a reply ends, and in what they leave out. This module
accepts all known forms. Calls, usage, finish reasons and errors have modules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .._dataclass import frozen_dataclass
from ..errors import StreamBroken
from ..events import ReasoningDelta, TextDelta, ToolArgsDelta
from ..messages import BYTES_PER_TOKEN, Assistant, Usage
from . import opaque
from .calls import Calls, calls_in, index_of
from .content import has_blocks, read_content, refusal_in, text_of
from .finish import Ending, ending_of, worse
from .growing import Growing
from .pieces import Text, joined_halves, json_of
from .refusals import is_error, read_error
from .thinking import ThinkTags
from .usage import answer_tokens, merged_usage, read_usage, reported_cost

__all__ = ["Parts", "ReplyReader"]

_NOTHING = Usage()
_REASONING_FIELDS = (
    "reasoning_content", "reasoning", "reasoning_details", "reasoning_text", "thinking", "thinking_content", "thinking_blocks",
)  # fmt: skip
"""Fields with thinking text. The later ones come from GitHub Copilot, Mistral and gateways to Anthropic's models."""
_PLAIN_DELTA_FIELDS = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls", "refusal", "function_call"})
_PLAIN_CHOICE_FIELDS = frozenset(
    {"index", "delta", "finish_reason", "native_finish_reason", "logprobs", "stop_reason", "matched_stop", "token_ids"}
)
_KNOWN_FIELDS = _PLAIN_DELTA_FIELDS | {"annotations", "audio", "index", "name", "logprobs", "token_ids"}
"""Fields of a message that are read here, or that servers send and do not take back. All others are stored as opaque."""
_NORMAL_ENDINGS = ("stop", "tool_calls")

Piece: TypeAlias = TextDelta | ReasoningDelta | ToolArgsDelta


@frozen_dataclass
class Parts:
    """The content of a whole reply.

    `finish_reason` is the server's word, with two exceptions: every word for a cut reply becomes "length", and a missing reason
    becomes "stop" or "tool_calls". `ending` is its meaning. `refusal` is the model's own text in place of an answer. `usage` is
    the server's count, `uncounted` an estimate of the tokens that it did not count, `cost` the US dollars that it reported.
    """

    message: Assistant
    finish_reason: str
    model: str
    usage: Usage
    uncounted: Usage
    ending: Ending = "stop"
    refusal: str = ""
    cost: float | None = None


class ReplyReader:
    """Reads the chunks of a streamed reply. `feed` returns the new pieces for observers, `parts` the whole reply.

    `request_bytes` is the size of the request: the reader uses it to estimate tokens that the server does not count.
    `max_tokens` is the request's limit: a reply that used all of it counts as cut, whatever its finish reason. `origin` is the
    profile's name, stored with opaque fields. `endings` are this server's own finish reasons. `cost_in` is the path of the cost
    in its usage.
    """

    def __init__(
        self,
        *,
        think_tags: bool = False,
        request_bytes: int = 0,
        max_tokens: int | None = None,
        origin: str = "",
        endings: Mapping[str, Ending] | None = None,
        cost_in: Sequence[str] = (),
    ) -> None:
        self._think_tags, self._request_bytes, self._max_tokens = think_tags, request_bytes, max_tokens
        self._origin, self._endings, self._cost_in = origin, endings, cost_in
        self._tags = ThinkTags() if think_tags else None
        self._text, self._reasoning, self._refusal = Text(), Text(), Text()
        self._new_text, self._new_thought = Growing(), Growing()
        self._calls = Calls()
        self._opaque: dict[str, Any] = {}
        self._usage: Mapping[str, Any] | None = None
        self._finish = ""
        self._ending: Ending = "none"
        self.finished = False
        """Whether a finish reason has come."""
        self.request_id: str | None = None
        """The id in the response's headers."""
        self._index: Any = None
        self._has_several = False
        """Whether a chunk had more than one choice."""
        self._model = ""
        self._reasoning_field: str | None = None
        self._may_be_plain = False

    @property
    def has_choice(self) -> bool:
        """Whether any choice has come."""
        return self._index is not None

    @property
    def text(self) -> str:
        """The text of the answer so far."""
        return str(self._text)

    @property
    def usage(self) -> Usage:
        """The server's count so far."""
        return read_usage(self._usage)

    @property
    def cost(self) -> float | None:
        """The cost in US dollars that the server reported; None if it reported none."""
        return reported_cost(self._usage, self._cost_in)

    def uncounted(self, counted: Usage) -> Usage:
        """Estimate of the tokens so far that are missing in the server's count; zero before the first piece."""
        if counted.input_tokens and counted.output_tokens:
            return _NOTHING
        pieces = [*self._text.pieces, *self._reasoning.pieces, *self._refusal.pieces, *self._calls.pieces]
        if not pieces or not self._request_bytes:
            return _NOTHING
        prompt = self._request_bytes // BYTES_PER_TOKEN
        answer = -(-len("".join(pieces).encode(errors="replace")) // BYTES_PER_TOKEN)
        return Usage(0, 0 if counted.input_tokens else prompt, 0 if counted.output_tokens else answer)

    def feed(self, chunk: Any) -> Sequence[Piece]:
        """Read one chunk; returns its new pieces. Raises an error that it contains. A chunk that is no object is skipped."""
        if self._may_be_plain and (plain := self._plain(chunk)) is not None:
            return plain
        if isinstance(chunk, list):  # Gemini's errors come as a list
            chunk = next((item for item in chunk if isinstance(item, dict)), None)
        return self._feed_any(chunk) if isinstance(chunk, dict) else ()

    def _plain(self, chunk: Any) -> Sequence[Piece] | None:
        """Fast path for a chunk with only text, thinking text or calls, as nearly all are. None for any other chunk."""
        try:
            (choice,) = chunk["choices"]
            delta = choice["delta"]
            if not (delta.keys() <= _PLAIN_DELTA_FIELDS and choice.keys() <= _PLAIN_CHOICE_FIELDS):
                return None
            if (choice.get("index") or 0) != self._index or choice.get("finish_reason") or choice.get("native_finish_reason"):
                return None
            text, calls = delta.get("content"), delta.get("tool_calls")
            thought = delta.get(self._reasoning_field or _REASONING_FIELDS[0])
            if chunk.get("usage") or "error" in chunk or "x_groq" in chunk or delta.get("refusal") or delta.get("reasoning"):
                return None
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        if text and not thought and not calls and text.__class__ is str and self._new_text.is_plain:
            text = self._text.add(text)
            return (TextDelta(text),) if text else ()
        is_plain = self._reasoning_field and self._new_thought.is_plain
        if thought and not text and not calls and thought.__class__ is str and is_plain:
            thought = self._reasoning.add(thought)
            return (ReasoningDelta(thought),) if thought else ()
        if calls and not text and not thought and calls.__class__ is list and "content" not in self._opaque:
            return self._calls.take(calls)
        return None

    def _feed_any(self, chunk: dict[str, Any]) -> Sequence[Piece]:
        if is_error(chunk):
            raise read_error(None, json_of(chunk))
        self._model = joined_halves(_text(chunk.get("model"))) or self._model
        self._count(chunk.get("usage") or _mapping(chunk.get("x_groq")).get("usage"))
        found = [piece for choice in self._choices(chunk) for piece in self._choice(choice)]
        self._may_be_plain = not self._tags and bool(self._model) and not self.finished
        return found

    def _choices(self, chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The choices with the lowest index of the first chunk that has any. GitHub Copilot sends the text and the calls of one
        answer as two choices with the same index. Foundry Local counts the chunks of all its replies in
        the index of their only choice."""
        choices = chunk.get("choices")
        found = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
        if found and self._index is None:
            self._index = min((index for c in found if (index := index_of(c.get("index"))) is not None), default=0)
        self._has_several = self._has_several or len(found) > 1
        if self._index and not self._has_several and found and index_of(found[0].get("index")) == self._index + 1:
            self._index += 1
        return [
            c for c in found if (index_of(c.get("index")) or 0) == self._index or (len(found) == 1 and c.get("index") is None)
        ]

    def _choice(self, choice: Mapping[str, Any]) -> Sequence[Piece]:
        if error := choice.get("error"):
            raise read_error(None, json_of({"error": error}))
        self._count(choice.get("usage"))
        delta, message = choice.get("delta"), choice.get("message")
        word, native = choice.get("finish_reason") or choice.get("finishReason"), choice.get("native_finish_reason")
        if word or native:
            self._take_finish_reason(word, native)
        found = self._delta(_mapping(delta)) if delta else []
        if self.finished or isinstance(message, dict):
            found += self._said(self._new_text.end(), self._new_thought.end())
        if isinstance(message, dict):
            found += self._snapshot(message)
        return found

    def _count(self, usage: Any) -> None:
        if usage and isinstance(usage, dict):
            self._usage = merged_usage(self._usage, usage)

    def _take_finish_reason(self, word: Any, native: Any) -> None:
        """Record a finish reason; the most severe one stays. A gateway reports the upstream server's as the native one."""
        word = word.get("type") if isinstance(word, dict) else word  # SGLang's own form
        ending = ending_of(word, self._endings)
        if worse(ending, self._ending):
            self._finish, self._ending = joined_halves(word.strip()), ending
        upstream = ending_of(native, self._endings)
        if worse(upstream, "unknown") and worse(upstream, self._ending):
            self._finish, self._ending = joined_halves(native.strip()), upstream
        self.finished = self._ending != "none"

    def _delta(self, delta: Mapping[str, Any]) -> list[Piece]:
        text, thought = read_content(delta.get("content"))
        thought = self._thought(delta) or thought
        if self._tags and text:
            inside, text = self._tags.feed(text)
            thought += inside
        if self._is_repeated(text):
            text = ""
        if not self._tags:
            text, thought = self._new_text.feed(text), self._new_thought.feed(thought)
        found = self._said(text, thought)
        self._refusal.add(_text(delta.get("refusal")) or refusal_in(delta.get("content")))
        if pieces := calls_in(delta):
            found += self._calls.take(pieces)
        if not delta.keys() <= _KNOWN_FIELDS or "content" in self._opaque or isinstance(delta.get("content"), list):
            self._keep_unknown(delta, text)
        return found

    def _said(self, text: str, thought: str) -> list[Piece]:
        """Add new text and thinking text; returns them for observers."""
        found: list[Piece] = []
        if thought and (thought := self._reasoning.add(thought)):
            found.append(ReasoningDelta(thought))
        if text and (text := self._text.add(text)):
            found.append(TextDelta(text))
        return found

    def _is_repeated(self, text: str) -> bool:
        """Whether the last chunk repeats the whole text, as some gateways do."""
        answer = self._text
        return self.finished and len(answer.pieces) > 1 and len(text) == answer.size and text == str(answer)

    def _snapshot(self, message: Mapping[str, Any]) -> list[Piece]:
        """Read a whole message: all of it, or only what the earlier pieces lack."""
        found: list[Piece] = []
        content = message.get("content")
        text, thought = read_content(content)
        thought = self._thought(message) or thought
        if self._think_tags:
            tags = ThinkTags()
            inside, text = tags.feed(text)
            last, rest = tags.end()
            thought, text = thought + inside + last, text + rest
        if thought.startswith(before := str(self._reasoning)) and (rest := self._reasoning.add(thought[len(before) :])):
            found.append(ReasoningDelta(rest))
        if text.startswith(before := self.text) and (rest := self._text.add(text[len(before) :])):
            found.append(TextDelta(rest))
        if pieces := calls_in(message):
            found += self._calls.complete(pieces)
        if not self._refusal:
            self._refusal.add(_text(message.get("refusal")) or refusal_in(content))
        self._opaque.update(opaque.unknown_fields(message, _KNOWN_FIELDS))
        if has_blocks(content):
            self._opaque["content"] = content
        return found

    def _keep_unknown(self, delta: Mapping[str, Any], text: str) -> None:
        """Store the unknown fields of a piece. Content with blocks other than text is stored as a list of blocks."""
        fields = opaque.unknown_fields(delta, _KNOWN_FIELDS)
        content = delta.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
        if "content" in self._opaque:
            fields["content"] = blocks
        elif has_blocks(content):
            before = self.text[: self._text.size - len(text)]
            fields["content"] = [{"type": "text", "text": before}, *blocks] if before else blocks
        opaque.merge(self._opaque, fields)

    def _thought(self, delta: Mapping[str, Any]) -> str:
        """The thinking text, from one field only: some servers send the same text in two fields."""
        names = (self._reasoning_field,) if self._reasoning_field else _REASONING_FIELDS
        for name in names:
            value = delta.get(name)
            if value and (thought := text_of(value)):
                self._reasoning_field = name
                return thought
        return ""

    def parts(self) -> Parts:
        """The whole reply. Its calls are in index order, each with a unique id.

        Raises `StreamBroken` if a call is incomplete and no known finish reason ended the reply.
        """
        if len(self._calls) and self._ending in ("none", "unknown") and not self._calls.are_whole:
            raise StreamBroken("the reply ended without a finish reason, in the middle of a tool call")
        self._said(self._new_text.end(), self._new_thought.end())
        if self._tags:
            thought, rest = self._tags.end()
            self._reasoning.add(thought)
            self._text.add(rest)
        calls = self._calls.tool_calls()
        kept = opaque.dump(self._opaque)
        origin = self._origin if kept or any(call.opaque for call in calls) else ""
        message = Assistant(self.text, str(self._reasoning), calls, opaque=kept, origin=origin)
        counted = self.usage
        finish, ending = self._final_ending(bool(calls))
        uncounted, refusal = self.uncounted(counted), str(self._refusal)
        return Parts(message, finish, self._model, counted, uncounted, ending, refusal, self.cost)

    def _used_all(self, max_tokens: int) -> bool:
        """Whether the reply used all of `max_tokens`. If thinking is counted separately, the sum must equal the limit exactly:
        a larger sum shows that the server applies the limit to the answer alone."""
        return answer_tokens(self._usage) >= max_tokens or self.usage.output_tokens == max_tokens

    def _final_ending(self, has_calls: bool) -> tuple[str, Ending]:
        """The finish reason and its meaning."""
        ending = self._ending
        if ending == "none":
            self._finish = ending = "tool_calls" if has_calls else "stop"
        if ending in (*_NORMAL_ENDINGS, "unknown") and self._max_tokens and self._used_all(self._max_tokens):
            ending = "length"
        return "length" if ending == "length" else self._finish or ending, ending


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
