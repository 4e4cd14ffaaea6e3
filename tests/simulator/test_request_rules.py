"""Every rule on the fields of a request, with its status and text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.testing.simulator.request import Behaviour, SimRequest
from agentkit.testing.simulator.rules import refusal

from .helpers import OFF, USER, judged, said, tool

DESERIALIZE = "Failed to deserialize the JSON body into the target type: "
EFFORTS = "expected one of `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`"
MAX_TOKENS = "Invalid max_tokens value, the valid range of max_tokens is [1, 393216]"
TEMPERATURE = "Invalid temperature value, the valid range of temperature is [0, 2]"
TOP_P = "Invalid top_p value, the valid range of top_p is (0, 1.0]"
LOGPROBS = "Invalid top_logprobs and logprobs value, logprobs must be set to true if top_logprobs is used."
USER_ID = "Invalid user_id value, user_id must be at most 512 characters of [a-zA-Z0-9_-]"
JSON = "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'."
NAME = "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the pattern "
FORCED = "Thinking mode does not support this tool_choice"
NAMED = {"type": "function", "function": {"name": "get_weather"}}

REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"model": None}, 422, DESERIALIZE + "missing field `model`"),
    ({"messages": None}, 422, DESERIALIZE + "missing field `messages`"),
    ({"messages": []}, 400, "Empty input messages"),
    ({"messages": "Hi"}, 422, DESERIALIZE + 'messages: invalid type: string "Hi", expected a sequence'),
    (
        {"model": "gpt-4o"},
        400,
        "The supported API model names are deepseek-v4-pro, deepseek-v4-flash, deepseek-v4-flash-vision-exp, and "
        "deepseek-flash, but you passed gpt-4o.",
    ),
    ({"thinking": {}}, 422, DESERIALIZE + "thinking: missing field `type`"),
    (
        {"thinking": {"type": "on"}},
        422,
        DESERIALIZE + "thinking: unknown variant `on`, expected `enabled` or `disabled`",
    ),
    ({"reasoning_effort": "ultra"}, 422, f"{DESERIALIZE}reasoning_effort: unknown variant `ultra`, {EFFORTS}"),
    (
        {"thinking": {"type": "enabled", "reasoning_effort": "x"}},
        422,
        f"{DESERIALIZE}thinking.reasoning_effort: unknown variant `x`, {EFFORTS}",
    ),
    ({"reasoning_effort": 3}, 400, "Failed to parse the request body as JSON: reasoning_effort: expected value"),
    ({"max_tokens": 0}, 400, MAX_TOKENS),
    ({"max_tokens": 393_217}, 400, MAX_TOKENS),
    ({"max_tokens": -1}, 422, DESERIALIZE + "max_tokens: invalid value: integer `-1`, expected u32"),
    ({"max_tokens": 1 << 32}, 422, DESERIALIZE + "max_tokens: invalid value: integer `4294967296`, expected u32"),
    ({"max_tokens": "9"}, 422, DESERIALIZE + 'max_tokens: invalid type: string "9", expected u32'),
    ({"max_tokens": 1.5}, 422, DESERIALIZE + "max_tokens: invalid type: floating point `1.5`, expected u32"),
    ({"temperature": -0.1}, 400, TEMPERATURE),
    ({"temperature": 2.1}, 400, TEMPERATURE),
    ({"temperature": True}, 422, DESERIALIZE + "temperature: invalid type: boolean `true`, expected f32"),
    ({"top_p": 0}, 400, TOP_P),
    ({"top_p": 1.01}, 400, TOP_P),
    ({"stop": ["x"] * 17}, 400, "Stop string array too long: 17"),
    ({"stop": 3}, 422, DESERIALIZE + "stop: invalid type: integer `3`, expected a string or a sequence of strings"),
    ({"stream": "yes"}, 422, DESERIALIZE + 'stream: invalid type: string "yes", expected a boolean'),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options should be set along with stream = true"),
    ({"top_logprobs": 2}, 400, LOGPROBS),
    (
        {"logprobs": True, "top_logprobs": 21},
        400,
        "Invalid top_logprobs value, the valid range of top_logprobs is [0, 20].",
    ),
    (
        {"logprobs": True, "top_logprobs": -1},
        422,
        DESERIALIZE + "top_logprobs: invalid value: integer `-1`, expected u8",
    ),
    ({"user_id": "a b"}, 400, USER_ID),
    ({"user_id": "x" * 513}, 400, USER_ID),
    ({"response_format": {"type": "json_object"}}, 400, JSON),
    ({"response_format": {"type": "json_schema"}}, 400, "This response_format type is unavailable now"),
    (
        {"response_format": {"type": "xml"}},
        422,
        DESERIALIZE + "response_format: unknown variant `xml`, expected one of `text`, `json_object`, `json_schema`",
    ),
    ({"tools": [tool("math.add")]}, 400, f"{NAME}'^[a-zA-Z0-9_-]+$'."),
    ({"tools": [tool("")]}, 400, f"{NAME}'^[a-zA-Z0-9_-]+$'."),
    (
        {"tools": [tool("x" * 65)]},
        400,
        "Invalid 'tools[0].function.name': string too long. Expected at most 64 characters.",
    ),
    ({"tools": [tool(), tool()]}, 400, "Tool names must be unique"),
    ({"tools": [tool(f"t{i}") for i in range(129)]}, 400, "Too many tools: 129, at most 128 are allowed"),
    (
        {"tools": [{"type": "web_search"}]},
        422,
        DESERIALIZE + "tools[0].type: unknown variant `web_search`, expected `function`",
    ),
    ({"tools": [{"type": "function"}]}, 422, DESERIALIZE + "tools[0]: missing field `function`"),
    ({"tools": [{"type": "function", "function": {}}]}, 422, DESERIALIZE + "tools[0].function: missing field `name`"),
    ({"tools": [tool()], "tool_choice": "required"}, 400, FORCED),
    ({"tools": [tool()], "tool_choice": NAMED}, 400, FORCED),
    ({"tools": [tool()], "tool_choice": "required", "thinking": {"type": "enabled"}}, 400, FORCED),
    (
        {"tools": [tool()], "tool_choice": "any"},
        422,
        DESERIALIZE + "tool_choice: unknown variant `any`, expected one of `none`, `auto`, `required`",
    ),
    ({"tools": [tool("b")], "tool_choice": NAMED, **OFF}, 400, "Tool 'get_weather' of tool_choice is not in tools"),
    ({"tool_choice": "required", **OFF}, 400, "tool_choice is only allowed when tools are specified"),
]


@pytest.mark.parametrize(("fields", "status", "text"), REFUSED)
def test_a_wrong_request_is_refused(fields: dict[str, Any], status: int, text: str) -> None:
    assert said(**fields) == (status, text)


ACCEPTED: list[dict[str, Any]] = [
    {},
    {"model": "deepseek-v4-pro"},
    {"model": "deepseek-flash"},
    {"thinking": {"type": "disabled"}, "reasoning_effort": "high"},
    {"thinking": {"type": "enabled", "reasoning_effort": "low"}},
    *({"reasoning_effort": effort} for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    {"max_tokens": 1},
    {"max_tokens": 393_216},
    {"temperature": 0},
    {"temperature": 2},
    {"top_p": 1},
    {"stop": ["x"] * 16},
    {"stop": "END"},
    {"stream": True, "stream_options": {"include_usage": True}},
    {"logprobs": True, "top_logprobs": 20},
    {"user_id": "user-1_A"},
    {"user_id": ""},
    {"presence_penalty": 9, "frequency_penalty": -9},
    {"n": 2, "seed": 1, "parallel_tool_calls": False},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "Answer in JSON"}]},
    {"tools": [{"type": "function", "function": {"name": "x" * 64}}]},
    {"tools": [tool(f"t{i}") for i in range(128)]},
    {"tools": [tool()], "tool_choice": "auto"},
    {"tools": [tool()], "tool_choice": "none"},
    {"tool_choice": "auto"},
    {"tools": [tool()], "tool_choice": "required", **OFF},
    {"tools": [tool()], "tool_choice": NAMED, "reasoning_effort": "none"},
]


@pytest.mark.parametrize("fields", ACCEPTED)
def test_a_good_request_is_accepted(fields: dict[str, Any]) -> None:
    assert judged(**fields) is None


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused(raw: bytes) -> None:
    failure = refusal(SimRequest("/chat/completions", {}, raw), Behaviour())
    assert failure is not None
    assert failure.status == 400
    assert failure.message.startswith("Failed to parse the request body as JSON: ")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb'{"messages": [{"content": "a \ud83d"}]}', "messages[0].content: unexpected end of hex escape"),
        (rb'{"messages": [{"content": "a \ude00"}]}', "messages[0].content: lone leading surrogate in hex escape"),
        (rb'{"\ud83d": 1}', ": unexpected end of hex escape"),
        (b'{"temperature": NaN}', "expected value"),
        (b'{"top_p": -Infinity}', "expected value"),
        (b'\xef\xbb\xbf{"model": "x"}', "Unexpected UTF-8 BOM"),
        ('{"model": "x"}'.encode("utf-16"), "codec can't decode"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    ],
)
def test_a_body_that_only_a_lenient_parser_reads_is_refused(raw: bytes, text: str) -> None:
    failure = refusal(SimRequest("/chat/completions", {}, raw), Behaviour())
    assert failure is not None and failure.status == 400
    assert failure.message.startswith("Failed to parse the request body as JSON: ") and text in failure.message
    whole = SimRequest("/chat/completions", {}, raw.replace(rb"\ud83d", rb"\ud83d\ude00").replace(rb"a \ude00", b"a"))
    assert whole.body or not (b"ud83d" in raw or b"ude00" in raw)


def test_a_body_that_is_no_object_is_refused() -> None:
    failure = refusal(SimRequest("/chat/completions", {}, b"[1]"), Behaviour())
    assert failure is not None
    assert (failure.status, failure.message) == (422, DESERIALIZE + "invalid type, expected a map")


def test_a_wrong_shape_may_have_the_other_status_that_was_seen() -> None:
    status, _text = said(behaviour=Behaviour(deserialize_status=400), reasoning_effort="x") or (0, "")
    assert status == 400


def test_prompt_and_max_tokens_must_fit_the_context() -> None:
    small = Behaviour(context_length=1_000)
    long = [{"role": "user", "content": "x" * (600 * 4 - len("<user><text>"))}]
    assert said(behaviour=small, messages=long, max_tokens=400) is None
    assert said(behaviour=small, messages=long, max_tokens=401) == (
        400,
        "This model's maximum context length is 1000 tokens. However, you requested 1001 tokens (600 in the messages, "
        "401 in the completion). Please reduce the length of the messages or completion.",
    )


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, "high"),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "medium"}, "high"),
        ({"reasoning_effort": "max"}, "max"),
        ({"reasoning_effort": "none"}, "none"),
        ({"thinking": {"type": "enabled", "reasoning_effort": "max"}}, "max"),
        ({"thinking": {"type": "enabled", "reasoning_effort": "max"}, "reasoning_effort": "low"}, "low"),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, "none"),
    ],
)
def test_effort_is_resolved(fields: dict[str, Any], effort: str) -> None:
    request = SimRequest("/chat/completions", {}, json.dumps({"messages": [USER], **fields}).encode())
    assert request.effort == effort
    assert request.thinking is (effort != "none")
