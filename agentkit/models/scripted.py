"""A model that answers from a script: for tests without HTTP, and for the simulator's replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ..errors import AgentError
from ..events import ReasoningDelta, TextDelta, ToolArgsDelta
from ..messages import Assistant, ToolCall, Usage
from ..model import DeltaSink, ModelReply, ModelRequest

__all__ = ["ScriptItem", "ScriptedModel", "as_assistant", "call"]

ScriptItem: TypeAlias = str | ToolCall | Sequence[ToolCall] | Assistant | ModelReply | Exception
"""A text answer, a call or several, a whole message or reply, or an error to raise."""


def call(name: str, /, **arguments: Any) -> ToolCall:
    """A tool call for a script: `call("get_weather", city="Paris")`. It gets its id when it is sent."""
    return ToolCall("", name, json.dumps(arguments))


def as_assistant(item: str | ToolCall | Sequence[ToolCall] | Assistant, turn: int) -> Assistant:
    """The whole message that a script item stands for; calls without an id get `call_<turn>_<position>`."""
    if isinstance(item, str):
        return Assistant(text=item)
    message = (
        item if isinstance(item, Assistant) else Assistant(tool_calls=(item,) if isinstance(item, ToolCall) else tuple(item))
    )
    calls = tuple(c if c.id else replace(c, id=f"call_{turn:02}_{index}") for index, c in enumerate(message.tool_calls))
    return replace(message, tool_calls=calls)


class ScriptedModel:
    """Answers each request with the next item of `script`, or with the result of a function of the request.

    `.requests` are the requests so far, each with a copy of the messages. An exception in the script is raised. A request after
    the end of the script raises `AgentError`, which gives the number of replies in the script.
    """

    def __init__(self, script: Iterable[ScriptItem] | Callable[[ModelRequest], ScriptItem]) -> None:
        self.requests: list[ModelRequest] = []
        self._script = script if callable(script) else list(script)

    def __repr__(self) -> str:
        return f"ScriptedModel({len(self.requests)} requests answered)"

    def _answer(self, request: ModelRequest) -> ScriptItem:
        if not isinstance(self._script, list):
            return self._script(request)
        if len(self.requests) > len(self._script):
            raise AgentError(f"the script has {len(self._script)} replies and the agent asked for one more")
        return self._script[len(self.requests) - 1]

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The next item as a whole reply. With `on_delta`, its text, reasoning and arguments are also sent in small pieces."""
        frozen = ModelRequest(tuple(request.messages), request.tools, request.tool_choice, request.settings)
        self.requests.append(frozen)
        item = self._answer(frozen)
        if isinstance(item, Exception):
            raise item
        reply = item if isinstance(item, ModelReply) else None
        if reply is None:
            message = as_assistant(item, len(self.requests))  # type: ignore[arg-type]
            reply = ModelReply(message, Usage(requests=1), "tool_calls" if message.tool_calls else "stop", "scripted")
        if on_delta:
            await _stream(reply.message, on_delta)
        return reply


async def _stream(message: Assistant, on_delta: DeltaSink, size: int = 8) -> None:
    for piece in _pieces(message.reasoning, size):
        await on_delta(ReasoningDelta(piece))
    for piece in _pieces(message.text, size):
        await on_delta(TextDelta(piece))
    for index, tool_call in enumerate(message.tool_calls):
        for piece in _pieces(tool_call.arguments, size):
            await on_delta(ToolArgsDelta(index, tool_call.name, piece))


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
