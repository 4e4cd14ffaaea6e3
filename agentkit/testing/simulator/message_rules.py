"""The rules for a list of messages (docs/deepseek.md), with the server's texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .replies import Failure
from .request import Behaviour, SimRequest

__all__ = ["assistants", "needing_reasoning", "parts", "passback", "prefix", "tool_calls"]

PASSBACK = "The `reasoning_content` in the thinking mode must be passed back to the API."
UNSET = "Invalid assistant message: content or tool_calls must be set"
ORPHAN = "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
_FOLLOWED = "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'"
INSUFFICIENT = f"{_FOLLOWED}. (insufficient tool messages following tool_calls message)"
NOT_PENDING = f"{_FOLLOWED}, The following tool_call_ids did not have response messages: "

MAX_IMAGE = 32 * 2**20
_KINDS = {"image_url": "image", "input_audio": "audio", "file": "file"}

Messages = Sequence[Mapping[str, Any]]


def assistants(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    """An assistant message must have content, if only `""`, or tool calls."""
    for message in request.messages:
        if message["role"] == "assistant" and message.get("content") is None and not message.get("tool_calls"):
            yield Failure(400, UNSET)


def tool_calls(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    """Each call must be answered once, right after the message that made it, in any order."""
    pending: set[str] = set()
    for index, message in enumerate(request.messages):
        if message["role"] == "tool":
            yield from _answer(message["tool_call_id"], pending)
            pending.discard(message["tool_call_id"])
            continue
        if pending:
            yield Failure(400, INSUFFICIENT)
        for call in message.get("tool_calls") or ():
            if call["id"] in pending:
                yield Failure(400, f"Duplicate value for 'tool_call_id' of {call['id']} in message[{index}]")
            pending.add(call["id"])
        if "" in pending:
            yield Failure(400, f"Invalid 'tool_calls' in message[{index}]: the id of a call must not be empty")
    if pending:
        yield Failure(400, INSUFFICIENT)


def _answer(call_id: str, pending: set[str]) -> Iterator[Failure]:
    if not pending:
        yield Failure(400, ORPHAN)
    elif call_id not in pending:
        yield Failure(400, NOT_PENDING + call_id)


def passback(request: SimRequest, behaviour: Behaviour) -> Iterator[Failure]:
    """Thinking text must be sent back; `""` counts, null does not. `Thoughts` compares the text itself."""
    if any(message.get("reasoning_content") is None for _index, message in needing_reasoning(request, behaviour)):
        yield Failure(400, PASSBACK)


def needing_reasoning(request: SimRequest, behaviour: Behaviour) -> list[tuple[int, Mapping[str, Any]]]:
    """The messages that must have thinking text, each with its index.

    With the passback "every", these are all assistant messages of a request with tools. Otherwise, if the last message is a
    tool's, it is the nearest assistant message before it. There are none if thinking is off, or for the vision model.
    """
    if not request.thinking or "vision" in request.body["model"]:
        return []
    spoken: list[tuple[int, Mapping[str, Any]]] = [
        (index, message) for index, message in enumerate(request.messages) if message["role"] == "assistant"
    ]
    if behaviour.passback == "every":
        return spoken if request.tools else []
    return spoken[-1:] if request.last["role"] == "tool" else []


def parts(request: SimRequest, behaviour: Behaviour) -> Iterator[Failure]:
    """Images and the like are allowed only in user messages, and only for a model that takes them. V4 Pro takes text only.

    At most 600 images, each with at most 32 MiB. The text for images is the server's, the others are ours.
    """
    taken = behaviour.parts if behaviour.models[request.body["model"]] != "deepseek-v4-pro" else ()
    images = 0
    for message in request.messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = _KINDS.get(part["type"], "")
            if kind and not (kind in taken and message["role"] == "user"):
                yield Failure(400, f"Model do not support {kind} input")
            images += kind == "image"
            if kind == "image" and len(part["image_url"]["url"]) * 3 // 4 > MAX_IMAGE:
                yield Failure(400, f"Image too large, at most {MAX_IMAGE} bytes are allowed")
    if images > 600:
        yield Failure(400, f"Too many images: {images}, at most 600 are allowed")


def prefix(request: SimRequest, _behaviour: Behaviour) -> Iterator[Failure]:
    """`prefix` is allowed only on a last message of the assistant, and only on the /beta base URL. The texts are ours."""
    for message in request.messages:
        if message.get("prefix") and (message["role"] != "assistant" or message is not request.last):
            yield Failure(400, "prefix is only allowed on the last message, which must be an assistant message")
        if message.get("prefix") and not request.beta:
            yield Failure(400, "prefix is a beta feature, use the base URL https://api.deepseek.com/beta")
