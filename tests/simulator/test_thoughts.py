"""What the simulator remembers and notes: thinking text, fields that nobody documents, and the choice of a tool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit import Agent, Assistant, ChatModel, ModelSettings
from agentkit import tool as make_tool
from agentkit.testing import DeepSeekSimulator, Reply, call

from .helpers import CITY, OFF, USER, body, client, post, result, tool

CALL = Assistant("", "First the weather.", (call("get_weather", city="Paris"),))
END = Assistant("Sunny.", "It has answered.")
CHANGED = "simulator: the `reasoning_content` of messages[{place}] is not the text that was sent."


def first_turn(sim: DeepSeekSimulator, stream: bool = False) -> list[dict[str, Any]]:
    """The messages up to the first tool result, as an exact client sends them."""
    message = post(sim, tools=[tool()]).json()["choices"][0]["message"]
    return [USER, message, result(message["tool_calls"][0]["id"])]


def status(sim: DeepSeekSimulator, messages: list[dict[str, Any]], **fields: Any) -> tuple[int, str]:
    answer = post(sim, messages=messages, tools=[tool()], **fields)
    return answer.status_code, answer.json().get("error", {}).get("message", "")


@pytest.mark.parametrize("other", ["", " First the weather.", "First the weather", "first the weather.", "None"])
@pytest.mark.parametrize("passback", ["probe", "every"])
def test_thinking_text_must_come_back_as_it_was_sent(other: str, passback: Any) -> None:
    sim = DeepSeekSimulator([CALL, END], passback=passback)
    messages = first_turn(sim)
    code, text = status(sim, [USER, {**messages[1], "reasoning_content": other}, messages[2]])
    assert code == 400 and text.startswith(CHANGED.format(place=1))
    assert status(sim, messages) == (200, "")
    assert len(sim.errors) == 1


def test_present_takes_any_text() -> None:
    sim = DeepSeekSimulator([CALL, END], passback="present")
    messages = first_turn(sim)
    assert status(sim, [USER, {**messages[1], "reasoning_content": ""}, messages[2]]) == (200, "")


@pytest.mark.parametrize(("passback", "code"), [("probe", 200), ("every", 400)])
def test_the_text_of_an_answer_counts_in_the_mode_every(passback: Any, code: int) -> None:
    sim = DeepSeekSimulator([END, "Bye."], passback=passback)
    message = post(sim, tools=[tool()]).json()["choices"][0]["message"]
    changed = [USER, {**message, "reasoning_content": "It answered."}, USER]
    assert status(sim, changed)[0] == code
    if code == 400:
        assert status(sim, [USER, message, USER]) == (200, "")


def test_answers_of_one_text_may_have_different_thoughts() -> None:
    sim = DeepSeekSimulator([Assistant("Yes.", "One."), Assistant("Yes.", "Two."), "End."], passback="every")
    first = post(sim, tools=[tool()]).json()["choices"][0]["message"]
    second = post(sim, messages=[USER, first, USER], tools=[tool()]).json()["choices"][0]["message"]
    assert {first["reasoning_content"], second["reasoning_content"]} == {"One.", "Two."}
    assert status(sim, [USER, first, USER, second, USER]) == (200, "")


def test_the_history_of_another_server_is_not_judged() -> None:
    sim = DeepSeekSimulator([END], passback="every")
    foreign = {"role": "assistant", "content": "Hello.", "reasoning_content": "Thoughts of another."}
    assert status(sim, [USER, foreign, USER]) == (200, "")


def test_without_thinking_no_text_is_compared() -> None:
    sim = DeepSeekSimulator([CALL, END, END], passback="every")
    messages = first_turn(sim)
    assert status(sim, [USER, {**messages[1], "reasoning_content": "x"}, messages[2]], **OFF) == (200, "")


def test_a_message_that_was_made_without_thinking_may_come_back_with_any_text() -> None:
    sim = DeepSeekSimulator([CALL, END])
    message = post(sim, tools=[tool()], **OFF).json()["choices"][0]["message"]
    given = {**message, "reasoning_content": "Thoughts of another model."}
    assert status(sim, [USER, given, result(message["tool_calls"][0]["id"])]) == (200, "")


@make_tool
def get_weather(city: str) -> str:
    """Current weather in a city."""
    return "21"


@pytest.mark.parametrize("passback", ["probe", "every"])
def test_an_agent_sends_thinking_text_back_exactly_and_no_unknown_field(passback: Any) -> None:
    odd = Assistant("", '  spaces,\n\n"quotes" \\ and 日本 😀\u2028 \t', (call("get_weather", city="Paris"),))
    with DeepSeekSimulator([odd, CALL, END, CALL, END], passback=passback) as sim:
        agent = Agent(
            ChatModel(base_url=sim.base_url), tools=[get_weather], settings=ModelSettings(max_tokens=900, user_id="u")
        )
        first = agent.run_sync("Weather?")
        second = agent.run_sync("And tomorrow?", messages=first.messages)
    assert (second.output, sim.errors, sim.warnings) == ("Sunny.", [], [])


ODD: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"n": 1, "seed": 7}, ["`n` is not a documented field", "`seed` is not a documented field"]),
    ({"thinking": {"type": "enabled", "budget_tokens": 9}}, ["`thinking.budget_tokens` is not a documented field"]),
    ({"tools": [{**tool(), "cache": 1}]}, ["`tools[].cache` is not a documented field"]),
    ({"tools": [tool(examples=[])]}, ["`tools[].function.examples` is not a documented field"]),
    (
        {"messages": [USER, {"role": "assistant", "content": "Hi", "reasoning": "x"}, USER]},
        ["`messages[assistant].reasoning` is not a documented field"],
    ),
    ({"messages": [{**USER, "name": "Ada"}]}, []),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {}}]}]},
        ["`messages[user].content[].cache_control` is not a documented field"],
    ),
    ({"temperature": 0.5}, ["`temperature` has no effect while the model thinks"]),
    ({"temperature": 0.5, **OFF}, []),
    ({"top_p": 0.5}, ["`top_p` is raised to at least 0.95 while the model thinks, and deepseek-v4-pro ignores it"]),
    ({"presence_penalty": 1}, ["`presence_penalty` is deprecated and has no effect"]),
    ({"stream": True, "stream_options": {"include_usage": True, "x": 1}}, ["`stream_options.x` is not a documented field"]),
]


@pytest.mark.parametrize(("fields", "expected"), ODD)
def test_what_the_api_takes_without_a_word_is_listed(fields: dict[str, Any], expected: list[str]) -> None:
    sim = DeepSeekSimulator("echo")
    for _ in range(2):
        assert post(sim, **fields).status_code == 200
    assert (sim.warnings, sim.errors) == (expected, [])


def test_the_name_of_a_tool_message_is_not_documented() -> None:
    sim = DeepSeekSimulator([CALL, END])
    messages = first_turn(sim)
    assert status(sim, [*messages[:2], {**messages[2], "name": "get_weather"}]) == (200, "")
    assert sim.warnings == ["`messages[tool].name` is not a documented field"]


IMAGE = {"type": "image_url", "image_url": {"url": "data:,", "detail": "low", "format": "png"}}
CHOICE = {"type": "function", "function": {"name": "get_weather", "strict": True}}


def test_unknown_fields_inside_of_an_image_and_of_a_choice_are_listed() -> None:
    sim = DeepSeekSimulator(["Hello."] * 2)
    assert post(sim, messages=[{"role": "user", "content": [IMAGE]}]).status_code == 200
    assert post(sim, tools=[tool()], tool_choice=CHOICE, **OFF).status_code == 200
    assert sim.warnings == [
        "`messages[user].content[].image_url.format` is not a documented field",
        "`tool_choice.function.strict` is not a documented field",
    ]


def test_a_refused_request_is_listed_with_its_unknown_fields_only() -> None:
    sim = DeepSeekSimulator("echo")
    assert post(sim, n=2, temperature=3).status_code == 400
    assert post(sim, messages=None, message=[USER]).status_code == 422
    assert sim.warnings == ["`n` is not a documented field", "`message` is not a documented field"]


@pytest.mark.parametrize("value", [None, 1, "x", [1], [[]], {"x": 1}, [{"x": 1}], [{"role": ["user"]}], [{"function": 1}]])
@pytest.mark.parametrize("name", ["messages", "tools", "tool_choice", "thinking", "stream_options", "response_format"])
def test_a_body_of_any_shape_is_noted_and_refused_or_answered(name: str, value: Any) -> None:
    with DeepSeekSimulator("echo") as sim, client(sim) as http:
        answer = http.post("/chat/completions", json={**body(), name: value})
    assert answer.status_code in (200, 400, 422)
    assert all(failure.type != "simulator_error" for failure in sim.errors)


TIME = {"type": "function", "function": {"name": "get_time", "parameters": CITY}}
NAMED = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize(
    ("choice", "reply", "expected"),
    [
        ("auto", "Hello.", []),
        ("none", CALL, []),
        ("required", "Hello.", [("get_weather", {"city": "Paris"})]),
        ("required", call("get_time", city="Rome"), [("get_time", {"city": "Rome"})]),
        (NAMED, "Hello.", [("get_time", {"city": "Paris"})]),
        (NAMED, CALL, [("get_time", {"city": "Paris"})]),
        (NAMED, [call("get_weather", city="Rome"), call("get_time", city="Rome")], [("get_time", {"city": "Rome"})]),
    ],
)
def test_tool_choice_is_obeyed_when_asked(choice: Any, reply: Any, expected: list[tuple[str, Any]]) -> None:
    def calls(obey: bool) -> list[tuple[str, Any]]:
        sim = DeepSeekSimulator([reply], obey_tool_choice=obey)
        answer = post(sim, tools=[tool(), TIME], tool_choice=choice, **OFF).json()["choices"][0]
        made = answer["message"].get("tool_calls") or []
        assert answer["finish_reason"] == ("tool_calls" if made else "stop")
        assert all(one["id"] for one in made)
        return [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in made]

    assert calls(True) == expected
    scripted = {"Hello.": 0}.get(reply, 1) if isinstance(reply, str) else len(reply) if isinstance(reply, list) else 1
    assert len(calls(False)) == scripted


@pytest.mark.parametrize(
    ("choice", "reply", "reason"),
    [
        ("none", Reply([CALL.tool_calls[0]], "tool_calls"), "stop"),
        ("none", Reply(CALL, "length"), "stop"),
        ("required", Reply("Hello.", "stop"), "tool_calls"),
        (NAMED, Reply(CALL, "stop"), "tool_calls"),
        ("none", Reply("Hello.", "length"), "length"),
        ("required", Reply(CALL, "stop"), "stop"),
        ("auto", Reply(CALL, "stop"), "stop"),
    ],
)
def test_a_finish_reason_is_kept_only_with_the_calls_that_it_was_given_for(choice: Any, reply: Reply, reason: str) -> None:
    sim = DeepSeekSimulator([reply], obey_tool_choice=True)
    assert post(sim, tools=[tool(), TIME], tool_choice=choice, **OFF).json()["choices"][0]["finish_reason"] == reason
