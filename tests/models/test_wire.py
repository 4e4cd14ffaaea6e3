"""Request bodies: every row of the DeepSeek V4 Flash page, what is refused before sending, and bytes that do not change."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from agentkit import Assistant, EndpointWarning, ModelSettings, SettingsError, System, ToolCall, ToolResult, User
from agentkit.messages import Message
from agentkit.model import ModelRequest, ToolSpec
from agentkit.models import wire
from agentkit.models.profiles import ANYFAST, DEEPSEEK, GENERIC, OPENAI, OPENROUTER, PROFILES, Profile, find_profile

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER, CLOCK = ToolSpec("get_weather", "Weather.", CITY), ToolSpec("clock", "Time.", {"type": "object", "properties": {}})
ON, OFF = {"type": "enabled"}, {"type": "disabled"}


def sent(
    settings: ModelSettings | None = None,
    profile: Profile = DEEPSEEK,
    messages: Sequence[Message] = (User("hi"),),
    *,
    stream: bool = False,
    **request: Any,
) -> dict[str, Any]:
    asked = ModelRequest(messages, settings=settings or ModelSettings(), **request)
    head = wire.head(asked, profile, "deepseek-v4-flash", stream=stream)
    found: dict[str, Any] = json.loads(wire.body(head, messages, profile, wire.encoder(profile)))
    return found


BASE = {"model": "deepseek-v4-flash", "thinking": ON, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({}, {}),
        ({"thinking": True}, {}),
        ({"thinking": False}, {"thinking": OFF}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "medium"}, {"reasoning_effort": "medium"}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "max", "thinking": True}, {"reasoning_effort": "max"}),
        ({"max_tokens": 393_216}, {"max_tokens": 393_216}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 2}, {"temperature": 2}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"stop": "END"}, {"stop": "END"}),
        ({"stop": [str(n) for n in range(16)]}, {"stop": [str(n) for n in range(16)]}),
        ({"response_format": "json_object"}, {"response_format": {"type": "json_object"}}),
        ({"response_format": "text"}, {"response_format": {"type": "text"}}),
        ({"user_id": "u-1"}, {"user_id": "u-1"}),
        ({"extra_body": {"logprobs": True, "thinking": OFF}}, {"logprobs": True, "thinking": OFF}),
        ({"extra_body": MappingProxyType({"seed": 1})}, {"seed": 1}),
    ],
)
def test_settings(settings: dict[str, Any], fields: dict[str, Any]) -> None:
    assert sent(ModelSettings(**settings)) == BASE | fields


def test_a_stream_asks_for_its_usage_and_a_whole_reply_names_neither() -> None:
    assert sent(stream=True) == BASE | {"stream": True, "stream_options": {"include_usage": True}}
    assert sent(profile=replace(DEEPSEEK, stream_usage=False), stream=True) == BASE | {"stream": True}
    assert {"stream", "stream_options"} & {*sent()} == set()


@pytest.mark.parametrize(
    ("profile", "settings", "fields"),
    [
        (ANYFAST, {"reasoning_effort": "max"}, {"thinking": {"type": "enabled", "reasoning_effort": "max"}}),
        (ANYFAST, {"thinking": False}, {"thinking": OFF}),
        (ANYFAST, {}, {"thinking": ON}),
        (OPENAI, {"reasoning_effort": "max"}, {"reasoning_effort": "high"}),
        (OPENAI, {"max_tokens": 5}, {"max_completion_tokens": 5}),
        (OPENAI, {"user_id": "u"}, {"user": "u"}),
        (OPENROUTER, {"thinking": True, "reasoning_effort": "low"}, {"reasoning": {"enabled": True, "effort": "low"}}),
        (OPENROUTER, {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        (OPENROUTER, {"thinking": False}, {"reasoning": {"enabled": False}}),
        (GENERIC, {}, {}),
        (GENERIC, {"user_id": "u", "max_tokens": 5}, {"user": "u", "max_tokens": 5}),
    ],
)
def test_placement_is_the_profiles(profile: Profile, settings: dict[str, Any], fields: dict[str, Any]) -> None:
    rest = {name: BASE[name] for name in ("model", "messages")}
    assert sent(ModelSettings(**settings), profile) == rest | fields
    assert "reasoning_effort" not in ANYFAST.thinking_on["thinking"]  # a profile is never changed


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("clock", {"type": "function", "function": {"name": "clock"}}),
    ],
)
@pytest.mark.parametrize("profile", [DEEPSEEK, ANYFAST, GENERIC], ids=lambda p: p.name)
def test_tool_choice_and_thinking_off_for_a_forced_one(choice: str, written: Any, profile: Profile) -> None:
    body = sent(profile=profile, tools=(WEATHER, CLOCK), tool_choice=choice)
    assert body["tool_choice"] == written
    assert body.get("thinking") == (None if profile is GENERIC else ON if choice in ("auto", "none") else OFF)


@pytest.mark.parametrize("profile", [DEEPSEEK, ANYFAST], ids=lambda p: p.name)
def test_a_forced_choice_wins_over_thinking_that_was_asked_for(profile: Profile) -> None:
    settings = ModelSettings(thinking=True, reasoning_effort="high")
    body = sent(settings, profile, tools=(CLOCK,), tool_choice="required")
    assert body["thinking"] == OFF
    assert "reasoning_effort" not in body


def test_tools_are_sorted_and_written_whole() -> None:
    written = sent(tools=(WEATHER, CLOCK))["tools"]
    assert [tool["function"]["name"] for tool in written] == ["clock", "get_weather"]
    assert written[1] == {
        "type": "function",
        "function": {"name": "get_weather", "description": "Weather.", "parameters": CITY},
    }
    assert written == sent(tools=(CLOCK, WEATHER))["tools"]
    assert "tools" not in sent()
    assert "tool_choice" not in sent()


def test_strict_is_all_or_nothing_and_only_where_the_profile_has_it() -> None:
    beta = replace(DEEPSEEK, strict=True)
    strict = replace(WEATHER, strict=True, parameters={**CITY, "additionalProperties": False})
    assert sent(profile=beta, tools=(strict,))["tools"][0]["function"]["strict"] is True
    with pytest.warns(EndpointWarning, match="the tool clock is not marked strict"):
        assert "strict" not in sent(profile=beta, tools=(strict, CLOCK))["tools"][1]["function"]
    with pytest.warns(EndpointWarning, match="the profile deepseek has no strict functions"):
        assert "strict" not in sent(tools=(strict,))["tools"][0]["function"]


TOOLS_129 = tuple(ToolSpec(f"t{n}", "", {}) for n in range(129))


@pytest.mark.parametrize(
    ("profile", "settings", "request_fields", "says"),
    [
        (DEEPSEEK, {"max_tokens": 393_217}, {}, "max_tokens is 393217; deepseek allows 1 to 393216"),
        (replace(DEEPSEEK, temperature=1.0), {"temperature": 1.5}, {}, "temperature is 1.5; deepseek allows 0 to 1"),
        (OPENAI, {"stop": ["a"] * 5}, {}, "stop is 5 texts; openai allows at most 4"),
        (DEEPSEEK, {}, {"tools": TOOLS_129}, "tools is 129 tools; deepseek allows at most 128"),
        (
            DEEPSEEK,
            {},
            {"tools": (CLOCK,), "tool_choice": "x"},
            "tool_choice is x; deepseek allows auto, none, required or one of: clock",
        ),
        (DEEPSEEK, {}, {"tool_choice": "required"}, "tool_choice is required; deepseek allows auto or none"),
        (GENERIC, {"reasoning_effort": "low"}, {}, "reasoning_effort is low; generic allows only None"),
        (GENERIC, {"thinking": True}, {}, "thinking is True; generic allows only None"),
        (GENERIC, {"thinking": False}, {}, "thinking is False; generic allows only None"),
        (OPENAI, {"thinking": False}, {}, "thinking is False; openai allows only None"),
    ],
)
def test_refused_before_sending(profile: Profile, settings: dict[str, Any], request_fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(says)):
        sent(ModelSettings(**settings), profile, **request_fields)


def test_128_tools_and_all_ends_of_ranges_pass() -> None:
    assert len(sent(ModelSettings(max_tokens=393_216, temperature=2, stop=["x"] * 16), tools=TOOLS_129[:128])["tools"]) == 128


CALLS = (ToolCall("c1", "f", '{"a":  1}'), ToolCall("c2", "g", "{broken"))


@pytest.mark.parametrize(
    ("message", "back", "written"),
    [
        (System("s"), None, {"role": "system", "content": "s"}),
        (User("u"), None, {"role": "user", "content": "u"}),
        (User("u", "ann"), None, {"role": "user", "content": "u", "name": "ann"}),
        (Assistant("a", "r"), None, {"role": "assistant", "content": "a"}),
        (Assistant("a", " r\n"), "reasoning_content", {"role": "assistant", "content": "a", "reasoning_content": " r\n"}),
        (Assistant("a"), "reasoning_content", {"role": "assistant", "content": "a", "reasoning_content": ""}),
        (Assistant("a", "r"), "reasoning", {"role": "assistant", "content": "a", "reasoning": "r"}),
        (Assistant("a", "r"), "<think>", {"role": "assistant", "content": "<think>r</think>\n\na"}),
        (Assistant("a"), "<think>", {"role": "assistant", "content": "a"}),
        (Assistant(), None, {"role": "assistant", "content": ""}),
        (
            Assistant(tool_calls=CALLS),
            None,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":  1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{broken"}},
                ],
            },
        ),
        (ToolResult("c1", "f", "21"), None, {"role": "tool", "tool_call_id": "c1", "content": "21"}),
        (ToolResult("c1", "f", ""), None, {"role": "tool", "tool_call_id": "c1", "content": "(no output)"}),
        (User("\x00\u2028\"\\é😀"), None, {"role": "user", "content": "\x00\u2028\"\\é😀"}),
        (User("half \ud83d pair"), None, {"role": "user", "content": "half ? pair"}),
        (Assistant("", "\ud83d", (ToolCall("c", "f", '"\udc00"'),)), "reasoning_content", {
            "role": "assistant",
            "content": "",
            "reasoning_content": "?",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '"?"'}}],
        }),
    ],
)  # fmt: skip
def test_messages(message: Message, back: str | None, written: dict[str, Any]) -> None:
    data = wire.encode_message(back, message)
    assert json.loads(data) == written
    data.decode("utf-8")


def test_half_a_surrogate_pair_in_a_setting_is_sent_as_a_question_mark() -> None:
    assert sent(ModelSettings(stop=["\ud83d"]))["stop"] == ["?"]


def conversation(steps: int) -> list[Message]:
    messages: list[Message] = [System("s"), User("u")]
    for n in range(steps):
        messages += [Assistant("", f"thought {n}", (ToolCall(f"c{n}", "clock"),)), ToolResult(f"c{n}", "clock", f"{n} o'clock")]
    return messages


@pytest.mark.parametrize("json_mode", [False, True])
def test_a_message_is_encoded_once_over_many_steps_and_the_prefix_never_changes(json_mode: bool) -> None:
    counted: Counter[int] = Counter()
    encode = wire.encoder(DEEPSEEK)

    def counting(message: Any) -> bytes:
        counted[id(message)] += 1
        return encode(message)

    messages, before = conversation(30), b""
    for upto in range(2, len(messages) + 1, 2):
        view = messages[:upto]
        body = wire.body(b"{", wire.with_json_word(view) if json_mode else view, DEEPSEEK, counting)
        assert body.startswith(before.removesuffix(b"]}"))
        before = body
    assert len(counted) == len(messages)
    assert set(counted.values()) == {1}


def test_the_head_is_the_same_bytes_for_equal_requests() -> None:
    def head(tools: tuple[ToolSpec, ...]) -> bytes:
        settings = ModelSettings(temperature=1, stop=["a"], extra_body={"b": 1, "a": 2})
        return wire.head(ModelRequest([], tools, settings=settings), DEEPSEEK, "m", stream=True)

    assert head((WEATHER, CLOCK)) == head((CLOCK, WEATHER))
    assert head((CLOCK,)).endswith(b',"messages":[')


ASK = "Answer with one JSON object."


@pytest.mark.parametrize(
    ("messages", "first", "length"),
    [
        ([System("Be brief."), User("hi")], System(f"Be brief.\n\n{ASK}"), 2),
        ([System("Give JSON."), User("hi")], System("Give JSON."), 2),
        ([System("Give Json."), User("hi")], System("Give Json."), 2),
        ([User("as json please")], User("as json please"), 1),
        ([User("hi")], System(ASK), 2),
        ([User("hi"), Assistant("json")], System(ASK), 3),
        ([Assistant("json")], System(ASK), 2),
        ([], System(ASK), 1),
    ],
)
def test_the_word_json_is_put_into_the_prompt(messages: list[Message], first: Message, length: int) -> None:
    before = list(messages)
    asking = wire.with_json_word(messages)
    assert (asking[0], len(asking)) == (first, length)
    assert messages == before
    assert wire.with_json_word(messages)[0] is asking[0]


@pytest.mark.parametrize(
    ("base_url", "model", "profile"),
    [
        ("https://www.anyfast.ai/v1", "deepseek-v4-flash", ANYFAST),
        ("https://WWW.AnyFast.ai/v1", "gpt-5", ANYFAST),
        ("https://api.deepseek.com", "whatever", DEEPSEEK),
        ("http://127.0.0.1:1/v1", "deepseek-v4-flash", DEEPSEEK),
        ("http://127.0.0.1:1/v1", "deepseek-ai/DeepSeek-V4-Flash", DEEPSEEK),
        ("https://api.openai.com/v1", "deepseek-v4-flash", OPENAI),
        ("https://gate.example", "gpt-5", OPENAI),
        ("https://openrouter.ai/api/v1", "deepseek/deepseek-v4-flash", OPENROUTER),
        ("https://evil.example/api.openai.com", "m", GENERIC),
        ("https://api.openai.com.evil.example", "m", GENERIC),
    ],
)
def test_profile_by_host_then_by_model(base_url: str, model: str, profile: Profile) -> None:
    assert find_profile(base_url, model) is profile


def test_profiles_have_names_of_their_own() -> None:
    assert len({profile.name for profile in (*PROFILES, GENERIC)}) == len(PROFILES) + 1


def test_arguments_that_were_too_long_to_be_read_do_not_go_back() -> None:
    long, short = ToolCall("a", "fn", '"' + "x" * 8 * 2**20), ToolCall("b", "fn", "{not json")
    sent_calls = sent(messages=[User("hi"), Assistant(tool_calls=(long, short))])["messages"][-1]["tool_calls"]
    assert [call["function"]["arguments"] for call in sent_calls] == ["{}", "{not json"]
