"""What other servers need, as data: requests that are written for them, and replies as they were recorded from them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agentkit import Agent, ChatModel, Retry, ScriptedModel, SettingsError, tool
from agentkit import errors as e
from agentkit.messages import Assistant, ToolCall, ToolResult, User
from agentkit.model import ModelRequest, ModelSettings, ToolSpec
from agentkit.models import profiles, wire
from agentkit.models.http.bodies import read_whole
from agentkit.models.profiles import Profile, find_profile, profile_named
from agentkit.models.refusals import read_error
from agentkit.models.replies import ReplyReader
from agentkit.models.thinking import ThinkTags
from agentkit.testing import DeepSeekSimulator

CLOCK = ToolSpec("clock", "Time.", {"type": "object", "properties": {}})


def written(profile: Profile, *messages: Any, stream: bool = False, choice: str = "auto", **settings: Any) -> dict[str, Any]:
    """The request body for this profile."""
    request = ModelRequest(list(messages) or [User("hi")], (CLOCK,), choice, ModelSettings(**settings))
    head = wire.head(request, profile, "m", stream=stream)
    body: dict[str, Any] = json.loads(wire.body(head, request.messages, profile, wire.encoder(profile)))
    return body


# ---- which profile


@pytest.mark.parametrize(
    ("base_url", "model", "name"),
    [
        ("http://localhost:11434/v1", "llama3", "ollama"),
        ("http://10.0.0.5:1234/v1", "any", "lmstudio"),
        ("http://gpu.example:30000/v1", "any", "sglang"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "any", "dashscope"),
        ("https://api.moonshot.ai/v1", "any", "moonshot"),
        ("https://open.bigmodel.cn/api/paas/v4", "any", "zhipu"),
        ("https://api.groq.com/openai/v1", "any", "groq"),
        ("https://api.siliconflow.cn/v1", "any", "siliconflow"),
        ("https://api.minimax.io/v1", "any", "minimax"),
        ("https://gate.example/v1", "Qwen/Qwen3-8B", "generic"),
        ("http://gpu:8000/v1", "openai/gpt-oss-20b", "generic"),
        ("https://gate.example/v1", "glm-5", "zhipu"),
        ("https://gate.example/v1", "unheard-of", "generic"),
        ("http://localhost:8000/v1", "unheard-of", "generic"),
    ],
)
def test_a_profile_is_found_by_host_port_or_model(base_url: str, model: str, name: str) -> None:
    assert find_profile(base_url, model).name == name


def test_a_profile_is_given_by_its_name_or_changed_field_by_field() -> None:
    model = ChatModel("m", base_url="http://127.0.0.1:8000/v1", profile="vllm")
    assert model.profile is profiles.VLLM is profile_named("vllm")
    assert replace(profiles.VLLM, reasoning_back=None).name == "vllm"
    with pytest.raises(SettingsError, match=r"profile is 'vlm'; allowed: a Profile, or one of anyfast, .*vllm.* generic"):
        ChatModel("m", base_url="http://127.0.0.1:8000/v1", profile="vlm")


def test_another_server_of_a_known_model_does_not_have_its_price() -> None:
    assert find_profile("https://api.deepseek.com", "deepseek-v4-flash").price_of("deepseek-v4-flash")
    assert find_profile("http://127.0.0.1:5/v1", "deepseek-v4-flash").price_of("deepseek-v4-flash")
    elsewhere = find_profile("https://gate.example/v1", "deepseek-v4-flash")
    assert elsewhere.name == "deepseek" and not elsewhere.price_of("deepseek-v4-flash")


# ---- requests


@pytest.mark.parametrize(
    ("profile", "named", "required"),
    [
        (profiles.OPENAI, {"type": "function", "function": {"name": "clock"}}, "required"),
        (profiles.LM_STUDIO, "required", "required"),
        (profiles.OLLAMA, "auto", "auto"),
        (profiles.ZHIPU, "auto", "auto"),
        (profiles.DASHSCOPE, {"type": "function", "function": {"name": "clock"}}, "auto"),
    ],
)
def test_a_forced_choice_is_written_as_far_as_the_server_goes(profile: Profile, named: Any, required: str) -> None:
    assert written(profile, choice="clock")["tool_choice"] == named
    assert written(profile, choice="required")["tool_choice"] == required


def test_usage_of_a_stream_is_asked_for_where_the_server_takes_it() -> None:
    assert "stream_options" not in written(profiles.MISTRAL, stream=True), "it refuses the field, and counts without"
    assert written(profiles.DEEPSEEK, stream=True)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("profile", "thinking", "streamed"),
    [
        (profiles.DASHSCOPE, True, True),
        (profiles.DASHSCOPE, None, True),
        (profiles.DASHSCOPE, False, False),
        (profiles.MOONSHOT, True, False),
    ],
)
def test_a_server_that_thinks_in_streams_only_is_asked_for_one(profile: Profile, thinking: bool | None, streamed: bool) -> None:
    with DeepSeekSimulator(["Hi."]) as sim:
        model = ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile=replace(profile, reasoning_back=None))
        result = Agent(model, settings=ModelSettings(thinking=thinking), retry=Retry(attempts=1)).run_sync("Hi")
        assert result.output == "Hi." and bool(sim.requests[0].body.get("stream")) is streamed


def test_a_choice_that_cannot_be_forced_is_asked_for_in_words() -> None:
    @tool
    def clock() -> str:
        """The time."""
        return "noon"

    model = ScriptedModel(["It is noon.", [ToolCall("a", "clock", "{}")], "It is noon, by the clock."])
    result = Agent(model, tools=[clock], tool_choice="clock").run_sync("When?")
    assert result.output == "It is noon, by the clock." and result.usage.tool_calls == 1
    assert "Call the tool clock now." in [m.content for m in result.messages if isinstance(m, User)]


@pytest.mark.parametrize(
    ("profile", "on", "off"),
    [
        (profiles.DASHSCOPE, {"enable_thinking": True}, {"enable_thinking": False}),
        (profiles.SILICONFLOW, {"enable_thinking": True}, {"enable_thinking": False}),
        (profiles.MOONSHOT, {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        (profiles.ZHIPU, {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        (profiles.OPENROUTER, {"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
    ],
)
def test_thinking_is_turned_on_and_off_in_the_servers_words(profile: Profile, on: Any, off: Any) -> None:
    assert on.items() <= written(profile, thinking=True).items()
    assert off.items() <= written(profile, thinking=False).items()
    assert not {*on} & {*written(profile)}, "nothing is said where nothing was set"


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        (profiles.VLLM, "reasoning"), (profiles.SGLANG, "reasoning_content"), (profiles.MOONSHOT, "reasoning_content"),
        (profiles.OPENROUTER, "reasoning"), (profiles.OLLAMA, None), (profiles.GENERIC, None),
    ],
)  # fmt: skip
def test_thinking_text_goes_back_in_the_servers_field(profile: Profile, field: str | None) -> None:
    message = written(profile, User("hi"), Assistant("", "I look.", (ToolCall("a", "clock", "{}"),)))["messages"][1]
    assert {name: message[name] for name in message if "reasoning" in name} == ({field: "I look."} if field else {})


def test_a_user_never_speaks_right_after_a_tool_where_that_is_refused() -> None:
    said = [
        User("hi"),
        Assistant("", "", (ToolCall("a" * 9, "clock", "{}"),)),
        ToolResult("a" * 9, "clock", "noon"),
        User("and?"),
    ]
    assert [m["role"] for m in written(profiles.MISTRAL, *said)["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert [m["role"] for m in written(profiles.OPENAI, *said)["messages"]] == ["user", "assistant", "tool", "user"]


def test_fields_of_a_stream_are_sent_with_streams_only() -> None:
    assert written(profiles.ZHIPU, stream=True)["tool_stream"] is True
    assert "tool_stream" not in written(profiles.ZHIPU)


# ---- replies


SPLITS = ["<think>I look.</think>\n\nIt is noon.", "  <think>I look.</think>It is noon."]


@pytest.mark.parametrize("text", SPLITS)
def test_think_tags_are_split_off_at_any_cut(text: str) -> None:
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            tags = ThinkTags()
            pieces = [*(tags.feed(part) for part in (text[:first], text[first:second], text[second:])), tags.end()]
            thought, answer = ("".join(parts) for parts in zip(*pieces, strict=True))
            assert (thought, answer.lstrip("\n")) == ("I look.", "It is noon.")


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("plain", "", "plain"),
        ("a <think>b</think>", "", "a <think>b</think>"),
        ("<thin", "", "<thin"),
        ("<think>never closed", "never closed", ""),
        ("<think>half a tag </thi", "half a tag </thi", ""),
        ("<think></think>x", "", "x"),
        ("", "", ""),
    ],
)
def test_tags_that_are_none(text: str, thought: str, answer: str) -> None:
    for whole in (True, False):
        tags = ThinkTags()
        pieces = [*(tags.feed(part) for part in ([text] if whole else text)), tags.end()]
        assert ["".join(parts) for parts in zip(*pieces, strict=True)] == [thought, answer]


def test_think_tags_count_by_the_profile_only() -> None:
    whole = json.dumps({"choices": [{"message": {"content": "<think>I look.</think>Noon."}, "finish_reason": "stop"}]}).encode()
    assert read_whole(whole).message == Assistant("<think>I look.</think>Noon.")
    assert read_whole(whole, ReplyReader(think_tags=True)).message == Assistant("Noon.", "I look.")
    reader = ReplyReader(think_tags=True)
    for part in ("<thi", "nk>I look.</th", "ink>No", "on."):
        list(reader.feed({"choices": [{"delta": {"content": part}}]}))
    list(reader.feed({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    assert reader.parts().message == Assistant("Noon.", "I look.")


@pytest.mark.parametrize(
    ("server", "status", "body", "kind", "retryable"),
    [
        (
            "groq", 400, {"error": {"message": "Failed to call a function.", "code": "tool_use_failed"}},
            e.StreamBroken, True,
        ),
        (
            "llama.cpp", 500, {"error": {"code": 500, "message": "Jinja Exception: No user query found in messages."}},
            e.BadRequest, False,
        ),
        ("llama.cpp", 500, {"error": {"code": 500, "message": "slot unavailable"}}, e.Overloaded, True),
        ("lmstudio", 400, {"error": "Invalid tool_choice type: 'object'."}, e.BadRequest, False),
        ("zhipu", 429, {"error": {"code": "1302", "message": "too many"}}, e.RateLimited, True),
        ("mistral", 400, {"object": "error", "message": "Tool call id was x but must be a-z"}, e.BadRequest, False),
        ("siliconflow", 503, "busy", e.Overloaded, True),
    ],
)  # fmt: skip
def test_errors_as_servers_write_them(server: str, status: int, body: Any, kind: type[Any], retryable: bool) -> None:
    assert profile_named(server)
    error = read_error(status, json.dumps(body).encode())
    assert (type(error), error.retryable) == (kind, retryable)
