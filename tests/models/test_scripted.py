from __future__ import annotations

import asyncio

import pytest

from agentkit import AgentError, Assistant, ScriptedModel, ToolCall, Usage, User
from agentkit.errors import Overloaded
from agentkit.events import Delta, ReasoningDelta, TextDelta, ToolArgsDelta
from agentkit.messages import Message
from agentkit.model import ModelReply, ModelRequest
from agentkit.models.scripted import ScriptItem, call

WHOLE = ModelReply(Assistant("said"), Usage(requests=1, output_tokens=3), "length", "m", 0.5)


def ask(model: ScriptedModel, *messages: Message) -> ModelReply:
    return asyncio.run(model.reply(ModelRequest(list(messages))))


@pytest.mark.parametrize(
    ("item", "message", "finish"),
    [
        ("text", Assistant("text"), "stop"),
        (call("f", a=1), Assistant(tool_calls=(ToolCall("call_01_0", "f", '{"a": 1}'),)), "tool_calls"),
        (
            [call("f"), ToolCall("mine", "g", "{}")],
            Assistant(tool_calls=(ToolCall("call_01_0", "f", "{}"), ToolCall("mine", "g", "{}"))),
            "tool_calls",
        ),
        (Assistant("a", "r"), Assistant("a", "r"), "stop"),
        (WHOLE, WHOLE.message, "length"),
    ],
)
def test_items(item: ScriptItem, message: Assistant, finish: str) -> None:
    for model in (ScriptedModel([item]), ScriptedModel(lambda _request: item)):
        reply = ask(model, User("hi"))
        assert (reply.message, reply.finish_reason) == (message, finish)


def test_a_whole_reply_is_given_as_it_is() -> None:
    assert ask(ScriptedModel([WHOLE])) is WHOLE


def test_an_error_is_raised_and_the_script_goes_on() -> None:
    model = ScriptedModel([Overloaded("busy"), "ok"])
    with pytest.raises(Overloaded, match="busy"):
        ask(model)
    assert ask(model).message.text == "ok"


def test_a_script_that_is_used_up_says_so() -> None:
    model = ScriptedModel(["one"])
    ask(model)
    with pytest.raises(AgentError, match="the script has 1 replies and the agent asked for one more"):
        ask(model)


def test_requests_are_kept_with_the_messages_of_that_moment() -> None:
    model = ScriptedModel(lambda request: f"{len(request.messages)} messages")
    messages: list[Message] = [User("one")]
    request = ModelRequest(messages)
    assert asyncio.run(model.reply(request)).message.text == "1 messages"
    messages.append(User("two"))
    assert asyncio.run(model.reply(request)).message.text == "2 messages"
    assert [len(seen.messages) for seen in model.requests] == [1, 2]


def test_a_tool_may_have_an_argument_called_name() -> None:
    assert call("f", name="n", self="s") == ToolCall("", "f", '{"name": "n", "self": "s"}')


def test_deltas_add_up_to_the_message() -> None:
    told: list[Delta] = []

    async def on_delta(delta: Delta) -> None:
        told.append(delta)

    message = Assistant("an answer of some length", "thoughts about it", (ToolCall("1", "f", '{"city": "Paris"}'),))
    asyncio.run(ScriptedModel([message]).reply(ModelRequest([]), on_delta))
    assert "".join(d.text for d in told if isinstance(d, TextDelta)) == message.text
    assert "".join(d.text for d in told if isinstance(d, ReasoningDelta)) == message.reasoning
    arguments = [d for d in told if isinstance(d, ToolArgsDelta)]
    assert "".join(d.text for d in arguments) == message.tool_calls[0].arguments
    assert {(d.index, d.name) for d in arguments} == {(0, "f")}
    assert len(told) > 6
