"""Servers that keep a parser busy, and names that are never resolved: the program's event loop and threads go on."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import pytest

from agentkit import ModelRetry
from agentkit_tools import http_tools
from agentkit_tools._address import system_resolver
from agentkit_tools._threads import Slots, in_own_loop, in_thread

OK = b"HTTP/1.1 200 OK\r\n"
TEXT = b"content-type: text/plain\r\n"


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """The port of a server that gives this answer, whatever it is asked."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join()


HOSTILE = {
    "header fields": OK + b"a:b\r\n" * 19_000 + TEXT + b"content-length: 2\r\n\r\nhi",
    "tiny chunks": OK + TEXT + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n",
    "interim answers": b"HTTP/1.1 102 P\r\n\r\n" * 5000 + OK + TEXT + b"content-length: 2\r\n\r\nhi",
    "a content type": OK + b'content-type: text/plain; x="' + b";" * 95_000 + b"\r\ncontent-length: 2\r\n\r\nhi",
    "a location": b"HTTP/1.1 302 Found\r\nlocation: " + b"../" * 30_000 + b"\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_does_not_hold_the_loop(name: str) -> None:
    """Counted in the processor time of the loop's thread, which a busy machine does not make longer."""

    async def go(port: int) -> tuple[float, float]:
        get = http_tools(allow_hosts=[f"127.0.0.1:{port}"])["http_get"]
        began, used = time.monotonic(), time.thread_time()
        try:
            assert (await get(f"http://127.0.0.1:{port}/")).startswith("[HTTP 200 ")
        except ModelRetry as error:
            assert "the URL has 90,000 characters; allowed: 8,000" in str(error)
        return time.thread_time() - used, time.monotonic() - began

    with server(HOSTILE[name]) as port:
        used, seconds = asyncio.run(go(port))
    assert used < 0.05
    assert seconds < 15


def test_nothing_is_read_after_the_end_of_a_compressed_body() -> None:
    """What followed was kept in memory, and copied with each piece that came."""

    def serve() -> None:
        with listening.accept()[0] as connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(OK + TEXT + b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"hi"))
            while True:
                connection.sendall(b"x" * 65_536)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        shown = asyncio.run(http_tools(allow_hosts=[url[7:-1]], timeout=5.0)["http_get"](url))
        thread.join()
    assert shown == f"[HTTP 200 {url}; text/plain]\nhi"


def test_the_charset_is_found_in_a_content_type() -> None:
    for header, body, shown in (
        (b"text/plain; charset=ISO-8859-1", b"h\xe9", "hé"),
        (b'text/plain; x="y"; Charset="windows-1252"', b"\x80", "€"),
        (b"text/plain;charset='utf-8' ; z", "é".encode(), "é"),
        (b'text/plain; profile="urn:x;charset=utf-16"; charset=ISO-8859-1', b"h\xe9", "hé"),
        (b"text/plain; charset=", b"plain", "plain"),
    ):
        answer = OK + b"content-type: " + header + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        with server(answer) as port:
            got = asyncio.run(http_tools(allow_hosts=[f"127.0.0.1:{port}"])["http_get"](f"http://127.0.0.1:{port}/"))
        assert got.split("\n", 1)[1] == shown


def test_a_long_url_is_refused() -> None:
    with pytest.raises(ModelRetry, match="the URL has 8,001 characters; allowed: 8,000"):
        asyncio.run(http_tools()["http_get"]("http://example.com/".ljust(8001, "a")))


def test_work_that_hangs_is_given_up_and_bounded_and_holds_no_thread_of_the_program() -> None:
    go_on = threading.Event()
    slots = Slots(40)

    async def main() -> None:
        hung = [asyncio.ensure_future(in_thread(go_on.wait, slots=slots)) for _ in range(40)]
        await asyncio.wait(hung, timeout=0.05)
        with pytest.raises(BlockingIOError, match="40 are running already"):
            await in_thread(go_on.wait, slots=slots)
        for task in hung:
            task.cancel()
        await asyncio.wait(hung, timeout=5)
        assert all(task.cancelled() for task in hung)
        async with asyncio.timeout(5):
            await asyncio.to_thread(time.monotonic)

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name == "agentkit-tools":
            go_on.set()
            thread.join()
    assert asyncio.run(in_thread(lambda: "free again", slots=slots)) == "free again"


def test_too_many_look_ups_are_said() -> None:
    async def full(host: str, port: int) -> Sequence[str]:
        raise BlockingIOError

    with pytest.raises(ModelRetry, match="too many name look-ups are running; try again in a minute"):
        asyncio.run(http_tools(resolve=full)["http_get"]("http://example.com/"))


def test_the_system_resolves_names() -> None:
    async def addresses() -> Sequence[str]:
        return await system_resolver()("localhost", 80)

    assert {"127.0.0.1", "::1"} & {*asyncio.run(addresses())}


def test_a_loop_of_its_own_gives_results_and_errors_and_is_cancelled() -> None:
    cancelled = threading.Event()

    async def value() -> threading.Thread:
        return threading.current_thread()

    async def failure() -> None:
        raise LookupError("no")

    async def forever() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async def main() -> None:
        assert await in_own_loop(value) is not threading.current_thread()
        with pytest.raises(LookupError, match="no"):
            await in_own_loop(failure)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_own_loop(forever)
        assert await asyncio.to_thread(cancelled.wait, 10)

    asyncio.run(main())
