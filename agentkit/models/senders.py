"""Ways to send a request: through an httpx client, or, where nothing stands between, through httpx's transport itself.

httpx's pool takes time with the square of its connections, and its client a third of the time of a small request. So of a
model's own connections each is a pool of its own, and all share one TLS context; a program's own client is used as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    import httpx

__all__ = ["ClientSender", "Response", "Sender", "own_sender"]

_IDLE = 100
"""Connections without a request that are kept for the next."""
_EXPIRY = 30.0
"""Seconds for which an idle connection is kept."""


class Response(Protocol):
    """A response whose body is not read yet."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in any case."""
        ...

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body as it comes, decompressed."""
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body is not read to its end."""
        ...


class Sender(Protocol):
    """Sends a body to the server; never follows a redirect, as the key is not for its target."""

    async def send(self, body: bytes, headers: Mapping[str, str], waits: Mapping[str, float | None]) -> Response:
        """The response to a POST of this body. Raises what httpx raises."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class ClientSender:
    """Sends through a client, with its hooks, proxies, authentication and transports."""

    def __init__(self, client: Any, url: str) -> None:
        self.client, self._url = client, url

    async def send(self, body: bytes, headers: Mapping[str, str], waits: Mapping[str, float | None]) -> Response:
        """As the client sends it."""
        extensions = {"timeout": dict(waits)}
        request = self.client.build_request("POST", self._url, content=body, headers=headers, extensions=extensions)
        sent: Response = await self.client.send(request, stream=True, follow_redirects=False)
        return sent

    async def aclose(self) -> None:
        """Close the client."""
        await self.client.aclose()


def own_sender(url: str, *, proxies: bool) -> Sender:
    """A sender for this server; by a client where the environment names a proxy for it, if `proxies` may be used.

    The certificates that it trusts are those of `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set.
    """
    import httpx

    target = httpx.URL(url)
    if proxies and _has_proxy(target):
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_EXPIRY)
        return ClientSender(httpx.AsyncClient(limits=limits, follow_redirects=False), url)
    return _Connections(target)


def _has_proxy(url: httpx.URL) -> bool:
    proxies = getproxies()
    return bool(proxies.get(url.scheme) or proxies.get("all")) and not proxy_bypass(url.host)


class _Connections:
    def __init__(self, url: httpx.URL) -> None:
        import ssl

        import httpx

        self._httpx, self._url = httpx, url
        # a context takes 40 ms to make, and plain HTTP needs none
        is_secure = url.scheme == "https"
        self._tls = httpx.create_ssl_context() if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # not bounded: a request must never wait for a connection that was left in the middle
        self._limits = httpx.Limits(max_connections=None, max_keepalive_connections=1, keepalive_expiry=_EXPIRY)
        self._all: set[httpx.AsyncHTTPTransport] = set()
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._headers: tuple[Mapping[str, str], list[tuple[bytes, bytes]]] | None = None

    async def send(self, body: bytes, headers: Mapping[str, str], waits: Mapping[str, float | None]) -> Response:
        """Over the connection that was used last, or a new one."""
        request = self._httpx.Request(
            "POST",
            self._url,
            headers=[*self._encoded(headers), (b"content-length", b"%d" % len(body))],
            stream=self._httpx.ByteStream(body),
            extensions={"timeout": waits},
        )
        transport = self._idle.pop() if self._idle else self._new()
        try:
            return _OwnResponse(await transport.handle_async_request(request), transport, self)
        except BaseException:
            await self.drop(transport)
            raise

    def _new(self) -> httpx.AsyncHTTPTransport:
        transport = self._httpx.AsyncHTTPTransport(verify=self._tls, limits=self._limits, trust_env=False)
        self._all.add(transport)
        return transport

    def _encoded(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        held = self._headers
        if held is None or held[0] is not headers:
            first = [(b"host", self._url.netloc), (b"user-agent", b"agentkit")]
            held = self._headers = headers, [*first, *((name.encode(), value.encode()) for name, value in headers.items())]
        return held[1]

    async def give_back(self, transport: httpx.AsyncHTTPTransport) -> None:
        """A request over it has ended well."""
        if len(self._idle) < _IDLE and transport in self._all:
            self._idle.append(transport)
        else:
            await self.drop(transport)

    async def drop(self, transport: httpx.AsyncHTTPTransport) -> None:
        """Close a connection that is not to be used again."""
        self._all.discard(transport)
        await transport.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        transports, self._all, self._idle = self._all, set(), []
        for transport in transports:
            await transport.aclose()


class _OwnResponse:
    __slots__ = ("_connections", "_response", "_transport", "headers", "status_code")

    def __init__(self, response: httpx.Response, transport: httpx.AsyncHTTPTransport, connections: _Connections) -> None:
        self._response, self._transport, self._connections = response, transport, connections
        self.status_code, self.headers = response.status_code, response.headers

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body as it comes; httpx decompresses it where that is needed."""
        if any(name.lower() == b"content-encoding" for name, _ in self._response.headers.raw):
            return self._response.aiter_bytes()
        return self._response.stream.__aiter__()  # type: ignore[union-attr]

    async def aclose(self) -> None:
        """Give the connection back."""
        try:
            await self._response.stream.aclose()  # type: ignore[union-attr]
        except BaseException:
            await self._connections.drop(self._transport)
            raise
        await self._connections.give_back(self._transport)
