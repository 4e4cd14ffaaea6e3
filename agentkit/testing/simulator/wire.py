"""A completion as DeepSeek sends it: one JSON body, or the chunks of a stream (docs/deepseek.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, TypeAlias

from ...messages import Assistant, ToolCall
from .replies import CallStyle, Failure
from .tokens import count_tokens, truncated

__all__ = ["Completion", "cut_to", "envelope", "json_body", "message_dict", "stream_chunks", "usage_of"]

CREATED = 1_795_000_000
"""A fixed time, so that the same test always gives the same bytes."""

Delta: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, ready to send: `message` has its ids, and is cut to `max_tokens`."""

    id: str
    model: str
    message: Assistant
    finish_reason: str
    usage: Mapping[str, Any]
    thinking: bool
    calls: CallStyle = "in_turn"


def cut_to(message: Assistant, budget: int) -> tuple[Assistant, bool]:
    """`message` cut to `budget` tokens, and whether it was cut. Thinking counts first, then text, then the calls."""
    reasoning = truncated(message.reasoning, budget)
    budget -= count_tokens(reasoning)
    text = truncated(message.text, budget)
    budget -= count_tokens(text)
    calls = []
    for call in message.tool_calls:
        budget -= count_tokens(call.name)
        if budget < 0:
            break
        calls.append(ToolCall(call.id, call.name, truncated(call.arguments, budget)))
        budget -= count_tokens(calls[-1].arguments)
    cut = Assistant(text, reasoning, tuple(calls))
    return cut, cut != message


def usage_of(message: Assistant, prompt_tokens: int, hit_tokens: int, *, thinking: bool) -> dict[str, Any]:
    """The usage object. `reasoning_tokens` is included only if the model thinks."""
    reasoning = count_tokens(message.reasoning)
    calls = sum(count_tokens(call.name) + count_tokens(call.arguments) for call in message.tool_calls)
    completion = reasoning + count_tokens(message.text) + calls
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "prompt_cache_hit_tokens": hit_tokens,
        "prompt_cache_miss_tokens": prompt_tokens - hit_tokens,
        "prompt_tokens_details": {"cached_tokens": hit_tokens},
    }
    if thinking:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage


def message_dict(message: Assistant, *, thinking: bool, calls: CallStyle = "in_turn") -> dict[str, Any]:
    """The message of a body. Content is `""` if there are only calls. `reasoning_content` exists only if the model thinks."""
    wire: dict[str, Any] = {"role": "assistant", "content": message.text}
    if thinking:
        wire["reasoning_content"] = message.reasoning
    if message.tool_calls:
        wire["tool_calls"] = [_call(index, call, calls) for index, call in enumerate(message.tool_calls)]
    return wire


def _call(index: int, call: ToolCall, style: CallStyle) -> dict[str, Any]:
    arguments = json.loads(call.arguments) if style == "objects" else call.arguments
    index = 0 if style == "index_zero" else index
    return {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def json_body(completion: Completion) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    message = message_dict(completion.message, thinking=completion.thinking, calls=completion.calls)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": completion.finish_reason}
    return {**_head(completion, "chat.completion"), "choices": [choice], "usage": completion.usage}


def _head(completion: Completion, kind: str) -> dict[str, Any]:
    return {
        "id": completion.id,
        "object": kind,
        "created": CREATED,
        "model": completion.model,
        "system_fingerprint": "fp_simulator",
    }


def stream_chunks(
    completion: Completion, *, chunk: int, usage_place: Literal["finish", "alone"], include_usage: bool
) -> Iterator[dict[str, Any]]:
    """The chunks of a stream, without `[DONE]`.

    With "finish", the chunk with the finish_reason always has the usage. With "alone", the usage comes in its own chunk without
    choices, and only if the request asks for it. If it asks, all other chunks have `usage: null`.
    """
    head = _head(completion, "chat.completion.chunk")
    rest = {"usage": None} if include_usage else {}
    for delta in _deltas(completion, chunk):
        yield {**head, "choices": [_choice(delta, None)], **rest}
    last: Delta = {"content": "", "role": None, **({"reasoning_content": None} if completion.thinking else {})}
    finish = {**head, "choices": [_choice(last, completion.finish_reason)], **rest}
    if usage_place == "finish":
        finish["usage"] = completion.usage
    yield finish
    if usage_place == "alone" and include_usage:
        yield {**head, "choices": [], "usage": completion.usage}


def _choice(delta: Delta, finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _deltas(completion: Completion, chunk: int) -> Iterator[Delta]:
    message, thinking = completion.message, completion.thinking
    opening = {"content": None, "reasoning_content": ""} if thinking else {"content": ""}
    yield {"role": "assistant", **opening}
    for piece in _pieces(message.reasoning, chunk):
        yield {"content": None, "reasoning_content": piece}
    for piece in _pieces(message.text, chunk):
        yield {"content": piece, **({"reasoning_content": None} if thinking else {})}
    for calls in _CALL_STYLES[completion.calls](message.tool_calls, chunk):
        yield {"tool_calls": calls}


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _opening(index: int, call: ToolCall) -> Delta:
    return {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}


def _piece(index: int, text: str) -> Delta:
    return {"index": index, "function": {"arguments": text}}


def _in_turn(calls: Sequence[ToolCall], chunk: int) -> Iterator[list[Delta]]:
    for index, call in enumerate(calls):
        yield [_opening(index, call)]
        yield from ([_piece(index, text)] for text in _pieces(call.arguments, chunk))


def _interleaved(calls: Sequence[ToolCall], chunk: int) -> Iterator[list[Delta]]:
    yield [_opening(index, call) for index, call in enumerate(calls)]
    for row in zip_longest(*(_pieces(call.arguments, chunk) for call in calls)):
        yield from ([_piece(index, text)] for index, text in enumerate(row) if text is not None)


def _empty_ids(calls: Sequence[ToolCall], chunk: int) -> Iterator[list[Delta]]:
    for (delta,) in _in_turn(calls, chunk):
        repeated = {"id": "", "type": "function", "function": {"name": "", **delta["function"]}}
        yield [delta if "id" in delta else {**delta, **repeated}]


def _whole(style: CallStyle) -> Callable[[Sequence[ToolCall], int], Iterator[list[Delta]]]:
    return lambda calls, _chunk: ([_call(index, call, style)] for index, call in enumerate(calls))


_CALL_STYLES: Mapping[CallStyle, Callable[[Sequence[ToolCall], int], Iterator[list[Delta]]]] = {
    "in_turn": _in_turn,
    "interleaved": _interleaved,
    "index_zero": _whole("index_zero"),
    "empty_ids": _empty_ids,
    "objects": _whole("objects"),
}


def envelope(failure: Failure) -> dict[str, Any]:
    """The JSON body of an HTTP error."""
    error = {"message": failure.message, "type": failure.type, "param": None, "code": failure.code}
    return {"error": error}
