"""Tokens, and which part of a prompt is a cache hit."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.messages import Assistant
from agentkit.testing import DeepSeekSimulator
from agentkit.testing.simulator.tokens import PrefixCache, count_tokens, truncated

from .helpers import USER, calls, post, result, tool

BLOCK = 256
A, B, C, D = (letter * BLOCK for letter in (b"A", b"B", b"C", b"D"))


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本", 2), (b"12345", 2)])
def test_four_bytes_are_a_token(text: str | bytes, tokens: int) -> None:
    assert count_tokens(text) == tokens


def test_within_keeps_whole_characters() -> None:
    assert [truncated("日本", tokens) for tokens in (-1, 0, 1, 2)] == ["", "", "日", "日本"]


def hits(*prompts: bytes, answer: bytes = b"") -> list[int]:
    cache = PrefixCache()
    return [cache.hit("scope", prompt, answer) for prompt in prompts]


def test_the_same_prompt_hits_whole_blocks() -> None:
    assert hits(A + b"rest", A + b"rest") == [0, 64]


def test_a_short_prompt_is_never_cached() -> None:
    assert hits(b"short", b"short") == [0, 0]


def test_a_prompt_that_goes_on_hits_all_before() -> None:
    assert hits(A, A + B, A + B + C) == [0, 64, 128]


def test_the_answer_is_cached_too() -> None:
    cache = PrefixCache()
    cache.hit("scope", A, B)
    assert cache.hit("scope", A + B + C, b"") == 128


def test_a_common_beginning_hits_only_the_third_time() -> None:
    assert hits(A + B, A + C, A + D) == [0, 0, 64]


def test_a_change_early_in_the_prompt_misses() -> None:
    assert hits(A + B, b"X" + (A + B)[1:]) == [0, 0]


SYSTEM = {"role": "system", "content": "s" * 2_000}
BASE: dict[str, Any] = {"messages": [SYSTEM, USER]}


def hit_tokens(sim: DeepSeekSimulator, **fields: Any) -> int:
    usage = post(sim, **fields).json()["usage"]
    assert usage["prompt_tokens"] == usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_cache_hit_tokens"]
    return int(usage["prompt_cache_hit_tokens"])


@pytest.mark.parametrize(
    ("second", "hit"),
    [
        ({}, True),
        ({"temperature": 1}, True),
        ({"model": "deepseek-flash"}, True),
        ({"model": "deepseek-v4-pro"}, False),
        ({"user_id": "somebody"}, False),
        ({"thinking": {"type": "disabled"}}, False),
        ({"reasoning_effort": "max"}, False),
        ({"tools": [tool()]}, False),
    ],
)
def test_what_shares_a_cache(second: dict[str, Any], hit: bool) -> None:
    sim = DeepSeekSimulator("echo")
    assert hit_tokens(sim, **BASE) == 0
    assert hit_tokens(sim, **{**BASE, **second}) == (2_000 // 256 * 64 if hit else 0)


def test_tool_choice_none_drops_the_tools_from_the_prompt() -> None:
    sim = DeepSeekSimulator("echo")
    with_tools, without, none = (
        post(sim, **BASE, **extra).json()["usage"]["prompt_tokens"]
        for extra in ({"tools": [tool()]}, {}, {"tools": [tool()], "tool_choice": "none"})
    )
    assert with_tools > without == none
    assert hit_tokens(sim, **BASE, tools=[tool()]) > 0


def test_a_history_that_only_grows_hits_the_answers_too() -> None:
    sim = DeepSeekSimulator([Assistant("t" * 1_000, "r" * 1_000), "done", "done"])
    first = post(sim, **BASE).json()
    message = first["choices"][0]["message"]
    before = first["usage"]["total_tokens"]
    assert before - 64 < hit_tokens(sim, messages=[SYSTEM, USER, message, USER]) <= before


def test_dropped_thinking_breaks_the_prefix() -> None:
    sim = DeepSeekSimulator([Assistant("t" * 1_000, "r" * 1_000), "done"])
    first = post(sim, **BASE).json()
    changed = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
    assert hit_tokens(sim, messages=[SYSTEM, USER, changed, USER]) <= first["usage"]["prompt_tokens"]


def test_ids_of_calls_are_not_part_of_the_prompt() -> None:
    sim = DeepSeekSimulator("echo")
    hit_tokens(sim, messages=[SYSTEM, USER, calls("a"), result("a")])
    assert hit_tokens(sim, messages=[SYSTEM, USER, calls("b"), result("b")]) > 0
