"""What comes back: bodies, streams, usage, the cut at max_tokens, and failures."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from agentkit.messages import Assistant, ToolCall
from agentkit.testing import Cut, DeepSeekSimulator, Failure, Hangup, Late, Raw, Reply, call

from .helpers import OFF, USER, calls, chunks, deltas, post, result, tool

TOOLS = {"tools": [tool()]}
THOUGHT = Assistant("Sunny.", "Look at the sky")


def test_a_body() -> None:
    answer = post(DeepSeekSimulator([THOUGHT])).json()
    usage = {
        "prompt_tokens": 4,
        "completion_tokens": 6,
        "total_tokens": 10,
        "prompt_cache_hit_tokens": 0,
        "prompt_cache_miss_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    message = {"role": "assistant", "content": "Sunny.", "reasoning_content": "Look at the sky"}
    assert answer == {
        "id": answer["id"],
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": "deepseek-flash",
        "system_fingerprint": "fp_simulator",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage,
    }


def test_without_thinking_there_is_no_reasoning() -> None:
    answer = post(DeepSeekSimulator([THOUGHT]), **OFF).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Sunny."}
    assert "completion_tokens_details" not in answer["usage"]


def test_calls_get_ids_like_the_real_ones() -> None:
    script = [[call("get_weather", city="Paris"), ToolCall("mine", "no_such_tool", "{}")]]
    choice = post(DeepSeekSimulator(script), **TOOLS).json()["choices"][0]
    first, second = choice["message"]["tool_calls"]
    assert first["id"].startswith("call_00_")
    assert len(first["id"]) == len("call_00_kw66qNnNto11bSfJVIdlV5Oo")
    assert first["id"][8:].isalnum()
    assert first["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert (second["id"], second["function"]["name"]) == ("mine", "no_such_tool")
    assert choice["message"]["content"] == ""
    assert choice["finish_reason"] == "tool_calls"


def test_the_same_requests_get_the_same_bytes() -> None:
    def bytes_of_two() -> list[bytes]:
        sim = DeepSeekSimulator("weather")
        return [post(sim, **TOOLS).content, post(sim, **TOOLS, stream=True).content]

    assert bytes_of_two() == bytes_of_two()
    sim = DeepSeekSimulator("weather")
    assert post(sim, **TOOLS).json()["id"] != post(sim, **TOOLS).json()["id"]


def test_the_chunks_of_a_stream() -> None:
    script = [Assistant("Let me see", "Hmm, Paris", (call("get_weather", city="Paris"),))]
    sent = chunks(DeepSeekSimulator(script), **TOOLS, stream_options={"include_usage": True})
    assert [chunk["choices"][0]["delta"] for chunk in sent] == [
        {"role": "assistant", "content": None, "reasoning_content": ""},
        {"content": None, "reasoning_content": "Hmm, Par"},
        {"content": None, "reasoning_content": "is"},
        {"content": "Let me s", "reasoning_content": None},
        {"content": "ee", "reasoning_content": None},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": sent[5]["choices"][0]["delta"]["tool_calls"][0]["id"],
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "Paris"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        {"content": "", "role": None, "reasoning_content": None},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in sent] == [None] * 9 + ["tool_calls"]
    assert [chunk["usage"] for chunk in sent[:-1]] == [None] * 9
    assert sent[-1]["usage"]["completion_tokens"] == 3 + 3 + 3 + 5
    assert {chunk["object"] for chunk in sent} == {"chat.completion.chunk"}


def test_a_stream_without_thinking() -> None:
    assert deltas(DeepSeekSimulator([THOUGHT]), **OFF) == [
        {"role": "assistant", "content": ""},
        {"content": "Sunny."},
        {"content": "", "role": None},
    ]


@pytest.mark.parametrize(
    ("place", "asked", "with_usage"),
    [
        ("finish", True, [False, False, True]),
        ("finish", False, [False, False, True]),
        ("alone", True, [False, False, False, True]),
        ("alone", False, [False, False, False]),
    ],
)
def test_the_place_of_usage(place: Any, asked: bool, with_usage: list[bool]) -> None:
    sent = chunks(DeepSeekSimulator(["Hi"], usage_place=place), stream_options={"include_usage": asked})
    assert [bool(chunk.get("usage")) for chunk in sent] == with_usage
    assert all(("usage" in chunk) is (asked or used) for chunk, used in zip(sent, with_usage, strict=True))
    assert (sent[-1]["choices"] == []) is (place == "alone" and asked)


def test_keep_alive_signs_come_first() -> None:
    sim = DeepSeekSimulator("echo", keep_alive=2)
    assert post(sim, stream=True).text.startswith(": keep-alive\n\n: keep-alive\n\ndata: {")
    assert post(sim).text.startswith("\n\n{")


def test_the_chunk_size_is_in_characters() -> None:
    pieces = [delta["content"] for delta in deltas(DeepSeekSimulator(["日本語です"], chunk=2), **OFF)]
    assert pieces == ["", "日本", "語で", "す", ""]


@pytest.mark.parametrize(
    ("max_tokens", "reasoning", "text", "arguments"),
    [
        (2, "Look at ", "", []),
        (5, "Look at the sky", "Sunn", []),
        (6, "Look at the sky", "Sunny.", []),
        (10, "Look at the sky", "Sunny.", ['{"city": "Pa']),
        (13, "Look at the sky", "Sunny.", ['{"city": "Paris"}']),
    ],
)
def test_max_tokens_cuts_the_answer(max_tokens: int, reasoning: str, text: str, arguments: list[str]) -> None:
    script = [Assistant("Sunny.", "Look at the sky", (ToolCall("a", "f", '{"city": "Paris"}'),))]
    choice = post(DeepSeekSimulator(script), tools=[tool("f")], max_tokens=max_tokens).json()
    message = choice["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (reasoning, text)
    assert [made["function"]["arguments"] for made in message.get("tool_calls", [])] == arguments
    assert choice["choices"][0]["finish_reason"] == ("tool_calls" if max_tokens == 13 else "length")
    assert choice["usage"]["completion_tokens"] <= max_tokens


def test_text_arrives_exactly() -> None:
    text = 'é日😀\u2028\x00"\\\n half a pair: \ud83d'
    sim = DeepSeekSimulator([text, text], chunk=1)
    assert post(sim).json()["choices"][0]["message"]["content"] == text
    assert "".join(delta["content"] for delta in deltas(sim, **OFF)) == text


def test_a_cut_never_splits_a_character() -> None:
    message = post(DeepSeekSimulator(["日本語"]), max_tokens=1).json()["choices"][0]["message"]
    assert message["content"] == "日"


def test_a_scripted_failure() -> None:
    sim = DeepSeekSimulator([Failure(429, "Slow down", type="rate_limit_error", headers={"Retry-After": "7"})])
    answer = post(sim)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {
        "error": {
            "message": "Slow down",
            "type": "rate_limit_error",
            "param": None,
            "code": "invalid_request_error",
        }
    }
    assert sim.errors == []


def test_raw_bodies() -> None:
    sim = DeepSeekSimulator([Raw("<html>", 502, "text/html"), Raw({"choices": []}), Raw(b"\x00")])
    answers = [post(sim) for _ in range(3)]
    assert [(answer.status_code, answer.content) for answer in answers] == [
        (502, b"<html>"),
        (200, b'{"choices":[]}'),
        (200, b"\x00"),
    ]
    assert answers[0].headers["content-type"] == "text/html"


def test_a_finish_reason_of_ones_own() -> None:
    choice = post(DeepSeekSimulator([Reply("", "insufficient_system_resource")])).json()["choices"][0]
    assert choice["finish_reason"] == "insufficient_system_resource"


def test_a_clean_cut_looks_like_an_end() -> None:
    sim = DeepSeekSimulator([Cut("Hello", after=2, clean=True)] * 2)
    assert post(sim, stream=True).text.count("data: ") == 2
    with pytest.raises(json.JSONDecodeError):
        post(sim).json()


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_and_a_hangup_break_the_connection(stream: bool) -> None:
    sim = DeepSeekSimulator([Cut("Hello", after=1), Hangup(), "whole"])
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            post(sim, stream=stream)
    assert post(sim, stream=stream).status_code == 200


def test_late_keeps_the_answer_whole() -> None:
    plain, late = (post(DeepSeekSimulator([reply]), stream=True) for reply in ("Hi", Late("Hi", 0.001, after=1)))
    assert plain.content == late.content


def test_a_whole_conversation_is_accepted() -> None:
    sim = DeepSeekSimulator([Assistant("", "thinking", (call("get_weather", city="Paris"),)), "Sunny."])
    message = post(sim, **TOOLS).json()["choices"][0]["message"]
    history = [USER, message, result(message["tool_calls"][0]["id"])]
    assert post(sim, **TOOLS, messages=history).json()["choices"][0]["message"]["content"] == "Sunny."
    assert sim.errors == []
    del message["reasoning_content"]
    assert post(sim, **TOOLS, messages=history).status_code == 400


def test_refusals_have_the_envelope_of_the_api() -> None:
    answer = post(DeepSeekSimulator(["Hi"]), messages=[USER, calls("a", reasoning_content=None), result("a")])
    assert answer.json() == {
        "error": {
            "message": "The `reasoning_content` in the thinking mode must be passed back to the API.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_request_error",
        }
    }


def test_other_models_may_be_named() -> None:
    sim = DeepSeekSimulator(["Hi"], models={"mine": "served"})
    assert post(sim, model="mine").json()["model"] == "served"
    assert post(sim).json()["error"]["message"] == ("The supported API model names are mine, but you passed deepseek-v4-flash.")
