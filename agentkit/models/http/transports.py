"""The `Transport` protocol, the transport over an httpx client, and decompression."""

from __future__ import annotations

import errno
import importlib
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from ...errors import ConnectionFailed, InsecureServer, ModelError, SettingsError, StreamBroken, TimedOut
from ...names import with_article
from ...redact.keys import Secret, Unseen, is_secret_header, secrets_of_header
from .headers import Headers
from .proxies import Proxy

__all__ = [
    "ClientTransport",
    "DecompressedResponse",
    "Response",
    "Transport",
    "authenticates_itself",
    "is_about_tls",
    "may_authenticate",
    "words_of",
]

_OTHER_LOOP_ERROR = re.compile("Event loop is closed|different (event )?loop")
"""asyncio's text for a client whose connections were made on another event loop."""
_DECOMPRESS_BYTES = 16 * 1024
"""Max bytes that are decompressed in one step: they may become a thousand times as many."""


class Response(Protocol):
    """A response whose body is not read yet."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names in lower case."""
        ...

    @property
    def via(self) -> str:
        """The proxy that may have answered in place of the server, in words; empty if there is none."""
        ...

    async def read(self) -> bytes:
        """The next bytes of the body, decompressed; empty at its end.

        Raises `TimedOut`, and `StreamBroken` if the body breaks off.
        """
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        ...


class Transport(Protocol):
    """Sends a body to the server. It never follows a redirect, since the key was not issued for the target."""

    async def send(self, body: bytes, headers: Headers, timeouts: Mapping[str, float]) -> Response:
        """The response to a POST of this body. `timeouts` are seconds: `connect`, and `read` for each wait for bytes.

        Raises `TimedOut`, `InsecureServer` if TLS fails, or else `ConnectionFailed`.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class ClientTransport:
    """Sends through an httpx client, with its hooks, proxies, authentication and transports.

    `proxy` is the proxy that the client was made for, for error messages. `on_secret` is called with each secret that the
    client itself adds to a request.
    """

    def __init__(
        self, client: Any, url: str, proxy: Proxy | None = None, on_secret: Callable[[Secret], None] = lambda _secret: None
    ) -> None:
        self._client, self._url, self._library = client, url, _library_of(client)
        self._proxy, self._on_secret = proxy, on_secret

    async def send(self, body: bytes, headers: Headers, timeouts: Mapping[str, float]) -> Response:
        """Send through the client."""
        if self._client.is_closed:
            raise ConnectionFailed(f"{self._url}: the HTTP client that was given is closed", retryable=False)
        extensions = {"timeout": {"write": timeouts["read"], "pool": None, **timeouts}}
        with self.translated_errors(ConnectionFailed, timeouts):
            request = self._client.build_request(
                "POST", self._url, content=body, headers=headers.plain(), extensions=extensions
            )
            try:
                response = await self._client.send(request, stream=True, follow_redirects=False)
            finally:
                self._note_secrets(request)
            if self._proxy and response.status_code == 407:
                await response.aclose()
                text = f"{self._url}: {self._proxy} asks for a user and a password (407)"
                raise ConnectionFailed(f"{text}; put user:password@ before the host in its URL", retryable=False)
            return _ClientResponse(response, self, timeouts)

    def _note_secrets(self, request: Any) -> None:
        for fields in (request.headers, request.url.params):
            for name in fields:
                if is_secret_header(name, fields[name]):
                    for secret in secrets_of_header(name, Unseen(fields[name])):
                        self._on_secret(secret)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    @property
    def via(self) -> str:
        """The proxy, if it sees the requests themselves. Over TLS it only passes bytes on."""
        return str(self._proxy) if self._proxy and self._url.startswith("http:") else ""

    @contextmanager
    def translated_errors(self, on_failure: type[ModelError], timeouts: Mapping[str, float]) -> Iterator[None]:
        """Converts errors of the client's library to a `ModelError`: of kind `on_failure` if the transport fails."""
        library, url = self._library, f"{self._url}: through {self._proxy}" if self._proxy else self._url
        detour = f"; set NO_PROXY={urlsplit(self._url).hostname} to go around the proxy" if self._proxy else ""
        try:
            yield
        except library.ConnectTimeout as error:
            raise TimedOut(f"{url}: no connection within {timeouts['connect']:g} seconds{detour}") from error
        except library.TimeoutException as error:
            raise TimedOut(f"{url}: no byte came within {timeouts['read']:g} seconds") from error
        except library.ProxyError as error:
            is_retryable = not str(error).startswith("4")  # the status of an answer to CONNECT
            raise on_failure(f"{url}: {str(error) or type(error).__name__}{detour}", retryable=is_retryable) from error
        except library.TransportError as error:
            kind = InsecureServer if is_about_tls(error) else on_failure
            remedy = detour if isinstance(error, library.ConnectError) and kind is not InsecureServer else ""
            text = words_of(error) if self._proxy is None else str(error) or type(error).__name__
            raise kind(f"{url}: {text}{remedy}") from error
        except (library.DecodingError, library.StreamError) as error:
            raise StreamBroken(f"{url}: the reply cannot be decoded: {error}") from error
        except library.InvalidURL as error:
            raise SettingsError(f"base_url {self._url!r} does not work: {error}") from error
        except RuntimeError as error:
            if not _OTHER_LOOP_ERROR.search(str(error)):
                raise
            text = f"{url}: the HTTP client that was given belongs to another event loop; give each loop a client of its own"
            raise ConnectionFailed(f"{text}, or none", retryable=False) from error


class _ClientResponse:
    def __init__(self, response: Any, transport: ClientTransport, timeouts: Mapping[str, float]) -> None:
        self._response, self._transport, self._timeouts = response, transport, timeouts
        self._pieces = response.aiter_bytes()
        self.status_code: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.via = transport.via

    async def read(self) -> bytes:
        """The next bytes of the body."""
        with self._transport.translated_errors(StreamBroken, self._timeouts):
            piece: bytes = await anext(self._pieces, b"")
            return piece

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._pieces.aclose()
        await self._response.aclose()


def authenticates_itself(client: Any) -> bool:
    """Whether a client adds credentials by its `auth`, its own headers or its query."""
    _library_of(client)
    headers = any(is_secret_header(name, client.headers[name]) for name in client.headers)
    query = any(is_secret_header(name, client.params[name]) for name in client.params)
    return bool(client.auth or headers or query)


def may_authenticate(client: Any, url: str) -> bool:
    """Whether a client may add credentials that are not visible from outside: a certificate, a cookie, or a hook that signs."""
    transport = getattr(client, "_transport", None)
    if client.event_hooks["request"] or client.cookies:
        return True
    return url.startswith("https:") and isinstance(transport, _library_of(client).AsyncHTTPTransport)


def _library_of(client: Any) -> Any:
    """The module whose errors this client raises: httpx or httpx2."""
    for kind in type(client).__mro__:
        root = kind.__module__.split(".")[0]
        if root in ("httpx", "httpx2") and kind.__name__ == "AsyncClient":
            return importlib.import_module(root)
    raise SettingsError(f"client is {with_article(type(client).__name__)}; allowed: httpx.AsyncClient or httpx2.AsyncClient")


def words_of(error: BaseException) -> str:
    """What an error of the network says. A refused connection says what to check."""
    text = str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in text:
        text = "the connection was refused"
    elif "All connection attempts failed" not in text:  # httpx does not say why
        return text
    return f"{text}; check that a server runs there"


def is_about_tls(error: BaseException | None) -> bool:
    """Whether a certificate or the TLS handshake caused this error. A connection lost during the handshake does not count."""
    import ssl

    while error is not None:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return True
        error = error.__cause__ or error.__context__
    return False


class DecompressedResponse:
    """A response whose body is decoded by the content encoding in its headers."""

    via = ""

    def __init__(self, response: Response, url: str) -> None:
        import httpx

        class Body(httpx.AsyncByteStream):
            async def __aiter__(self) -> AsyncGenerator[bytes, None]:
                while piece := await response.read():
                    for at in range(0, len(piece), _DECOMPRESS_BYTES):
                        yield piece[at : at + _DECOMPRESS_BYTES]

        self._response, self._url, self._failure = response, url, httpx.DecodingError
        self.status_code, self.headers = response.status_code, response.headers
        self._pieces = httpx.Response(response.status_code, headers=dict(response.headers), stream=Body()).aiter_bytes()

    async def read(self) -> bytes:
        """The next bytes of the body. Raises `StreamBroken` if the body does not have that encoding."""
        try:
            piece: bytes = await anext(self._pieces, b"")
        except self._failure as error:
            raise StreamBroken(f"{self._url}: the reply cannot be decoded: {error}") from error
        return piece

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._response.aclose()
