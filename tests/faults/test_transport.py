"""Faults of the network that need a server, a socket or a task of their own."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit import Agent, AgentError, ChatModel, Retry
from agentkit import errors as e
from agentkit.events import TextDelta
from agentkit.messages import ToolResult
from agentkit.models import chat
from tests.kit import unmeasured
from tests.models.raw_server import RawServer, raw_server, stream_head

from .conftest import Fault
from .play import FIRST, pay, play, run_agent
from .rows import Played, Raises, Row, answer, events, history_is_valid, status
from .sse_rows import PARTS

pytestmark = pytest.mark.faults
CERTIFICATE = Path(__file__).parents[1] / "data" / "self_signed.pem"


def row(**options: Any) -> Row:
    return Row(id="", group="", must=Raises(Exception), **options)


def against(base_url: str, *, watched: bool, attempts: int = 5, **options: Any) -> AgentError:
    """The error of a run against this address, which ends after so many attempts."""
    played = Played(watched, [], [], [], [])

    async def main() -> None:
        model = ChatModel("deepseek-v4-flash", base_url=base_url, api_key="key-0123456789", **options)
        server = RawServer()
        server.model = lambda **_options: model  # type: ignore[method-assign]
        await run_agent(row(attempts=attempts), server, played)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 30
    assert isinstance(played.error, AgentError) and played.error.state.stop_reason == "error"
    assert len(played.waits) == attempts - 1, "it is tried again, so often and no more"
    return played.error


async def run(agent: Agent[Any], *, watched: bool, **options: Any) -> Any:
    """The result of a run, watched or not."""
    if not watched:
        return await agent.run("hi", **options)
    stream = agent.stream("hi", **options)
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
    error = against("https://nosuch.invalid/v1", watched=watched, attempts=2)
    assert type(error) is e.ConnectionFailed and "nosuch.invalid" in str(error)


def test_connect_refused_forever(fault: Fault, watched: bool) -> None:
    fault("transport connect_refused_forever")
    port = free_port()
    error = against(f"http://127.0.0.1:{port}/v1", watched=watched)
    assert type(error) is e.ConnectionFailed and f"127.0.0.1:{port}" in str(error) and error.retryable


def test_connect_refused_after_a_side_effect(fault: Fault, watched: bool) -> None:
    """The server goes away when it has asked for a call of `pay`: this is not repeated, and the history is whole."""
    fault("transport connect_refused_forever")
    played = Played(watched, [], [], [], [])

    async def main() -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.close()
            await reader.readuntil(b'"go"}]}')
            writer.writelines(part for part in FIRST(watched) if isinstance(part, bytes))
            writer.close()
            gone.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        await run_agent(row(), RawServer(server.sockets[0].getsockname()[1]), played)
        assert gone.is_set()

    asyncio.run(main())
    assert type(played.error) is e.ConnectionFailed and len(played.waits) == 4 and played.ran == ["paid"]
    history_is_valid(played.error.state.messages)
    assert isinstance(played.error.state.messages[-1], ToolResult)


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


def test_connect_timeout(fault: Fault, watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("transport connect_timeout")
    monkeypatch.setattr(chat, "_CONNECT_TIMEOUT", 0.1)
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
            error = against(f"http://127.0.0.1:{full.getsockname()[1]}/v1", watched=watched, attempts=2, timeout=20)
        finally:
            for one in waiting:
                one.close()
    assert type(error) is e.TimedOut and "no connection within 0.1 seconds" in str(error)


def test_the_timeouts_that_a_client_is_given(fault: Fault) -> None:
    """That of the connection is short, whatever that of the bytes is."""
    fault("transport connect_timeout")
    given: list[dict[str, float]] = []

    def note(request: httpx.Request) -> httpx.Response:
        given.append(request.extensions["timeout"])
        return httpx.Response(200, json={"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]})

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(note)) as client:
            for options in ({}, {"timeout": 60.0}, {"timeout": 1.0}):
                model = ChatModel("m", base_url="http://127.0.0.1:9/v1", client=client, **options)  # type: ignore[arg-type]
                assert (await Agent(model).run("hi")).output == "hello"

    asyncio.run(main())
    assert [(waits["connect"], waits["read"]) for waits in given] == [(10.0, 300.0), (10.0, 60.0), (1.0, 1.0)]


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


@pytest.mark.parametrize("head", [False, True], ids=["before the head", "in the body"])
def test_cancel_while_waiting(fault: Fault, watched: bool, head: bool) -> None:
    """It is not tried again, the connection is closed at once, and what was done before is in the history."""
    fault("transport cancel_while_waiting")
    seen: list[Any] = []

    async def main() -> None:
        arrived, shown = asyncio.Event(), asyncio.Event()

        def note(event: Any) -> None:
            seen.append(event)
            if isinstance(event, TextDelta):
                shown.set()

        def silent(number: int) -> Any:
            if number < 2:
                return status(503) if number else FIRST(watched)
            arrived.set()
            return [stream_head() + events(PARTS[0]), inf] if head else [inf]

        async with raw_server(silent) as server:
            model = server.model()
            agent: Agent[Any] = Agent(model, tools=[pay], retry=Retry(first=0))
            task = asyncio.create_task(run(agent, watched=watched, deps=[], observers=[note]))
            await (shown if head and watched else arrived).wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(30):
                await server.left.wait()
            await model.aclose()
        assert len(server.bodies) == 3

    asyncio.run(main())
    gc.collect()  # an open socket would be a ResourceWarning, which fails the test
    state = seen[-1].result.state
    history_is_valid(state.messages)
    assert state.stop_reason == "cancelled" and [message.role for message in state.messages] == ["user", "assistant", "tool"]


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


WAITS = """
import asyncio, os, signal
from agentkit import Agent, ChatModel, Retry

async def sleep(seconds):
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)  # when this waits
    await asyncio.sleep(60)

agent = Agent(ChatModel("m", base_url="http://127.0.0.1:{port}/v1"), retry=Retry(sleep=sleep))
{call}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("call", ['agent.run_sync("hi")', 'list(agent.stream_sync("hi"))', 'asyncio.run(agent.run("hi"))'])
def test_ctrl_c_during_backoff(fault: Fault, call: str) -> None:
    """The loop sends the signal itself: `asyncio.run` of CPython misses one that comes just before it waits in `select`."""
    fault("transport cancel_during_backoff")
    text = WAITS.format(port=free_port(), call=call)
    env = unmeasured({**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    ended = subprocess.run(  # the wait would be a minute
        [sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode != 0 and ended.stderr.rstrip().endswith("KeyboardInterrupt")


def test_proxy_env_ignored_for_loopback(fault: Fault, watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("transport proxy_env_ignored_for_loopback")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert play(row(times=0), watched=watched).text == "hello"


BOMB = """
from tests.faults import transport_rows
from tests.faults.play import play
from tests.memory import peak

before = peak()
play(next(row for row in transport_rows.ROWS if row.id == "gzip_bomb"), watched=False)
print(peak() - before)
"""


def test_the_memory_of_a_bomb_is_bounded(fault: Fault) -> None:
    """In a process of its own: what others have taken and given back would hide it."""
    fault("transport gzip_bomb")
    ended = subprocess.run(
        [sys.executable, "-c", BOMB], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 128 * 1024
