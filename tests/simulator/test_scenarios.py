"""Every named scenario does what its name says."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from agentkit.testing import SCENARIOS, DeepSeekSimulator
from agentkit.testing.simulator.scenarios import example

from .helpers import USER, deltas, post, result, tool

TOOLS = {"tools": [tool()]}
PARIS = '{"city": "Paris"}'


def choice(sim: DeepSeekSimulator, **fields: Any) -> dict[str, Any]:
    answer = post(sim, **fields)
    assert answer.status_code == 200, answer.text
    first: dict[str, Any] = answer.json()["choices"][0]
    return first


def answers_after_one_call(sim: DeepSeekSimulator) -> None:
    """One call of the tool, then an answer with its result."""
    message = choice(sim, **TOOLS)["message"]
    (made,) = message["tool_calls"]
    assert made["function"] == {"name": "get_weather", "arguments": PARIS}
    final = choice(sim, **TOOLS, messages=[USER, message, result(made["id"])])
    assert (final["message"]["content"], final["finish_reason"]) == ("The answer is: 21", "stop")
    assert sim.errors == []


def test_echo() -> None:
    assert choice(DeepSeekSimulator("echo"))["message"]["content"] == "Hi"
    assert choice(DeepSeekSimulator())["message"]["content"] == "Hi"


def test_weather() -> None:
    answers_after_one_call(DeepSeekSimulator("weather"))
    assert choice(DeepSeekSimulator("weather"))["message"]["content"] == "No tool is offered."


@pytest.mark.parametrize(
    ("name", "status", "kind", "text"),
    [
        ("busy", 503, "service_unavailable_error", "Service is too busy. We advise users"),
        ("rate_limit", 429, "rate_limit_error", "Too many requests. Your current concurrency is 40, which exceeds"),
    ],
)
def test_one_failure_then_an_answer(name: str, status: int, kind: str, text: str) -> None:
    sim = DeepSeekSimulator(name)
    refused = post(sim, **TOOLS)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["code"]) == (status, kind, "invalid_request_error")
    assert error["message"].startswith(text)
    assert "retry-after" not in refused.headers
    answers_after_one_call(sim)


def test_no_balance() -> None:
    sim = DeepSeekSimulator("no_balance")
    for _ in range(2):
        refused = post(sim)
        assert (refused.status_code, refused.json()["error"]["message"]) == (402, "Insufficient Balance")


@pytest.mark.parametrize("stream", [True, False])
def test_cut(stream: bool) -> None:
    sim = DeepSeekSimulator("cut")
    with pytest.raises(httpx.RemoteProtocolError):
        post(sim, **TOOLS, stream=stream)
    answers_after_one_call(sim)


def test_empty() -> None:
    sim = DeepSeekSimulator("empty")
    first = choice(sim, **TOOLS)
    assert first["message"] == {"role": "assistant", "content": "", "reasoning_content": ""}
    assert first["finish_reason"] == "stop"
    answers_after_one_call(sim)


def test_dsml() -> None:
    sim = DeepSeekSimulator("dsml")
    leaked = choice(sim, **TOOLS)
    assert leaked["message"]["content"] == (
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜tool_calls>"
    )
    assert "tool_calls" not in leaked["message"]
    assert leaked["finish_reason"] == "stop"
    answers_after_one_call(sim)


def test_length() -> None:
    sim = DeepSeekSimulator("length")
    first = choice(sim, **TOOLS)
    arguments = first["message"]["tool_calls"][0]["function"]["arguments"]
    assert PARIS.startswith(arguments)
    with pytest.raises(json.JSONDecodeError):
        json.loads(arguments)
    assert first["finish_reason"] == "length"
    answers_after_one_call(sim)


def test_content_filter() -> None:
    assert choice(DeepSeekSimulator("content_filter"))["finish_reason"] == "content_filter"


def test_stream_error() -> None:
    sim = DeepSeekSimulator("stream_error")
    assert post(sim, stream=True).text.startswith('data: {"error":{"message":"The server had an error"')
    answers_after_one_call(sim)


def call_deltas(name: str) -> list[list[dict[str, Any]]]:
    return [delta["tool_calls"] for delta in deltas(DeepSeekSimulator(name), **TOOLS) if "tool_calls" in delta]


def test_parallel() -> None:
    sent = [call for (call,) in call_deltas("parallel")]
    assert [call["index"] for call in sent] == [0] * 4 + [1] * 4
    assert ["id" in call for call in sent] == [True, False, False, False] * 2
    assert sent[0]["id"].startswith("call_00_")
    assert sent[4]["id"].startswith("call_01_")


def test_parallel_index_zero() -> None:
    sent = [call for (call,) in call_deltas("parallel_index_zero")]
    assert [(call["index"], call["function"]["arguments"]) for call in sent] == [(0, PARIS)] * 2
    assert sent[0]["id"] != sent[1]["id"]


def test_interleaved() -> None:
    opening, *pieces = call_deltas("interleaved")
    assert [call["function"]["arguments"] for call in opening] == ["", ""]
    assert [call["index"] for (call,) in pieces] == [0, 1] * 3
    texts = ["".join(call["function"]["arguments"] for (call,) in pieces if call["index"] == i) for i in (0, 1)]
    assert texts == [PARIS, PARIS]


def test_empty_ids() -> None:
    sent = [call for (call,) in call_deltas("empty_ids")]
    assert [call["function"]["name"] for call in sent] == ["get_weather", "", "", ""] * 2
    assert [bool(call["id"]) for call in sent] == [True, False, False, False] * 2


def test_object_arguments() -> None:
    assert [call["function"]["arguments"] for (call,) in call_deltas("object_arguments")] == [{"city": "Paris"}] * 2
    message = choice(DeepSeekSimulator("object_arguments"), **TOOLS)["message"]
    assert message["tool_calls"][1]["function"]["arguments"] == {"city": "Paris"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_works_without_tools(name: str, stream: bool) -> None:
    sim = DeepSeekSimulator(name)
    if name == "cut":
        with pytest.raises(httpx.RemoteProtocolError):
            post(sim, stream=stream)
    assert [post(sim, stream=stream).status_code for _ in range(3)][1] == (402 if name == "no_balance" else 200)
    assert sim.errors == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "Paris"),
        ({"type": "integer"}, 1),
        ({"type": "number", "minimum": 5}, 5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["string", "null"]}, "Paris"),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "string", "default": "x"}, "x"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"$ref": "#/$defs/day"}, "mon"),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "Paris"}),
    ],
)
def test_examples_fit_the_schema(schema: dict[str, Any], value: Any) -> None:
    assert example(schema, {"$defs": {"day": {"enum": ["mon"]}}}) == value


def test_out_of_resources() -> None:
    sim = DeepSeekSimulator("out_of_resources")
    first = choice(sim, **TOOLS)
    assert (first["message"]["content"], first["finish_reason"]) == ("", "insufficient_system_resource")
    answers_after_one_call(sim)


def test_whitespace() -> None:
    sim = DeepSeekSimulator("whitespace")
    first = choice(sim, **TOOLS)
    assert first["message"]["content"].isspace() and len(first["message"]["content"]) == 100_000
    assert first["finish_reason"] == "length"
    answers_after_one_call(sim)
