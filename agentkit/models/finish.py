"""Finish reasons: one table of the words that servers use for how a reply ended. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["FINISH_REASONS", "Ending", "ending_of", "normal", "worse"]

Ending: TypeAlias = Literal["none", "stop", "tool_calls", "unknown", "length", "context", "filter", "failure"]
"""How a reply ended, from the least to the most severe.

"none": no finish reason at all. "unknown": a word that is not in the table; it counts as an end. "length": cut by `max_tokens`.
"context": cut by the context window. "filter": withheld by a content filter. "failure": broken off by the server.
"""

_SEVERITY: tuple[Ending, ...] = ("none", "stop", "tool_calls", "unknown", "length", "context", "filter", "failure")

_WORDS: dict[Ending, str] = {
    # "null" and "none" as texts: Azure's SDK, sglang and llama.cpp proxies write them into every chunk
    "none": "null none unspecified",
    # OpenAI, Anthropic, Gemini, SiliconFlow (eos), Cohere (complete), text-generation-inference (eos_token, stop_sequence)
    "stop": "stop end_turn stop_sequence eos eos_token complete completed finished end stopped",
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    # OpenAI, Anthropic and Gemini (max_tokens), Responses API (max_output_tokens, incomplete), Mistral (model_length), TGI
    "length": "length max_tokens max_output_tokens max_completion_tokens max_new_tokens max_length model_length token_limit"
    " length_limit truncated incomplete output_limit",
    # Zhipu and Anthropic
    "context": "model_context_window_exceeded context_window_exceeded context_length_exceeded context_length",
    # OpenAI, Zhipu (sensitive), Gemini (upper case there), Anthropic (refusal), Bedrock, Cohere
    "filter": "content_filter content_filtered sensitive safety prohibited_content recitation blocklist spii image_safety"
    " image_prohibited_content image_recitation model_armor"
    " refusal guardrail_intervened guardrails moderation content_policy content_policy_violation blocked error_toxic"
    " policy_violation risk language unsafe",
    # DeepSeek (insufficient_system_resource, aborted), Zhipu (network_error), vLLM and SGLang (abort), OpenRouter (error),
    # Gemini (a call that it could not form), Cohere (error_limit, user_cancel), vLLM (repetition)
    "failure": "error insufficient_system_resource aborted abort network_error cancelled canceled timeout timed_out failed"
    " server_error upstream_error internal_error internal_server_error model_error overloaded malformed_function_call"
    " unexpected_tool_call malformed_response error_limit too_many_tool_calls missing_thought_signature user_cancel"
    " repetition",
}
FINISH_REASONS: Mapping[str, Ending] = MappingProxyType(
    {word: kind for kind, words in _WORDS.items() for word in words.split()}
)
"""The ending of each known word. The words are in the form that `normal` returns."""

_PARTS: tuple[tuple[Ending, re.Pattern[str]], ...] = (
    ("failure", re.compile("error|fail|malformed|overload|rate_limit|timeout|unavailable|disconnect|interrupt|exception")),
    ("filter", re.compile("filter|safety|prohibited|moderat|polic|sensitiv|inappropriate")),
    ("context", re.compile("context_(?:length|window|limit|size|overflow|exceeded)")),
    ("length", re.compile("length|max_|maximum|tokens?_limit|too_long|truncat")),
)
"""Endings of words that are not in the table: the first pattern found in the word decides."""
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PREFIX = re.compile(r".*(?:finish|stop|completion|done|end)_?reason_(?=.)")
"""The prefix that an SDK's enumeration adds: `FinishReason.STOP`, `FINISH_REASON_STOP`."""


def normal(word: str) -> str:
    """A word in lower case, with "_" between its parts and without an enumeration's prefix."""
    word = re.sub(r"[\W_]+", "_", _CAMEL.sub("_", word[:200])).strip("_").lower()
    return _PREFIX.sub("", word)


def ending_of(word: object, own: Mapping[str, Ending] | None = None) -> Ending:
    """The ending that a finish reason stands for. `own` are a server's own words, which win over the table.

    A blank text, or a value that is not text, is "none". A word that is not in the table is classified by its parts: one that
    mentions an error is a failure, for example.
    """
    if not isinstance(word, str):
        return "none"
    own = own or {}
    if word not in own and word not in FINISH_REASONS:
        word = normal(word)
    if not word:
        return "none"
    if known := own.get(word) or FINISH_REASONS.get(word):
        return known
    return next((ending for ending, part in _PARTS if part.search(word)), "unknown")


def worse(a: Ending, b: Ending) -> bool:
    """Whether `a` is more severe than `b`."""
    return _SEVERITY.index(a) > _SEVERITY.index(b)
