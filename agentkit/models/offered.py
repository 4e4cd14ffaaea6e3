"""The calls of a reply under the names of the tools that were offered, and calls that a server left in the text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4
from warnings import warn

from ..errors import EndpointWarning, StreamBroken
from ..messages import Assistant, Message, ToolCall
from ..model import ModelRequest
from ..names import known_name, wire_name
from .markup import MARK, BrokenMarkup, looks_like_a_call, read_markup

__all__ = ["with_offered_calls"]


def with_offered_calls(message: Assistant, request: ModelRequest, base_url: str, *, markup: bool, cut: bool) -> Assistant:
    """The message with its calls under the names of the offered tools.

    `markup`: calls in the markup of DeepSeek V4 count as calls where they stand at the end of a text without calls. They
    never do in a reply that was cut, where no tool may be called, or where the transcript has such markup already: the model
    may only quote what a tool's result or a user told it. Raises `StreamBroken` for markup that is not complete.
    """
    names = [tool.name for tool in request.tools]
    if message.tool_calls:
        offered = {*names}
        calls = tuple(c if c.name in offered else replace(c, name=known_name(c.name, names)) for c in message.tool_calls)
        return message if calls == message.tool_calls else replace(message, tool_calls=calls)
    if not message.text or cut or request.tool_choice == "none":
        return message
    wire_names = [wire_name(name) for name in names]
    if markup and MARK in message.text:
        if any(MARK in text for text in _texts(request.messages)):
            warn(f"{base_url}: markup of calls at the end of an answer is not run, as the transcript has such markup in it: "
                 "the answer may quote it", EndpointWarning, stacklevel=2)  # fmt: skip
            return message
        try:
            text, found = read_markup(message.text, wire_names)
        except BrokenMarkup as error:
            raise StreamBroken(str(error), body=message.text[:200]) from None
        if found:
            calls = tuple(ToolCall(f"call_{uuid4().hex[:24]}", known_name(c.name, names), c.arguments) for c in found)
            return replace(message, text=text, tool_calls=calls)
    if looks_like_a_call(message.text, wire_names):
        warn(
            f"{base_url}: the answer is a call written as text, and is not run; check the server's chat template and its "
            "tool-call parser for this model",
            EndpointWarning,
            stacklevel=2,
        )
    return message


def _texts(messages: Sequence[Message]) -> list[str]:
    return [message.text if isinstance(message, Assistant) else message.content for message in messages]
