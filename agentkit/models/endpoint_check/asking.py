"""Sends the requests of the checks, and reads their replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import ConnectionFailed, ModelError, StreamBroken, TimedOut
from ...messages import Usage
from ...redact import redact
from ..chat import ChatModel
from ..http.bodies import is_json, read_chunk
from ..http.receive import ReplyBytes, read_refusal, read_reply
from ..http.sse import SSEParser
from ..http.transports import Response
from ..profiles import Profile
from ..refusals import read_error
from ..replies import Parts, ReplyReader

__all__ = ["MAX_TOKENS", "Answer", "Message", "Server", "TemporaryFailure", "matches"]

Message: TypeAlias = dict[str, Any]

MAX_TOKENS = 400
"""Default `max_tokens` of an answer."""
_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its status, its parsed reply or the text of its error, and its JSON body or chunks."""

    status: int
    parts: Parts | None
    error: str
    bodies: tuple[Any, ...] = ()
    came_whole: bool = False
    """Whether the reply was one JSON text and not a stream."""
    max_tokens: int = MAX_TOKENS
    """The `max_tokens` of the request."""

    @property
    def is_done(self) -> bool:
        """Whether the reply was a stream that ended with [DONE]."""
        return self.bodies[-1:] == ("[DONE]",)

    @property
    def was_cut(self) -> bool:
        """Whether the answer was cut, by its finish reason or its token count. What it lacks then proves nothing."""
        parts = self.parts
        return parts is not None and (parts.finish_reason == "length" or parts.usage.output_tokens >= self.max_tokens)

    @property
    def was_cut_before_it_began(self) -> bool:
        """Whether the answer was cut before any text or call, so while the model was thinking."""
        return self.was_cut and not self.calls and not self.text.strip()

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
        sent = json.dumps(body).encode()
        try:
            try:
                return await self._answer(sent, max_tokens)
            except TimedOut:
                raise
            except (ConnectionFailed, StreamBroken):
                self.sent_again += 1
                return await self._answer(sent, max_tokens)
        except TimedOut as error:
            raise TemporaryFailure(self._hidden(error)) from error

    async def _answer(self, sent: bytes, max_tokens: int) -> Answer:
        """Send a request once, over a new connection: a kept one may be closed by the server at any time.

        The reply is read as the model reads its own. Raises `ConnectionFailed`, and `StreamBroken` if the reply is cut.
        """
        model, self.sent = copy(self.model), self.sent + 1
        try:
            response = await model.send(sent)
            try:
                return await self._read(_RecordedResponse(response), max_tokens)
            finally:
                await response.aclose()
        finally:
            await model.aclose()

    async def _read(self, response: _RecordedResponse, max_tokens: int) -> Answer:
        status = response.status_code
        reply = ReplyBytes(response, _MAX_BYTES, self.model.endpoint.url, renew=lambda: None)
        if status >= 300:
            error = read_error(status, await read_refusal(reply), response.headers)
            if error.retryable:
                raise TemporaryFailure(self._hidden(error))
            return Answer(status, None, self._hidden(error))
        try:
            parts = await read_reply(reply, None, ReplyReader(think_tags=self.profile.think_tags))
        except (ConnectionFailed, StreamBroken):
            raise
        except ModelError as error:
            return Answer(status, None, self._hidden(error))
        content = b"".join(response.pieces)
        is_whole = is_json(content)
        answer = Answer(status, parts, "", (_json(content),) if is_whole else _chunks(content), is_whole, max_tokens)
        if response.failure and not (is_whole or answer.is_done):
            raise response.failure  # the model accepts a reply with a finish reason; a check needs all of it
        self.usage += parts.usage
        return answer

    def _hidden(self, error: ModelError) -> str:
        """The error's text without the key, which some servers repeat."""
        return redact(self.model.hider.hide(str(error)))


class _RecordedResponse:
    """A response that records the pieces of its body, and the failure that ended it."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status_code, self.headers, self.via = response.status_code, response.headers, response.via
        self.pieces: list[bytes] = []
        self.failure: ModelError | None = None

    async def read(self) -> bytes:
        """The next bytes of the body."""
        try:
            self.pieces.append(await self._response.read())
        except ModelError as error:
            self.failure = error
            raise
        return self.pieces[-1]

    async def aclose(self) -> None:
        """Close the response."""
        await self._response.aclose()


def _json(text: bytes) -> Any:
    return read_chunk(text.removeprefix(b"\xef\xbb\xbf").strip())


def _chunks(content: bytes) -> tuple[Any, ...]:
    """The JSON chunks of a stream, then "[DONE]" if it came. Events that the reader ignores are left out."""
    events = [data.strip() for data in SSEParser().feed(content + b"\n\n")]
    chunks = [_json(data) for data in events if data[:1] == b"{" and is_json(data)]
    done = any(data[:1] != b"{" and b"[DONE]" in data.upper() for data in events)
    return (*chunks, *(["[DONE]"] if done else []))


def matches(text: str, *keys: str, **allowed: Sequence[str]) -> bool:
    """Whether a text is a JSON object with exactly these keys, whose values are strings and among the allowed ones."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(value, dict)
        and {*value} == {*keys, *allowed}
        and all(isinstance(item, str) for item in value.values())
        and all(value[key] in values for key, values in allowed.items())
    )
