"""The simulator as the openai package sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError, OpenAI

from agentkit.messages import Assistant
from agentkit.testing import DeepSeekSimulator, call

from .helpers import USER, tool

TOOLS = [tool()]


@pytest.fixture
def weather() -> Iterator[tuple[DeepSeekSimulator, OpenAI]]:
    with (
        DeepSeekSimulator([Assistant("", "I look", (call("get_weather", city="Paris"),)), "Sunny."]) as sim,
        OpenAI(base_url=sim.base_url, api_key="k", max_retries=0) as openai,
    ):
        yield sim, openai


def test_the_openai_package(weather: tuple[DeepSeekSimulator, OpenAI]) -> None:
    sim, openai = weather
    messages: list[Any] = [USER]
    tools: list[Any] = TOOLS
    first = openai.chat.completions.create(model="deepseek-v4-flash", messages=messages, tools=tools)
    message = first.choices[0].message
    assert message.tool_calls
    made = message.tool_calls[0]
    assert made.type == "function"
    assert json.loads(made.function.arguments) == {"city": "Paris"}
    answer = {"role": "tool", "tool_call_id": made.id, "content": "21"}
    messages += [message.model_dump(exclude_none=True), answer]
    second = openai.chat.completions.create(model="deepseek-v4-flash", messages=messages, tools=tools)
    assert second.choices[0].message.content == "Sunny."
    assert second.usage
    assert second.usage.total_tokens == second.usage.prompt_tokens + second.usage.completion_tokens
    assert sim.errors == []


def test_the_openai_package_streaming(weather: tuple[DeepSeekSimulator, OpenAI]) -> None:
    _sim, openai = weather
    messages: list[Any] = [USER]
    tools: list[Any] = TOOLS
    with openai.chat.completions.stream(model="deepseek-v4-flash", messages=messages, tools=tools) as stream:
        whole = stream.get_final_completion()
    calls = whole.choices[0].message.tool_calls
    assert calls
    assert [made.function.arguments for made in calls] == ['{"city": "Paris"}']
    assert whole.choices[0].finish_reason == "tool_calls"
    text = ""
    for chunk in openai.chat.completions.create(model="deepseek-v4-flash", messages=messages, stream=True):
        text += chunk.choices[0].delta.content or ""
    assert text == "Sunny."


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        ("wrong", AuthenticationError, "Your api key: ****rong is invalid"),
        ("right", BadRequestError, "of temperature is"),
    ],
)
def test_the_openai_package_sees_refusals(key: str, error: type[Exception], text: str) -> None:
    messages: list[Any] = [USER]
    with (
        DeepSeekSimulator("echo", api_key="right") as sim,
        OpenAI(base_url=sim.base_url, api_key=key, max_retries=0) as openai,
        pytest.raises(error, match=re.escape(text)),
    ):
        openai.chat.completions.create(model="deepseek-flash", messages=messages, temperature=3)


def test_the_openai_package_lists_models() -> None:
    with DeepSeekSimulator("echo") as sim, OpenAI(base_url=sim.base_url, api_key="k", max_retries=0) as openai:
        assert [model.id for model in openai.models.list()][-1] == "deepseek-flash"
