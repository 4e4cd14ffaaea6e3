"""Proxies of the environment: which one counts for a server, and what is told of one that does not work."""

from __future__ import annotations

import asyncio
import base64
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentkit import ChatModel, Limiter
from agentkit import errors as e
from agentkit.models.http.connections import ConnectionPool, transport_for
from agentkit.models.http.proxies import Proxy, proxy_for
from agentkit.models.http.transports import ClientTransport

from .calls import WHOLE, ask
from .raw_server import http

PROXY = "http://127.0.0.1:9"
HOST, V4, V6 = "https://api.example/v1", "https://10.1.2.3:8443/v1", "https://[fd07::5]/v1"


@pytest.mark.parametrize(
    ("url", "exceptions", "is_used"),
    [
        (HOST, "", True),
        (HOST, "*", False),
        (HOST, "localhost,*", False),
        (HOST, "api.example", False),
        (HOST, "API.Example", False),
        (HOST, " other.example , api.example ", False),
        (HOST, "other.example api.example", False),
        (HOST, "other.example;api.example", False),
        (HOST, "example", False),
        (HOST, ".example", False),
        (HOST, "*.example", False),
        (HOST, ".api.example", False),
        (HOST, "api.example.", False),
        (HOST, "https://api.example", False),
        (HOST, "api.example:443", False),
        (HOST, "api.example:8443", True),
        (HOST, "pi.example", True),
        (HOST, "api", True),
        (HOST, "api.example.org", True),
        (HOST, "localhost,127.0.0.1,::1,[::1],gateway.docker.internal", True),
        (HOST, "localhost,fd07:b51a:cc66:f0::/64", True),
        (HOST, "localhost,127.0.0.0/8,fe80::/10,[fd07::]/64,10.0.0.0/8", True),
        (HOST, ",, , .,[,],[],:,/,::/,*.,[::1", True),
        (HOST, "<local>", True),
        ("https://api.example./v1", "api.example", False),
        (HOST, "api.example/", False),
        (HOST, "https://api.example/v1", False),
        ("https://a.b.c.example/v1", "b.c.example", False),
        (V4, "10.1.2.3", False),
        (V4, "10.1.2.3:8443", False),
        (V4, "10.1.2.3:443", True),
        (V4, "10.0.0.0/8", False),
        (V4, "10.1.2.99/24", False),
        (V4, "10.1.3.0/24", True),
        (V4, "10.1.2", True),
        (V4, "10.0.0.0/99", True),
        (V4, "::/0", True),
        (V4, "0.0.0.0/0", False),
        (V4, "3", True),
        (V4, ".3", True),
        (V4, "::1,[::1],fe80::/10,10.1.2.3", False),
        (V6, "fd07::5", False),
        (V6, "[fd07::5]", False),
        (V6, "[fd07::5]:443", False),
        (V6, "[fd07::5]:8443", True),
        (V6, "FD07:0:0::0:5", False),
        (V6, "fd07::/64", False),
        (V6, "[fd07::]/64", False),
        (V6, "[fd07::/64]", False),
        (V6, "fd08::/64", True),
        (V6, "10.0.0.0/8", True),
        (V6, "fd07::5%eth0", False),
        ("https://[::ffff:10.1.2.3]/v1", "10.0.0.0/8", False),
    ],
)
def test_no_proxy(url: str, exceptions: str, is_used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert (proxy_for(url) is not None) is is_used

    async def main() -> None:
        transport = transport_for(url, proxies=True)
        assert isinstance(transport, ClientTransport if is_used else ConnectionPool)
        await transport.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "environment", "found"),
    [
        (HOST, {"HTTPS_PROXY": PROXY, "ALL_PROXY": "socks5://127.0.0.1:1"}, (PROXY, "HTTPS_PROXY")),
        (HOST, {"HTTPS_PROXY": PROXY, "HTTP_PROXY": "socks5://127.0.0.1:1"}, (PROXY, "HTTPS_PROXY")),
        (HOST, {"https_proxy": PROXY, "all_proxy": "socks://127.0.0.1:1/"}, (PROXY, "HTTPS_PROXY")),
        (HOST, {"ALL_PROXY": "socks5h://127.0.0.1:1"}, ("socks5h://127.0.0.1:1", "ALL_PROXY")),
        (HOST, {"ALL_PROXY": "socks://127.0.0.1:1/"}, ("socks5://127.0.0.1:1/", "ALL_PROXY")),
        (HOST, {"ALL_PROXY": "127.0.0.1:8080"}, ("http://127.0.0.1:8080", "ALL_PROXY")),
        (HOST, {"HTTPS_PROXY": f" {PROXY}\n"}, (PROXY, "HTTPS_PROXY")),
        (HOST, {"HTTPS_PROXY": "", "ALL_PROXY": PROXY}, (PROXY, "ALL_PROXY")),
        (HOST, {"HTTPS_PROXY": " "}, None),
        (HOST, {"HTTP_PROXY": "not an address at all"}, None),
        (HOST, {"FTP_PROXY": "x", "NO_PROXY": "[::1]"}, None),
        ("http://api.example/v1", {"HTTP_PROXY": PROXY, "HTTPS_PROXY": "socks4://127.0.0.1:1"}, (PROXY, "HTTP_PROXY")),
    ],
)
def test_only_the_proxy_that_counts_is_looked_at(
    url: str, environment: dict[str, str], found: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(url)
    assert (proxy and (proxy.url, proxy.variable)) == found


def test_the_settings_of_the_system_count_where_the_environment_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.models.http.proxies.getproxies", lambda: {"https": PROXY})
    monkeypatch.setattr("agentkit.models.http.proxies.proxy_bypass", lambda host: host == "near.example")
    assert proxy_for(HOST) == Proxy(PROXY, "the system's settings")
    assert proxy_for("https://near.example") is None and proxy_for("http://api.example") is None
    monkeypatch.setenv("NO_PROXY", "other.example")
    assert proxy_for(HOST) is None, "as urllib does"
    assert urllib.request.getproxies_environment() == {"no": "other.example"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://ann:hunter2@proxy.example:3128/", "the proxy http://proxy.example:3128 (ALL_PROXY)"),
        ("http://ann:hun@ter2@proxy.example", "the proxy http://proxy.example (ALL_PROXY)"),
        ("http://hunter2@proxy.example?x=hunter2", "the proxy http://proxy.example (ALL_PROXY)"),
        ("proxy.example:1", "the proxy http://proxy.example:1 (ALL_PROXY)"),
        ("socks5://[::1]:1080", "the proxy socks5://[::1]:1080 (ALL_PROXY)"),
    ],
)
def test_a_proxy_is_named_without_its_password(url: str, text: str) -> None:
    proxy = Proxy(url, "ALL_PROXY")
    assert str(proxy) == text and "hunter2" not in repr(proxy)


def failed(url: str) -> e.ModelError:
    async def main() -> e.ModelError:
        model = ChatModel("m", base_url=url, api_key="k", profile="generic", limiter=Limiter())
        with pytest.raises(e.ModelError) as caught:
            await model.reply(ask())
        await model.aclose()
        return caught.value

    return asyncio.run(main())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://ann:hunter2@127.0.0.1:9")
    error = failed(f"{scheme}://api.example/v1")
    start = f"{scheme}://api.example/v1/chat/completions: through the proxy http://127.0.0.1:9 (ALL_PROXY): "
    assert isinstance(error, e.ConnectionFailed) and str(error).startswith(start) and error.retryable
    assert str(error).endswith("; set NO_PROXY=api.example to go around the proxy")
    assert "hunter2" not in str(error) + repr(error.__cause__)


@asynccontextmanager
async def proxy_that_answers(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A proxy that answers each request, or CONNECT, with these bytes: its port, and the heads that came."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], heads
    server.close()


@pytest.mark.parametrize(
    ("scheme", "status", "retryable"),
    [
        ("https", "407 Proxy Authentication Required", False),
        ("http", "407 Proxy Authentication Required", False),
        ("https", "403 Forbidden", False),
        ("https", "502 Bad Gateway", True),
    ],
)
def test_a_proxy_that_refuses_is_named(scheme: str, status: str, retryable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with proxy_that_answers(http(b"", status)) as (port, heads):
            monkeypatch.setenv("ALL_PROXY", f"http://ann:hunter2@127.0.0.1:{port}")
            model = ChatModel("m", base_url=f"{scheme}://api.example/v1", api_key="k", profile="generic", limiter=Limiter())
            with pytest.raises(e.ConnectionFailed, match=rf"the proxy http://127\.0\.0\.1:{port} .*{status[:3]}") as caught:
                await model.reply(ask())
            await model.aclose()
        assert caught.value.retryable is retryable and "hunter2" not in str(caught.value)
        assert b"proxy-authorization: basic " + base64.b64encode(b"ann:hunter2").lower() in heads[0].lower()

    asyncio.run(main())


@pytest.mark.parametrize("status", ["403 Forbidden", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
def test_a_plain_proxy_that_may_have_answered_itself_is_named(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with proxy_that_answers(http(b"no way", status)) as (port, _):
            monkeypatch.setenv("ALL_PROXY", f"http://ann:hunter2@127.0.0.1:{port}")
            model = ChatModel("m", base_url="http://api.example/v1", api_key="k", profile="generic", limiter=Limiter())
            with pytest.raises(e.ModelError) as caught:
                await model.reply(ask())
            await model.aclose()
        named = (
            f"(it came through the proxy http://127.0.0.1:{port} (ALL_PROXY), which may have answered in place of the server)"
        )
        assert str(caught.value) == f"HTTP {status[:3]}: no way {named}" and caught.value.status == int(status[:3])

    asyncio.run(main())


def test_an_error_that_only_a_server_gives_does_not_name_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with proxy_that_answers(http(b"no way", "400 Bad Request")) as (port, _):
            monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
            model = ChatModel("m", base_url="http://api.example/v1", api_key="k", profile="generic", limiter=Limiter())
            with pytest.raises(e.BadRequest) as caught:
                await model.reply(ask())
            await model.aclose()
        assert str(caught.value) == "HTTP 400: no way"

    asyncio.run(main())


def test_a_request_goes_through_it_whatever_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with proxy_that_answers(http(WHOLE)) as (port, heads):
            monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{port}")
            monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1")
            monkeypatch.setenv("NO_PROXY", "[::1],fd07:b51a:cc66:f0::/64,10.0.0.0/8,<local>")
            model = ChatModel("m", base_url="http://api.example/v1", api_key="k", profile="generic")
            assert (await model.reply(ask())).message.text == "hello"
            await model.aclose()
        assert heads[0].startswith(b"POST http://api.example/v1/chat/completions HTTP/1.1")

    asyncio.run(main())
