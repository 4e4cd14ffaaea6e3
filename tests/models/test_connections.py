"""Connections of our own: what HTTP/1.1 servers do with them."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit import ChatModel, User
from agentkit import errors as e
from agentkit.events import Delta
from agentkit.models.http import connections
from agentkit.models.http.headers import Headers
from agentkit.testing import DeepSeekSimulator, Late

from .calls import DONE, GOOD, WHOLE, ask, choice, connections_of, event
from .raw_server import RawServer, Step, chunked, http, raw_server, stream_head

Use = Callable[[ChatModel, RawServer], Awaitable[Any]]
CERTIFICATE = Path(__file__).parents[1] / "data" / "self_signed.pem"
RESET = os.strerror(errno.ECONNRESET)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def use(answer: Callable[[int], list[Step]], user: Use, *, keep_open: bool = True, **options: Any) -> Any:
    async def main() -> Any:
        async with raw_server(answer, keep_open=keep_open) as server:
            model = server.model(**options)
            try:
                return await user(model, server)
            finally:
                await model.aclose()

    return asyncio.run(main())


async def twice(model: ChatModel, server: RawServer) -> tuple[str, str, int]:
    first = await model.reply(ask())
    second = await model.reply(ask())
    return first.message.text, second.message.text, server.connections


@pytest.mark.parametrize(
    ("first", "connected"),
    [
        pytest.param([http(WHOLE)], 1, id="kept"),
        pytest.param([HEAD + chunked(GOOD)], 1, id="kept after chunks"),
        pytest.param(
            [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + http(WHOLE)], 1, id="1xx"
        ),
        pytest.param([http(WHOLE, extra="connection: close\r\n")], 2, id="connection: close"),
        pytest.param([http(WHOLE) + b"HTTP/1.1 200 OK\r\n"], 2, id="bytes after the response"),
        pytest.param([http(WHOLE), -1.0], 2, id="reset after the response"),
        pytest.param([HEAD + chunked(GOOD, end=False), -1.0], 2, id="reset after the last event"),
        pytest.param([http(WHOLE).replace(b"HTTP/1.1", b"HTTP/1.0")], 2, id="HTTP/1.0"),
    ],
)
def test_when_a_connection_is_used_again(first: list[Step], connected: int) -> None:
    found = use(lambda number: [http(WHOLE)] if number else first, twice)
    assert found == ("hello", "hello", connected)


def test_a_server_that_closes_after_each_reply_costs_no_failure() -> None:
    found = use(lambda _number: [http(WHOLE)], twice, keep_open=False)
    assert found == ("hello", "hello", 2)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def served(serve: Serve, user: Callable[[ChatModel], Awaitable[Any]], tls: bool, **options: Any) -> Any:
    """What `user` gives back against a server of its own, which is this for each connection."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def main() -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if context:
            context.load_cert_chain(CERTIFICATE)
        server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
        url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        model = ChatModel("m", base_url=url, api_key="key-0123456789", profile="generic", **options)
        try:
            return await user(model)
        finally:
            await model.aclose()
            server.close()

    return asyncio.run(main())


async def request_read(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    return bool(request.param)


@pytest.mark.parametrize("read", [True, False])
def test_bytes_that_come_while_nothing_is_asked_are_no_answer(read: bool, tls: bool) -> None:
    more, sent = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_read(reader)
        writer.write(http(WHOLE))
        await more.wait()
        if not sent.is_set():
            writer.write(http(WHOLE.replace(b"hello", b"other")))
            sent.set()

    async def user(model: ChatModel) -> None:
        assert (await model.reply(ask())).message.text == "hello"
        more.set()
        await sent.wait()
        if read:
            (idle,) = connections_of(model)._idle
            while not idle._unread:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (await model.reply(ask())).message.text == "hello"

    served(serve, user, tls)


def test_bytes_that_come_while_a_connection_is_held_up_are_no_answer(tls: bool) -> None:
    """TLS holds them back, so nobody sees that they are there."""
    head = http(b"").replace(b"length: 0", b"length: %06d" % (connections._MAX_UNREAD - 100))
    much = head + b"x" * (connections._MAX_UNREAD - 100)
    much = much.replace(b"application/json", b"application/json" + b" " * (connections._MAX_UNREAD + 1 - len(much)))
    more, sent = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_read(reader)
        if sent.is_set():
            writer.write(http(WHOLE))
        else:
            writer.write(much)
            await more.wait()
            writer.write(http(WHOLE.replace(b"hello", b"other")))
            sent.set()

    async def user(model: ChatModel) -> None:
        transport = await model._transports.current()
        response = await transport.send(b"{}", Headers({}, {}), model._timeouts)
        (connection,) = connections_of(model)._all
        async with asyncio.timeout(30):
            while not connection._is_paused:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        more.set()
        await sent.wait()
        for _ in range(10):  # so that they come as far as they can
            await asyncio.sleep(0)
        while await response.read():
            pass
        await response.aclose()
        assert (await model.reply(ask())).message.text == "hello"

    served(serve, user, tls)


def test_a_request_that_was_answered_before_it_was_read_holds_up_no_other(tls: bool) -> None:
    came = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        if came > 1:
            await request_read(reader)
            writer.write(http(WHOLE))
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http(b"", "413 Too Large"))
            await ended.wait()

    ended = asyncio.Event()

    async def user(model: ChatModel) -> None:
        with pytest.raises(e.BadRequest, match="413"):
            await model.reply(ask([User("x" * 30_000_000)]))
        for idle in connections_of(model)._idle:  # over TLS, asyncio does not say what it has still to send
            while select.select([], [idle._transport.get_extra_info("socket")], [], 0)[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (await model.reply(ask())).message.text == "hello"
        ended.set()

    served(serve, user, tls, timeout=20)


def test_a_response_is_read_the_same_wherever_it_is_split() -> None:
    whole = HEAD + chunked(*(event(choice(content=letter)) for letter in "hello"), event(choice("stop")), DONE)

    async def user(model: ChatModel, server: RawServer) -> None:
        for _ in range(0, len(whole), 7):
            seen: list[Delta] = []

            async def add(delta: Delta, seen: list[Delta] = seen) -> None:
                seen.append(delta)

            assert (await model.reply(ask(), add)).message.text == "hello"
            assert len(seen) == 5
        assert server.connections == 1

    use(lambda number: [whole[: number * 7], 0.002, whole[number * 7 :]], user)


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_a_large_request_arrives_whole(size: int) -> None:
    async def user(model: ChatModel, server: RawServer) -> bytes:
        await model.reply(ask([User("x" * size)]))
        return server.bodies[0]

    body = use(lambda _number: [http(WHOLE)], user)
    assert len(body) > size and body.count(b"x" * size) == 1 and body.endswith(b"]}")


def test_a_server_waits_for_a_slow_watcher() -> None:
    size = 16 * 2**20
    flood = (
        HEAD + chunked(*[event(choice(content="x" * 1000))] * (size // 1000), end=False) + chunked(event(choice("stop")), DONE)
    )

    async def user(model: ChatModel, _server: RawServer) -> None:
        go_on = asyncio.Event()

        async def slow(_delta: Delta) -> None:
            await go_on.wait()

        task = asyncio.create_task(model.reply(ask(), slow))
        while not (model._transports._by_loop and any(connection._is_paused for connection in connections_of(model)._all)):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        (connection,) = connections_of(model)._all
        held = len(connection._http.trailing_data[0])
        assert held < 1_000_000, "what was not read yet is bounded"
        await asyncio.sleep(0.05)
        assert len(connection._http.trailing_data[0]) == held, "and does not grow"
        go_on.set()
        assert len((await task).message.text) == size // 1000 * 1000

    use(lambda _number: [flood], user)


@pytest.mark.parametrize(
    ("steps", "kind", "match"),
    [
        pytest.param([b"what do you want?\r\n\r\n"], e.ConnectionFailed, "illegal", id="no HTTP"),
        pytest.param([b"HTTP/1.1 200 OK\r\na: " + b"x" * 200_000], e.ConnectionFailed, "buffer", id="an endless head"),
        pytest.param([b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\n\r\n"], e.ConnectionFailed, "SWITCH", id="101"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-"], e.ConnectionFailed, "closed", id="a cut head"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncontent-", -1.0], e.ConnectionFailed, RESET, id="a head that is reset"),
        pytest.param([], e.ConnectionFailed, "closed the connection without a response", id="nothing"),
        pytest.param([HEAD + b"zz\r\n"], e.StreamBroken, "chunk", id="a wrong chunk"),
        pytest.param([HEAD + b"5\r\nda"], e.StreamBroken, "incomplete", id="a cut chunk"),
        pytest.param([http(WHOLE)[:-3]], e.StreamBroken, "without sending complete", id="a cut body"),
        pytest.param([http(WHOLE)[:-3], -1.0], e.StreamBroken, RESET, id="a body that is reset"),
        pytest.param([http(WHOLE)[:-3], 5.0], e.TimedOut, "no byte came within 0.2", id="a silent body"),
        pytest.param([5.0], e.TimedOut, "no byte came within 0.2", id="silence"),
    ],
)
def test_what_is_no_response_is_a_typed_error(steps: list[Step], kind: type[e.ModelError], match: str) -> None:
    async def user(model: ChatModel, _server: RawServer) -> None:
        with pytest.raises(kind, match=match) as caught:
            await model.reply(ask())
        assert type(caught.value) is kind and caught.value.retryable
        assert not connections_of(model)._all, "and its connection is not kept"

    use(lambda _number: steps, user, keep_open=False, timeout=0.2)


def test_what_came_before_a_break_is_shown() -> None:
    async def user(model: ChatModel, _server: RawServer) -> None:
        seen: list[Delta] = []

        async def add(delta: Delta) -> None:
            seen.append(delta)

        with pytest.raises(e.StreamBroken, match="chunk") as caught:
            await model.reply(ask(), add)
        assert len(seen) == 1 and caught.value.partial == "hel"

    use(lambda _number: [HEAD + chunked(event(choice(content="hel")), end=False) + b"zz\r\n"], user)


def test_an_idle_connection_is_used_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def user(model: ChatModel, server: RawServer) -> None:
        await asyncio.gather(*(model.reply(ask()) for _ in range(3)))
        transport = connections_of(model)
        assert len(transport._idle) == 3
        monkeypatch.setattr(connections, "_EXPIRY", 0.0)
        await model.reply(ask())
        assert server.connections == 4, "none that is too old is used"

    use(lambda _number: [0.05, http(WHOLE)], user)


def test_a_stream_that_ends_with_its_connection_is_whole() -> None:
    async def user(model: ChatModel, _server: RawServer) -> str:
        async def nothing(_delta: Delta) -> None:
            return None

        return (await model.reply(ask(), nothing)).message.text

    assert use(lambda _number: [stream_head() + GOOD], user, keep_open=False) == "hello"


def test_a_timeout_of_the_system_is_a_connection_that_failed() -> None:
    timeouts = {"connect": 10.0, "read": 300.0}
    lost = connections._model_error(TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "http://x", timeouts, e.StreamBroken)
    assert type(lost) is e.StreamBroken and "timed out" in str(lost)
    assert "no connection within 10 seconds" in str(
        connections._model_error(TimeoutError(), "http://x", timeouts, e.ConnectionFailed)
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_more_requests_than_files_can_be_open_wait_for_their_turn() -> None:
    program = """
        import asyncio, collections, resource, sys
        from agentkit import Agent, ChatModel

        async def main():
            async with asyncio.timeout(60):
                agent = Agent(ChatModel(base_url=sys.argv[1]))
                made = await asyncio.gather(*(agent.run("hi") for _ in range(120)), return_exceptions=True)
                await agent.aclose()
            print(*collections.Counter(type(one).__name__ for one in made))

        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        asyncio.run(main())
    """
    with DeepSeekSimulator(lambda _request: Late("ok", 0.3)) as simulator:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), simulator.base_url],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert {*ended.stdout.split()} <= {"RunResult", "ConnectionFailed"} and "RunResult" in ended.stdout
