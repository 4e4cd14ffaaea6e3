"""The client of chat-completions servers: one httpx client per event loop, and typed errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from warnings import warn

from .._threads import Threads
from ..errors import (
    AuthError,
    ContentFiltered,
    ContextTooLong,
    EmptyReply,
    EndpointWarning,
    ModelError,
    Overloaded,
    SettingsError,
    TimedOut,
)
from ..messages import BYTES_PER_TOKEN, Spending, Usage
from ..model import DeltaSink, FailedAttempts, ModelInfo, ModelReply, ModelRequest
from ..names import with_article
from ..prices import Price, cost_of, price_given
from ..redact.keys import Hider, Secret, Unseen, clean_error
from . import wire
from .credentials import account_of, endpoint_with
from .endpoint import KeyFunction
from .http.connections import transport_for
from .http.deadline import Deadline
from .http.headers import Headers, checked_headers
from .http.receive import ReplyBytes, read_refusal, read_reply
from .http.transports import ClientTransport, Response
from .loop_transports import LoopTransports
from .offered import with_offered_calls
from .profiles import Profile, profile_for
from .rate_limit import Limiter, Slot, limiter_for
from .refusals import add_request, asked, refused, request_id_in
from .replies import Parts, ReplyReader
from .wire_parts import check_parts, estimated_excess

if TYPE_CHECKING:
    import httpx

__all__ = ["ChatModel"]

log = logging.getLogger("agentkit")

_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
_MAX_HEADS = 16
_CONNECT_TIMEOUT = 10.0
_SLOW_WAIT = 1.0
"""Seconds. A longer wait for a slot is logged."""


class ChatModel:
    """A model behind an OpenAI-compatible chat-completions API.

    `base_url` may end in `/v1` or not. `base_url`, `api_key` and `model` default to the environment (see `find_endpoint`).
    `api_key` is a text, or a sync or async function that returns one and is called for each request. `headers` are sent with
    each request; a header such as `api-key` replaces the key. `profile`, or its name, says what the server needs; the default
    is found by the base URL or the model's name. `timeout` is the max seconds without a byte from the server; keep-alives count
    as bytes. `deadline` is the max seconds for a whole reply; time in observers does not count. `max_bytes` is the max size of
    a reply, decompressed. `price` is in US dollars per million tokens (input, output), and replaces the profile's. `limiter`
    paces the requests; by default, all models of the process with the same name, server and key share one. A key function, or a
    client that authenticates itself, counts as the key there. `client` is your own `httpx.AsyncClient` or `httpx2.AsyncClient`:
    it is used as it is, and never closed here. If it authenticates itself, no key from the environment is sent. `parts` says
    what to do with an image, audio or a file that the model does not take: refuse the request, or send its name. `clock`
    gives the time, which decides between prices that change and says how long until a date in `Retry-After`. Raises
    `SettingsError` for a wrong base URL, key or header. A missing key is raised by the first call.
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
        price: tuple[float, float] | Price | None = None,
        limiter: Limiter | None = None,
        parts: Literal["refuse", "placeholder"] = "refuse",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        own = {"api_key": api_key, "client": client, "headers": headers, "limiter": limiter}
        self._own_parts = [name for name, part in own.items() if part is not None]
        key, address, given_headers = Unseen(api_key), Unseen(base_url), Unseen({} if headers is None else headers)
        del api_key, base_url, headers, own  # the traceback of an error must not show them
        _check({"model": Unseen(model), "base_url": address}, timeout=timeout, deadline=deadline, max_bytes=max_bytes)
        if parts not in ("refuse", "placeholder"):
            raise SettingsError(f"parts is {parts!r:.80}; allowed: refuse, placeholder")
        defaults = ChatModel.__init__.__kwdefaults__ or {}
        self._arguments = {name: value for name, value in locals().items() if name in defaults and value is not defaults[name]}
        own_headers = checked_headers(given_headers)
        self.endpoint = endpoint_with(model, address, key, own_headers, client)
        self.name = self.endpoint.model
        self.profile = profile_for(self.name, self.endpoint.base_url, profile)
        if price is not None:
            self.profile = replace(self.profile, prices={"": (price_given(price),)}, price_note="")
        self._timeout, self._deadline, self._max_bytes, self._clock = timeout, deadline, max_bytes, clock
        self._encode, self._placeholders = wire.encoder(self.profile), parts == "placeholder"
        self._heads: dict[tuple[object, ...], tuple[ModelRequest, bytes]] = {}
        self._threads, self.client = Threads(), client
        self._use_headers(own_headers)
        self.limiter = limiter or limiter_for(self.endpoint.url, self.name, account_of(self.endpoint, own_headers, client))
        self._client_transport, self._transports = self._transport_of_client(), self._new_transports()
        self._timeouts = {"connect": min(_CONNECT_TIMEOUT, timeout), "read": timeout}

    def _use_headers(self, own: Headers) -> None:
        """Send these headers and the key, and hide what in them is secret."""
        self._headers, self.hider, key = own.with_defaults(_HEADERS), Hider(own.secrets), self.endpoint.key
        if isinstance(key, Secret):
            self._headers = self._headers.with_bearer(key)
            self.hider.add(key)

    def __repr__(self) -> str:
        return f"ChatModel({self.name!r}, base_url={self.endpoint.base_url!r}, profile={self.profile.name!r})"

    def _transport_of_client(self) -> ClientTransport | None:
        return None if self.client is None else ClientTransport(self.client, self.endpoint.url, on_secret=self.hider.add)

    def _new_transports(self) -> LoopTransports:
        is_elsewhere = not self.endpoint.is_loopback  # no proxy leads to this machine
        return LoopTransports(partial(transport_for, self.endpoint.url, proxies=is_elsewhere))

    def __copy__(self) -> ChatModel:
        """A model of the same server with its own connections. It shares the limiter, and the client if one was given."""
        made = object.__new__(type(self))
        vars(made).update(vars(self), _heads={}, _transports=self._new_transports())
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> ChatModel:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle has the model's arguments, without keys. On loading, the key comes from the environment."""
        if self._own_parts:
            part = self._own_parts[0]
            raise TypeError(
                f"a ChatModel with its own {part} cannot be pickled; make it where it is used (a pickle has no keys)"
            )
        given = {**self._arguments, "base_url": self.endpoint.base_url}
        known = vars(self) if type(self) is ChatModel else vars(ChatModel(self.name, **given))
        more = {name: value for name, value in vars(self).items() if name not in known}
        return _made_of, (type(self), self.name, given, more)

    @property
    def info(self) -> ModelInfo:
        """What an agent needs to know about this model."""
        profile, prices = self.profile, self.profile.price_of(self.name)
        return ModelInfo(
            name=self.name,
            output_mode=profile.output_mode,
            price=max(prices, key=lambda price: price.since, default=None),
            unpriced=() if prices or profile.cost_in else (f"{self.name} on {profile.name}",),
            check=self.check,
            closed_for=lambda: self.limiter.closed_for,
            hiders=(self.hider,),
        )

    def check(self, request: ModelRequest) -> None:
        """Raise `SettingsError` if the request breaks a limit of the server. The message has field, value and allowed range."""
        wire.check(request, self.profile)
        check_parts(request.messages, self.profile, self.name, placeholders=self._placeholders)

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """One whole reply. Raises `SettingsError` before sending, or a `ModelError` afterwards.

        With `on_delta` (or `settings.stream`) the reply is streamed; `on_delta` is awaited with each piece.
        """
        self.endpoint.require_key()
        stream = self._streams(request, on_delta) if request.settings.stream is None else request.settings.stream
        body = self._body(request, stream)
        size = len(body) - (estimated_excess(request.messages, self.profile) if isinstance(body, wire.WithParts) else 0)
        reader, slot = self._reader(request, size), self.limiter.slot(size // BYTES_PER_TOKEN)
        try:
            parts = await self._paced(body, on_delta, reader, slot)
            message = parts.message
            if request.tools:
                url, cut = self.endpoint.base_url, parts.ending == "length"
                message = with_offered_calls(message, request, url, markup=self.profile.markup_calls, cut=cut)
        except BaseException as error:  # a cancelled call reports its cost as well
            if isinstance(error, ModelError):
                error.request_id = error.request_id or reader.request_id
            self.clean(error)
            counted = replace(reader.usage, requests=0)
            used = counted + reader.uncounted(counted)
            FailedAttempts(Spending(used, self._cost(used, reader.cost)), slot.waited).attach_to(error)
            raise
        cost, uncounted = self._cost(parts.usage, parts.cost), Spending()
        if parts.uncounted.total_tokens and parts.cost is None:
            cost, uncounted = None, Spending(parts.uncounted, self._cost(parts.usage + parts.uncounted))
        note = self.profile.price_note if parts.cost is None else ""
        what = asked(self.endpoint.url, self.name, reader.request_id)
        return ModelReply(
            message, parts.usage, parts.finish_reason, parts.model, cost, slot.waited, uncounted, note, asked=what
        )

    def _reader(self, request: ModelRequest, request_bytes: int) -> ReplyReader:
        profile, extra_body = self.profile, request.settings.extra_body
        fields = (profile.max_tokens_field, *_MAX_TOKENS_FIELDS)
        max_tokens = next((extra_body[name] for name in fields if name in extra_body), request.settings.max_tokens)
        return ReplyReader(
            think_tags=profile.think_tags,
            request_bytes=request_bytes,
            max_tokens=max_tokens if isinstance(max_tokens, int) else None,
            origin=profile.name,
            endings=profile.finish_reasons,
            cost_in=profile.cost_in,
        )

    async def _paced(self, body: bytes, on_delta: DeltaSink | None, reader: ReplyReader, slot: Slot) -> Parts:
        """The reply, paced by the limiter and within the deadline."""
        try:
            async with slot, Deadline(self._deadline) as deadline:
                paced_sink = on_delta and deadline.pausing_for(on_delta)
                parts = _accepted(await self._exchange(body, paced_sink, reader, slot), self.endpoint.base_url)
                slot.used = parts.usage.total_tokens or None
        except TimeoutError:
            if deadline.expired:
                raise TimedOut(f"no whole reply within the deadline of {self._deadline:g} seconds") from None
            raise
        return parts

    def _cost(self, usage: Usage, reported: float | None = None) -> float | None:
        if reported is not None:
            return reported
        prices = self.profile.price_of(self.name)
        return cost_of(prices, usage, self._clock()) if prices else None

    def _streams(self, request: ModelRequest, on_delta: DeltaSink | None) -> bool:
        thinking = request.settings.thinking
        thinks = self.profile.thinking_default if thinking is None else thinking
        return on_delta is not None or (self.profile.thinks_in_streams and thinks is not False)

    async def aclose(self) -> None:
        """Close the connections of this event loop. A client that was given is left open."""
        await self._transports.aclose()

    def _body(self, request: ModelRequest, stream: bool) -> bytes:
        key = (id(request.tools), id(request.settings), request.tool_choice, stream)
        cached = self._heads.get(key)
        if cached is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            # Keeping the request keeps its objects alive, so their ids are not reused.
            kept = ModelRequest((), request.tools, request.tool_choice, request.settings)
            cached = self._heads[key] = (kept, wire.head(request, self.profile, self.name, stream=stream))
        messages = request.messages
        if request.settings.response_format == "json_object":
            messages = wire.with_json_word(messages)
        body = wire.body(cached[1], messages, self.profile, self._encode)
        if isinstance(body, wire.WithParts):
            check_parts(messages, self.profile, self.name, placeholders=self._placeholders)
        return body

    async def _exchange(self, body: bytes, on_delta: DeltaSink | None, reader: ReplyReader, slot: Slot) -> Parts:
        url = self.endpoint.url
        if slot.waited >= _SLOW_WAIT:
            log.info("%s: a request waited %.1f s for its slot", url, slot.waited)
        log.debug("POST %s: model %s, %d bytes", url, self.name, len(body))
        response = await self.send(body)
        reader.request_id = request_id_in(response.headers)
        try:
            reply = ReplyBytes(response, self._max_bytes, url, slot.renew)
            if not 200 <= response.status_code < 300:
                body = await read_refusal(reply)
                raise refused(response, body, self._clock, url)
            slot.answered()
            parts = await read_reply(reply, on_delta, reader)
            used = parts.usage
            log.debug("%s: %s, %d and %d tokens", url, parts.finish_reason, used.input_tokens, used.output_tokens)
            return parts
        finally:
            await response.aclose()

    async def headers(self) -> Headers:
        """The headers of a request, with the current key."""
        if self.endpoint.key is None or isinstance(self.endpoint.key, Secret):
            return self._headers
        key = await self.endpoint.ask_key(self.endpoint.key, self._threads)
        self.hider.add(key)
        return self._headers.with_bearer(key)

    async def send(self, body: bytes) -> Response:
        """The server's response to a request's body."""
        transport = self._client_transport or await self._transports.current()
        return await transport.send(body, await self.headers(), self._timeouts)

    def clean(self, error: BaseException) -> None:
        """Remove the key from an error. Add notes: what was asked, and whether the refused request had no key."""
        clean_error(error, self.hider)
        if isinstance(error, ModelError):
            add_request(error, self.endpoint.url, self.name)
        if isinstance(error, AuthError) and error.status == 401 and not self.endpoint.key and not self._headers.has_key:
            error.add_note("No API key was sent: none was given, or the client authenticates itself. See api_key=.")


_NO_REFUSAL = ("", "none", "null")


def _accepted(parts: Parts, base_url: str) -> Parts:
    """The reply. Raises the error that an empty, filtered or broken reply stands for."""
    message, finish = parts.message, parts.finish_reason
    if parts.refusal.strip().lower() not in _NO_REFUSAL:
        raise ContentFiltered(f"the model refused: {parts.refusal}", partial=message.text or parts.refusal)
    match parts.ending:
        case "filter":
            raise ContentFiltered(f"the server withheld the reply ({finish})", partial=message.text)
        case "failure":
            raise Overloaded(f"the server broke off ({finish})", partial=message.text)
        case "context":
            raise ContextTooLong(f"the reply did not fit the context window ({finish})", partial=message.text)
        case "unknown":
            warn(f"{base_url}: unknown finish reason {finish[:50]!r}; the reply counts as whole", EndpointWarning, stacklevel=2)
    if message.text.strip() or message.tool_calls or parts.ending == "length":
        return parts
    thought = " but thinking text" if message.reasoning else ""
    raise EmptyReply(f"the reply has no text and no tool call{thought} (finish_reason {finish})")


def _check(texts: Mapping[str, Unseen[Any]], **numbers: float | None) -> None:
    for argument, text in texts.items():
        if text.reveal() is not None and not isinstance(text.reveal(), str):
            raise SettingsError(f"{argument} is {with_article(type(text.reveal()).__name__)}; allowed: text or None")
    for argument, number in numbers.items():
        if number is not None and not (isinstance(number, int | float) and number > 0):
            raise SettingsError(f"{argument} is {number!r}; allowed: a number above 0")


def _made_of(kind: type[ChatModel], name: str, given: dict[str, Any], more: dict[str, Any]) -> ChatModel:
    """A model as it was pickled; `more` is what a subclass has put into it."""
    made = kind.__new__(kind)
    ChatModel.__init__(made, name, **given)
    vars(made).update(more)
    return made
