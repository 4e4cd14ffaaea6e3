"""HTTP for a model. The model chooses the URL, so every address is checked, on each redirect, before it is connected to.

What is sent: no cookies, no credentials, none of the proxy settings of the environment. A proxy would resolve names
itself and bypass the check of addresses, so there is no way to set one.

A call runs in an event loop of its own, in a thread. A hostile server can make a parser work for a second without a
pause, and the program's loop has to go on meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import json as jsonlib
import re
import zlib
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from agentkit import ModelRetry, ToolRegistry

from ._address import Resolve, address_of, host_problem, is_public, system_resolver
from ._text import count, decode, looks_binary
from ._threads import in_own_loop

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["http_tools"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 8000
_PARAMETER = re.compile(r""";\s*([A-Za-z-]+)\s*=\s*("[^"]*"|[^;]*)""")
_REDIRECTS = (301, 302, 303, 307, 308)
_TEXT_TYPES = ("text/", *(f"application/{kind}" for kind in ("json", "xml", "javascript", "yaml", "toml", "x-ndjson")))


def http_tools(
    *,
    allow_hosts: Collection[str] | None = None,
    allow_private: bool = False,
    methods: Collection[str] = ("GET",),
    ports: Collection[int] | None = (80, 443),
    max_bytes: int = 200_000,
    timeout: float = 20.0,
    max_redirects: int = 5,
    resolve: Resolve | None = None,
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
) -> ToolRegistry:
    """Tools that fetch from the web: http_get, and http_post when "POST" is among `methods`.

    Refused: schemes other than http and https, credentials in the URL, addresses that are not public (unless
    `allow_private`), ports other than `ports` (None: any), and a redirect to any of these or from https to http.

    `allow_hosts`: only these hosts, None for all. "example.com" is that host alone, "*.example.com" every host below
    it, "example.com:8080" permits that port too; an address written out with its port ("127.0.0.1:8080") may be private.
    `max_bytes`: how much of a body is shown, after decompression. `timeout`: seconds for the whole call, redirects
    included. `resolve(host, port)` returns the host's addresses and `transport()` a new connection; tests use them. Both
    are called in an event loop that lasts for one call.

    http_get is not labelled `read_only`: whoever chooses a URL can send data in it. It is idempotent and not destructive.

    Raises ValueError for a method that is neither GET nor POST.
    """
    wanted = {method.upper() for method in methods}
    if not wanted or wanted - {"GET", "POST"}:
        raise ValueError(f"methods is {sorted(methods)}; allowed: GET, POST")
    hosts = None if allow_hosts is None else frozenset(host.lower() for host in allow_hosts)
    rules = _Rules(hosts, allow_private, ports, resolve or system_resolver())
    web = _Web(rules, max_bytes, timeout, max_redirects, transport or _transports())
    registry = ToolRegistry()
    if "GET" in wanted:
        labels: Any = {"destructive": False, "idempotent": True, "open_world": True}
        registry.tool(web.http_get, sensitive=("url",), output="untrusted", **labels)
    if "POST" in wanted:
        registry.tool(web.http_post, destructive=True, open_world=True, sensitive=("url",), output="untrusted")
    return registry


def _transports() -> Callable[[], httpx.AsyncBaseTransport]:
    """Makes a new transport for each call, none of which keeps a connection; certificates are loaded once (20 ms)."""

    @functools.cache
    def context() -> ssl.SSLContext:
        import httpx

        return httpx.create_ssl_context(trust_env=False)

    def make() -> httpx.AsyncBaseTransport:
        import httpx

        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.AsyncHTTPTransport(verify=context(), trust_env=False, limits=limits)

    return make


@dataclass(frozen=True, slots=True)
class _Rules:
    """Where a request may go."""

    allow_hosts: frozenset[str] | None
    allow_private: bool
    ports: Collection[int] | None
    resolve: Resolve

    async def check(self, url: httpx.URL) -> str:
        """The address to connect to; raises ModelRetry when the URL may not be asked for."""
        host = url.raw_host.decode("ascii")
        port = _DEFAULT_PORTS.get(url.scheme, 0) if url.port is None else url.port
        problem = self._problem(url, host, port)
        if problem:
            raise ModelRetry(f"the URL {problem}")
        written = address_of(host)
        if written:
            if not (is_public(written) or self.allow_private or self._named(host, port)):
                raise ModelRetry(f"{host} is not a public address; only hosts on the public internet are reached")
            return host
        try:
            addresses = await self.resolve(host, port)
        except BlockingIOError:
            raise ModelRetry("too many name look-ups are running; try again in a minute") from None
        except OSError:
            addresses = []
        if not addresses:
            raise ModelRetry(f"the host {host!r} has no address; check its spelling")
        if not self.allow_private and not all((at := address_of(one)) and is_public(at) for one in addresses):
            raise ModelRetry(f"the host {host!r} has an address that is not public; only the public internet is reached")
        return addresses[0]

    def _problem(self, url: httpx.URL, host: str, port: int) -> str:
        if url.scheme not in _DEFAULT_PORTS:
            return f"has the scheme {url.scheme!r}; allowed: http, https"
        if url.userinfo:
            return "has a user name or password in it; leave it out"
        if problem := host_problem(host):
            return problem
        named = self._named(host, port)
        if self.allow_hosts is not None and not named and not self._named(host, None):
            return f"is on the host {host!r}; allowed: {', '.join(sorted(self.allow_hosts)) or 'none'}"
        if self.ports is not None and port not in self.ports and not named:
            return f"has the port {port}; allowed: {', '.join(map(str, sorted(self.ports)))}"
        return ""

    def _named(self, host: str, port: int | None) -> bool:
        """Whether the host is written in `allow_hosts`: with that port, or without one if `port` is None."""
        shown = f"[{host}]" if ":" in host else host
        parents = [f"*{host[at:]}" for at, char in enumerate(host) if char == "." and not address_of(host)]
        names = {host, shown, *parents}
        wanted = names if port is None else {f"{name}:{port}" for name in names - {host} | {shown}}
        return self.allow_hosts is not None and bool(wanted & self.allow_hosts)


@dataclass(frozen=True, slots=True)
class _Web:
    rules: _Rules
    max_bytes: int
    timeout: float
    max_redirects: int
    transport: Callable[[], httpx.AsyncBaseTransport]

    async def http_get(self, url: str) -> str:
        """Fetch a URL with GET. Returns the status, the final URL and the body if it is text.

        Args:
            url: The whole URL, with http:// or https://.
        """
        return await self._fetch("GET", url, None)

    async def http_post(self, url: str, json: dict[str, Any]) -> str:
        """Send JSON to a URL with POST. Returns the status, the final URL and the body if it is text.

        Args:
            url: The whole URL, with http:// or https://.
            json: The JSON object to send.
        """
        return await self._fetch("POST", url, jsonlib.dumps(json).encode())

    async def _fetch(self, method: str, given: str, body: bytes | None) -> str:
        return await in_own_loop(lambda: self._within_time(method, given, body))

    async def _within_time(self, method: str, given: str, body: bytes | None) -> str:
        import httpx

        try:
            async with asyncio.timeout(self.timeout), self.transport() as transport:
                return await self._follow(transport, method, _url(given), body)
        except (httpx.InvalidURL, ValueError):  # urljoin's complaint about a broken location is a ValueError
            raise ModelRetry("that is not a valid URL; write it like 'https://example.com/page'") from None
        except httpx.HTTPError as error:
            raise ModelRetry(f"the request failed: {type(error).__name__}; try again, or another URL") from None
        except TimeoutError:
            raise ModelRetry(f"no whole answer came within {self.timeout:g} seconds; try another URL") from None

    async def _follow(self, transport: httpx.AsyncBaseTransport, method: str, url: httpx.URL, body: bytes | None) -> str:
        for _ in range(self.max_redirects + 1):
            response = await transport.handle_async_request(await self._request(method, url, body))
            try:
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    return await self._described(response, url)
            finally:
                await response.aclose()
            target = url.join(_url(response.headers["location"]))
            if url.scheme == "https" and target.scheme == "http":
                raise ModelRetry(f"{url.host!r} redirects from https to http, which is not followed")
            if method == "POST" and response.status_code in (301, 302, 303):
                method, body = "GET", None
            if method == "POST" and target.netloc != url.netloc:
                raise ModelRetry(f"{url.host!r} redirects the POST to {target.host!r}; send it there yourself if that is right")
            url = target
        raise ModelRetry(f"more than {count(self.max_redirects, 'redirect')}; the last one went to {url.host!r}")

    async def _request(self, method: str, url: httpx.URL, body: bytes | None) -> httpx.Request:
        import httpx

        address = await self.rules.check(url)
        headers = {"host": url.netloc.decode("ascii"), "user-agent": "agentkit-tools", "accept-encoding": "identity"}
        if body is not None:
            headers["content-type"] = "application/json"
        extensions: dict[str, Any] = {"timeout": httpx.Timeout(self.timeout).as_dict()}
        if url.scheme == "https" and not address_of(url.host):
            extensions["sni_hostname"] = url.raw_host.decode("ascii")
        pinned = url.copy_with(host=address, fragment=None)
        return httpx.Request(method, pinned, headers=headers, content=body, extensions=extensions)

    async def _described(self, response: httpx.Response, url: httpx.URL) -> str:
        content_type = response.headers.get("content-type", "")[:200]
        kind = content_type.partition(";")[0].strip().lower()
        head = f"[HTTP {response.status_code} {url}; {kind or 'no content type'}]"
        if kind and not (kind.startswith(_TEXT_TYPES) or kind.endswith(("+json", "+xml"))):
            return f"{head}\n[the body is not text ({_length(response)}); not shown]"
        data = bytearray()
        async for chunk in _decoded(response, self.max_bytes + 1):
            data += chunk
            if len(data) > self.max_bytes:
                break
        if looks_binary(bytes(data)):
            return f"{head}\n[the body is not text ({_length(response)}); not shown]"
        charsets = [value.strip(" '\"") for name, value in _PARAMETER.findall(content_type) if name.lower() == "charset"]
        text, note = decode(bytes(data[: self.max_bytes]), charsets[0] if charsets else "utf-8")
        cut = f"[cut: showed the first {self.max_bytes:,} of {_length(response)}]" if len(data) > self.max_bytes else ""
        return "\n".join(filter(None, [head, note, text, cut]))


def _url(given: str) -> httpx.URL:
    import httpx

    if len(given) > _LONGEST_URL:
        raise ModelRetry(f"the URL has {len(given):,} characters; allowed: {_LONGEST_URL:,}")
    return httpx.URL(given)


def _length(response: httpx.Response) -> str:
    length = response.headers.get("content-length", "")
    encoded = response.headers.get("content-encoding", "identity").lower() != "identity"
    known = length.isascii() and length.isdigit() and len(length) < 16 and not encoded
    return count(int(length), "byte") if known else "an unknown number of bytes"


async def _decoded(response: httpx.Response, most: int) -> AsyncIterator[bytes]:
    """The body in pieces, unpacked (at most `most` bytes) if the server compressed it although asked not to."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ModelRetry(f"the server sent the encoding {encoding[:40]!r}, which was not asked for; try another URL")
    inflate = zlib.decompressobj(wbits=47) if "gzip" in encoding or "deflate" in encoding else None
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        if inflate is None:
            yield chunk
            continue
        try:
            yield inflate.decompress(chunk, most)
        except zlib.error:
            raise ModelRetry("the server's answer is compressed in a broken way; try another URL") from None
        if inflate.unconsumed_tail or inflate.eof:  # what follows the end would be kept in memory
            return
