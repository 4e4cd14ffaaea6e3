"""Finish reasons: the words with which servers say how a reply ended, in one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

__all__ = ["FINISH_REASONS", "Ending", "ending_of", "worse"]

Ending: TypeAlias = Literal["none", "stop", "tool_calls", "unknown", "length", "context", "filter", "failure"]
"""How a reply ended, from the least to the most severe.

"none" is no finish reason at all. "unknown" is a word that is not in the table: it counts as an end. "length" is a reply cut
by `max_tokens`, "context" one cut by the context window, "filter" one that a content filter withheld, "failure" one that the
server broke off.
"""

_SEVERITY: tuple[Ending, ...] = ("none", "stop", "tool_calls", "unknown", "length", "context", "filter", "failure")

_WORDS: dict[Ending, str] = {
    # "null" and "none" as texts: Azure's SDK, sglang and llama.cpp proxies write them into every chunk
    "none": "null none finish_reason_unspecified",
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
    " refusal guardrail_intervened guardrails moderation content_policy content_policy_violation blocked error_toxic"
    " policy_violation risk language",
    # DeepSeek (insufficient_system_resource, aborted), Zhipu (network_error), vLLM and SGLang (abort), OpenRouter (error),
    # Gemini (a call that it could not form), Cohere (error_limit)
    "failure": "error insufficient_system_resource aborted abort network_error cancelled canceled timeout timed_out failed"
    " server_error upstream_error internal_error internal_server_error model_error overloaded malformed_function_call"
    " unexpected_tool_call malformed_response error_limit too_many_tool_calls",
}
FINISH_REASONS: Mapping[str, Ending] = MappingProxyType(
    {word: kind for kind, words in _WORDS.items() for word in words.split()}
)
"""The ending that each known word stands for. Words are compared in lower case, with "-" and " " as "_"."""


def ending_of(word: object, own: Mapping[str, Ending] | None = None) -> Ending:
    """The ending that a finish reason stands for; `own` are a server's own words, which win over the table.

    What is no text, or a blank one, is "none".
    """
    if not isinstance(word, str):
        return "none"
    word = word.strip().lower().replace("-", "_").replace(" ", "_")
    if not word:
        return "none"
    return (own or {}).get(word) or FINISH_REASONS.get(word, "unknown")


def worse(a: Ending, b: Ending) -> bool:
    """Whether `a` is more severe than `b`."""
    return _SEVERITY.index(a) > _SEVERITY.index(b)
