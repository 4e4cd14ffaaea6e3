"""Requests of the chat-completions API, as bytes. Pure. Only this module and `replies.py` name the API's JSON keys.

A body is a head (model, settings, sorted tools) and the messages. The same settings give the same bytes of the head, and each
message is encoded once. So the prompt's prefix is stable byte for byte.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, assert_never

from pydantic_core import PydanticSerializationError, from_json, to_json

from ..errors import EndpointWarning, SettingsError
from ..messages import Assistant, Message, System, ToolCall, ToolResult, User, message_text
from ..model import ModelRequest, ModelSettings, ToolSpec
from ..names import nine_characters, wire_name
from ..schema.loosen import SchemaRule, loosened
from ..schema.parse import LONGEST_TEXT
from ..schema.strict import NotStrict, strict_schema
from .profiles import GENERIC, Profile
from .thinking import THINK_TAGS, tagged
from .wire_parts import content_form, left_out, with_shown_parts

__all__ = ["WithParts", "body", "check", "encode_message", "encoder", "head", "with_json_word"]


class WithParts(bytes):
    """The bytes of a message, or of a request, that has images, audio or files. Telling it by the type is fast."""

    __slots__ = ()


_TEXT_ONLY = frozenset({bytes})
_BRIDGE = Assistant("I have read the results.")
_ASK_FOR_JSON = System("Answer with one JSON object.")


def encoder(profile: Profile) -> Callable[[Any], bytes]:
    """The function that encodes a message for this profile."""
    call_id = nine_characters if profile.nine_character_ids else None
    origin = profile.name if profile.opaque_back else None
    return partial(encode_message, profile.reasoning_back, call_id=call_id, origin=origin, profile=profile)


def encode_message(
    reasoning_back: str | None,
    message: Message,
    *,
    call_id: Callable[[str], str] | None = None,
    origin: str | None = None,
    profile: Profile = GENERIC,
) -> bytes:
    """One message as JSON bytes.

    `call_id` maps ids to ids that the server accepts. Opaque fields of a reply and its calls are included if they have this
    `origin`. `reasoning_back` names the field in which the thinking text is sent back. Every assistant message then has the
    field, empty if there was no thinking: DeepSeek refuses a tool turn without it, and accepts an empty one. "<think>" sends it
    in the content, unless the server's own `reasoning_details` go back. `profile` says which parts the server takes. The bytes
    are `WithParts` if the message has any.
    """
    has_parts = False
    match message:
        case System() | User():
            data: dict[str, Any] = {"role": message.role, "content": message.content}
            if not isinstance(message.content, str):
                data["content"], has_parts = content_form(message.content, profile), True
            if isinstance(message, User) and message.name:
                data["name"] = message.name
        case Assistant():
            data = _assistant(message, reasoning_back, call_id, is_ours=message.origin != "" and message.origin == origin)
        case ToolResult():
            answered = call_id(message.call_id) if call_id else message.call_id
            data = {"role": "tool", "tool_call_id": answered, "content": message.content or "(no output)"}
            if message.parts:
                data["content"], has_parts = left_out(message, profile), True
        case _:
            assert_never(message)
    return WithParts(_json(data)) if has_parts else _json(data)


def _assistant(
    message: Assistant, reasoning_back: str | None, call_id: Callable[[str], str] | None, *, is_ours: bool
) -> dict[str, Any]:
    data: dict[str, Any] = {"role": "assistant", "content": message.text}
    if reasoning_back and reasoning_back != THINK_TAGS:
        data[reasoning_back] = message.reasoning
    if message.tool_calls:
        data["tool_calls"] = [_call(call, call_id, is_ours=is_ours) for call in message.tool_calls]
    if is_ours and message.opaque:
        data |= from_json(message.opaque)
    if reasoning_back == THINK_TAGS and message.reasoning and "reasoning_details" not in data:
        data["content"] = tagged(message.reasoning, message.text)
    return data


def _call(call: ToolCall, call_id: Callable[[str], str] | None, *, is_ours: bool) -> dict[str, Any]:
    function = {"name": wire_name(call.name), "arguments": _short(call.arguments)}
    data = {"id": call_id(call.id) if call_id else call.id, "type": "function", "function": function}
    if is_ours and call.opaque:
        opaque = from_json(call.opaque)
        data |= {**opaque, "function": {**function, **opaque.get("function", {})}}
    return data


def _short(arguments: str) -> str:
    """The arguments to send back: none if they were too long to be parsed, since no server would accept the prompt."""
    return arguments if len(arguments) <= LONGEST_TEXT else "{}"


def _json(data: Any) -> bytes:
    try:
        return to_json(data)
    except (PydanticSerializationError, UnicodeEncodeError):  # half of a surrogate pair is not UTF-8
        return to_json(_clean(data))


def _clean(data: Any) -> Any:
    match data:
        case str():
            return data.encode("utf-8", "replace").decode("utf-8")
        case list() | tuple():
            return [_clean(item) for item in data]
        case Mapping():
            return {_clean(key): _clean(value) for key, value in data.items()}
    return data


def head(request: ModelRequest, profile: Profile, model: str, *, stream: bool) -> bytes:
    """The body up to the first message. Raises `SettingsError` if the profile does not allow a setting."""
    check(request, profile)
    settings = request.settings
    forced = request.tool_choice not in ("auto", "none")
    thinking = profile.thinking_default if settings.thinking is None else settings.thinking
    if forced and not profile.forced_choice_while_thinking and thinking is not False:
        thinking = False
    fields: dict[str, Any] = {"model": model, **_thinking(profile, thinking, settings.reasoning_effort)}
    plain = {
        profile.max_tokens_field: settings.max_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "stop": settings.stop,
        "response_format": settings.response_format and {"type": settings.response_format},
        profile.user_field: settings.user_id,
        "stream": True if stream else None,
        "stream_options": {"include_usage": True} if stream and profile.stream_usage else None,
        **(profile.stream_fields if stream else {}),
    }
    fields |= {name: value for name, value in plain.items() if value is not None}
    if request.tools:
        fields["tools"] = _tools(sorted(request.tools, key=lambda tool: wire_name(tool.name)), profile)
        fields["tool_choice"] = _tool_choice(request.tool_choice, profile)
    fields |= settings.extra_body
    try:
        return _json(fields)[:-1] + b',"messages":['
    except PydanticSerializationError as error:
        raise SettingsError(f"the request cannot be written as JSON: {error}") from None


def _thinking(profile: Profile, thinking: bool | None, effort: str | None) -> dict[str, Any]:
    if thinking is False:
        return dict(profile.thinking_off)
    fields = dict(profile.thinking_on) if thinking else {}
    if effort and profile.effort_in:
        *parents, last = profile.effort_in
        inner = fields
        for key in parents:
            inner[key] = inner = dict(inner.get(key, {}))
        inner[last] = profile.effort_names.get(effort, effort)
    return fields


def _tools(tools: Sequence[ToolSpec], profile: Profile) -> list[dict[str, Any]]:
    """The tools, all strict or none: DeepSeek refuses a request with both kinds."""
    if any(tool.strict for tool in tools):
        try:
            return [_tool(tool, _strict(tool, profile), strict=True) for tool in tools]
        except NotStrict as reason:
            warnings.warn(f"the request is not strict: {reason}", EndpointWarning, stacklevel=2)
    return [tool.form(profile, partial(_loose, rules=profile.schema_rules)) for tool in tools]


def _loose(tool: ToolSpec, rules: Sequence[SchemaRule]) -> dict[str, Any]:
    return _tool(tool, loosened(tool.parameters, rules))


def _strict(tool: ToolSpec, profile: Profile) -> dict[str, Any]:
    if not profile.strict:
        raise NotStrict(f"the profile {profile.name} has no strict functions")
    if not tool.strict:
        raise NotStrict(f"the tool {tool.name} is not marked strict, and all must be")
    try:
        return strict_schema(tool.parameters)
    except NotStrict as reason:
        raise NotStrict(f"the tool {tool.name} cannot be: {reason}") from None


def _tool(tool: ToolSpec, parameters: Mapping[str, Any], *, strict: bool = False) -> dict[str, Any]:
    """A tool without a description gets its name as description: Bedrock refuses an empty one, and templates may need one."""
    name = wire_name(tool.name)
    description = tool.description if tool.description.strip() else name
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": {**function, "strict": True} if strict else function}


def _tool_choice(choice: str, profile: Profile) -> str | Mapping[str, Any]:
    if choice in ("auto", "none"):
        return choice
    if profile.forced_choice == "auto" or (choice == "required" and profile.forced_choice == "named only"):
        return "auto"
    if choice == "required" or profile.forced_choice == "required":
        return "required"
    return {"type": "function", "function": {"name": wire_name(choice)}}


def check(request: ModelRequest, profile: Profile) -> None:
    """Raise `SettingsError` if the request breaks a limit of the server. The message has the field, value and allowed range."""
    settings: ModelSettings = request.settings
    found = _check_thinking(settings, profile)
    if settings.max_tokens and profile.max_tokens and settings.max_tokens > profile.max_tokens:
        found.append(("max_tokens", settings.max_tokens, f"1 to {profile.max_tokens}"))
    if settings.temperature is not None and settings.temperature > profile.temperature:
        found.append(("temperature", settings.temperature, f"0 to {profile.temperature:g}"))
    if isinstance(settings.stop, tuple) and len(settings.stop) > profile.stops:
        found.append(("stop", f"{len(settings.stop)} texts", f"at most {profile.stops}"))
    if len(request.tools) > profile.tools:
        found.append(("tools", f"{len(request.tools)} tools", f"at most {profile.tools}"))
    names = [tool.name for tool in request.tools]
    if request.tool_choice not in ("auto", "none", "required", *names):
        found.append(("tool_choice", request.tool_choice, f"auto, none, required or one of: {', '.join(names) or '-'}"))
    if request.tool_choice == "required" and not request.tools:
        found.append(("tool_choice", "required", "auto or none, as there are no tools"))
    if found:
        raise SettingsError("; ".join(f"{name} is {value}; {profile.name} allows {allowed}" for name, value, allowed in found))


def _check_thinking(settings: ModelSettings, profile: Profile) -> list[tuple[str, object, str]]:
    found: list[tuple[str, object, str]] = []
    only_none = "only None (a field of the server's own can go into extra_body)"
    if settings.thinking and not profile.thinking_on and not profile.effort_in:
        found.append(("thinking", True, only_none))
    if settings.thinking is False and not profile.thinking_off:
        found.append(("thinking", False, only_none))
    if settings.reasoning_effort and not profile.effort_in:
        found.append(("reasoning_effort", settings.reasoning_effort, only_none))
    return found


def body(head_bytes: bytes, messages: Sequence[Message], profile: Profile, encode: Callable[[Any], bytes]) -> bytes:
    """The whole request body, as `WithParts` if a message has parts.

    A message that was already encoded for this profile is not encoded again.
    """
    encoded = _encoded(messages, profile, encode)
    if _TEXT_ONLY.issuperset(map(type, encoded)):
        return head_bytes + b",".join(encoded) + b"]}"
    encoded = _encoded([*with_shown_parts(messages, profile)], profile, encode)
    return WithParts(head_bytes + b",".join(encoded) + b"]}")


def _encoded(messages: Sequence[Message], profile: Profile, encode: Callable[[Any], bytes]) -> list[bytes]:
    if not profile.user_after_tool:
        messages = _bridged(messages)
    return [message.encoded(profile, encode) for message in messages]


def _bridged(messages: Sequence[Message]) -> list[Message]:
    found: list[Message] = []
    for message in messages:
        if isinstance(message, User) and found and isinstance(found[-1], ToolResult):
            found.append(_BRIDGE)
        found.append(message)
    return found


def with_json_word(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages with the word "json" in the system message, since `json_object` needs it somewhere in the prompt.

    Only the first message is checked, so that the result is the same at every step of a run.
    """
    first = messages[0] if messages else None
    if isinstance(first, User) and "json" in message_text(first).lower():
        return messages
    if isinstance(first, System):
        asking = _asking_for_json(first)
        return messages if asking is first else [asking, *messages[1:]]
    return [_ASK_FOR_JSON, *messages]


@lru_cache(maxsize=16)  # returns the same message object each time, so it is encoded only once
def _asking_for_json(system: System) -> System:
    if "json" in system.content.lower():
        return system
    return System(f"{system.content}\n\n{_ASK_FOR_JSON.content}")
