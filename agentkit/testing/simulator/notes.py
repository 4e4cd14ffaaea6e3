"""Warnings about fields of a request that the API silently accepts, but probably not as the client means them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .request import SimRequest
from .shape import FIELDS

__all__ = ["fields_without_effect", "unknown_fields"]

_COMMON_FIELDS = {"role", "content", "name"}
_BY_ROLE: Mapping[str, set[str]] = {
    "assistant": _COMMON_FIELDS | {"reasoning_content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id"},
}
_IMAGE = {"url", "detail"}


def fields_without_effect(request: SimRequest) -> Iterator[str]:
    """A line for each documented field without effect. The request must have passed `shape_errors`."""
    for name in ("presence_penalty", "frequency_penalty"):
        if request.body.get(name) is not None:
            yield f"`{name}` is deprecated and has no effect"
    if request.thinking and request.body.get("temperature") is not None:
        yield "`temperature` has no effect while the model thinks"
    if request.thinking and request.body.get("top_p") is not None:
        yield "`top_p` is raised to at least 0.95 while the model thinks, and deepseek-v4-pro ignores it"


def unknown_fields(body: Mapping[str, Any]) -> Iterator[str]:
    """A line for each undocumented field. The body may have any shape: the field may be why the request is refused."""
    return (f"`{path}` is not a documented field" for path in _unknown(body))


def _unknown(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown_fields("", body, {*FIELDS})
    yield from _unknown_fields("thinking.", body.get("thinking"), {"type", "reasoning_effort"})
    yield from _unknown_fields("stream_options.", body.get("stream_options"), {"include_usage"})
    yield from _unknown_fields("response_format.", body.get("response_format"), {"type"})
    choice = body.get("tool_choice")
    yield from _unknown_fields("tool_choice.", choice, {"type", "function"})
    yield from _unknown_fields("tool_choice.function.", _map(choice).get("function"), {"name"})
    for tool in _list(body.get("tools")):
        yield from _unknown_fields("tools[].", tool, {"type", "function"})
        function = _map(tool).get("function")
        yield from _unknown_fields("tools[].function.", function, {"name", "description", "parameters", "strict"})
    for message in _list(body.get("messages")):
        yield from _message(_map(message))


def _message(message: Mapping[str, Any]) -> Iterator[str]:
    role = str(message.get("role", ""))
    at = f"messages[{role}]."
    yield from _unknown_fields(at, message, _BY_ROLE.get(role, _COMMON_FIELDS))
    for call in _list(message.get("tool_calls")):
        yield from _unknown_fields(f"{at}tool_calls[].", call, {"index", "id", "type", "function"})
        yield from _unknown_fields(f"{at}tool_calls[].function.", _map(call).get("function"), {"name", "arguments"})
    for part in _list(message.get("content")):
        kind = _map(part).get("type")
        if kind in ("text", "image_url"):
            yield from _unknown_fields(f"{at}content[].", part, {"type", kind})
        if kind == "image_url":
            yield from _unknown_fields(f"{at}content[].image_url.", _map(part).get("image_url"), _IMAGE)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _unknown_fields(at: str, container: Any, known: set[str]) -> Iterator[str]:
    return (f"{at}{name}" for name in _map(container) if name not in known)
