"""Reads a reply to its end: a stream of events or one JSON text, distinguished by the first bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from ...errors import ConnectionFailed, ModelError, ReplyTooLarge, StreamBroken
from ...events import ReasoningDelta, TextDelta, ToolArgsDelta
from ...model import DeltaSink
from ..refusals import cut_text
from ..replies import Parts, ReplyReader
from .bodies import error_chunk, is_json, read_chunk, read_whole
from .sse import ErrorEvent, SSEParser
from .transports import Response

__all__ = ["ReplyBytes", "read_refusal", "read_reply"]

_BOM = b"\xef\xbb\xbf"
_FIELD = re.compile(rb"[A-Za-z0-9_-]*:|data\s")
"""The beginning of a stream's line: any field, or a comment."""
_MARKED = re.compile(rb"(?:(?<=[\r\n])|\A)\xef\xbb\xbf(?=[A-Za-z:])")
"""A byte order mark before a line, as some servers send with each event."""
_ERROR_TEXT = re.compile(rb"\W{0,2}error\b", re.IGNORECASE)
"""The beginning of an error that is not JSON."""
_SNIFF_BYTES = 64
"""Max bytes needed to distinguish a stream from a JSON text."""
_GRACE = 1.0
"""Seconds to wait after a complete reply for what may follow: usage, the end marker, the end of the connection."""
_LONG_GRACE = 3.0
"""The same after a reply that went on after a finish reason: some proxies put one into every chunk."""
_DRAIN_SECONDS = 0.5
_MAX_REFUSAL = 65_536
_REFUSAL_SECONDS = 2.0


class ReplyBytes:
    """The bytes of a response, at most `max_bytes`. `renew` is called whenever bytes came."""

    def __init__(self, response: Response, max_bytes: int, url: str, renew: Callable[[], None]) -> None:
        self._response, self._max_bytes, self._left, self._url = response, max_bytes, max_bytes, url
        self._renew = renew

    @property
    def has_length(self) -> bool:
        """Whether the response has a Content-Length."""
        return "content-length" in self._response.headers

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises `ReplyTooLarge`, or the error of a broken connection."""
        piece = await self._response.read()
        self._renew()
        self._left -= len(piece)
        if self._left < 0:
            raise ReplyTooLarge(f"{self._url}: the reply is larger than {self._max_bytes:,} bytes (max_bytes)")
        return piece


async def read_reply(reply: ReplyBytes, on_delta: DeltaSink | None, reader: ReplyReader) -> Parts:
    """The reply, streamed or whole. The first bytes decide which: servers ignore `stream`, and send wrong content types."""
    beginning = await _beginning(reply)
    if _is_stream(beginning):
        return await _read_stream(beginning, reply, on_delta, reader)
    parts = read_whole(await _json_text(beginning, reply), reader)
    if on_delta:  # observers get the reply in one piece
        await _emit(parts, on_delta)
    return parts


async def read_refusal(reply: ReplyBytes) -> bytes:
    """The body of a refusal, as much as comes in a short time. If it is cut, the status says enough."""
    body = b""
    with suppress(ConnectionFailed, StreamBroken, TimeoutError):
        async with asyncio.timeout(_REFUSAL_SECONDS):
            while len(body) <= _MAX_REFUSAL and (piece := await reply.read()):
                body += piece
    return body


async def _json_text(beginning: bytes, reply: ReplyBytes) -> bytes:
    """A JSON text, read to its end.

    Some servers do not end the response. So if only blanks have come for a while, the text is checked once, and reading ends if
    it is complete.
    """
    pieces, loop = [beginning], asyncio.get_running_loop()
    if reply.has_length:  # the response ends by itself
        while piece := await reply.read():
            pieces.append(piece)
        return b"".join(pieces)

    def end_if_whole() -> None:
        if is_json(b"".join(pieces)):
            pause.reschedule(loop.time())

    with suppress(TimeoutError):
        async with asyncio.timeout(None) as pause:
            timer = loop.call_later(_GRACE, end_if_whole)
            try:
                while piece := await reply.read():
                    pieces.append(piece)
                    if piece.strip():
                        timer.cancel()
                        timer = loop.call_later(_GRACE, end_if_whole)
            finally:
                timer.cancel()
    return b"".join(pieces)


async def _beginning(reply: ReplyBytes) -> bytes:
    """The first bytes that are not blank, enough to distinguish a stream from a JSON text.

    Any number of blank lines may come first: servers send them to keep the connection of a queued request open.
    """
    beginning = b""
    while piece := await reply.read():
        beginning = (beginning + piece).lstrip()
        text = beginning.removeprefix(_BOM).lstrip()
        if (
            text
            and not _BOM.startswith(beginning)
            and (text[:1] in b'{[<"' or b":" in text or b"\n" in text or len(text) > _SNIFF_BYTES)
        ):
            break
    return beginning


def _is_stream(beginning: bytes) -> bool:
    return _FIELD.match(beginning.removeprefix(_BOM).lstrip()) is not None


async def _read_stream(piece: bytes, reply: ReplyBytes, on_delta: DeltaSink | None, reader: ReplyReader) -> Parts:
    stream = _Stream(reader, on_delta)
    stream.unexpected = cut_text(piece, 200)
    try:
        while piece:
            if await stream.take(piece):
                if on_delta:  # lets a consumer cancel after a piece, even if the rest came in the same read
                    await asyncio.sleep(0)
                await _drain(reply)
                return stream.parts()
            piece = await stream.next_of(reply)
        with suppress(StreamBroken):  # the last line may be cut
            await stream.take(b"\n\n")  # some servers omit the last blank line
        if not reader.finished and not stream.has_ended:
            raise StreamBroken("the stream ended without a finish reason: the reply was cut", body=stream.unexpected)
        return stream.parts()  # some servers omit [DONE]
    except ModelError as error:
        error.partial = error.partial or reader.text
        raise


class _Stream:
    """Feeds the events of a stream to the reader, and the new pieces to the observers."""

    def __init__(self, reader: ReplyReader, on_delta: DeltaSink | None) -> None:
        self._reader, self._on_delta = reader, on_delta
        self._parser = SSEParser()
        self._last = 0.0
        """Loop time of the finish reason, or of the last piece of the answer after it; 0 before."""
        self._grace = _GRACE
        self.has_ended = False
        """Whether the end marker has come."""
        self.unexpected = ""
        """Text that came instead of a chunk, for an error message."""

    async def take(self, piece: bytes) -> bool:
        """Read the events in these bytes. Returns whether the stream has ended."""
        if b"\xef" in piece:  # may begin a byte order mark
            piece = _MARKED.sub(b"", piece)
        for data in _chunks(self._parser.feed(piece)):
            if _is_done(data):
                self.has_ended = True
                break
            chunk = self._chunk(data)
            if chunk is None:
                continue
            self.unexpected = ""
            deltas = self._reader.feed(chunk)
            for delta in deltas:
                if self._on_delta:
                    await self._on_delta(delta)
            if self._reader.finished and (deltas or not self._last):
                self._grace = _LONG_GRACE if self._last else _GRACE
                self._last = asyncio.get_running_loop().time()
        return self.has_ended

    def parts(self) -> Parts:
        """The whole reply. Raises `StreamBroken` if no choice has come."""
        if not self._reader.has_choice:
            raise StreamBroken("the stream has no choice in it", body=self.unexpected)
        return self._reader.parts()

    def _chunk(self, data: bytes) -> object:
        """The chunk of an event. None for a blank or a heartbeat, which is any other text that is not an object."""
        if isinstance(data, ErrorEvent):
            return error_chunk(data)
        if data[:1] != b"{":
            data = data.strip()
        if data[:1] == b"{":
            return read_chunk(data)
        try:
            return read_chunk(data) if data else None
        except StreamBroken:
            self.unexpected = cut_text(data, 200)
            return error_chunk(data) if _ERROR_TEXT.match(data) else None

    async def next_of(self, reply: ReplyBytes) -> bytes:
        """The next bytes; empty at the end.

        A reply with a finish reason is complete, even if the server then breaks off, or sends keep-alives forever. Only further
        pieces of the answer extend the wait.
        """
        if not self._reader.finished:
            return await reply.read()
        try:
            async with asyncio.timeout_at(self._last + self._grace):
                return await reply.read()
        except (TimeoutError, ConnectionFailed, StreamBroken):
            return b""


def _chunks(events: Sequence[bytes]) -> Iterator[bytes]:
    """The chunks in these events: one in each, except if a server forgot the blank lines between them.

    A prefix that a gateway repeated is removed.
    """
    for data in events:
        if isinstance(data, ErrorEvent):
            yield data
            continue
        for line in data.split(b"\n") if b"\n" in data and not is_json(data) else (data,):
            while line.startswith(b"data:"):
                line = line[5:].lstrip()
            yield line


def _is_done(data: bytes) -> bool:
    """Whether the data is the end marker, `[DONE]`, possibly with blanks or in quotes."""
    return len(data) < 40 and data.strip().strip(b"\"'").strip().upper() == b"[DONE]"


async def _drain(reply: ReplyBytes) -> None:
    """Read a complete reply to its end, so that its connection can be reused."""
    with suppress(ModelError, TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await reply.read():
                pass


async def _emit(parts: Parts, on_delta: DeltaSink) -> None:
    message = parts.message
    if message.reasoning:
        await on_delta(ReasoningDelta(message.reasoning))
    if message.text:
        await on_delta(TextDelta(message.text))
    for index, call in enumerate(message.tool_calls):
        await on_delta(ToolArgsDelta(index, call.name, call.arguments))
