from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import shutil
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ModelRetry, ToolRegistry
from agentkit_tools import http_tools
from agentkit_tools._address import is_public

PUBLIC = "93.184.215.14"


class Server(ThreadingHTTPServer):
    """A loopback server that answers by path, and keeps what it was asked."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.stop = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/text": (200, {"Content-Type": "text/plain; charset=utf-8"}, "héllo".encode()),
    "/latin": (200, {"Content-Type": "text/plain; charset=ISO-8859-1"}, b"h\xe9"),
    "/liar": (200, {"Content-Type": "text/plain; charset=utf-8"}, b"h\xe9"),
    "/codec": (200, {"Content-Type": "text/plain; charset=unicode_escape"}, b"a\\x41"),
    "/nocodec": (200, {"Content-Type": "text/plain; charset=klingon"}, b"plain"),
    "/json": (200, {"Content-Type": "application/vnd.x+json"}, b'{"a": 1}'),
    "/untyped": (200, {}, b"no type"),
    "/image": (200, {"Content-Type": "image/png"}, b"\x89PNG" + bytes(100)),
    "/disguised": (200, {"Content-Type": "text/plain"}, b"\x7fELF" + bytes(100)),
    "/missing": (404, {"Content-Type": "text/html"}, b"<p>no such page"),
    "/big": (200, {"Content-Type": "text/plain"}, b"x" * 1_000_000),
    "/gzip": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, gzip.compress(b"packed")),
    "/bomb": (
        200,
        {"Content-Type": "text/plain", "Content-Encoding": "gzip"},
        gzip.compress(b"x" * 50_000_000, 1),
    ),
    "/badgzip": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, b"not gzip"),
    "/br": (200, {"Content-Type": "text/plain", "Content-Encoding": "br"}, b"x"),
    "/headers": (200, {f"X-{number}": "y" * 100 for number in range(5000)}, b""),
    "/cookie": (302, {"Location": "/text", "Set-Cookie": "session=canary"}, b""),
    "/relative": (302, {"Location": "text"}, b""),
    "/loop": (302, {"Location": "/loop"}, b""),
    "/tofile": (302, {"Location": "file:///etc/passwd"}, b""),
    "/toprivate": (302, {"Location": "http://127.0.0.2/"}, b""),
    "/tometadata": (307, {"Location": "http://169.254.169.254/latest/meta-data"}, b""),
    "/touser": (302, {"Location": "http://u:canary@example.com/"}, b""),
    "/tobroken": (302, {"Location": "http://[/"}, b""),
    "/nolocation": (302, {"Content-Type": "text/plain"}, b"moved, but not where"),
    "/seeother": (303, {"Location": "/text"}, b""),
    "/again": (307, {"Location": "/text"}, b""),
    "/elsewhere": (307, {"Location": "http://localhost/text"}, b""),
}


class Handler(BaseHTTPRequestHandler):
    """Answers from the table; /drip writes without end."""

    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if self.path in ("/drip", "/stall"):
            return self.drip()
        status, headers, content = ANSWERS[self.path]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # the client has had enough
            self.wfile.write(content)
        return None

    do_POST = do_GET

    def drip(self) -> None:
        if self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
        while not self.server.stop.wait(0.02):
            try:
                if self.path == "/drip":
                    self.wfile.write(b"x")
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.seen.clear()
    return running


def get(server: Server, path: str, **options: Any) -> str:
    tools = http_tools(**{"allow_hosts": [f"127.0.0.1:{server.server_port}"], **options})
    return str(asyncio.run(tools["http_get"](server.url + path)))


def resolver(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def recorder(seen: list[httpx.Request], answer: Callable[[httpx.Request], httpx.Response]) -> Callable[[], httpx.MockTransport]:
    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(request)

    return lambda: httpx.MockTransport(handle)


@pytest.mark.parametrize(
    ("path", "head", "body"),
    [
        ("/text", "HTTP 200 {url}/text; text/plain", "héllo"),
        ("/latin", "HTTP 200 {url}/latin; text/plain", "hé"),
        ("/liar", "HTTP 200 {url}/liar; text/plain", "[not valid utf-8: 1 unreadable character shown as �]\nh�"),
        ("/codec", "HTTP 200 {url}/codec; text/plain", "a\\x41"),
        ("/nocodec", "HTTP 200 {url}/nocodec; text/plain", "plain"),
        ("/json", "HTTP 200 {url}/json; application/vnd.x+json", '{"a": 1}'),
        ("/untyped", "HTTP 200 {url}/untyped; no content type", "no type"),
        ("/image", "HTTP 200 {url}/image; image/png", "[the body is not text (104 bytes); not shown]"),
        ("/disguised", "HTTP 200 {url}/disguised; text/plain", "[the body is not text (104 bytes); not shown]"),
        ("/missing", "HTTP 404 {url}/missing; text/html", "<p>no such page"),
        ("/relative", "HTTP 200 {url}/text; text/plain", "héllo"),
        ("/gzip", "HTTP 200 {url}/gzip; text/plain", "packed"),
        ("/nolocation", "HTTP 302 {url}/nolocation; text/plain", "moved, but not where"),
    ],
)
def test_what_comes_back(server: Server, path: str, head: str, body: str) -> None:
    assert get(server, path) == f"[{head.format(url=server.url)}]\n{body}"


def test_a_big_body_is_cut(server: Server) -> None:
    shown = get(server, "/big", max_bytes=1000).split("\n")
    assert shown[1:] == ["x" * 1000, "[cut: showed the first 1,000 of 1,000,000 bytes]"]


def test_a_bomb_is_not_unpacked(server: Server) -> None:
    get(server, "/text")  # certificates are loaded
    tracemalloc.start()
    shown = get(server, "/bomb", max_bytes=1000).split("\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert shown[1:] == ["x" * 1000, "[cut: showed the first 1,000 of an unknown number of bytes]"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/drip", "no whole answer came within 0.3 seconds"),
        ("/stall", "no whole answer came within 0.3 seconds|ReadTimeout"),
        ("/badgzip", "compressed in a broken way"),
        ("/br", "sent the encoding 'br'"),
        ("/headers", "the request failed: RemoteProtocolError"),
        ("/loop", "more than 5 redirects; the last one went to '127.0.0.1'"),
        ("/tofile", "has the scheme 'file'; allowed: http, https"),
        ("/toprivate", "'127.0.0.2'; allowed"),
        ("/touser", "user name or password"),
        ("/tobroken", "URL"),
    ],
)
def test_a_bad_answer_is_said(server: Server, path: str, words: str) -> None:
    started = time.monotonic()
    with pytest.raises(ModelRetry, match=words) as caught:
        get(server, path, timeout=0.3 if path in ("/drip", "/stall") else 5.0)
    assert "canary" not in str(caught.value)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("path", ["/toprivate", "/tometadata"])
def test_a_redirect_to_a_private_address_is_refused(path: str) -> None:
    seen: list[httpx.Request] = []
    transport = recorder(seen, lambda request: httpx.Response(ANSWERS[path][0], headers=ANSWERS[path][1]))
    tools = http_tools(resolve=resolver(PUBLIC), transport=transport)
    with pytest.raises(ModelRetry, match="is not a public address"):
        asyncio.run(tools["http_get"]("http://example.com/"))
    assert len(seen) == 1


def test_no_cookie_goes_on(server: Server) -> None:
    assert get(server, "/cookie").endswith("héllo")
    assert [path for _, path, _, _ in server.seen] == ["/cookie", "/text"]
    assert not any("cookie" in headers for _, _, headers, _ in server.seen)
    assert all(headers["accept-encoding"] == "identity" for _, _, headers, _ in server.seen)


def test_the_environment_sets_no_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get(server, "/text").endswith("héllo")


PRIVATE = [
    "127.0.0.1", "127.255.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254",
    "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1", "168.63.129.16",
    "::1", "::", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::127.0.0.1", "64:ff9b::", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
    "2002:a00:1::1", "2001:0:1::1", "2001:db8::1", "100::1", "192.0.0.192", "192.0.0.9", "192.88.99.1", "198.51.100.1",
    "203.0.113.1", "192.31.196.1", "192.52.193.1", "192.175.48.1", "3fff::1", "3fff:fff:ffff::1", "5f00::1", "2001:1ff::1",
    "2001:2::1", "2001:10::1", "2001:20::1", "2002:808:808::1", "2620:4f:8000::1", "4000::1", "fe80::1%lo",
    "2001:4860:4860::8888%eth0",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    seen: list[httpx.Request] = []
    tools = http_tools(resolve=resolver(PUBLIC, address), transport=recorder(seen, lambda _: httpx.Response(200)))
    for url in (f"http://{host}/", f"https://{host}/", "http://example.com/"):
        with pytest.raises(ModelRetry, match=r"not a public address|not public|not a valid URL|not a plain name"):
            asyncio.run(tools["http_get"](url))
    assert seen == []


@given(st.ip_addresses())
def test_no_address_is_public_that_python_knows_as_special(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert not is_public(address) or (address.is_global and not address.is_multicast)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "2001:200::1", "64:ff9b::8.8.8.8"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/", "http://0177.0.0.1/", "http://0x7f.1/", "http://127.1/", "http://0x7f000001/", "http://127.0.0.1./",
        "http://017700000001/", "http://1.2.3.4.5/", "http://１２７.0.0.1/", "http://①②⑦.0.0.1/", "http://example.com./",
        "http://user:pass@example.com/", "http://user@example.com/", "http://example.com\\@evil.com/", "file:///etc/passwd",
        "FiLe:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "data:text/plain,x", "javascript:alert(1)",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "unix:/x", "//example.com/", "example.com", "", "http://", "http:///x",
        "http://exa mple.com/", "http://exa%6dple.com/", "http://a..b/", "http://-x.com/", "http://[::1%25lo]/", "http://[::1/",
        "http://example.com:22/", "http://example.com:25/", "http://example.com:6379/", "http://example.com:0/",
        "http://example.com:99999/", "http://" + "a" * 64 + ".com/", "http://x\r\nHost: y/",
        "http://example.com/" + "a" * 70_000,
    ],
)  # fmt: skip
def test_a_url_in_disguise_is_refused(url: str) -> None:
    seen: list[httpx.Request] = []
    tools = http_tools(resolve=resolver(PUBLIC), transport=recorder(seen, lambda _: httpx.Response(200)))
    with pytest.raises(ModelRetry) as caught:
        asyncio.run(tools["http_get"](url))
    assert "pass@" not in str(caught.value)
    assert seen == []


@pytest.mark.parametrize(
    ("url", "connected", "host", "name"),
    [
        ("https://Example.com/a?b=c#d", f"https://{PUBLIC}/a?b=c", "example.com", "example.com"),
        ("HTTP://example.com/", f"http://{PUBLIC}/", "example.com", None),
        ("https://bücher.de/", f"https://{PUBLIC}/", "xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("https://8.8.8.8/", "https://8.8.8.8/", "8.8.8.8", None),
        ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/", "[2606:4700::1111]", None),
    ],
)
def test_the_checked_address_is_connected_to(url: str, connected: str, host: str, name: str | None) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    seen: list[httpx.Request] = []
    transport = recorder(seen, lambda _: httpx.Response(200, text="ok"))
    asyncio.run(http_tools(resolve=rebinding, transport=transport)["http_get"](url))
    assert (str(seen[0].url), seen[0].headers["host"], seen[0].extensions.get("sni_hostname")) == (
        connected,
        host,
        name,
    )
    assert len(asked) <= 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new certificate for example.test, and its key, in one file."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("makes its certificate with openssl")
    file = tmp_path_factory.mktemp("tls") / "example.test.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x -keyout - -addext"
    arguments = [openssl, *command.split(), "subjectAltName=DNS:example.test"]
    file.write_bytes(subprocess.run(arguments, check=True, capture_output=True).stdout)
    return file


@pytest.mark.parametrize("host", ["example.test", "other.test"])
def test_the_name_of_the_certificate_is_checked_at_the_pinned_address(host: str, certificate: Path) -> None:
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    transport = partial(httpx.AsyncHTTPTransport, verify=ssl.create_default_context(cafile=certificate))
    tools = http_tools(allow_private=True, ports=None, resolve=resolver("127.0.0.1"), transport=transport)
    call = tools["http_get"](f"https://{host}:{server.server_port}/text")
    try:
        if host == "example.test":
            assert asyncio.run(call).endswith("héllo")
            assert server.seen[0][2]["host"] == f"example.test:{server.server_port}"
        else:
            with pytest.raises(ModelRetry, match="the request failed: ConnectError"):
                asyncio.run(call)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert names == [host]


def test_a_name_that_turns_private_between_redirects_is_refused() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    seen: list[httpx.Request] = []
    transport = recorder(seen, lambda _: httpx.Response(302, headers={"location": "/again"}))
    with pytest.raises(ModelRetry, match="an address that is not public"):
        asyncio.run(http_tools(resolve=rebinding, transport=transport)["http_get"]("http://example.com/"))
    assert len(seen) == 1


def test_https_is_not_left() -> None:
    transport = recorder([], lambda _: httpx.Response(302, headers={"location": "http://example.com/"}))
    with pytest.raises(ModelRetry, match="from https to http"):
        asyncio.run(http_tools(resolve=resolver(PUBLIC), transport=transport)["http_get"]("https://example.com/"))


@pytest.mark.parametrize("url", ["http://localhost:{port}/text", "http://127.0.0.1:{port}/text"])
def test_the_loopback_is_reached_only_when_allowed(server: Server, url: str) -> None:
    url = url.format(port=server.server_port)
    for options in ({"ports": None}, {"ports": None, "allow_hosts": ["localhost"]}, {"allow_private": True}):
        with pytest.raises(ModelRetry):
            asyncio.run(http_tools(**options)["http_get"](url))
    assert server.seen == []
    assert "héllo" in asyncio.run(http_tools(allow_private=True, ports=None)["http_get"](url))


@pytest.mark.parametrize(
    ("allow", "url", "allowed"),
    [
        (["example.com"], "http://example.com/", True),
        (["Example.COM"], "http://example.com/", True),
        (["example.com"], "http://www.example.com/", False),
        (["example.com"], "http://notexample.com/", False),
        (["*.example.com"], "http://a.b.example.com/", True),
        (["*.example.com"], "http://example.com/", False),
        (["*.example.com"], "http://evilexample.com/", False),
        (["example.com:8080"], "http://example.com:8080/", True),
        (["example.com:8080"], "http://example.com/", False),
        (["example.com"], "http://example.com:8080/", False),
        (["*.0.0.1"], "http://127.0.0.1/", False),
        (["127.0.0.1:80"], "http://127.0.0.1/", True),
        (["127.0.0.1"], "http://127.0.0.1/", False),
        (["[::1]:8080"], "http://[::1]:8080/", True),
        ([], "http://example.com/", False),
    ],
)
def test_allowed_hosts(allow: list[str], url: str, allowed: bool) -> None:
    seen: list[httpx.Request] = []
    transport = recorder(seen, lambda _: httpx.Response(200, text="ok"))
    call = http_tools(allow_hosts=allow, resolve=resolver(PUBLIC), transport=transport)["http_get"](url)
    if allowed:
        assert "ok" in asyncio.run(call)
    else:
        with pytest.raises(ModelRetry):
            asyncio.run(call)
    assert len(seen) == allowed


def test_a_host_without_an_address() -> None:
    async def failing(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    for resolve in (failing, resolver()):
        with pytest.raises(ModelRetry, match=r"the host 'example.com' has no address"):
            asyncio.run(http_tools(resolve=resolve)["http_get"]("http://example.com/"))


def test_nobody_listens() -> None:
    tools = http_tools(allow_hosts=["127.0.0.1:1"])
    with pytest.raises(ModelRetry, match="the request failed: ConnectError"):
        asyncio.run(tools["http_get"]("http://127.0.0.1:1/"))


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/text", [("POST", "/text", b'{"a": [1]}')]),
        ("/seeother", [("POST", "/seeother", b'{"a": [1]}'), ("GET", "/text", b"")]),
        ("/again", [("POST", "/again", b'{"a": [1]}'), ("POST", "/text", b'{"a": [1]}')]),
    ],
)
def test_posting(server: Server, path: str, asked: list[tuple[str, str, bytes]]) -> None:
    tools = http_tools(methods=("post",), allow_private=True, ports=None)
    assert [item.name for item in tools] == ["http_post"]
    assert asyncio.run(tools["http_post"](server.url + path, {"a": [1]})).endswith("héllo")
    assert [(method, at, body) for method, at, _, body in server.seen] == asked
    assert server.seen[0][2]["content-type"] == "application/json"


def test_a_post_is_not_carried_to_another_host(server: Server) -> None:
    tools = http_tools(methods=("POST",), allow_private=True, ports=None)
    with pytest.raises(ModelRetry, match="redirects the POST to 'localhost'"):
        asyncio.run(tools["http_post"](server.url + "/elsewhere", {}))


def test_many_calls_at_once_leave_nothing(server: Server) -> None:
    tools = http_tools(allow_private=True, ports=None)

    async def go() -> None:
        shown = await asyncio.gather(*(tools["http_get"](server.url + "/text") for _ in range(20)))
        assert all(text.endswith("héllo") for text in shown)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())


def labels(tools: ToolRegistry) -> dict[str, tuple[bool, bool, bool, tuple[str, ...], str]]:
    return {
        item.name: (item.read_only, item.destructive, item.open_world, tuple(item.sensitive), item.output) for item in tools
    }


def test_through_the_tools(server: Server) -> None:
    tools = http_tools(methods=("GET", "POST"), allow_private=True, ports=None)
    assert asyncio.run(tools["http_get"].call(json.dumps({"url": f"{server.url}/text"}))).endswith("héllo")
    assert asyncio.run(tools["http_post"].call({"url": f"{server.url}/text", "json": {}})).endswith("héllo")
    assert labels(tools) == {
        "http_get": (False, False, True, ("url",), "untrusted"),  # a URL can carry data away
        "http_post": (False, True, True, ("url",), "untrusted"),
    }
    assert tools["http_get"].idempotent
    assert [item.name for item in http_tools()] == ["http_get"]
    with pytest.raises(ValueError, match="allowed: GET, POST"):
        http_tools(methods=("DELETE",))
