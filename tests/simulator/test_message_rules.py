"""Every rule on the list of messages, with its status and text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.testing import DeepSeekSimulator
from agentkit.testing.simulator.request import Behaviour

from .helpers import CITY, OFF, USER, body, calls, result, said, tool

DESERIALIZE = "Failed to deserialize the JSON body into the target type: "
PASSBACK = "The `reasoning_content` in the thinking mode must be passed back to the API."
INSUFFICIENT = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
    "(insufficient tool messages following tool_calls message)"
)
ORPHAN = "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
NOT_PENDING = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id', The "
    "following tool_call_ids did not have response messages: "
)
ROLES = "expected one of `system`, `user`, `assistant`, `tool`, `latest_reminder`"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SAID = {"role": "assistant", "content": "Hello"}

REFUSED: list[tuple[list[Any], int, str]] = [
    (
        [{"role": "developer", "content": "x"}],
        422,
        f"{DESERIALIZE}messages[0].role: unknown variant `developer`, {ROLES}",
    ),
    ([USER, {"content": "x"}], 422, DESERIALIZE + "messages[1]: missing field `role`"),
    ([{"role": "user"}], 422, DESERIALIZE + "messages[0]: missing field `content`"),
    (["Hi"], 422, DESERIALIZE + 'messages[0]: invalid type: string "Hi", expected a map'),
    (
        [{"role": "user", "content": 3}],
        422,
        DESERIALIZE + "messages[0].content: invalid type: integer `3`, expected a string or a sequence",
    ),
    (
        [{"role": "user", "content": [{"type": "audio"}]}],
        422,
        DESERIALIZE + "messages[0].content[0]: unknown variant `audio`, expected one of `text`, `image_url`, `file`",
    ),
    (
        [USER, calls("a"), {"role": "tool", "content": "21"}],
        422,
        DESERIALIZE + "messages[2]: missing field `tool_call_id`",
    ),
    (
        [USER, calls("a"), {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "21"}]}],
        422,
        DESERIALIZE + "messages[2].content: invalid type: sequence, expected a string",
    ),
    (
        [USER, {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}]}],
        422,
        DESERIALIZE + "messages[1].tool_calls[0]: missing field `type`",
    ),
    (
        [
            USER,
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}],
            },
        ],
        422,
        DESERIALIZE + "messages[1].tool_calls[0].function: invalid type: map, expected a string",
    ),
    (
        [USER, {"role": "assistant", "content": None}],
        400,
        "Invalid assistant message: content or tool_calls must be set",
    ),
    ([USER, calls("a")], 400, INSUFFICIENT),
    ([USER, calls("a"), USER], 400, INSUFFICIENT),
    ([USER, calls("a", "b"), result("a")], 400, INSUFFICIENT),
    ([USER, calls("a", "b"), result("a"), USER, result("b")], 400, INSUFFICIENT),
    ([USER, calls("a"), calls("b"), result("b")], 400, INSUFFICIENT),
    ([USER, result("a")], 400, ORPHAN),
    ([USER, calls("a"), result("a"), result("a")], 400, ORPHAN),
    ([USER, calls("a"), result("z")], 400, NOT_PENDING + "z"),
    ([USER, calls("a", "b"), result("a"), result("a")], 400, NOT_PENDING + "a"),
    ([USER, calls("a", "a"), result("a")], 400, "Duplicate value for 'tool_call_id' of a in message[1]"),
    ([USER, calls("", ""), result("")], 400, "Duplicate value for 'tool_call_id' of  in message[1]"),
    ([USER, calls(""), result("")], 400, "Invalid 'tool_calls' in message[1]: the id of a call must not be empty"),
    ([USER, calls("a", reasoning_content=None), result("a")], 400, PASSBACK),
    ([{"role": "user", "content": [IMAGE] * 601}], 400, "Too many images: 601, at most 600 are allowed"),
    ([{"role": "user", "content": [{"type": "text"}]}], 422, DESERIALIZE + "messages[0].content[0]: missing field `text`"),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        422,
        DESERIALIZE + "messages[0].content[0]: missing field `url`",
    ),
    (
        [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}],
        422,
        DESERIALIZE + 'messages[0].content[0]: invalid type: string "http://x", expected a map',
    ),
    ([{"role": "system", "content": [IMAGE]}, USER], 400, "Model do not support image input"),
    (
        [{**SAID, "prefix": True}, USER],
        400,
        "prefix is only allowed on the last message, which must be an assistant message",
    ),
    (
        [USER, {**SAID, "prefix": True}],
        400,
        "prefix is a beta feature, use the base URL https://api.deepseek.com/beta",
    ),
]


@pytest.mark.parametrize(("messages", "status", "text"), REFUSED)
def test_a_wrong_list_is_refused(messages: list[Any], status: int, text: str) -> None:
    assert said(messages=messages) == (status, text)


ACCEPTED: list[list[Any]] = [
    [{"role": "system", "content": "Be brief"}, USER],
    [{"role": "latest_reminder", "content": "x"}, USER],
    [USER, USER],
    [USER, {"role": "assistant", "content": ""}, USER],
    [USER, calls("a", "b"), result("b"), result("a")],
    [USER, calls("a", content=None), result("a")],
    [USER, calls("a"), result("a"), calls("a"), result("a")],
    [{"role": "user", "content": [{"type": "text", "text": "Hi"}, IMAGE]}],
]


@pytest.mark.parametrize("messages", ACCEPTED)
def test_a_good_list_is_accepted(messages: list[Any]) -> None:
    assert said(messages=messages) is None


def test_broken_arguments_in_the_history_are_accepted() -> None:
    broken = calls("a")
    broken["tool_calls"][0]["function"]["arguments"] = '{"city": "Par'
    assert said(messages=[USER, broken, result("a")]) is None


def without(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "reasoning_content"}


@pytest.mark.parametrize(
    ("messages", "probe", "every"),
    [
        ([USER, without(calls("a")), result("a")], True, True),
        ([USER, calls("a", reasoning_content=None), result("a")], True, True),
        ([USER, calls("a", reasoning_content=""), result("a")], False, False),
        ([USER, without(calls("a")), result("a"), USER], False, True),
        ([USER, SAID, USER], False, True),
        ([USER, without(calls("a")), result("a"), calls("b"), result("b")], False, True),
        ([USER, calls("a"), result("a"), without(calls("b")), result("b")], True, True),
    ],
)
def test_passback(messages: list[Any], probe: bool, every: bool) -> None:
    def refused(passback: str, **fields: Any) -> bool:
        answer = said(behaviour=Behaviour(passback=passback), messages=messages, **fields)  # type: ignore[arg-type]
        assert answer in (None, (400, PASSBACK))
        return answer is not None

    assert refused("probe", tools=[tool()]) is probe
    assert refused("every", tools=[tool()]) is every
    assert refused("present", tools=[tool()]) is probe
    for exempt in (OFF, {"reasoning_effort": "none"}, {"model": "deepseek-v4-flash-vision-exp"}):
        assert not refused("probe", tools=[tool()], **exempt)
        assert not refused("every", tools=[tool()], **exempt)


def test_every_needs_tools_in_the_request() -> None:
    assert said(behaviour=Behaviour(passback="every"), messages=[USER, SAID, USER]) is None


def test_a_model_without_eyes_refuses_images() -> None:
    message = {"role": "user", "content": [IMAGE]}
    assert said(model="deepseek-v4-pro", messages=[message]) == (400, "Model do not support image input")


def test_a_prefix_is_accepted_on_beta() -> None:
    assert said("/beta/chat/completions", messages=[USER, {**SAID, "prefix": True}]) is None


STRICT = "Invalid tool parameters schema : "
BAD_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"type": "object", "properties": {}}, "An object with no properties is not allowed."),
    ({**CITY, "additionalProperties": True}, "field `additionalProperties` must be false"),
    (
        {**CITY, "additionalProperties": {"type": "string"}},
        "field `additionalProperties`: invalid type: map, expected a boolean",
    ),
    ({**CITY, "required": []}, "field `required`: property `city` is missing"),
    ({"type": "string"}, "the root must have the type `object`"),
    ({**CITY, "$defs": {}}, "field `$defs` is not supported"),
]
BAD_PROPERTIES: list[tuple[Any, str]] = [
    ({}, "field `x`: one of `type`, `anyOf`, `$ref` field is required"),
    ({"enum": ["a"]}, "field `x`: one of `type`, `anyOf`, `$ref` field is required"),
    ({"type": "string", "minLength": 1}, "field `x`: field `minLength` is not supported"),
    ({"type": "string", "format": "date"}, "field `x`: field `format`: unknown variant `date`"),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 3}, "field `x`: field `maxItems` is not supported"),
    ({"type": "array"}, "field `x`: field `items`: one of `type`, `anyOf`, `$ref` field is required"),
    ({"type": "date"}, "field `x`: field `type`: unknown variant `date`"),
    ({"allOf": [{"type": "string"}], "type": "string"}, "field `x`: field `allOf` is not supported"),
    (
        {"anyOf": [{"anyOf": [{"type": "string"}]}, {"type": "null"}]},
        "field `x`: field `anyOf`: missing field `type`",
    ),
    ({"anyOf": [{"$ref": "#/$def/a"}]}, "field `x`: field `anyOf`: missing field `type`"),
    ({"type": "object", "properties": {}}, "field `x`: An object with no properties is not allowed."),
]
GOOD_PROPERTIES: list[dict[str, Any]] = [
    {"type": "string", "format": "uuid", "pattern": "x"},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"type": ["string", "null"]},
    {"type": "integer", "minimum": 1, "default": 2, "enum": [1, 2]},
    {"$ref": "#/$def/city"},
    {"type": "array", "items": CITY},
]


def one_property(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False}


def strict(schema: dict[str, Any] | None, path: str = "/beta/chat/completions") -> tuple[int, str] | None:
    return said(path, tools=[tool(strict=True, parameters=schema)])


@pytest.mark.parametrize(("schema", "text"), BAD_SCHEMAS + [(one_property(inner), text) for inner, text in BAD_PROPERTIES])
def test_a_strict_tool_with_such_a_schema_is_refused(schema: dict[str, Any], text: str) -> None:
    assert strict(schema) == (400, STRICT + text)
    assert said(tools=[tool(parameters=schema)]) is None


@pytest.mark.parametrize("schema", GOOD_PROPERTIES)
def test_a_strict_tool_with_such_a_schema_is_accepted(schema: dict[str, Any]) -> None:
    assert strict({**one_property(schema), "$def": {"city": CITY}}) is None


NULLS: list[dict[str, Any]] = [
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"type": ["string", "null"]},
    {"type": "array", "items": {"type": "null"}},
    one_property({"type": "null"}),
]


@pytest.mark.parametrize("inner", NULLS)
def test_null_in_a_strict_schema_is_refused_by_a_switch(inner: dict[str, Any]) -> None:
    tools = [tool(strict=True, parameters=one_property(inner))]
    assert said("/beta/chat/completions", tools=tools) is None
    refused = said("/beta/chat/completions", Behaviour(refuse_strict_null=True), tools=tools)
    assert refused is not None and refused[0] == 400
    assert refused[1].endswith("field `type`: unknown variant `null`")


def test_strict_needs_parameters_the_beta_url_and_every_tool() -> None:
    assert strict(None) == (400, STRICT + "An object with no properties is not allowed.")
    beta = "strict is a beta feature, use the base URL https://api.deepseek.com/beta"
    assert strict(CITY, "/chat/completions") == (400, beta)
    mixed = said("/beta/chat/completions", tools=[tool(strict=True), tool("b")])
    assert mixed == (400, "mixed values for 'strict': either all functions of a request are strict or none is")


JUNK: list[Any] = [None, True, 3, -1, 2.5, "", "x", [], {}, [1], [None], {"a": 1}, [{}], ["x"]]
SAMPLE = body(
    thinking={"type": "enabled", "reasoning_effort": "low"},
    messages=[
        {"role": "system", "content": "json"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, IMAGE]},
        calls("a"),
        result("a"),
    ],
    tools=[tool(strict=True, parameters=one_property({"anyOf": [{"type": "string"}, {"type": "null"}]}))],
    tool_choice={"type": "function", "function": {"name": "get_weather"}},
    response_format={"type": "json_object"},
    stream=True,
    stream_options={},
    stop=["x"],
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, item in inner for place in places(item, (*way, key)))]


@pytest.mark.parametrize("junk", JUNK)
def test_no_body_breaks_the_simulator(junk: Any) -> None:
    sim = DeepSeekSimulator("echo", keep_requests=False)
    for *outer, last in places(SAMPLE)[1:]:
        spoiled = json.loads(json.dumps(SAMPLE))
        holder = spoiled
        for key in outer:
            holder = holder[key]
        holder[last] = junk
        response = sim.respond("POST", "/beta/chat/completions", {}, json.dumps(spoiled).encode())
        assert response.status in (200, 400, 422)
    assert sim.errors
    assert not [error for error in sim.errors if error.type == "simulator_error"]
