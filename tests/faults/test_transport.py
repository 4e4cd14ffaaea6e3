"""Faults of the network that need a server, a socket or a task of their own."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, AgentError, ChatModel, Retry
from agentkit import errors as e
from tests.models.raw_server import RawServer, raw_server

from . import transport_rows
from .conftest import Fault
from .play import play, run_agent
from .rows import Played, Raises, Row, answer, status

pytestmark = pytest.mark.faults
CERTIFICATE = Path(__file__).parents[1] / "data" / "self_signed.pem"


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def watched(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def row(**options: Any) -> Row:
    return Row(id="", group="", must=Raises(Exception), **options)


def against(base_url: str, *, watched: bool, attempts: int = 5, **options: Any) -> tuple[Played, BaseException]:
    """One run against this address; the error that it ends with."""
    played = Played(watched, [], [], [], [])

    async def main() -> None:
        model = ChatModel("deepseek-v4-flash", base_url=base_url, api_key="key-0123456789", **options)
        server = RawServer()
        server.model = lambda **_options: model  # type: ignore[method-assign]
        await run_agent(row(agent={"retry": Retry(attempts=attempts, first=0, longest=0)}), server, played)

    asyncio.run(main())
    assert isinstance(played.error, AgentError) and played.error.state.stop_reason == "error"
    return played, played.error


async def run(agent: Agent[Any], *, watched: bool) -> Any:
    """The result of a run, watched or not."""
    if not watched:
        return await agent.run("hi")
    stream = agent.stream("hi")
    async for _event in stream:
        pass
    return stream.result


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_dns_failure(fault: Fault, watched: bool) -> None:
    fault("transport dns_failure")
    _played, error = against("http://nosuch.invalid/v1", watched=watched, attempts=2)
    assert type(error) is e.ConnectionFailed and "nosuch.invalid" in str(error)


def test_connect_refused_forever(fault: Fault, watched: bool) -> None:
    fault("transport connect_refused_forever")
    port = free_port()
    _played, error = against(f"http://127.0.0.1:{port}/v1", watched=watched)
    assert type(error) is e.ConnectionFailed and f"127.0.0.1:{port}" in str(error) and error.retryable


def test_connect_refused_then_up(fault: Fault, watched: bool) -> None:
    fault("transport connect_refused_then_up")
    port, waits = free_port(), []

    async def main() -> Any:
        started: list[asyncio.Server] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b'"hi"}]}')
            writer.write(b"".join(part for part in answer()(watched) if isinstance(part, bytes)))
            writer.close()

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            started.append(await asyncio.start_server(serve, "127.0.0.1", port))

        model = ChatModel("m", base_url=f"http://127.0.0.1:{port}/v1")
        agent = Agent(model, retry=Retry(sleep=sleep))
        result = await run(agent, watched=watched)
        await model.aclose()
        started[0].close()
        return result

    assert asyncio.run(main()).output == "hello" and len(waits) == 1


def test_connect_timeout(fault: Fault, watched: bool) -> None:
    fault("transport connect_timeout")
    if sys.platform != "linux":
        pytest.skip("a full queue of connections drops new ones on Linux only")
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            _played, error = against(f"http://127.0.0.1:{full.getsockname()[1]}/v1", watched=watched, attempts=2, timeout=0.1)
        finally:
            for one in waiting:
                one.close()
    assert type(error) is e.TimedOut and "no connection within 0.1 seconds" in str(error)


@asynccontextmanager
async def _tls_server(seen: list[bytes]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(10))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)  # the handshake fails on both sides
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_tls_bad_certificate(fault: Fault, watched: bool) -> None:
    fault("transport tls_bad_certificate")
    seen: list[bytes] = []

    async def main() -> Played:
        played = Played(watched, [], [], [], [])
        async with _tls_server(seen) as port:
            server = RawServer(port)
            model = ChatModel("m", base_url=f"https://127.0.0.1:{port}/v1", api_key="key-0123456789")
            server.model = lambda **_options: model  # type: ignore[method-assign]
            await run_agent(row(), server, played)
        return played

    played = asyncio.run(main())
    assert type(played.error) is e.InsecureServer and "CERTIFICATE_VERIFY_FAILED" in str(played.error)
    assert played.waits == [] and seen in ([], [b""]), "nothing is sent, and nothing is tried again"


def test_tls_to_plain_port(fault: Fault, watched: bool) -> None:
    fault("transport tls_to_plain_port")

    async def main() -> Played:
        played = Played(watched, [], [], [], [])

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        plain = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = plain.sockets[0].getsockname()[1]
        server = RawServer(port)
        model = ChatModel("m", base_url=f"https://127.0.0.1:{port}/v1", api_key="key-0123456789")
        server.model = lambda **_options: model  # type: ignore[method-assign]
        await run_agent(row(), server, played)
        plain.close()
        return played

    played = asyncio.run(main())
    assert type(played.error) is e.InsecureServer and "SSL" in str(played.error) and played.waits == []


def test_stale_keepalive(fault: Fault, watched: bool) -> None:
    """The server closes after each reply without saying so."""
    fault("transport stale_keepalive")
    played = play(row(times=0), watched=watched)
    assert played.text == "hello" and played.waits == [] and played.attempts == 1


def test_cancel_while_waiting(fault: Fault, watched: bool) -> None:
    fault("transport cancel_while_waiting")

    async def main() -> None:
        arrived = asyncio.Event()

        def silent(number: int) -> Any:
            if number == 0:
                return status(503)
            arrived.set()
            return [60.0]

        async with raw_server(silent) as server:
            model = server.model()
            agent = Agent(model, retry=Retry(first=0))
            task = asyncio.create_task(run(agent, watched=watched))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await model.aclose()
        assert len(server.bodies) == 2, "it was not tried again"

    asyncio.run(main())
    gc.collect()  # an open socket would be a ResourceWarning, which fails the test


def test_cancel_during_backoff(fault: Fault, watched: bool) -> None:
    fault("transport cancel_during_backoff")

    async def main() -> float:
        waiting = asyncio.Event()

        async def sleep(_seconds: float) -> None:
            waiting.set()
            await asyncio.sleep(60)

        async with raw_server(lambda _n: status(503)) as server:
            model = server.model()
            agent = Agent(model, retry=Retry(sleep=sleep))
            task = asyncio.create_task(run(agent, watched=watched))
            await waiting.wait()
            began = asyncio.get_running_loop().time()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            took = asyncio.get_running_loop().time() - began
            await model.aclose()
        return took

    assert asyncio.run(main()) < 10  # the wait would be a minute


def test_proxy_env_ignored_for_loopback(fault: Fault, watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("transport proxy_env_ignored_for_loopback")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert play(row(times=0), watched=watched).text == "hello"


def test_the_memory_of_a_bomb_is_bounded(fault: Fault) -> None:
    fault("transport gzip_bomb")
    bomb = next(row for row in transport_rows.ROWS if row.id == "gzip_bomb")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    play(bomb, watched=False)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 256 * 1024  # in KiB on Linux
