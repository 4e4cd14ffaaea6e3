"""The first check: fields, types and variants of a body, with the deserializer's own texts (docs/deepseek.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["FIELDS", "shape_errors"]

ROLES = ("system", "user", "assistant", "tool", "latest_reminder")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

Check = Callable[[Any], str | None]


def shape_errors(body: Mapping[str, Any], *, audio: bool = False) -> Iterator[str]:
    """The deserializer's errors for `body`, without the opening words that they share. `audio`: the server takes audio."""
    kinds = ("text", "image_url", "file", *(["input_audio"] if audio else []))
    for name in ("messages", "model"):
        if body.get(name) is None:
            yield f"missing field `{name}`"
    yield from (f"{name}: {wrong}" for name, check in FIELDS.items() if (wrong := _optional(body.get(name), check)))
    thinking = body.get("thinking") or {}
    if wrong := _optional(thinking.get("reasoning_effort"), _variant(*EFFORTS)):
        yield f"thinking.reasoning_effort: {wrong}"
    for index, message in enumerate(body["messages"]):
        yield from _message(f"messages[{index}]", message, kinds)
    for index, tool in enumerate(body.get("tools") or ()):
        yield from _tool(f"tools[{index}]", tool)


def _optional(value: Any, check: Check) -> str | None:
    return None if value is None else check(value)


def invalid_type(value: Any, expected: str) -> str:
    """The deserializer's text for a value of the wrong type."""
    match value:
        case None:
            found = "null"
        case bool():
            found = f"boolean `{str(value).lower()}`"
        case int():
            found = f"integer `{value}`"
        case float():
            found = f"floating point `{value}`"
        case str():
            found = f"string {json.dumps(value, ensure_ascii=False)}"
        case list():
            found = "sequence"
        case _:
            found = "map"
    return f"invalid type: {found}, expected {expected}"


def _is(expected: str, *types: type) -> Check:
    def check(value: Any) -> str | None:
        fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        return None if fits else invalid_type(value, expected)

    return check


def _variant(*allowed: str) -> Check:
    one_of = " or ".join(f"`{name}`" for name in allowed)
    if len(allowed) > 2:
        one_of = "one of " + ", ".join(f"`{name}`" for name in allowed)

    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return invalid_type(value, "a string")
        return None if value in allowed else f"unknown variant `{value}`, expected {one_of}"

    return check


def _unsigned(bits: int) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return invalid_type(value, f"u{bits}")
        return None if 0 <= value < 1 << bits else f"invalid value: integer `{value}`, expected u{bits}"

    return check


def _tagged(*allowed: str) -> Check:
    """An object whose `type` is one of `allowed`."""

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return invalid_type(value, "a map")
        return "missing field `type`" if value.get("type") is None else _variant(*allowed)(value["type"])

    return check


def _stop(value: Any) -> str | None:
    strings = isinstance(value, str) or (isinstance(value, list) and all(isinstance(text, str) for text in value))
    return None if strings else invalid_type(value, "a string or a sequence of strings")


def _tool_choice(value: Any) -> str | None:
    if isinstance(value, str):
        return _variant("none", "auto", "required")(value)
    if wrong := _tagged("function")(value):
        return wrong
    function = value.get("function")
    named = isinstance(function, dict) and isinstance(function.get("name"), str)
    return None if named else "missing field `name`" if isinstance(function, dict) else "missing field `function`"


_STRING, _BOOL, _NUMBER = _is("a string", str), _is("a boolean", bool), _is("f32", int, float)
_SEQUENCE, _MAP = _is("a sequence", list), _is("a map", dict)

FIELDS: Mapping[str, Check] = {
    "messages": _SEQUENCE,
    "model": _STRING,
    "thinking": _tagged("enabled", "disabled"),
    "reasoning_effort": _variant(*EFFORTS),
    "max_tokens": _unsigned(32),
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "stop": _stop,
    "stream": _BOOL,
    "stream_options": _MAP,
    "response_format": _tagged("text", "json_object", "json_schema"),
    "tools": _SEQUENCE,
    "tool_choice": _tool_choice,
    "logprobs": _BOOL,
    "top_logprobs": _unsigned(8),
    "user_id": _STRING,
}


def _message(at: str, message: Any, kinds: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"{at}: {invalid_type(message, 'a map')}"
        return
    role = message.get("role")
    if role is None:
        yield f"{at}: missing field `role`"
    if wrong := _variant(*ROLES)(role):
        yield f"{at}.role: {wrong}"
    if role != "assistant" and message.get("content") is None:
        yield f"{at}: missing field `content`"
    yield from _content(f"{at}.content", message.get("content"), kinds if role != "tool" else ())
    if role == "tool" and message.get("tool_call_id") is None:
        yield f"{at}: missing field `tool_call_id`"
    for name in ("tool_call_id", "reasoning_content", "name"):
        if wrong := _optional(message.get(name), _STRING):
            yield f"{at}.{name}: {wrong}"
    if wrong := _optional(message.get("tool_calls"), _SEQUENCE):
        yield f"{at}.tool_calls: {wrong}"
    for index, call in enumerate(message.get("tool_calls") or ()):
        yield from _call(f"{at}.tool_calls[{index}]", call)


def _content(at: str, content: Any, kinds: tuple[str, ...]) -> Iterator[str]:
    if content is None or isinstance(content, str):
        return
    if not (kinds and isinstance(content, list)):
        yield f"{at}: {invalid_type(content, 'a string or a sequence' if kinds else 'a string')}"
    for index, part in enumerate(content):
        if wrong := _tagged(*kinds)(part) or _part(part):
            yield f"{at}[{index}]: {wrong}"
        detail = part["image_url"].get("detail") if isinstance(part.get("image_url"), dict) else None
        if wrong := _optional(detail, _variant("low", "high", "original", "auto")):
            yield f"{at}[{index}].image_url.detail: {wrong}"


def _part(part: Mapping[str, Any]) -> str | None:
    kind = part["type"]
    if kind != "file" and part.get(kind) is None:
        return f"missing field `{kind}`"
    if kind == "text":
        return _STRING(part["text"])
    if kind == "image_url":
        return _MAP(part["image_url"]) or (
            _STRING(part["image_url"]["url"]) if part["image_url"].get("url") else "missing field `url`"
        )
    return None


def _call(at: str, call: Any) -> Iterator[str]:
    if not isinstance(call, dict):
        yield f"{at}: {invalid_type(call, 'a map')}"
    yield from (f"{at}: missing field `{name}`" for name in ("id", "type", "function") if call.get(name) is None)
    if wrong := _STRING(call["id"]) or _tagged("function")(call) or _MAP(call["function"]):
        yield f"{at}: {wrong}"
    function = call["function"]
    yield from (f"{at}.function: missing field `{name}`" for name in ("name", "arguments") if function.get(name) is None)
    if wrong := _STRING(function["name"]) or _STRING(function["arguments"]):
        yield f"{at}.function: {wrong}"


def _tool(at: str, tool: Any) -> Iterator[str]:
    if wrong := _tagged("function")(tool):
        yield f"{at}.type: {wrong}" if isinstance(tool, dict) and tool.get("type") is not None else f"{at}: {wrong}"
    function = tool.get("function")
    if function is None:
        yield f"{at}: missing field `function`"
    if wrong := _MAP(function):
        yield f"{at}.function: {wrong}"
    if function.get("name") is None:
        yield f"{at}.function: missing field `name`"
    for name, check in (("name", _STRING), ("description", _STRING), ("parameters", _MAP), ("strict", _BOOL)):
        if wrong := _optional(function.get(name), check):
            yield f"{at}.function.{name}: {wrong}"
