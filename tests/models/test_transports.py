"""Ways to a server: a model's own connections, proxies of the environment, and clients."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import ssl
import subprocess
import sys
import textwrap
import traceback
import zlib
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from agentkit import ChatModel
from agentkit import errors as e
from agentkit.models.http import connections
from agentkit.models.http.connections import transport_for
from agentkit.models.http.transports import ClientTransport, DecompressedResponse
from agentkit.testing import DeepSeekSimulator, Late

from .calls import WHOLE, ask, connections_of
from .raw_server import Step, http, raw_server

CERTIFICATE = Path(__file__).parents[1] / "data" / "self_signed.pem"


def test_each_connection_is_used_again_and_they_go_with_the_model() -> None:
    async def main(base_url: str) -> None:
        model = ChatModel(base_url=base_url, api_key="k")
        replies = await asyncio.gather(*(model.reply(ask()) for _ in range(100)))
        assert {reply.message.text for reply in replies} == {"here"}
        made = connections_of(model)
        kept = {*made._all}
        assert 1 <= len(kept) <= 100 and {*made._idle} == kept
        for _ in range(3):
            await model.reply(ask())
        assert made._all == kept and made._idle[-1] in kept
        await model.aclose()
        assert not [*model._transports._by_loop.values()] and not made._all

    with DeepSeekSimulator(lambda _request: Late("here", 0.05)) as simulator:
        asyncio.run(main(simulator.base_url))


def test_as_many_connections_are_kept_as_were_needed_until_they_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(base_url: str) -> None:
        model = ChatModel(base_url=base_url, api_key="k")
        await asyncio.gather(*(model.reply(ask()) for _ in range(105)))
        made = connections_of(model)
        assert len(made._all) == len(made._idle) == 105
        monkeypatch.setattr(connections, "_EXPIRY", 0.0)
        made._close_old()
        assert not made._all, "nobody needs them"
        await model.reply(ask())
        assert not made._all, "and nothing has to be asked for them to go"
        await model.aclose()

    with DeepSeekSimulator(lambda _request: "here") as simulator:
        asyncio.run(main(simulator.base_url))


def test_a_model_that_is_closed_while_it_asks_leaves_nothing() -> None:
    async def main(base_url: str) -> None:
        model = ChatModel(base_url=base_url, api_key="k")
        await model.reply(ask())
        task = asyncio.create_task(model.reply(ask()))
        await asyncio.sleep(0.02)
        made = connections_of(model)
        await model.aclose()
        await asyncio.gather(task, return_exceptions=True)
        assert not made._all and not made._idle

    with DeepSeekSimulator(lambda _request: Late("here", 0.2)) as simulator:
        asyncio.run(main(simulator.base_url))


def test_the_connection_of_a_request_that_fails_or_is_cancelled_is_closed() -> None:
    async def main() -> None:
        arrived = asyncio.Event()

        def answer(number: int) -> list[Step]:
            arrived.set()
            return [-1.0] if number % 2 else [30.0]

        async with raw_server(answer) as server:
            model = server.model()
            for _ in range(2):
                arrived.clear()
                task = asyncio.create_task(model.reply(ask()))
                await arrived.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with pytest.raises(e.ModelError):
                    await model.reply(ask())
            made = connections_of(model)
            assert not made._all and not made._idle, "a connection that failed is not used again"
            await model.aclose()

    asyncio.run(main())


def test_a_compressed_reply_is_read_though_it_was_not_asked_for() -> None:
    async def main() -> None:
        body = http(gzip.compress(WHOLE), extra="Content-Encoding: gzip\r\n")
        async with raw_server(lambda _n: [body]) as server:
            model = server.model()
            assert (await model.reply(ask())).message.text == "hello"
            assert b"accept-encoding" not in server.heads[0].lower()
            await model.aclose()

    asyncio.run(main())


def test_the_head_of_a_request_is_whole() -> None:
    async def main() -> None:
        async with raw_server(lambda _n: [http(WHOLE)]) as server:
            model = server.model()
            await model.reply(ask())
            lines = server.heads[0].decode().lower().split("\r\n")
            assert lines[0] == "post /v1/chat/completions http/1.1"
            assert f"host: 127.0.0.1:{server.port}" in lines
            assert f"content-length: {len(server.bodies[0])}" in lines
            assert "content-type: application/json" in lines
            assert len(lines) == len({line.partition(":")[0] for line in lines if line}) + 2, "each header once"
            await model.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "environment", "proxied"),
    [
        ("https://api.example/v1", {}, False),
        ("https://api.example/v1", {"HTTPS_PROXY": "http://127.0.0.1:9"}, True),
        ("https://api.example/v1", {"all_proxy": "http://127.0.0.1:9"}, True),
        ("https://api.example/v1", {"HTTP_PROXY": "http://127.0.0.1:9"}, False),
        ("https://api.example/v1", {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "api.example"}, False),
        ("https://api.example/v1", {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "*"}, False),
    ],
)
def test_a_proxy_of_the_environment_is_found(
    url: str, environment: dict[str, str], proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    async def main() -> None:
        transport = transport_for(url, proxies=True)
        assert isinstance(transport, ClientTransport) is proxied
        assert not isinstance(transport_for(url, proxies=False), ClientTransport)
        await transport.aclose()

    asyncio.run(main())


def test_a_request_goes_through_the_proxy_of_the_environment() -> None:
    program = """
        import asyncio
        from agentkit import ChatModel
        from tests.models.calls import WHOLE, ask
        from tests.models.raw_server import http, raw_server
        import os

        async def main():
            async with raw_server(lambda _n: [http(WHOLE)]) as proxy:
                os.environ["http_proxy"] = f"http://127.0.0.1:{proxy.port}"
                model = ChatModel("m", base_url="http://models.example/v1", api_key="k", profile="generic")
                reply = await model.reply(ask())
                await model.aclose()
                return reply.message.text, proxy.heads[0].decode().split("\\r\\n")[0]

        print(*asyncio.run(main()))
    """
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == "hello POST http://models.example/v1/chat/completions HTTP/1.1\n", ended.stderr


def test_the_body_is_the_one_that_was_made() -> None:
    async def main() -> None:
        async with raw_server(lambda _n: [http(WHOLE)]) as server:
            model = server.model()
            await model.reply(ask())
            assert json.loads(server.bodies[0])["messages"] == [{"role": "user", "content": "hi"}]
            await model.aclose()

    asyncio.run(main())


def test_the_certificates_of_the_environment_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
            writer.write(http(WHOLE))
            await writer.drain()
            await reader.read()
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        model = ChatModel("m", base_url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", api_key="key-0123456789")
        replies = await asyncio.gather(*(model.reply(ask()) for _ in range(10)))
        assert {reply.message.text for reply in replies} == {"hello"}
        assert len(connections_of(model)._all) == 10, "and one TLS context for all"
        await model.aclose()
        server.close()

    asyncio.run(main())


def test_one_tls_context_serves_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = [transport_for(f"https://{name}.example/v1", proxies=False) for name in ("one", "other")]
    assert made[0]._tls is made[1]._tls is not None
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    other: Any = transport_for("https://one.example/v1", proxies=False)
    assert other._tls is not made[0]._tls, "of the certificates that are named now"


@pytest.mark.parametrize(
    ("environment", "match"),
    [
        ({"SSL_CERT_FILE": "/no/such.pem"}, "no certificates with SSL_CERT_FILE='/no/such.pem'"),
        ({"SSL_CERT_FILE": __file__}, "no certificates with SSL_CERT_FILE="),
        ({"SSL_CERT_FILE": "/no/such.pem", "HTTPS_PROXY": "http://127.0.0.1:9"}, "no certificates with SSL_CERT_FILE="),
        (
            {"HTTPS_PROXY": "socks5://127.0.0.1:9"},
            r"the proxy socks5://127\.0\.0\.1:9 \(HTTPS_PROXY\) cannot be used: .*socksio",
        ),
        ({"ALL_PROXY": "socks://127.0.0.1:9"}, r"the proxy socks5://127\.0\.0\.1:9 \(ALL_PROXY\) cannot be used: .*socksio"),
        ({"HTTPS_PROXY": "ftp://u:hunter2@127.0.0.1:9"}, r"ftp://127\.0\.0\.1:9 \(HTTPS_PROXY\) .*allowed: such as http://127"),
        (
            {"HTTPS_PROXY": "http://u:hun/ter2@127.0.0.1:9"},
            r"the proxy http://127\.0\.0\.1:9 \(HTTPS_PROXY\) .*allowed: such as",
        ),
        ({"HTTPS_PROXY": "http://127.0.0.1:99999"}, r"the proxy http://127\.0\.0\.1:99999 \(HTTPS_PROXY\) .*allowed: such as"),
        ({"ALL_PROXY": "u:hunter2@127.0.0.1:99999"}, r"the proxy http://127\.0\.0\.1:99999 \(ALL_PROXY\) .*allowed: such as"),
    ],
)
def test_an_environment_that_does_not_work_is_told(
    environment: dict[str, str], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    model = ChatModel("m", base_url="https://models.example/v1", profile="generic", api_key="k")
    with pytest.raises(e.SettingsError, match=match) as caught:
        asyncio.run(model.reply(ask()))
    assert "hun" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_host_that_cannot_be_looked_up_is_told(host: str) -> None:
    model = ChatModel("m", base_url=f"http://{host}/v1", profile="generic", api_key="k")
    with pytest.raises(e.SettingsError, match=r"base_url '.*' does not work: .*label"):
        asyncio.run(model.reply(ask()))


def test_an_error_without_words_is_named() -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("")

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(broken)) as client:
            with pytest.raises(e.ConnectionFailed, match=r": ReadError\nasked: model m"):
                await ChatModel("m", base_url="http://127.0.0.1:9/v1", client=client).reply(ask())

    asyncio.run(main())
    timeouts = {"connect": 10.0, "read": 300.0}
    assert (
        str(connections._model_error(ConnectionError(), "http://x", timeouts, e.ConnectionFailed))
        == "http://x: ConnectionError"
    )


def test_a_list_of_encodings_may_have_two_lines() -> None:
    async def main() -> None:
        lines = "Content-Encoding: deflate\r\nContent-Encoding: gzip\r\n"
        async with raw_server(lambda _n: [http(gzip.compress(zlib.compress(WHOLE)), extra=lines)]) as server:
            model = server.model()
            assert (await model.reply(ask())).message.text == "hello"
            await model.aclose()

    asyncio.run(main())


def test_what_came_at_once_is_decompressed_piece_by_piece() -> None:
    came = [gzip.compress(random.Random(1).randbytes(500_000)), b""]

    class Came:
        status_code = 200
        via = ""
        headers: ClassVar = {"content-encoding": "gzip"}

        async def read(self) -> bytes:
            return came.pop(0)

        async def aclose(self) -> None:
            return None

    async def main() -> None:
        response, sizes = DecompressedResponse(Came(), "http://x"), []
        while piece := await response.read():
            sizes.append(len(piece))
        assert sum(sizes) == 500_000 and max(sizes) < 70_000

    asyncio.run(main())
