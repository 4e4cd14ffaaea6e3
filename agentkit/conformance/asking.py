"""The requests of the checks, and how their replies are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

from ..errors import ModelError
from ..messages import Usage
from ..models.bodies import read_chunk, read_whole
from ..models.chat import ChatModel
from ..models.profiles import Profile
from ..models.refusals import read_error
from ..models.replies import Parts, ReplyReader
from ..sse import SSEParser

__all__ = ["OUT", "Message", "Passing", "Seen", "Server"]

Message: TypeAlias = dict[str, Any]

OUT = 400
"""The usual bound of an answer, in tokens."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A response: its status, its parsed reply or the text of its error, and its JSON bodies (one, or the chunks)."""

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


class Passing(Exception):
    """A failure that says nothing of what the server supports: it is busy or slow, or limits the rate."""


class Server:
    """Sends the requests of the checks, and counts what they use.

    `client` must not keep connections: a server that closes one between two checks would look broken.
    """

    def __init__(self, model: ChatModel, profile: Profile, client: httpx.AsyncClient) -> None:
        self.model, self.profile, self._client = model, profile, client
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
        response = await self._send(json.dumps(body))
        if response.status_code >= 300:
            error = read_error(response.status_code, response.content, response.headers)
            if error.retryable:
                raise Passing(self._hidden(error))
            return Seen(response.status_code, None, self._hidden(error))
        try:
            parts, bodies = _read(response.content, self.profile)
        except ModelError as error:
            return Seen(response.status_code, None, self._hidden(error))
        self.usage += parts.usage
        return Seen(response.status_code, parts, "", bodies)

    async def _send(self, body: str) -> httpx.Response:
        """The response; asked for once more, on a new connection, if the first one fails."""
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if self.model.endpoint.api_key:
            headers["authorization"] = f"Bearer {self.model.endpoint.api_key}"
        for is_last in (False, True):
            self.sent += 1
            try:
                return await self._client.post(self.model.endpoint.url, content=body, headers=headers)
            except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
                raise Passing(f"no answer in time ({type(error).__name__})") from error
            except (httpx.TransportError, httpx.DecodingError):
                if is_last:
                    raise
                self.sent_again += 1
        raise AssertionError  # the loop returns or raises

    def _hidden(self, error: ModelError) -> str:
        """The error's text without the key, which some servers repeat."""
        key = self.model.endpoint.api_key
        return str(error).replace(key, "[api key]") if key and len(key) >= 8 else str(error)


def _read(content: bytes, profile: Profile) -> tuple[Parts, tuple[Any, ...]]:
    if content.lstrip()[:1] == b"{":
        return read_whole(content, ReplyReader(think_tags=profile.think_tags)), (json.loads(content),)
    reader, bodies = ReplyReader(think_tags=profile.think_tags), []
    for data in SSEParser().feed(content + b"\n\n"):
        if data and data != b"[DONE]":
            bodies.append(read_chunk(data))
            list(reader.feed(bodies[-1]))
    return reader.parts(), (*bodies, *(["[DONE]"] if b"[DONE]" in content else []))
