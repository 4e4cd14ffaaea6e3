"""A minimal HTTP/1.1 server on loopback: one thread with an event loop, and no task per connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from threading import Thread

from ...errors import AgentError
from .heads import HEAD_LIMIT, Head, parsed, rejection
from .replies import Failure
from .response import Break, Part, Pause, Response, failed

__all__ = ["LoopbackServer"]

Respond = Callable[[str, str, Mapping[str, str], bytes], Response]
_TURNS_TO_CONNECT = 5
"""Iterations of the event loop after which an accepted connection is certainly made."""


class LoopbackServer:
    """Serves `respond` on a port of 127.0.0.1 between `start` and `stop`. Port 0 takes a free one."""

    def __init__(self, respond: Respond, port: int = 0) -> None:
        self._respond, self._wanted_port = respond, port
        self._running: tuple[Thread, asyncio.AbstractEventLoop, asyncio.Event, int] | None = None

    @property
    def port(self) -> int:
        """The port. Raises AgentError while the server is not running."""
        if self._running is None:
            raise AgentError("the simulator is not running: use `with DeepSeekSimulator(...) as sim`, or sim.transport()")
        return self._running[3]

    def start(self) -> None:
        """Start to listen. Returns when the server is listening."""
        if self._running is not None:
            raise AgentError("the simulator is already running")
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        thread = Thread(target=lambda: asyncio.run(self._serve(ready)), name="deepseek-simulator", daemon=True)
        thread.start()
        self._running = (thread, *ready.result())  # raises OSError if the port is taken

    def stop(self) -> None:
        """Close the port and every connection. Returns when all are closed."""
        if self._running is None:
            return
        thread, loop, stopping, _port = self._running
        self._running = None
        loop.call_soon_threadsafe(stopping.set)
        thread.join()

    async def _serve(self, ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        connections: set[_Connection] = set()
        try:
            server = await loop.create_server(
                lambda: _Connection(self._respond, connections), "127.0.0.1", self._wanted_port, backlog=4096
            )
        except OSError as error:
            ready.set_exception(error)
            return
        ready.set_result((loop, stopping, server.sockets[0].getsockname()[1]))
        await stopping.wait()
        await _close(server, connections)


async def _close(server: asyncio.Server, connections: set[_Connection]) -> None:
    """Close the port and every connection.

    A connection that is accepted but not yet made when the server closes would stay open forever. So first no more connections
    are accepted, then the accepted ones are made, then the server closes. The system resets connections that were not accepted.
    """
    with suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().remove_reader(server.sockets[0].fileno())
    for _ in range(_TURNS_TO_CONNECT):
        await asyncio.sleep(0)
    server.close()
    while connections:
        for connection in tuple(connections):
            connection.abort()
        await asyncio.sleep(0)
    await server.wait_closed()


class _Connection(asyncio.Protocol):
    """One connection. Requests are answered one after another; pauses are timers."""

    def __init__(self, respond: Respond, connections: set[_Connection]) -> None:
        self._respond, self._connections = respond, connections
        self._buffer = bytearray()
        self._head: Head | None = None
        self._answering = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next_request()
        if self._answering and len(self._buffer) > HEAD_LIMIT:
            self._transport.pause_reading()

    def _next_request(self) -> None:
        while not self._answering and not self._transport.is_closing():
            if self._head is None and not self._read_head():
                return
            head = self._head
            assert head is not None
            if len(self._buffer) < head.length:
                return
            body = bytes(self._buffer[: head.length])
            del self._buffer[: head.length]
            self._head, self._answering = None, True
            self._answer(head, body)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                self._refuse(Failure(431, f"the head of a request has at most {HEAD_LIMIT} bytes"))
            return False
        head = parsed(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if wrong := rejection(head) if head else Failure(400, "this is not an HTTP request"):
            self._refuse(wrong)
            return False
        if head and head.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._head = head
        return True

    def _refuse(self, failure: Failure) -> None:
        """Send the failure, and close the connection without reading further."""
        response = failed(replace(failure, headers={"connection": "close"}))
        body = b"".join(part for part in response.parts if isinstance(part, bytes))
        self._transport.write(_status_line(response) + body)
        self._transport.close()
        self._buffer.clear()

    def _answer(self, head: Head, body: bytes) -> None:
        response = self._respond(head.method, head.path, head.headers, body)
        if response.wait > 0:
            self._timer = asyncio.get_running_loop().call_later(response.wait, self._begin, head, response)
        else:
            self._begin(head, response)

    def _begin(self, head: Head, response: Response) -> None:
        if response.hangup:
            self._transport.close()
            return
        frame = b"%x\r\n%b\r\n" if response.length is None else None
        self._send_parts([_status_line(response)], iter(response.parts), frame, head.keep_alive)

    def _send_parts(self, ready: list[bytes], parts: Iterator[Part], frame: bytes | None, keep_alive: bool) -> None:
        for part in parts:
            match part:
                case bytes():
                    ready.append(frame % (len(part), part) if frame else part)
                case Pause(seconds):
                    self._transport.write(b"".join(ready))
                    later = asyncio.get_running_loop().call_later
                    self._timer = later(seconds, self._send_parts, [], parts, frame, keep_alive)
                    return
                case Break():
                    self._transport.write(b"".join(ready))
                    self._transport.close()
                    return
        ready.append(b"0\r\n\r\n" if frame else b"")
        self._transport.write(b"".join(ready))
        self._done(keep_alive)

    def _done(self, keep_alive: bool) -> None:
        self._answering = False
        self._transport.resume_reading()
        if not keep_alive:
            self._transport.close()
        elif self._buffer:
            asyncio.get_running_loop().call_soon(self._next_request)


def _status_line(response: Response) -> bytes:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    size = {"transfer-encoding": "chunked"} if response.length is None else {"content-length": str(response.length)}
    lines = [f"{name}: {value}\r\n" for name, value in {**response.headers, **size}.items()]
    return f"HTTP/1.1 {response.status} {phrase}\r\n{''.join(lines)}\r\n".encode("latin-1")
