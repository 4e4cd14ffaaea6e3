"""A loopback server that sends given bytes, so that replies can be cut, slow or wrong in any way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import inf

from agentkit.models.chat import ChatModel


@dataclass
class RawServer:
    """What came: each request's head and body; `connections` counts how often a client connected, and `left` is set when
    one has closed its connection while the server waited for that."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def model(self, **options: object) -> ChatModel:
        options = {"api_key": "key-0123456789", **options}
        return ChatModel("deepseek-v4-flash", base_url=f"http://127.0.0.1:{self.port}/v1", **options)  # type: ignore[arg-type]


Step = bytes | float
"""Bytes to send, or seconds to wait before the next; a negative number resets the connection, and an endless wait is one for
the client to close it."""


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a RST. Without lingering of 0 seconds one whose input is read ends like any other."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def raw_server(answer: Callable[[int], Iterable[Step]], *, keep_open: bool = False) -> AsyncIterator[RawServer]:
    """Answers request number n (from 0) with the steps of `answer(n)`, then closes unless `keep_open`."""
    state = RawServer()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")))
        state.heads.append(head)
        state.bodies.append(await reader.readexactly(length))
        for step in answer(len(state.bodies) - 1):
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif step < 0:
                reset(writer)
                return False
            elif step == inf:
                with suppress(ConnectionError):
                    await reader.read()
                state.left.set()
                return False
            else:
                await asyncio.sleep(step)
        return keep_open

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        try:
            while await one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            state.left.set()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()


def http(body: bytes, status: str = "200 OK", content_type: str = "application/json", extra: str = "") -> bytes:
    """A whole response whose length is known."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def stream_head(content_type: str = "text/event-stream", extra: str = "") -> bytes:
    """The head of a response that ends with its connection."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{extra}connection: close\r\n\r\n".encode()


def chunked(*parts: bytes, end: bool = True) -> bytes:
    """The body in chunks of HTTP/1.1."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + (b"0\r\n\r\n" if end else b"")
