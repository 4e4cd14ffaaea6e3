"""Connections to one server: h11 parses and writes HTTP/1.1, this module moves the bytes with asyncio.

A small request through httpx takes several times the CPU time, and httpx's pool takes time quadratic in its connections. Here,
a request has a connection to itself from beginning to end, so no request waits for another.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import h11

from ...errors import ConnectionFailed, InsecureServer, ModelError, SettingsError, StreamBroken, TimedOut
from ..endpoint import is_loopback
from .headers import Headers
from .proxies import Proxy, proxy_for
from .transports import ClientTransport, DecompressedResponse, Response, Transport, is_about_tls, words_of

__all__ = ["ConnectionPool", "transport_for"]

_EXPIRY = 30.0
"""Seconds that an idle connection is kept."""
_MAX_HEAD = 100 * 1024
"""Max bytes of a response's head."""
_MAX_UNREAD = 256 * 1024
"""Bytes received but not read yet, above which reading from the socket is paused."""
_MAX_SINGLE_WRITE = 64 * 1024
"""Max bytes of a body that is written together with the head."""


def transport_for(url: str, *, proxies: bool) -> Transport:
    """A transport for this server: an httpx client if the environment names a proxy for it and `proxies` is true.

    `SSL_CERT_FILE` or `SSL_CERT_DIR` replace the trusted certificates. Raises `SettingsError` for a URL, certificates or a
    proxy that cannot be used.
    """
    import httpx

    proxy = proxy_for(url) if proxies else None
    if proxy is not None:
        return ClientTransport(_client_for(proxy), url, proxy)
    try:
        return ConnectionPool(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise SettingsError(f"base_url {url!r} does not work: {error}") from error


def _client_for(proxy: Proxy) -> Any:
    """An httpx client that sends everything through this proxy, and reads nothing else from the environment."""
    import httpx

    limits, tls = httpx.Limits(keepalive_expiry=_EXPIRY), _tls_context(*_certificates())
    if not proxy.is_valid:
        raise SettingsError(f"{proxy} has an address that does not work; allowed: such as http://127.0.0.1:8080")
    try:
        return httpx.AsyncClient(proxy=proxy.url, limits=limits, follow_redirects=False, verify=tls, trust_env=False)
    except ImportError as error:
        raise SettingsError(f"{proxy} cannot be used: {error}") from error


class ConnectionPool:
    """A `Transport` that keeps idle connections to one server for the next request."""

    def __init__(self, url: str) -> None:
        import httpx

        target = httpx.URL(url)  # handles host names in other scripts, and spaces in paths
        self.url, self._target, self._netloc = url, target.raw_path, target.netloc
        self._host, self._port = target.raw_host.decode(), target.port or (443 if target.scheme == "https" else 80)
        self._host.encode("idna")  # fails now rather than when a connection is opened
        self._tls = _tls_context(*_certificates()) if target.scheme == "https" else None
        self._all: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._headers: tuple[Mapping[str, str], list[tuple[bytes, bytes]]] | None = None

    async def send(self, body: bytes, headers: Headers, timeouts: Mapping[str, float]) -> Response:
        """Send over the connection that was used last, or a new one."""
        try:
            connection = self._take_idle() or await self._open(timeouts["connect"])
            try:
                head = h11.Request(method=b"POST", target=self._target, headers=self._visible_headers(headers, len(body)))
                answer = await connection.request(head, headers, body, timeouts["read"])
                response = _Response(answer, connection, self, timeouts)
                return DecompressedResponse(response, self.url) if "content-encoding" in response.headers else response
            except BaseException:
                self.drop(connection)
                raise
        except _FAILURES as error:
            raise _model_error(error, self.url, timeouts, ConnectionFailed) from error

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            self.drop(connection)
        return None

    async def _open(self, connect_timeout: float) -> _Connection:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"ssl": self._tls, "server_hostname": self._host} if self._tls else {}
        if not is_loopback(self._host) and "uvloop" not in type(loop).__module__:  # uvloop has no such option
            options["happy_eyeballs_delay"] = 0.25  # seconds until the next address is tried in parallel
        async with asyncio.timeout(connect_timeout):
            _, connection = await loop.create_connection(lambda: _Connection(loop), self._host, self._port, **options)
        if not self._is_closed:
            self._all.add(connection)
        return connection

    def _visible_headers(self, headers: Headers, size: int) -> list[tuple[bytes, bytes]]:
        """The headers without the secret ones, which are added when the request is written."""
        cached = self._headers
        if cached is None or cached[0] is not headers.visible:
            visible = {"user-agent": "agentkit", **headers.visible}
            lines = [(b"host", self._netloc), *((name.encode(), value.encode()) for name, value in visible.items())]
            cached = self._headers = headers.visible, lines
        return [*cached[1], (b"content-length", b"%d" % size)]

    def give_back(self, connection: _Connection) -> None:
        """Return a connection whose response was read or abandoned: keep it if it is reusable, else close it."""
        if connection in self._all and connection.reset():
            self._idle.append(connection)
            if self._sweep is None:
                self._close_old()
        else:
            self.drop(connection)

    def _close_old(self) -> None:
        """Close the connections that were idle too long, and schedule the next check."""
        while self._idle and not self._idle[0].is_fresh():
            self.drop(self._idle.popleft())
        self._sweep = asyncio.get_running_loop().call_later(_EXPIRY, self._close_old) if self._idle else None

    def drop(self, connection: _Connection) -> None:
        """Close a connection that must not be reused."""
        self._all.discard(connection)
        connection.close()

    async def aclose(self) -> None:
        """Close all connections."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        connections, self._all = [*self._all], set()
        self._idle.clear()
        for connection in connections:
            connection.close()


def _certificates() -> tuple[str | None, str | None]:
    return os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")


@lru_cache(maxsize=8)
def _tls_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    """The TLS context, cached for the whole process: it takes 30 ms and 0.7 MB to make."""
    import httpx

    try:
        context: ssl.SSLContext = httpx.create_ssl_context()
    except OSError as error:  # ssl's errors are OSErrors too
        raise SettingsError(f"no certificates with SSL_CERT_FILE={file!r}, SSL_CERT_DIR={folder!r}: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


class _ReadTimeout(Exception):
    """No byte came for too long."""


_FAILURES = (OSError, h11.ProtocolError, _ReadTimeout)


def _model_error(error: BaseException, url: str, timeouts: Mapping[str, float], kind: type[ModelError]) -> ModelError:
    """An error of the network or h11 as a `TimedOut`, an `InsecureServer`, or else an error of this kind."""
    if isinstance(error, _ReadTimeout):
        return TimedOut(f"{url}: no byte came within {timeouts['read']:g} seconds")
    if isinstance(error, TimeoutError) and error.errno is None:  # the system's ETIMEDOUT has an errno: that connection was open
        return TimedOut(f"{url}: no connection within {timeouts['connect']:g} seconds")
    failed = InsecureServer if is_about_tls(error) else kind
    return failed(f"{url}: {words_of(error)}")


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._transport: Any = None
        self._unread = 0
        self._is_paused = False
        self._failure: BaseException | None = None
        """Why no more bytes will come. Bytes that came before are read first."""
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_timeout = self._deadline = 0.0
        self._idle_since = 0.0

    # called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._http.receive_data(data)
        self._unread += len(data)
        if self._unread > _MAX_UNREAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """The server sends nothing more; asyncio then closes the connection."""
        self._http.receive_data(b"")
        self._fail(ConnectionError("the server closed the connection without a response"))

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        self._fail(error or ConnectionError("the connection was closed"))

    # called by a request

    async def request(self, head: h11.Request, headers: Headers, body: bytes, read_timeout: float) -> h11.Response:
        """Send a request and return the head of its response.

        `head` has the visible headers. The secret ones of `headers` are added after them when the bytes are written. Raises
        `_ReadTimeout` if nothing comes for `read_timeout` seconds, and an OSError or h11's error if the connection fails.
        """
        self._read_timeout = read_timeout
        visible = self._http.send(head)[:-2]
        reset = self._http.send(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        if len(body) <= _MAX_SINGLE_WRITE:
            self._transport.write(b"".join((visible, headers.secret_lines(), b"\r\n", reset)))
        else:
            self._transport.write(b"".join((visible, headers.secret_lines(), b"\r\n")))
            self._transport.write(reset)
        while True:
            event = self._next()
            if isinstance(event, h11.Response):
                return event
            if event is h11.NEED_DATA:
                await self._wait()

    async def read(self) -> bytes:
        """The bytes of the body received so far, at least one; empty at its end. Raises as `request` does."""
        pieces: list[bytes] = []
        while self._http.their_state in (h11.SEND_BODY, h11.ERROR):
            try:
                event = self._next()
                while type(event) is h11.Data:
                    pieces.append(event.data)
                    event = self._next()
            except _FAILURES as error:
                if not pieces:
                    raise
                self._fail(error)
                break
            if pieces:
                break
            if event is h11.NEED_DATA:
                await self._wait()
        return b"".join(pieces)

    def _next(self) -> Any:
        http, failure = self._http, self._failure
        if failure is None:
            return http.next_event()
        is_unanswered = http.their_state is h11.SEND_RESPONSE and not http.trailing_data[0]
        if is_unanswered or http.their_state is h11.ERROR:
            raise failure  # h11's own error would only describe its state
        event = http.next_event()
        if event is h11.NEED_DATA:
            raise failure
        return event

    async def _wait(self) -> None:
        """Wait until bytes come. One timer serves all waits of the connection."""
        self._unread = 0
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        self._deadline = self._loop.time() + self._read_timeout
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check_timeout)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _check_timeout(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check_timeout)
        else:
            self._fail(_ReadTimeout())

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # between requests

    def reset(self) -> bool:
        """Prepare the connection for the next request. Returns False if it cannot be reused."""
        http, transport = self._http, self._transport
        is_whole = http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]
        if self._failure or not is_whole or self._is_paused or transport.get_write_buffer_size():
            return False  # after an early answer, the server may never read the rest of the request
        http.start_next_cycle()
        self._unread, self._idle_since = 0, self._loop.time()
        return True

    def is_fresh(self) -> bool:
        """Whether the connection has not been idle too long."""
        return self._loop.time() - self._idle_since < _EXPIRY

    def is_usable(self) -> bool:
        """Whether the next request may use the connection.

        The server may have just closed an idle connection, or may not read the rest of a request that it has answered.
        """
        if self._failure or self._unread or self._transport.is_closing() or not self.is_fresh():
            return False
        sock = self._transport.get_extra_info("socket")
        return sock is None or _is_quiet(sock)

    def close(self) -> None:
        """Abort the connection at once, even during a request. The event loop closes the socket in its next iteration."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()


def _is_quiet(sock: socket.socket) -> bool:
    """Whether the socket is writable and has nothing to read."""
    if not hasattr(select, "poll"):  # Windows
        return select.select([sock], [sock], [], 0)[:2] == ([], [sock])
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    return poll.poll(0) == [(sock.fileno(), select.POLLOUT)]


class _Response:
    __slots__ = ("_connection", "_pool", "_timeouts", "headers", "status_code")

    via = ""

    def __init__(
        self, head: h11.Response, connection: _Connection, connections: ConnectionPool, timeouts: Mapping[str, float]
    ) -> None:
        self._connection, self._pool, self._timeouts = connection, connections, timeouts
        self.status_code = head.status_code
        self.headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value  # lines are a list

    async def read(self) -> bytes:
        """The next bytes of the body."""
        try:
            return await self._connection.read()
        except _FAILURES as error:
            raise _model_error(error, self._pool.url, self._timeouts, StreamBroken) from error

    async def aclose(self) -> None:
        """Give the connection back."""
        self._pool.give_back(self._connection)
