"""The requests of the checks, and how their replies are read."""

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
from ..http.senders import Response
from ..http.sse import SSEParser
from ..profiles import Profile
from ..refusals import read_error
from ..replies import Parts, ReplyReader

__all__ = ["OUT", "Message", "Passing", "Seen", "Server", "fits"]

Message: TypeAlias = dict[str, Any]

OUT = 400
"""The usual bound of an answer, in tokens."""
_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Seen:
    """A response: its status, its parsed reply or the text of its error, and its JSON bodies (one, or the chunks)."""

    status: int
    parts: Parts | None
    error: str
    bodies: tuple[Any, ...] = ()
    came_whole: bool = False
    """Whether the reply was one JSON text, and no stream."""
    most: int = OUT
    """The most tokens that the answer might have."""

    @property
    def is_done(self) -> bool:
        """Whether a stream came to its [DONE]."""
        return self.bodies[-1:] == ("[DONE]",)

    @property
    def was_cut(self) -> bool:
        """Whether the answer was cut, by its finish reason or by its number of tokens. What is missing in it says nothing."""
        parts = self.parts
        return parts is not None and (parts.finish_reason == "length" or parts.usage.output_tokens >= self.most)

    @property
    def was_cut_before_it_began(self) -> bool:
        """Whether it was cut before its text or a call, so while the model was thinking."""
        return self.was_cut and not self.calls and not self.text.strip()

    @property
    def calls(self) -> Sequence[Any]:
        """The tool calls; none if there is no reply."""
        return self.parts.message.tool_calls if self.parts else ()

    @property
    def text(self) -> str:
        """The text; empty if there is no reply."""
        return self.parts.message.text if self.parts else ""


class Passing(Exception):
    """A failure that says nothing of what the server supports: it is busy or slow, or limits the rate."""


class Server:
    """Sends the requests of the checks as the model sends its own, and counts what they use."""

    def __init__(self, model: ChatModel, profile: Profile) -> None:
        self.model, self.profile = model, profile
        self.usage = Usage()
        self.sent = self.sent_again = 0
        self.max_tokens_field = profile.max_tokens_field
        self.forces_any: bool | None = None
        """Whether the choice "required" is enforced; None until that is known."""

    async def ask(self, prompt: str | list[Message], *, thinking: bool = False, most: int = OUT, **fields: Any) -> Seen:
        """One request. Thinking is off where the profile knows how, since it costs; a field of None is left out."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {"model": self.model.name, "messages": messages, self.max_tokens_field: most}
        body |= self.profile.thinking_on if thinking else self.profile.thinking_off
        body |= {name: value for name, value in fields.items() if value is not None}
        sent = json.dumps(body).encode()
        try:
            try:
                return await self._answer(sent, most)
            except TimedOut:
                raise
            except (ConnectionFailed, StreamBroken):
                self.sent_again += 1
                return await self._answer(sent, most)
        except TimedOut as error:
            raise Passing(self._hidden(error)) from error

    async def _answer(self, sent: bytes, most: int) -> Seen:
        """The response to one sending, over a new connection, so that a server may close those it kept.

        A reply is read as the model reads its own. Raises `ConnectionFailed`, and `StreamBroken` for a reply that is not whole.
        """
        model, self.sent = copy(self.model), self.sent + 1
        try:
            response = await model.send(sent)
            try:
                return await self._seen(_Recorded(response), most)
            finally:
                await response.aclose()
        finally:
            await model.aclose()

    async def _seen(self, response: _Recorded, most: int) -> Seen:
        status = response.status_code
        reply = ReplyBytes(response, _MAX_BYTES, self.model.endpoint.url, renew=lambda: None)
        if status >= 300:
            error = read_error(status, await read_refusal(reply), response.headers)
            if error.retryable:
                raise Passing(self._hidden(error))
            return Seen(status, None, self._hidden(error))
        try:
            parts = await read_reply(reply, None, ReplyReader(think_tags=self.profile.think_tags))
        except (ConnectionFailed, StreamBroken):
            raise
        except ModelError as error:
            return Seen(status, None, self._hidden(error))
        content = b"".join(response.pieces)
        whole = is_json(content)
        seen = Seen(status, parts, "", (_json(content),) if whole else _chunks(content), whole, most)
        if response.failure and not (whole or seen.is_done):
            raise response.failure  # the model takes a reply with a finish reason; a check wants all of it
        self.usage += parts.usage
        return seen

    def _hidden(self, error: ModelError) -> str:
        """The error's text without the key, which some servers repeat."""
        return redact(self.model.hider.hide(str(error)))


class _Recorded:
    """A response that keeps what was read of its body, and the failure that ended it."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status_code, self.headers = response.status_code, response.headers
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
    """The JSON bodies of a stream, and the mark of its end. What the reader passes over is no body."""
    events = [data.strip() for data in SSEParser().feed(content + b"\n\n")]
    chunks = [_json(data) for data in events if data[:1] == b"{" and is_json(data)]
    done = any(data[:1] != b"{" and b"[DONE]" in data.upper() for data in events)
    return (*chunks, *(["[DONE]"] if done else []))


def fits(text: str, *keys: str, **allowed: Sequence[str]) -> bool:
    """Whether a text is a JSON object with these keys alone, each a string, and with one of the allowed values."""
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
