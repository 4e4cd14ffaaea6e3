"""Images, audio and files in the form of the chat-completions API, and the check whether a server takes them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import SettingsError
from ..messages import BYTES_PER_TOKEN, Message, ToolResult, User
from ..parts import Content, Part, content_text
from .profiles import Profile

__all__ = ["check_parts", "content_form", "estimated_excess", "left_out", "with_shown_parts"]

_MAX_BYTES = 64 * 2**20
"""Max bytes of all parts of a request, in base64: DeepSeek's limit for a request."""


def takes(profile: Profile, part: Part) -> bool:
    """Whether the server takes this part."""
    return part.kind in profile.parts and (not part.address or part.kind in profile.part_addresses)


def check_parts(messages: Iterable[Message], profile: Profile, model: str, *, placeholders: bool = False) -> None:
    """Raise `SettingsError` for a part of a user message that the server does not take, and for too many bytes.

    With `placeholders`, a part that the server does not take is sent as its label.
    """
    total = 0
    for message in messages:
        for part in message.parts:
            total += len(part.base64) if takes(profile, part) else 0
            if isinstance(message, User) and not placeholders and not takes(profile, part):
                raise SettingsError(_refusal(part, profile, model))
    if total > _MAX_BYTES:
        raise SettingsError(f"the parts of the messages have {total:,} bytes in base64; allowed: {_MAX_BYTES:,} in one request")


def _refusal(part: Part, profile: Profile, model: str) -> str:
    if part.kind in profile.parts:
        return (
            f"the message has {part.label} by its address; {model} on {profile.name} takes the data only: "
            f"use {type(part).__name__}.from_path or from_bytes"
        )
    taken = ", ".join(("text", *sorted(profile.parts))) if profile.parts else "text only"
    return (
        f"the message has {part.label}; {model} on {profile.name} takes {taken}. Use a model that takes it, "
        'ChatModel(parts="placeholder") to send its name only, or a profile whose `parts` has it'
    )


def content_form(content: Content, profile: Profile) -> str | list[dict[str, Any]]:
    """A user message's content for the wire. It is one text if the server takes none of the parts."""
    if isinstance(content, str):
        return content
    if not any(not isinstance(item, str) and takes(profile, item) for item in content):
        return content_text(content)
    return [_form(item, profile) for item in content if item != ""]  # some servers refuse an empty text


def _form(item: str | Part, profile: Profile) -> dict[str, Any]:
    if isinstance(item, str) or not takes(profile, item):
        return {"type": "text", "text": item if isinstance(item, str) else item.label}
    match item.kind:
        case "image":
            return {"type": "image_url", "image_url": {"url": item.data_url}}
        case "audio":
            return {"type": "input_audio", "input_audio": {"data": item.base64, "format": _audio_format(item.media_type)}}
    return {"type": "file", "file": {"filename": item.name or "file", "file_data": item.data_url}}


def _audio_format(media_type: str) -> str:
    name = media_type.removeprefix("audio/").removeprefix("x-")
    return {"mpeg": "mp3", "mp4": "m4a"}.get(name, name)


def left_out(result: ToolResult, profile: Profile) -> str:
    """The text of a tool result, with a note on the parts that the server does not take."""
    labels = [part.label for part in result.parts if not takes(profile, part)]
    note = f"[left out, as this model does not take it: {' '.join(labels)}]" if labels else ""
    return "\n".join(filter(None, (result.content, note))) or "(no output)"


def with_shown_parts(messages: Iterable[Message], profile: Profile) -> Iterator[Message]:
    """The messages with the parts of tool results in a user message after all results of the reply.

    A message between two results of one reply would be refused.
    """
    showing: list[ToolResult] = []
    for message in messages:
        if showing and not isinstance(message, ToolResult):
            yield showing[0].shown_with(showing[1:])
            showing = []
        yield message
        if isinstance(message, ToolResult) and any(takes(profile, part) for part in message.parts):
            showing.append(message)
    if showing:
        yield showing[0].shown_with(showing[1:])


def estimated_excess(messages: Iterable[Message], profile: Profile) -> int:
    """How many bytes of a request are not text for the model: base64 data, less the estimated tokens of its parts."""
    sent = (part for message in messages for part in message.parts if takes(profile, part))
    return sum(len(part.base64) - part.tokens * BYTES_PER_TOKEN for part in sent)
