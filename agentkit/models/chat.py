"""The client of chat-completions servers: one httpx client per event loop, and typed errors."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..errors import (
    AuthError,
    BadRequest,
    ConnectionFailed,
    ContentFiltered,
    ContextTooLong,
    EmptyReply,
    EndpointWarning,
    ModelError,
    Overloaded,
    ReplyTooLarge,
    SettingsError,
    StreamBroken,
    TimedOut,
)
from ..keys import Hider, Secret, Unseen, clean_error
from ..limiter import Limiter, Turn, limiter_for
from ..messages import BYTES_PER_TOKEN, Assistant, Spent, ToolCall, Usage
from ..model import DeltaSink, Lost, ModelReply, ModelRequest
from ..names import known_name, wire_name
from ..redact import redact
from ..sse import SSEParser
from ..threads import Threads
from . import wire
from .clients import LoopClients
from .connections import own_sender
from .credentials import endpoint_with, payer
from .deadline import Deadline
from .endpoint import KeyFunction
from .headers import checked_headers
from .markup import BrokenMarkup, looks_like_a_call, read_markup
from .prices import cost_of
from .profiles import Profile, find_profile, profile_named
from .replies import Parts, ReplyReader, read_chunk, read_error, read_whole
from .senders import ClientSender, Response
from .waits import asked_wait

if TYPE_CHECKING:
    import httpx

__all__ = ["ChatModel"]

_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
_INTERRUPTED = ("insufficient_system_resource", "aborted", "error", "network_error")
_EVENT_STARTS = (b":", b"d", b"e", b"i", b"r", b"\xef")
"""First bytes of a stream: a comment, data, event, id, retry, a byte order mark. JSON begins with none of them."""
_HEADS = 16
_CONNECT = 10.0
_DRAIN = 0.5
_ERROR_BYTES = 65_536


class ChatModel:
    """A model behind an OpenAI-compatible chat-completions API.

    `base_url` may or may not end in `/v1`; it, `api_key` and `model` come from the environment where they are not given (see
    `find_endpoint`). `api_key` is a text, or a function, sync or async, that is called for each request and gives one.
    `headers` are sent with each request; one such as `api-key` takes the place of a key. `profile` (or its name) says what the
    server needs; else it is found by the base URL or the model's name. `timeout` is the most seconds without any byte from the
    server, keep-alives included; `deadline` the most for a whole reply, without the time that its watchers take; `max_bytes`
    its most bytes, decompressed. `limiter` paces the requests; by default all models of the process with the same name, server
    and key (or function, or client that authenticates itself) share one. `client` is your own `httpx.AsyncClient` or
    `httpx2.AsyncClient`, used as it is and never closed here; over one that authenticates itself no key of the environment is
    sent. Raises `SettingsError` for a wrong base URL, key or header; a missing key is raised by the first call.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | KeyFunction | None = None,
        headers: Mapping[str, str] | None = None,
        profile: Profile | str | None = None,
        client: httpx.AsyncClient | Any = None,
        timeout: float = 300.0,
        deadline: float | None = 1800.0,
        max_bytes: int = 64 * 2**20,
        limiter: Limiter | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        key, place, extra = Unseen(api_key), Unseen(base_url), Unseen(headers or {})
        del api_key, base_url, headers  # the traceback of an error must not show them
        for argument, given in (("model", Unseen(model)), ("base_url", place)):
            if given.reveal() is not None and not isinstance(given.reveal(), str):
                raise SettingsError(f"{argument} is a {type(given.reveal()).__name__}; allowed: text or None")
        for argument, number in (("timeout", timeout), ("deadline", deadline), ("max_bytes", max_bytes)):
            if number is not None and not (isinstance(number, int | float) and number > 0):
                raise SettingsError(f"{argument} is {number!r}; allowed: a number above 0")
        if isinstance(profile, str):
            profile = profile_named(profile)
        if profile is not None and not isinstance(profile, Profile):
            raise SettingsError(f"profile is {profile!r}; allowed: a Profile, or the name of one such as 'vllm'")
        own = checked_headers(extra)
        self.endpoint = endpoint_with(model, place, key, own, client)
        self.name = self.endpoint.model
        self.profile = profile or find_profile(self.endpoint.base_url, self.name)
        self._timeout, self._deadline, self._max_bytes, self._clock = timeout, deadline, max_bytes, clock
        self._encode = wire.encoder(self.profile)
        self._heads: dict[tuple[object, ...], tuple[ModelRequest, bytes]] = {}
        self._headers, self._threads, self.hider = own.over(_HEADERS), Threads(), Hider(own.secrets)
        if isinstance(self.endpoint.key, Secret):
            self._headers = self._headers.bearing(self.endpoint.key)
            self.hider.add(self.endpoint.key)
        self._own_client = None if client is None else ClientSender(client, self.endpoint.url, learn=self.hider.add)
        self.limiter = limiter or limiter_for(self.endpoint.url, self.name, payer(self.endpoint, own, client))
        is_elsewhere = not self.endpoint.is_loopback  # no proxy leads to this machine
        self._clients = LoopClients(partial(own_sender, self.endpoint.url, proxies=is_elsewhere))
        self._waits = {"connect": min(_CONNECT, timeout), "read": timeout}

    def __repr__(self) -> str:
        return f"ChatModel({self.name!r}, base_url={self.endpoint.base_url!r}, profile={self.profile.name!r})"

    def check(self, request: ModelRequest) -> None:
        """Raise `SettingsError` where the request breaks a limit of the server, naming the field, the value and the range."""
        wire.check(request, self.profile)

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """One whole reply. Raises `SettingsError` before sending, else a `ModelError` of the kind that fits.

        With `on_delta` (or `settings.stream`) the reply is streamed, and its pieces are awaited into `on_delta`.
        """
        self.endpoint.require_key()
        stream = self._streams(request, on_delta) if request.settings.stream is None else request.settings.stream
        body = self._body(request, stream)
        reader = ReplyReader(think_tags=self.profile.think_tags, sent=len(body))
        turn = self.limiter.turn(len(body) // BYTES_PER_TOKEN)
        try:
            parts = await self._paced(body, on_delta, reader, turn)
            message = parts.message
            if request.tools:
                readable = request.tool_choice != "none" and parts.finish_reason != "length"
                message = self._with_calls(message, [tool.name for tool in request.tools], readable=readable)
        except BaseException as error:  # a cancellation tells as well what it cost
            self.clean(error)
            counted = replace(reader.usage, requests=0)
            used = counted + reader.uncounted(counted)
            Lost(Spent(used, self._cost(used)), turn.waited).tell(error)
            raise
        cost, uncounted = self._cost(parts.usage), Spent()
        if parts.uncounted.total_tokens:
            cost, uncounted = None, Spent(parts.uncounted, self._cost(parts.usage + parts.uncounted))
        return ModelReply(message, parts.usage, parts.finish_reason, parts.model, cost, turn.waited, uncounted)

    async def _paced(self, body: bytes, on_delta: DeltaSink | None, reader: ReplyReader, turn: Turn) -> Parts:
        """The reply, in its turn and in time."""
        try:
            async with turn, Deadline(self._deadline) as deadline:
                turn.shown_for = deadline.shown_for
                parts = _judged(await self._exchange(body, on_delta and deadline.showing(on_delta), reader, turn))
                turn.used = parts.usage.total_tokens or None
        except TimeoutError:
            if deadline.expired:
                raise TimedOut(f"no whole reply within the deadline of {self._deadline:g} seconds") from None
            raise
        return parts

    def _cost(self, usage: Usage) -> float | None:
        prices = self.profile.price_of(self.name)
        return cost_of(prices, usage, self._clock()) if prices else None

    def _streams(self, request: ModelRequest, on_delta: DeltaSink | None) -> bool:
        thinking = request.settings.thinking
        thinks = self.profile.thinking_default if thinking is None else thinking
        return on_delta is not None or (self.profile.thinks_in_streams and thinks is not False)

    def _with_calls(self, message: Assistant, names: list[str], *, readable: bool) -> Assistant:
        """The message with its calls under the names of the offered tools, and with calls that came as markup in its text."""
        if not message.tool_calls and message.text:
            return self._calls_in_text(message, names) if readable else message
        calls = tuple(
            call if call.name in names else replace(call, name=known_name(call.name, names)) for call in message.tool_calls
        )
        return message if calls == message.tool_calls else replace(message, tool_calls=calls)

    def _calls_in_text(self, message: Assistant, names: list[str]) -> Assistant:
        if self.profile.markup_calls:
            try:
                text, calls = read_markup(message.text, [wire_name(name) for name in names])
            except BrokenMarkup as error:
                raise StreamBroken(str(error), body=message.text[:200]) from None
            if calls:
                calls = tuple(ToolCall(f"call_{uuid4().hex[:24]}", known_name(c.name, names), c.arguments) for c in calls)
                return replace(message, text=text, tool_calls=calls)
        if looks_like_a_call(message.text, [wire_name(name) for name in names]):
            warnings.warn(
                f"{self.endpoint.base_url}: the answer is a call written as text, and is not run; check the server's chat "
                "template and its tool-call parser for this model",
                EndpointWarning,
                stacklevel=2,
            )
        return message

    async def aclose(self) -> None:
        """Close the connections of this event loop. A client that was given is left open."""
        await self._clients.aclose()

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

    async def _exchange(self, body: bytes, on_delta: DeltaSink | None, reader: ReplyReader, turn: Turn) -> Parts:
        response = await self.send(body)
        try:
            reply = _Reply(response, self._max_bytes, self.endpoint.url)
            if not 200 <= response.status_code < 300:
                raise _refused(response.status_code, await _error_body(reply), response.headers, self._clock)
            turn.answered()
            return await _read(reply, on_delta, reader)
        finally:
            await response.aclose()

    async def send(self, body: bytes) -> Response:
        """The server's response to a request's body, with the headers of this model and the key of this moment."""
        headers = self._headers
        if self.endpoint.key is not None and not isinstance(self.endpoint.key, Secret):
            key = await self.endpoint.ask_key(self.endpoint.key, self._threads)
            self.hider.add(key)
            headers = headers.bearing(key)
        sender = self._own_client or await self._clients.current()
        return await sender.send(body, headers, self._waits)

    def clean(self, error: BaseException) -> None:
        """Take the key out of an error, and say so where the server refuses a request that had none."""
        clean_error(error, self.hider)
        if isinstance(error, AuthError) and error.status == 401 and not self.endpoint.key and not self._headers.has_key:
            error.add_note("No API key was sent: none was given, or the client authenticates itself. See api_key=.")


class _Reply:
    """The bytes of a reply as they come, at most so many."""

    def __init__(self, response: Response, most: int, url: str) -> None:
        self._response, self._most, self._left, self._url = response, most, most, url

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        piece = await self._response.read()
        self._left -= len(piece)
        if self._left < 0:
            raise ReplyTooLarge(f"{self._url}: the reply is larger than {self._most:,} bytes (max_bytes)")
        return piece


async def _read(reply: _Reply, on_delta: DeltaSink | None, reader: ReplyReader) -> Parts:
    """The reply, streamed or whole. Its first byte tells which: servers ignore `stream`, and name wrong content types."""
    first = b""
    while not first and (piece := await reply.read()):
        first = piece.lstrip()  # blank lines keep the connection of a queued request open
    if first.startswith(_EVENT_STARTS):
        return await _read_stream(first, reply, on_delta, reader)
    pieces = [first]
    while piece := await reply.read():
        pieces.append(piece)
    parts = read_whole(b"".join(pieces), reader)
    if on_delta:  # a watcher gets the reply in one piece
        await _show(parts, on_delta)
    return parts


async def _read_stream(piece: bytes, reply: _Reply, on_delta: DeltaSink | None, reader: ReplyReader) -> Parts:
    parser = SSEParser()
    try:
        while piece:
            if await _take(parser.feed(piece), reader, on_delta):
                if on_delta:  # who has seen a piece can still leave, though the rest has come with it
                    await asyncio.sleep(0)
                await _drain(reply)
                return reader.parts()
            piece = await reply.read()
        with suppress(StreamBroken):  # of a last line that was cut
            if await _take(parser.feed(b"\n\n"), reader, on_delta):  # some servers leave out its blank line
                return reader.parts()
        if not reader.finished:
            raise StreamBroken("the stream ended without a finish reason: the reply was cut")
        return reader.parts()  # some servers leave out [DONE]
    except ModelError as error:
        error.partial = error.partial or reader.text
        raise


async def _take(events: list[bytes], reader: ReplyReader, on_delta: DeltaSink | None) -> bool:
    """Take the data of these events in; whether the last of the stream was among them."""
    for data in events:
        if data == b"[DONE]":
            return True
        if data:
            for delta in reader.feed(read_chunk(data)):
                if on_delta:
                    await on_delta(delta)
    return False


async def _drain(reply: _Reply) -> None:
    """Read to the end of a reply that is whole already, so that its connection can be used again."""
    with suppress(ModelError, TimeoutError):
        async with asyncio.timeout(_DRAIN):
            while await reply.read():
                pass


async def _error_body(reply: _Reply) -> bytes:
    """What can be had of the body of a refusal; the status says enough if it is cut."""
    body = b""
    with suppress(ConnectionFailed, StreamBroken):
        while len(body) <= _ERROR_BYTES and (piece := await reply.read()):
            body += piece
    return body


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
        raise Overloaded(f"the server broke off ({finish})", partial=message.text)
    if finish == "model_context_window_exceeded":
        raise ContextTooLong(f"the reply did not fit the context window ({finish})", partial=message.text)
    if not message.text.strip() and not message.tool_calls and finish != "length":
        thought = " but thinking text" if message.reasoning else ""
        raise EmptyReply(f"the reply has no text and no tool call{thought} (finish_reason {finish})")
    return parts


def _refused(status: int, body: bytes, headers: Mapping[str, str], clock: Callable[[], datetime]) -> ModelError:
    if 300 <= status < 400:
        target = ascii(redact(headers.get("location", "nowhere")))[1:-1][:300]  # it is the server's text
        return BadRequest(f"HTTP {status}: the server redirects to {target}; set base_url to where it is now", status=status)
    error = read_error(status, body, headers)
    error.retry_after = asked_wait(headers, clock)
    return error
