"""A reply as its bytes come: a stream of events or one JSON text, told apart by its beginning and read to its end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

from ...errors import ConnectionFailed, ModelError, ReplyTooLarge, StreamBroken
from ...events import ReasoningDelta, TextDelta, ToolArgsDelta
from ...model import DeltaSink
from ..refusals import cut_text
from ..replies import Parts, ReplyReader
from .bodies import is_json, read_chunk, read_whole
from .sse import SSEParser
from .transports import Response

__all__ = ["ReplyBytes", "read_refusal", "read_reply"]

_BOM = b"\xef\xbb\xbf"
_FIELD = re.compile(rb"[A-Za-z0-9_-]*:|data\s")
"""The beginning of a line of a stream: a field, known or not, or a comment."""
_MARKED = re.compile(rb"(?:(?<=[\r\n])|\A)\xef\xbb\xbf(?=[A-Za-z:])")
"""A byte order mark before a line, as of servers that encode each event by itself."""
_SNIFF_BYTES = 64
"""Bytes by which a stream is told from a JSON text."""
_GRACE = 1.0
"""Seconds that a whole reply is given for what may follow it: usage, the mark of the end, the end of the connection."""
_LONG_GRACE = 3.0
"""The same for a reply that went on after a finish reason, as some proxies put one into every chunk."""
_DRAIN_SECONDS = 0.5
_MAX_REFUSAL = 65_536
_REFUSAL_SECONDS = 2.0


class ReplyBytes:
    """The bytes of a response as they come, at most `max_bytes` of them. `renew` is called whenever some came."""

    def __init__(self, response: Response, max_bytes: int, url: str, renew: Callable[[], None]) -> None:
        self._response, self._max_bytes, self._left, self._url = response, max_bytes, max_bytes, url
        self._renew = renew

    @property
    def has_length(self) -> bool:
        """Whether the server has announced how long the body is."""
        return "content-length" in self._response.headers

    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises `ReplyTooLarge`, or the error of a broken connection."""
        piece = await self._response.read()
        self._renew()
        self._left -= len(piece)
        if self._left < 0:
            raise ReplyTooLarge(f"{self._url}: the reply is larger than {self._max_bytes:,} bytes (max_bytes)")
        return piece


async def read_reply(reply: ReplyBytes, on_delta: DeltaSink | None, reader: ReplyReader) -> Parts:
    """The reply, streamed or whole. Its beginning tells which: servers ignore `stream`, and name wrong content types."""
    beginning = await _beginning(reply)
    if _is_stream(beginning):
        return await _read_stream(beginning, reply, on_delta, reader)
    parts = read_whole(await _json_text(beginning, reply), reader)
    if on_delta:  # a watcher gets the reply in one piece
        await _emit(parts, on_delta)
    return parts


async def read_refusal(reply: ReplyBytes) -> bytes:
    """What can be had of the body of a refusal in a short time; the status says enough if it is cut."""
    body = b""
    with suppress(ConnectionFailed, StreamBroken, TimeoutError):
        async with asyncio.timeout(_REFUSAL_SECONDS):
            while len(body) <= _MAX_REFUSAL and (piece := await reply.read()):
                body += piece
    return body


async def _json_text(beginning: bytes, reply: ReplyBytes) -> bytes:
    """A JSON text to its end.

    Some servers do not end the response. So when nothing but blanks has come for a while, the text counts if it is whole. That
    is looked at once in each such pause.
    """
    pieces, loop = [beginning], asyncio.get_running_loop()
    if reply.has_length:  # it ends by itself
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
    """The first bytes that are not blank, as many as tell a stream from a JSON text.

    Blank lines keep the connection of a queued request open, so there may be any number of them.
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
                if on_delta:  # who has seen a piece can still leave, though the rest has come with it
                    await asyncio.sleep(0)
                await _drain(reply)
                return stream.parts()
            piece = await stream.next_of(reply)
        with suppress(StreamBroken):  # of a last line that was cut
            await stream.take(b"\n\n")  # some servers leave out its blank line
        if not reader.finished and not stream.has_ended:
            raise StreamBroken("the stream ended without a finish reason: the reply was cut", body=stream.unexpected)
        return stream.parts()  # some servers leave out [DONE]
    except ModelError as error:
        error.partial = error.partial or reader.text
        raise


class _Stream:
    """The events of a stream, as they are taken into the reader."""

    def __init__(self, reader: ReplyReader, on_delta: DeltaSink | None) -> None:
        self._reader, self._on_delta = reader, on_delta
        self._parser = SSEParser()
        self._last = 0.0
        """When the finish reason came, or the last piece of the answer after it; 0 before."""
        self._grace = _GRACE
        self.has_ended = False
        """Whether the mark of the end has come."""
        self.unexpected = ""
        """What came instead of a chunk, for an error message."""

    async def take(self, piece: bytes) -> bool:
        """Take the events of these bytes in; whether the stream has ended with them."""
        if b"\xef" in piece:  # the beginning of a mark
            piece = _MARKED.sub(b"", piece)
        for data in self._parser.feed(piece):
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
        """The whole reply. Raises `StreamBroken` if nothing of one has come."""
        if not self._reader.has_choice:
            raise StreamBroken("the stream has no choice in it", body=self.unexpected)
        return self._reader.parts()

    def _chunk(self, data: bytes) -> object:
        """The chunk of an event; None for a blank or a heartbeat, which is any text that does not begin as an object."""
        if data[:1] != b"{":
            data = data.strip()
        if data[:1] == b"{":
            return read_chunk(data)
        try:
            return read_chunk(data) if data else None
        except StreamBroken:
            self.unexpected = cut_text(data, 200)
            return None

    async def next_of(self, reply: ReplyBytes) -> bytes:
        """The next bytes; none at the end.

        A reply with a finish reason is whole, even where the server then breaks off, or sends keep-alives for ever. Only a
        piece of the answer gives it more time.
        """
        if not self._reader.finished:
            return await reply.read()
        try:
            async with asyncio.timeout_at(self._last + self._grace):
                return await reply.read()
        except (TimeoutError, ConnectionFailed, StreamBroken):
            return b""


def _is_done(data: bytes) -> bool:
    """Whether it is the mark of the end, `[DONE]`, also with blanks or in quotes."""
    return len(data) < 40 and data.strip().strip(b"\"'").strip().upper() == b"[DONE]"


async def _drain(reply: ReplyBytes) -> None:
    """Read to the end of a reply that is whole already, so that its connection can be used again."""
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
