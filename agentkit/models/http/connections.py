"""Connections to one server, by asyncio: h11 reads and writes HTTP/1.1, and what is here moves its bytes.

A small request through httpx takes several times the processor time, and its pool takes time with the square of its
connections. A request here has a connection of its own from beginning to end, so none waits for another.
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
from .transports import ClientTransport, DecompressedResponse, Response, Transport, is_about_tls

__all__ = ["ConnectionPool", "transport_for"]

_EXPIRY = 30.0
"""Seconds for which a connection without a request is kept: as many as were needed within that time are there."""
_MAX_HEAD = 100 * 1024
"""Most bytes of a response's head."""
_MAX_UNREAD = 256 * 1024
"""Bytes that may have come and not been read yet; then the server has to wait."""
_MAX_SINGLE_WRITE = 64 * 1024
"""Up to this size, head and body of a request are one write."""


def transport_for(url: str, *, proxies: bool) -> Transport:
    """A sender for this server; by a client where the environment names a proxy for it, if `proxies` may be used.

    The certificates that it trusts are those of `SSL_CERT_FILE` or `SSL_CERT_DIR` where one is set. Raises `SettingsError`
    for a URL, certificates or a proxy that cannot be used.
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
    """A client that sends all through this proxy, and looks at nothing else in the environment."""
    import httpx

    limits, tls = httpx.Limits(keepalive_expiry=_EXPIRY), _tls_context(*_certificates())
    if not proxy.is_valid:
        raise SettingsError(f"{proxy} has an address that does not work; allowed: such as http://127.0.0.1:8080")
    try:
        return httpx.AsyncClient(proxy=proxy.url, limits=limits, follow_redirects=False, verify=tls, trust_env=False)
    except ImportError as error:
        raise SettingsError(f"{proxy} cannot be used: {error}") from error


class ConnectionPool:
    """A `Transport` that keeps connections to one server for the next request."""

    def __init__(self, url: str) -> None:
        import httpx

        target = httpx.URL(url)  # host names in other scripts, spaces in paths
        self.url, self._target, self._netloc = url, target.raw_path, target.netloc
        self._host, self._port = target.raw_host.decode(), target.port or (443 if target.scheme == "https" else 80)
        self._host.encode("idna")  # as it is done when a connection is opened
        self._tls = _tls_context(*_certificates()) if target.scheme == "https" else None
        self._all: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._headers: tuple[Mapping[str, str], list[tuple[bytes, bytes]]] | None = None

    async def send(self, body: bytes, headers: Headers, timeouts: Mapping[str, float]) -> Response:
        """Over the connection that was used last, or a new one."""
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
            options["happy_eyeballs_delay"] = 0.25  # of a dead address; then the next one is tried beside it
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
        """The response is read, or not wanted any more."""
        if connection in self._all and connection.reset():
            self._idle.append(connection)
            if self._sweep is None:
                self._close_old()
        else:
            self.drop(connection)

    def _close_old(self) -> None:
        """Close the connections that nobody needed for long, and look again when the next one may be old."""
        while self._idle and not self._idle[0].is_fresh():
            self.drop(self._idle.popleft())
        self._sweep = asyncio.get_running_loop().call_later(_EXPIRY, self._close_old) if self._idle else None

    def drop(self, connection: _Connection) -> None:
        """Close a connection that is not to be used again."""
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
    """One for the whole process, read once: it takes 30 ms and 0.7 MB to make."""
    import httpx

    try:
        context: ssl.SSLContext = httpx.create_ssl_context()
    except OSError as error:  # ssl's too
        raise SettingsError(f"no certificates with SSL_CERT_FILE={file!r}, SSL_CERT_DIR={folder!r}: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


class _ReadTimeout(Exception):
    """No byte came for too long."""


_FAILURES = (OSError, h11.ProtocolError, _ReadTimeout)


def _model_error(error: BaseException, url: str, timeouts: Mapping[str, float], kind: type[ModelError]) -> ModelError:
    """What the network and h11 raise, as a `TimedOut`, an `InsecureServer`, or else of this kind."""
    if isinstance(error, _ReadTimeout):
        return TimedOut(f"{url}: no byte came within {timeouts['read']:g} seconds")
    if isinstance(error, TimeoutError) and error.errno is None:  # not the system's own, of a connection that was there
        return TimedOut(f"{url}: no connection within {timeouts['connect']:g} seconds")
    failed = InsecureServer if is_about_tls(error) else kind
    return failed(f"{url}: {str(error) or type(error).__name__}")


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._transport: Any = None
        self._unread = 0
        self._is_paused = False
        self._failure: BaseException | None = None
        """Why nothing will come any more; what had come before is read first."""
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_timeout = self._deadline = 0.0
        self._idle_since = 0.0

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
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
        """The server sends no more; asyncio closes the connection then."""
        self._http.receive_data(b"")
        self._fail(ConnectionError("the server closed the connection without a response"))

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._fail(error or ConnectionError("the connection was closed"))

    # what a request needs

    async def request(self, head: h11.Request, headers: Headers, body: bytes, read_timeout: float) -> h11.Response:
        """Send a request; the head of its response. Raises `_ReadTimeout` when nothing comes for so many seconds, OSError or
        h11's error when the connection fails.

        `head` has the headers that may be seen. The secret ones of `headers` are put behind them as they are written.
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
        """All that has come of the body, at least one byte; none at its end. Raises as `request` does."""
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
            raise failure  # h11 would tell of its own state
        event = http.next_event()
        if event is h11.NEED_DATA:
            raise failure
        return event

    async def _wait(self) -> None:
        """Until something has come. One timer serves all the waits of a connection."""
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
        """Make it ready for the next request; whether that is possible."""
        http, transport = self._http, self._transport
        is_whole = http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]
        if self._failure or not is_whole or self._is_paused or transport.get_write_buffer_size():
            return False  # an early answer leaves bytes of its request, and the server may never read them
        http.start_next_cycle()
        self._unread, self._idle_since = 0, self._loop.time()
        return True

    def is_fresh(self) -> bool:
        """Whether it has not waited too long for a request."""
        return self._loop.time() - self._idle_since < _EXPIRY

    def is_usable(self) -> bool:
        """Whether the next request may go over it: a server closes connections that are idle, and may have done so just now,
        or does not read the rest of a request that it has answered."""
        if self._failure or self._unread or self._transport.is_closing() or not self.is_fresh():
            return False
        sock = self._transport.get_extra_info("socket")
        return sock is None or _is_quiet(sock)

    def close(self) -> None:
        """Close it at once, whatever is under way; the event loop closes the socket in its next round."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()


def _is_quiet(sock: socket.socket) -> bool:
    """Whether it takes bytes and has none."""
    if not hasattr(select, "poll"):  # Windows
        return select.select([sock], [sock], [], 0)[:2] == ([], [sock])
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    return poll.poll(0) == [(sock.fileno(), select.POLLOUT)]


class _Response:
    __slots__ = ("_connection", "_pool", "_timeouts", "headers", "status_code")

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
