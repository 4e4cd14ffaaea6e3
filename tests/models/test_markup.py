"""Calls in the text: the complete grammar and nothing less; and names and ids on the wire."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Agent, Assistant, ChatModel, ToolCall, ToolResult, tool
from agentkit.models.markup import BrokenMarkup, looks_like_a_call, read_markup
from agentkit.models.profiles import DEEPSEEK, find_profile
from agentkit.models.wire import encoder
from agentkit.names import known_name, nine_characters, wire_name
from agentkit.testing import DeepSeekSimulator, Reply

ONE = (
    '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="a" string="true">x "y" \\z</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="b" string="false">{"k": [1]}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
)
EMPTY = '<｜DSML｜tool_calls><｜DSML｜invoke name="f"></｜DSML｜invoke></｜DSML｜tool_calls>'


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        ONE + "\n",
        ONE.replace("tool_calls", "function_calls"),
        ONE.replace("｜", "|"),
        ONE.replace("｜", "｜｜"),
        ONE.replace("\n", ""),
        "I look it up.\n\n" + ONE,
    ],
)
def test_a_complete_section_is_calls(text: str) -> None:
    rest, calls = read_markup(text, ["f"])
    assert rest == ("I look it up." if text.startswith("I") else "")
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [("f", {"a": 'x "y" \\z', "b": {"k": [1]}})]


def test_several_calls_and_one_without_arguments() -> None:
    two = EMPTY.replace("</｜DSML｜invoke>", '</｜DSML｜invoke>\n<｜DSML｜invoke name="g"></｜DSML｜invoke>')
    assert [(c.name, c.arguments) for c in read_markup(two, ["f", "g"])[1]] == [("f", "{}"), ("g", "{}")]


@pytest.mark.parametrize(
    "text",
    [ONE[:n] for n in range(len("<｜DSML｜tool_calls>"), len(ONE), 7)]
    + [
        ONE.replace('{"k": [1]}', '{"k": [1'),
        ONE.replace('"b"', '"a"'),
        ONE.replace("</｜DSML｜invoke>", "</｜DSML｜invoke>words"),
        "<｜DSML｜tool_calls></｜DSML｜tool_calls>",
        ONE.replace("</｜DSML｜parameter>", "", 2),
    ],
)
def test_a_section_that_is_not_complete_is_refused(text: str) -> None:
    with pytest.raises(BrokenMarkup):
        read_markup(text, ["f"])


@pytest.mark.parametrize("text", ["", "Paris", ONE + " is how it is written.", ONE.replace('"f"', '"unknown"'), "<｜DSML｜"])
def test_what_is_no_section_of_known_calls_stays_text(text: str) -> None:
    assert read_markup(text, ["f"]) == (text, ())
    assert read_markup(ONE, []) == (ONE, ())


@pytest.mark.parametrize(
    ("text", "is_call"),
    [
        ('{"name": "f", "arguments": {}}', True),
        ('[{"name": "f", "parameters": {}}]', True),
        ('{"type": "function", "function": {"name": "f", "arguments": "{}"}}', True),
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>', True),
        ('I look.\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', True),
        ("<tool_call>\n<function=f>\n<parameter=q>\nx\n</parameter>\n</function>\n</tool_call>", True),
        ("<tool_call>f\n<arg_key>q</arg_key>\n<arg_value>x</arg_value>\n</tool_call>", True),
        ('<minimax:tool_call>\n<invoke name="f">\n</invoke>\n</minimax:tool_call>', True),
        ("<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}", True),
        ('[TOOL_CALLS][{"name": "f", "arguments": {}}]', True),
        ("[TOOL_CALLS]f{}", True),
        ('<|python_tag|>{"name": "f", "parameters": {}}', True),
        ("<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>function<\uff5ctool▁sep\uff5c>f\n", True),
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}", True),
        ("<tool_call>g\n</tool_call>", False),
        ("Qwen writes <function=f> for it.", False),
        ("<tool_call>" * 10_000, False),
        ("\n" * 50_000, False),
        ('{"name": "g", "arguments": {}}', False),
        ('{"name": "f"}', False),
        ('{"name": ["f"], "arguments": {}}', False),
        ('The call is {"name": "f", "arguments": {}}', False),
        ("[" * 100_000, False),
        ("[]", False),
        ("[1]", False),
        ("", False),
    ],
)
def test_a_text_in_the_shape_of_a_call(text: str, is_call: bool) -> None:
    assert looks_like_a_call(text, ["f"]) is is_call


@given(st.text(min_size=1, max_size=250), st.text(min_size=1, max_size=250))
def test_names_on_the_wire_are_valid_stable_and_apart(one: str, other: str) -> None:
    for name in (one, other):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", wire_name(name))
        assert known_name(wire_name(name), [one, other]) in (one, other)
        assert known_name(name, [one, other]) == name
    assert (wire_name(one) == wire_name(other)) == (one == other)


def test_names_that_mean_none_stay() -> None:
    assert known_name("functions.f", ["f"]) == "f"
    assert known_name("functions.g", ["f"]) == "functions.g"
    for name in ("f<|channel|>commentary", "functions.f<|constrain|>json", "f:0", "functions.f:12"):
        assert known_name(name, ["f"]) == "f"
    assert known_name("f:0", ["f", "f:0"]) == "f:0"
    assert known_name("functions.f", ["functions.f", "f"]) == "functions.f"


@given(st.text())
def test_ids_of_nine_characters(call_id: str) -> None:
    made = nine_characters(call_id)
    assert re.fullmatch(r"[A-Za-z0-9]{9}", made) and nine_characters(made) == made


def test_a_server_with_short_ids_gets_them_on_the_call_and_its_answer() -> None:
    profile = find_profile("https://api.mistral.ai/v1", "mistral-large")
    encode = encoder(profile)
    asked = json.loads(encode(Assistant("", "", (ToolCall("call_00_abc", "f", "{}"),))))
    answered = json.loads(encode(ToolResult("call_00_abc", "f", "x")))
    assert asked["tool_calls"][0]["id"] == answered["tool_call_id"] == nine_characters("call_00_abc")
    kept = json.loads(encoder(DEEPSEEK)(ToolResult("call_00_abc", "f", "x")))
    assert kept["tool_call_id"] == "call_00_abc"


@pytest.mark.parametrize(
    ("text", "finish", "stop_reason"),
    [
        ("The markup begins with <｜DSML｜tool_calls> and then calls follow.", "stop", "answer"),
        ('I call: <｜DSML｜tool_calls><｜DSML｜invoke name="weather">', "length", "limit:max_tokens"),
    ],
)
def test_text_about_markup_and_text_that_was_cut_are_no_broken_calls(text: str, finish: str, stop_reason: str) -> None:
    @tool
    def weather() -> str:
        """Weather."""
        return "fine"

    with DeepSeekSimulator([Reply(text, finish)]) as sim:
        result = Agent(ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile=DEEPSEEK), tools=[weather]).run_sync("x")
        assert (result.output, result.stop_reason, len(sim.requests)) == (text, stop_reason, 1)


def test_markup_is_not_read_where_no_tool_may_be_called() -> None:
    @tool
    def weather() -> str:
        """Weather."""
        return "fine"

    text = '<｜DSML｜tool_calls><｜DSML｜invoke name="weather"></｜DSML｜invoke></｜DSML｜tool_calls>'
    with DeepSeekSimulator([text]) as sim:
        model = ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile=DEEPSEEK)
        result = Agent(model, tools=[weather], tool_choice="none").run_sync("x")
    assert (result.output, result.usage.tool_calls) == (text, 0)
