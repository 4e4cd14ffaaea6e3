"""Warnings about fields of a request that the API silently accepts, but probably not as the client means them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .request import SimRequest
from .shape import FIELDS

__all__ = ["notes"]

_COMMON_FIELDS = {"role", "content", "name"}
_BY_ROLE: Mapping[str, set[str]] = {
    "assistant": _COMMON_FIELDS | {"reasoning_content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id"},
}
_PARTS: Mapping[str, set[str]] = {"text": {"type", "text"}, "image_url": {"type", "image_url"}}


def notes(request: SimRequest) -> Iterator[str]:
    """A line for each undocumented field, and for each field without effect. The request must have passed `shape_errors`."""
    yield from (f"`{path}` is not a documented field" for path in _unknown(request.body))
    for name in ("presence_penalty", "frequency_penalty"):
        if request.body.get(name) is not None:
            yield f"`{name}` is deprecated and has no effect"
    if request.thinking and request.body.get("temperature") is not None:
        yield "`temperature` has no effect while the model thinks"
    if request.thinking and request.body.get("top_p") is not None:
        yield "`top_p` is raised to at least 0.95 while the model thinks, and deepseek-v4-pro ignores it"


def _unknown(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown_fields("", body, {*FIELDS})
    yield from _unknown_fields("thinking.", body.get("thinking"), {"type", "reasoning_effort"})
    yield from _unknown_fields("stream_options.", body.get("stream_options"), {"include_usage"})
    yield from _unknown_fields("response_format.", body.get("response_format"), {"type"})
    choice = body.get("tool_choice")
    yield from _unknown_fields("tool_choice.", choice if isinstance(choice, dict) else None, {"type", "function"})
    for tool in body.get("tools") or ():
        yield from _unknown_fields("tools[].", tool, {"type", "function"})
        yield from _unknown_fields("tools[].function.", tool["function"], {"name", "description", "parameters", "strict"})
    for message in body["messages"]:
        yield from _message(message)


def _message(message: Mapping[str, Any]) -> Iterator[str]:
    at = f"messages[{message['role']}]."
    yield from _unknown_fields(at, message, _BY_ROLE.get(message["role"], _COMMON_FIELDS))
    for call in message.get("tool_calls") or ():
        yield from _unknown_fields(f"{at}tool_calls[].", call, {"index", "id", "type", "function"})
        yield from _unknown_fields(f"{at}tool_calls[].function.", call["function"], {"name", "arguments"})
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        yield from _unknown_fields(f"{at}content[].", part, _PARTS.get(part["type"], {*part}))


def _unknown_fields(at: str, container: Mapping[str, Any] | None, known: set[str]) -> Iterator[str]:
    return (f"{at}{name}" for name in container or () if name not in known)
