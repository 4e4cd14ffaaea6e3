"""The simulator inside the process, as an httpx transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import httpx

from .response import Break, Pause, Response

__all__ = ["SimulatorTransport"]


class SimulatorTransport(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Answers a client's requests without a socket. Bodies are sent part by part."""

    def __init__(self, respond: Callable[[str, str, Mapping[str, str], bytes], Response]) -> None:
        self._respond = respond

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of `httpx.Client`."""
        response = self._answer(request, request.read())
        time.sleep(response.wait)
        return _as_httpx(response)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of `httpx.AsyncClient`."""
        response = self._answer(request, await request.aread())
        await asyncio.sleep(response.wait)
        return _as_httpx(response)

    def _answer(self, request: httpx.Request, body: bytes) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return self._respond(request.method, request.url.raw_path.decode(), headers, body)


def _as_httpx(response: Response) -> httpx.Response:
    if response.hangup:
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
    size = {} if response.length is None else {"content-length": str(response.length)}
    return httpx.Response(response.status, headers={**response.headers, **size}, stream=_Body(response))


class _Body(httpx.AsyncByteStream, httpx.SyncByteStream):
    def __init__(self, response: Response) -> None:
        self._parts = response.parts

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, Pause):
                time.sleep(part.seconds)
            else:
                yield _bytes(part)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, Pause):
                await asyncio.sleep(part.seconds)
            else:
                yield _bytes(part)


def _bytes(part: bytes | Break) -> bytes:
    if isinstance(part, Break):
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
    return part
