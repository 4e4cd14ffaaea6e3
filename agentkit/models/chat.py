"""The client of chat-completions servers: one httpx client per event loop, and typed errors."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pydantic_core import from_json

from ..errors import ConnectionFailed, ContentFiltered, EmptyReply, ModelError, Overloaded, SettingsError, StreamBroken
from ..model import DeltaSink, ModelReply, ModelRequest
from ..sse import SSEParser
from . import wire
from .endpoint import find_endpoint
from .prices import cost_of
from .profiles import Profile, find_profile
from .replies import Parts, ReplyReader, read_error, read_whole

if TYPE_CHECKING:
    import httpx

__all__ = ["ChatModel"]

_INTERRUPTED = ("insufficient_system_resource", "aborted", "error", "network_error")
_HEADS = 16


class ChatModel:
    """A model behind an OpenAI-compatible chat-completions API.

    `base_url` may or may not end in `/v1`; it, `api_key` and `model` come from the environment where they are not given
    (see `find_endpoint`). `timeout` is the most seconds without any byte from the server, keep-alives included;
    `deadline` the most for a whole reply. `client` is your own `httpx.AsyncClient` or `httpx2.AsyncClient`, used as it is
    and never closed here. Raises `SettingsError` for a wrong base URL; a missing key is raised by the first call.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        profile: Profile | None = None,
        client: httpx.AsyncClient | Any = None,
        timeout: float = 300.0,
        deadline: float | None = 1800.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.endpoint = find_endpoint(model, base_url, api_key, os.environ)
        self.name = self.endpoint.model
        self.profile = profile or find_profile(self.endpoint.base_url, self.name)
        self._timeout, self._deadline, self._clock = timeout, deadline, clock
        self._encode = wire.encoder(self.profile)
        self._heads: dict[tuple[object, ...], tuple[ModelRequest, bytes]] = {}
        self._own_client = client
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"ChatModel({self.name!r}, base_url={self.endpoint.base_url!r}, profile={self.profile.name!r})"

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """One whole reply. Raises `SettingsError` before sending, else a `ModelError` of the kind that fits.

        With `on_delta` (or `settings.stream`) the reply is streamed, and its pieces are awaited into `on_delta`.
        """
        self.endpoint.require_key()
        stream = on_delta is not None if request.settings.stream is None else request.settings.stream
        body = self._body(request, stream)
        try:
            async with asyncio.timeout(self._deadline) as scope:
                parts = await self._exchange(body, on_delta)
        except TimeoutError:
            if scope.expired():
                raise ConnectionFailed(f"no whole reply within the deadline of {self._deadline:g} seconds") from None
            raise
        prices = self.profile.price_of(self.name)
        cost = cost_of(prices, parts.usage, self._clock()) if prices else None
        return ModelReply(_judged(parts).message, parts.usage, parts.finish_reason, parts.model, cost)

    async def aclose(self) -> None:
        """Close the connections of this event loop. A client that was given is left open."""
        held = self._clients.pop(asyncio.get_running_loop(), None)
        if held:
            await held.closer.aclose()

    def _body(self, request: ModelRequest, stream: bool) -> bytes:
        key = (id(request.tools), id(request.settings), request.tool_choice, stream)
        held = self._heads.get(key)
        if held is None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            # the request is kept so that the ids in the key stay taken
            kept = ModelRequest((), request.tools, request.tool_choice, request.settings)
            held = self._heads[key] = (kept, wire.head(request, self.profile, self.name, stream=stream))
        messages = request.messages
        if request.settings.response_format == "json_object":
            messages = wire.with_json_word(messages)
        return wire.body(held[1], messages, self.profile, self._encode)

    async def _exchange(self, body: bytes, on_delta: DeltaSink | None) -> Parts:
        async with self._sent(body) as response:
            if not 200 <= response.status_code < 300:
                raise _refused(response.status_code, await response.aread(), response.headers)
            if "text/event-stream" in response.headers.get("content-type", ""):
                return await _read_stream(response.aiter_bytes(), on_delta)
            parts = read_whole(await response.aread())
        if on_delta:  # the server does not stream: a watcher gets the reply in one piece
            await _show(parts, on_delta)
        return parts

    @asynccontextmanager
    async def _sent(self, body: bytes) -> AsyncIterator[Any]:
        """The response to this body; what the HTTP library raises comes out as `ConnectionFailed` or `StreamBroken`."""
        client = self._own_client or await self._client()
        http = _library_of(client)
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        if self.endpoint.api_key:
            headers["authorization"] = f"Bearer {self.endpoint.api_key}"
        response = None
        try:
            timeout = http.Timeout(self._timeout, connect=min(10.0, self._timeout), pool=None)
            sent = client.build_request("POST", self.endpoint.url, content=body, headers=headers, timeout=timeout)
            response = await client.send(sent, stream=True)
            yield response
        except http.TimeoutException as error:
            kind = "connect" if isinstance(error, http.ConnectTimeout) else "no byte"
            raise ConnectionFailed(f"{kind}: nothing from {self._where} within {self._timeout:g} seconds") from error
        except http.TransportError as error:
            broken = ConnectionFailed if response is None else StreamBroken
            raise broken(f"{self._where}: {error or type(error).__name__}") from error
        except (http.DecodingError, http.StreamError) as error:
            raise StreamBroken(f"{self._where}: the reply cannot be decoded: {error}") from error
        except (http.InvalidURL, http.TooManyRedirects) as error:
            raise SettingsError(f"base_url {self.endpoint.base_url!r} does not work: {error}") from error
        finally:
            if response is not None:
                await response.aclose()

    @property
    def _where(self) -> str:
        return self.endpoint.url

    async def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        held = self._clients.get(loop)
        if held is None:
            held = self._clients[loop] = _LoopClient()
            await held.closer.__anext__()
        return held.client


class _LoopClient:
    """An httpx client for one event loop, closed with it.

    `asyncio.run` ends every asynchronous generator of its loop, so one that closes the client in its `finally` makes a
    forgotten `aclose` leak nothing.
    """

    def __init__(self) -> None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)
        self.client = httpx.AsyncClient(limits=limits, follow_redirects=False)
        self.closer = self._close_at_end(self.client)

    @staticmethod
    async def _close_at_end(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await client.aclose()


def _library_of(client: Any) -> Any:
    """The module whose errors this client raises: httpx, or httpx2."""
    for kind in type(client).__mro__:
        root = kind.__module__.split(".")[0]
        if root in ("httpx", "httpx2"):
            return importlib.import_module(root)
    raise SettingsError(f"client is a {type(client).__name__}; allowed: httpx.AsyncClient or httpx2.AsyncClient")


async def _read_stream(chunks: AsyncIterator[bytes], on_delta: DeltaSink | None) -> Parts:
    parser, reader, done = SSEParser(), ReplyReader(), False
    async for chunk in chunks:
        for data in parser.feed(chunk):
            if data == b"[DONE]":
                done = True
                continue
            try:
                value = from_json(data)
            except ValueError as error:
                raise StreamBroken(f"a stream chunk is not JSON: {error}", body=data[:200].decode("utf-8", "replace")) from None
            for delta in reader.feed(value):
                if on_delta:
                    await on_delta(delta)
    if not done:
        raise StreamBroken("the stream ended without [DONE]: the reply was cut")
    return reader.parts()


async def _show(parts: Parts, on_delta: DeltaSink) -> None:
    from ..events import ReasoningDelta, TextDelta, ToolArgsDelta

    message = parts.message
    if message.reasoning:
        await on_delta(ReasoningDelta(message.reasoning))
    if message.text:
        await on_delta(TextDelta(message.text))
    for index, call in enumerate(message.tool_calls):
        await on_delta(ToolArgsDelta(index, call.name, call.arguments))


def _judged(parts: Parts) -> Parts:
    """The reply, if it counts as one; else the error that it amounts to."""
    message, finish = parts.message, parts.finish_reason
    if finish in ("content_filter", "sensitive"):
        raise ContentFiltered(f"the server withheld the reply ({finish})", partial=message.text)
    if finish in _INTERRUPTED:
        raise Overloaded(f"the server broke off ({finish})")
    if not message.text.strip() and not message.tool_calls and finish != "length":
        thought = " but thinking text" if message.reasoning else ""
        raise EmptyReply(f"the reply has no text and no tool call{thought} (finish_reason {finish})")
    return parts


def _refused(status: int, body: bytes, headers: Mapping[str, str]) -> ModelError:
    error = read_error(status, body, headers)
    error.retry_after = retry_after(headers)
    return error


def retry_after(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date; never negative."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(value).astimezone(UTC) - now()).total_seconds()
            except ValueError:
                continue
        if seconds == seconds and seconds >= 0:
            return seconds
    return None
