"""Sends the requests of the checks, and reads their replies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import ConnectionFailed, ModelError, StreamBroken, TimedOut
from ...messages import Usage
from ...redact import redact
from ..chat import ChatModel
from ..http.bodies import read_chunk, read_whole
from ..http.sse import SSEParser
from ..http.transports import Response
from ..profiles import Profile
from ..refusals import read_error
from ..replies import Parts, ReplyReader

__all__ = ["MAX_TOKENS", "Answer", "Message", "Server", "TemporaryFailure"]

Message: TypeAlias = dict[str, Any]

MAX_TOKENS = 400
"""Default `max_tokens` of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its status, its parsed reply or the text of its error, and its JSON body or chunks."""

    status: int
    parts: Parts | None
    error: str
    bodies: tuple[Any, ...] = ()

    @property
    def calls(self) -> Sequence[Any]:
        """The tool calls; none if there is no reply."""
        return self.parts.message.tool_calls if self.parts else ()

    @property
    def text(self) -> str:
        """The text; empty if there is no reply."""
        return self.parts.message.text if self.parts else ""


class TemporaryFailure(Exception):
    """A temporary failure that says nothing about what the server supports: it is busy, slow, or limits the rate."""


class Server:
    """Sends the requests of the checks as the model sends its own, and counts what they use."""

    def __init__(self, model: ChatModel, profile: Profile) -> None:
        self.model, self.profile = model, profile
        self.usage = Usage()
        self.sent = self.sent_again = 0
        self.max_tokens_field = profile.max_tokens_field
        self.forces_any: bool | None = None
        """Whether the choice "required" is enforced; None until that is known."""

    async def ask(
        self, prompt: str | list[Message], *, thinking: bool = False, max_tokens: int = MAX_TOKENS, **fields: Any
    ) -> Answer:
        """Send one request. Thinking costs tokens, so it is off unless asked for. A field of None is omitted."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {"model": self.model.name, "messages": messages, self.max_tokens_field: max_tokens}
        body |= self.profile.thinking_on if thinking else self.profile.thinking_off
        body |= {name: value for name, value in fields.items() if value is not None}
        status, headers, content = await self._send(json.dumps(body).encode())
        if status >= 300:
            error = read_error(status, content, headers)
            if error.retryable:
                raise TemporaryFailure(self._hidden(error))
            return Answer(status, None, self._hidden(error))
        try:
            parts, bodies = _read(content, self.profile)
        except ModelError as error:
            return Answer(status, None, self._hidden(error))
        self.usage += parts.usage
        return Answer(status, parts, "", bodies)

    async def _send(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the response. If the connection fails, the request is sent once more."""
        try:
            self.sent += 1
            return await self._response(body)
        except TimedOut as error:
            raise TemporaryFailure(self._hidden(error)) from error
        except (ConnectionFailed, StreamBroken):
            self.sent += 1
            self.sent_again += 1
            return await self._response(body)

    async def _response(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        model = copy(self.model)  # with a new connection: a kept one may be closed by the server at any time
        try:
            response = await model.send(body)
            try:
                pieces = [piece async for piece in _pieces(response)]
            finally:
                await response.aclose()
        finally:
            await model.aclose()
        return response.status_code, response.headers, b"".join(pieces)

    def _hidden(self, error: ModelError) -> str:
        """The error's text without the key, which some servers repeat."""
        return redact(self.model.hider.hide(str(error)))


async def _pieces(response: Response) -> AsyncIterator[bytes]:
    while piece := await response.read():
        yield piece


def _read(content: bytes, profile: Profile) -> tuple[Parts, tuple[Any, ...]]:
    if content.lstrip()[:1] == b"{":
        return read_whole(content, ReplyReader(think_tags=profile.think_tags)), (json.loads(content),)
    reader, bodies = ReplyReader(think_tags=profile.think_tags), []
    for data in SSEParser().feed(content + b"\n\n"):
        if data and data != b"[DONE]":
            bodies.append(read_chunk(data))
            list(reader.feed(bodies[-1]))
    return reader.parts(), (*bodies, *(["[DONE]"] if b"[DONE]" in content else []))
