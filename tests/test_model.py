"""Settings: what is out of range is refused at once, with the field, the value and the range."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agentkit import ModelSettings, SettingsError
from agentkit.model import Model, ModelReply, ModelRequest
from agentkit.models.scripted import ScriptedModel


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("max_tokens", 0, "max_tokens is 0; allowed: at least 1"),
        ("max_tokens", -1, "max_tokens is -1; allowed: at least 1"),
        ("max_tokens", 1.5, "max_tokens is 1.5; allowed: a whole number"),
        ("max_tokens", True, "max_tokens is True; allowed: at least 1"),
        ("max_tokens", "9", "max_tokens is '9'; allowed: at least 1"),
        ("temperature", -0.1, "temperature is -0.1; allowed: 0 to 2"),
        ("temperature", 2.1, "temperature is 2.1; allowed: 0 to 2"),
        ("temperature", float("nan"), "temperature is nan; allowed: 0 to 2"),
        ("top_p", 0, "top_p is 0; allowed: above 0, up to 1"),
        ("top_p", 1.01, "top_p is 1.01; allowed: above 0, up to 1"),
        ("reasoning_effort", "ultra", "reasoning_effort is 'ultra'; allowed: low, medium, high, max"),
        ("thinking", "enabled", "thinking is 'enabled'; allowed: True, False"),
        ("stream", "yes", "stream is 'yes'; allowed: True, False"),
        ("response_format", "json_schema", "response_format is 'json_schema'; allowed: text, json_object"),
        ("user_id", "", "user_id is ''; allowed: 1 to 512 of"),
        ("user_id", "a b", "user_id is 'a b'; allowed: 1 to 512 of"),
        ("user_id", "a\n", "user_id is 'a\\n'; allowed: 1 to 512 of"),
        ("user_id", "x" * 513, "allowed: 1 to 512 of"),
        ("stop", "", "stop has the entry ''; allowed: texts that are not empty"),
        ("stop", [], "stop has 0 entries; allowed: a text, or 1 to 16 texts"),
        ("stop", ["x"] * 17, "stop has 17 entries; allowed: a text, or 1 to 16 texts"),
        ("stop", ["x", ""], "stop has the entry ''; allowed"),
        ("stop", [1], "stop has the entry 1; allowed"),
        ("extra_body", ["x"], "extra_body is not a mapping"),
        ("extra_body", {"x": object()}, "extra_body cannot be written as JSON"),
        ("extra_body", {"x": float("nan")}, "extra_body cannot be written as JSON"),
        ("response_format", {"type": "json_schema", "json_schema": {}}, "give the agent an output_type="),
        ("response_format", {"type": "json_object", "more": 1}, "response_format is {'type'"),
        ("thinking", {"type": "adaptive"}, "thinking is {'type'"),
        ("thinking", 0, "thinking is 0; allowed: True, False"),
        ("extra_body", {"messages": []}, "extra_body is not a mapping of fields without messages"),
    ],
)
def test_a_value_out_of_range_is_refused(field: str, value: Any, says: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(says)):
        ModelSettings(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 1),
        ("max_tokens", 393_216),
        ("temperature", 0),
        ("temperature", 2.0),
        ("top_p", 0.0001),
        ("top_p", 1),
        ("stop", "x"),
        ("stop", ("x",) * 16),
        ("user_id", "A-z_9"),
        ("user_id", "x" * 512),
        ("thinking", False),
        ("reasoning_effort", "max"),
    ],
)
def test_the_ends_of_a_range_are_allowed(field: str, value: Any) -> None:
    assert getattr(ModelSettings(**{field: value}), field) == value


def test_effort_without_thinking_is_refused() -> None:
    with pytest.raises(SettingsError, match="reasoning_effort is set but thinking is off"):
        ModelSettings(thinking=False, reasoning_effort="high")


@pytest.mark.parametrize("texts", [["b", "a"], ("b", "a")])
def test_stop_texts_are_kept_as_a_tuple(texts: Any) -> None:
    assert ModelSettings(stop=texts).stop == ("b", "a")


@pytest.mark.parametrize(
    "texts", [{"a": 1}, {"a", "b"}, frozenset("ab"), {"a": 1}.keys(), iter(["a"]), b"a"], ids=lambda texts: type(texts).__name__
)
def test_stop_texts_without_an_order_of_their_own_are_refused(texts: Any) -> None:
    with pytest.raises(SettingsError, match=r"^stop is .*; allowed: a text, or a list of 1 to 16 texts"):
        ModelSettings(stop=texts)


def test_a_model_is_whatever_has_reply() -> None:
    assert isinstance(ScriptedModel(["x"]), Model)
    assert not isinstance(object(), Model)
    assert ModelReply(message=None).usage.requests == 1  # type: ignore[arg-type]
    assert ModelRequest([]).tool_choice == "auto"


@pytest.mark.parametrize("setting", ["stop", "user_id"])
def test_a_setting_that_is_no_text_is_refused(setting: str) -> None:
    with pytest.raises(SettingsError, match=f"^{setting} is 5; allowed: "):
        ModelSettings(**{setting: 5})  # type: ignore[arg-type]


def test_settings_may_be_written_as_the_pages_of_the_api_have_them() -> None:
    assert ModelSettings(response_format={"type": "json_object"}) == ModelSettings(response_format="json_object")
    assert ModelSettings(response_format={"type": "text"}) == ModelSettings(response_format="text")
    assert ModelSettings(thinking={"type": "enabled"}) == ModelSettings(thinking=True)  # type: ignore[arg-type]
    assert ModelSettings(thinking={"type": "disabled"}) == ModelSettings(thinking=False)  # type: ignore[arg-type]
    assert ModelSettings(stop=["a", "b"]) == ModelSettings(stop=("a", "b"))
