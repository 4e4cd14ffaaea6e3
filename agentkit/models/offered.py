"""Maps the calls of a reply to the offered tools, and finds calls that a server left in the text. Pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from unicodedata import normalize
from urllib.parse import unquote
from warnings import warn

from ..errors import EndpointWarning, StreamBroken
from ..messages import Assistant, ToolCall, message_text
from ..model import ModelRequest
from ..names import known_name, wire_name
from .markup import MARK, BrokenMarkup, looks_like_a_call, read_markup

__all__ = ["with_offered_calls"]

_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|[nrt])")
_MARK = re.compile(r"(?<![a-z])" + r"[\W_]*".join(MARK.casefold()))


def with_offered_calls(message: Assistant, request: ModelRequest, base_url: str, *, markup: bool, cut: bool) -> Assistant:
    """The message with its calls under the names of the offered tools.

    With `markup`, a text that consists only of calls in DeepSeek V4's markup counts as these calls. It does not count if the
    reply was cut, or if no tool may be called. It also does not count if the request or the thinking text contains such markup,
    since the model may be quoting it. Raises `StreamBroken` for incomplete markup.
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
        return _from_markup(message, request, base_url, names, wire_names)
    if looks_like_a_call(message.text, wire_names):
        warn(
            f"{base_url}: the answer is a call written as text, and is not run; check the server's chat template and its "
            "tool-call parser for this model",
            EndpointWarning,
            stacklevel=2,
        )
    return message


def _from_markup(
    message: Assistant, request: ModelRequest, base_url: str, names: list[str], wire_names: list[str]
) -> Assistant:
    """The message with the calls that its text consists of."""
    if _has_mark(message.reasoning) or any(map(_has_mark, _texts(request))):
        warn(f"{base_url}: markup of calls in an answer is not run, as the request or the thinking text has such markup in it: "
             "the answer may quote it", EndpointWarning, stacklevel=3)  # fmt: skip
        return message
    try:
        before, found = read_markup(message.text, wire_names)
    except BrokenMarkup as error:
        raise StreamBroken(str(error), body=message.text[:200]) from None
    if before and found:
        warn(f"{base_url}: markup of calls is not run, as the answer has text before it: it may be an example; check the "
             "server's tool-call parser for this model", EndpointWarning, stacklevel=3)  # fmt: skip
    if before or not found:
        return message
    calls = tuple(ToolCall(f"call_{os.urandom(12).hex()}", known_name(c.name, names), c.arguments) for c in found)
    return replace(message, text="", tool_calls=calls)


def _has_mark(text: str) -> bool:
    """Whether a text contains call markup: in any case, with blanks or signs in between, escaped for JSON, HTML or a URL."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1] or found[2] or "20", 16)), unescape(unquote(text)))
    return _MARK.search(normalize("NFKC", plain).casefold()) is not None


def _texts(request: ModelRequest) -> Iterator[str]:
    """All texts of a request that the model reads."""
    for message in request.messages:
        if isinstance(message, Assistant):
            yield from (message.text, message.reasoning, message.opaque)
            for call in message.tool_calls:
                yield from (call.name, call.arguments, call.opaque)
        else:
            yield message_text(message)
    for tool in request.tools:
        yield f"{tool.description} {json.dumps(dict(tool.parameters), default=str, ensure_ascii=False)}"
