"""Messages are values: equal by content, frozen, encoded once; usage adds up field by field."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from agentkit import Assistant, System, ToolCall, ToolResult, Usage, User
from agentkit.messages import Message

MESSAGES: list[Message] = [
    System("be brief"),
    User("hi"),
    User("hi", name="ann"),
    Assistant("text", "thought", (ToolCall("a", "f", '{"x": 1}'),)),
    Assistant(),
    ToolResult("a", "f", "3", is_error=True),
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_a_message_is_a_frozen_value(message: Message) -> None:
    same = dataclasses.replace(message)
    assert same == message and hash(same) == hash(message) and same is not message
    assert pickle.loads(pickle.dumps(message)) == message
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.role = "other"  # type: ignore[misc, assignment]
    assert not hasattr(message, "__dict__")


def test_messages_of_different_content_differ() -> None:
    assert len(set(MESSAGES)) == len(MESSAGES)


def test_a_message_is_encoded_once_per_dialect() -> None:
    made: list[object] = []

    def encode(message: object) -> bytes:
        made.append(message)
        return b"bytes %d" % len(made)

    message, one, other = User("hi"), object(), object()
    assert [message.encoded(one, encode) for _ in range(3)] == [b"bytes 1"] * 3
    assert message.encoded(other, encode) == b"bytes 2"
    assert dataclasses.replace(message, content="ho").encoded(other, encode) == b"bytes 3"
    assert len(made) == 3


def test_the_bytes_are_no_part_of_the_value() -> None:
    message = User("hi")
    message.encoded(object(), lambda _: b"x")
    assert message == User("hi") and repr(message) == repr(User("hi"))


def test_usage_adds_up_every_field() -> None:
    names = [field.name for field in dataclasses.fields(Usage)]
    one = Usage(**{name: 10**place for place, name in enumerate(names)})
    two = Usage(**{name: 2 * 10**place for place, name in enumerate(names)})
    assert one + two == Usage(**{name: 3 * 10**place for place, name in enumerate(names)})
    assert one + Usage() == one == Usage() + one


def test_usage_derives_misses_and_the_total() -> None:
    usage = Usage(input_tokens=100, output_tokens=7, cache_read_tokens=64)
    assert (usage.cache_miss_tokens, usage.total_tokens) == (36, 107)


@pytest.mark.parametrize("text", ["", "{}", '{"a": ', "not json", "\ud800", '{"a":1}   '])
def test_a_call_keeps_the_models_text_as_it_came(text: Any) -> None:
    assert ToolCall("i", "f", text).arguments == text
