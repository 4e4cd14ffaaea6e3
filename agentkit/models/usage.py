"""The usage of one reply as the server counted it: tokens and sometimes cost, under any of the known names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import Usage

__all__ = ["answer_tokens", "count", "merged_usage", "read_usage", "reported_cost"]

_MAX_COUNT = 2**53
_ANSWER = ("completion_tokens", "output_tokens")


def merged_usage(before: Mapping[str, Any] | None, usage: Mapping[str, Any]) -> Mapping[str, Any]:
    """Merges the counts of two chunks of one stream.

    Servers repeat their counts in each chunk, split them over two chunks, or send zeros before or after the real ones. So the
    last count of each field that is not zero is kept, and nothing is added up.
    """
    if not before:
        return usage
    whole = dict(before)
    for name, value in usage.items():
        known = whole.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            whole[name] = merged_usage(known, value)
        elif value or name not in whole:
            whole[name] = value
    return whole


def read_usage(usage: Mapping[str, Any] | None) -> Usage:
    """The counts of one reply; a missing or invalid count is 0.

    Some servers count thinking separately from the answer (xAI, Gemini). Then the total exceeds prompt and answer, or thinking
    exceeds the answer. Thinking is billed as output, so it is added to the output.
    """
    if not usage:
        return Usage(requests=1)
    prompt = _mapping(usage, "prompt_tokens_details", "input_tokens_details")
    answer = _mapping(usage, "completion_tokens_details", "output_tokens_details")
    prompt_tokens, answered = _count_of(usage, "prompt_tokens", "input_tokens"), answer_tokens(usage)
    if not prompt_tokens and "input_tokens" not in usage:  # only its parts, or only the sum, are counted
        prompt_tokens = count(usage.get("prompt_cache_hit_tokens")) + count(usage.get("prompt_cache_miss_tokens"))
        prompt_tokens = prompt_tokens or (max(0, count(usage.get("total_tokens")) - answered) if answered else 0)
    cached = _count_of(prompt, "cached_tokens")
    cached = cached or _count_of(usage, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
    if "prompt_tokens" not in usage and "cache_read_input_tokens" in usage:  # Anthropic counts without the cache
        prompt_tokens += count(usage["cache_read_input_tokens"]) + count(usage.get("cache_creation_input_tokens"))
    separate = max(0, count(usage.get("total_tokens")) - prompt_tokens - answered) if prompt_tokens else 0
    thought = count(answer.get("reasoning_tokens") or usage.get("reasoning_tokens"))
    if cached > prompt_tokens:  # the server counts the prompt without its cached part
        prompt_tokens, separate = prompt_tokens + separate, 0
    if thought > answered:
        separate = max(separate, thought)
    return Usage(
        requests=1,
        input_tokens=prompt_tokens,
        output_tokens=answered + separate,
        cache_read_tokens=min(prompt_tokens, cached),
        reasoning_tokens=min(answered + separate, thought),
    )


def answer_tokens(usage: Mapping[str, Any] | None) -> int:
    """The tokens of the answer, without thinking that is counted separately."""
    return _count_of(usage, *_ANSWER) if usage else 0


def reported_cost(usage: Mapping[str, Any] | None, path: Sequence[str]) -> float | None:
    """The cost in US dollars at this path in the usage; None if there is none."""
    found: Any = usage
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    is_money = isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < _MAX_COUNT
    return float(found) if path and is_money else None


def count(value: Any) -> int:
    """The value as a whole number of at least 0; 0 for anything else."""
    if not value:
        return 0
    try:
        number = int(float(value) if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 <= number <= _MAX_COUNT else 0


def _count_of(data: Mapping[str, Any], *names: str) -> int:
    """The count in the first of these fields whose value is not zero or empty."""
    for name in names:
        if value := data.get(name):
            return value if value.__class__ is int and 0 < value <= _MAX_COUNT else count(value)
    return 0


def _mapping(data: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(value := data.get(name), dict):
            return value
    return {}
