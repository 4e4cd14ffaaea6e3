"""Server-sent events from bytes, at any split. No I/O.

The format is section 9.2.6 of the WHATWG HTML standard. Lines end in LF, CRLF or CR. The `data` lines of one event are joined
by LF, and a blank line ends the event. Comments and the fields id and retry are ignored. A byte order mark at the start is
dropped. At the end of the stream, an event without its blank line is discarded.

The data of an event of the type "error" is an `ErrorEvent`. Older versions of llama.cpp send it in a field "error" instead.
"""

from __future__ import annotations

import re

from ...errors import ReplyTooLarge

__all__ = ["ErrorEvent", "SSEParser"]

_LINE = re.compile(rb"\r\n|\n|\r")


class ErrorEvent(bytes):
    """The data of an event of the type "error"."""


class SSEParser:
    """Takes bytes as they come, and returns the data of the events that they complete.

    `max_line` is the max bytes of a line. Memory is bounded by the longest event, and the work is linear in the bytes.
    """

    def __init__(self, max_line: int = 8 * 2**20) -> None:
        self._max_line = max_line
        self._line: list[bytes] = []  # the pieces of an incomplete line
        self._size = 0
        self._data: list[bytes] = []
        self._is_error = False
        """Whether the event is of the type "error"."""
        self._started = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that ended in `chunk`, in order. An event without data is skipped.

        Raises `ReplyTooLarge` for a line that is too long.
        """
        if chunk[:6] == b"data: " and self._is_between and chunk.find(b"\n") == len(chunk) - 2 and chunk[-1] == 10:
            return [chunk[6:-2]] if b"\r" not in chunk else self._lines(chunk)  # one complete event, as most chunks are
        return self._lines(chunk)

    @property
    def _is_between(self) -> bool:
        """Whether the parser is between two events."""
        return self._started and not (self._line or self._data or self._after_cr or self._is_error)

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk:  # the CR of a split CRLF has already ended the line
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        if self._started and b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return []
        buffer = b"".join((*self._line, chunk)) if self._line else chunk
        self._line, self._size = [], 0
        if not self._started:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._hold(buffer)
                return []
            buffer, self._started = buffer.removeprefix(b"\xef\xbb\xbf"), True
        if b"\r" in buffer:
            self._after_cr = buffer.endswith(b"\r")
            *lines, rest = _LINE.split(buffer)
        else:
            *lines, rest = buffer.split(b"\n")
        if rest:
            self._hold(rest)
        return self._events(lines)

    def _hold(self, piece: bytes) -> None:
        self._line.append(piece)
        self._size += len(piece)
        if self._size > self._max_line:
            raise ReplyTooLarge(f"a line of the stream is longer than {self._max_line:,} bytes")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    events.append(ErrorEvent(data) if self._is_error else data)
                    self._data = []
                self._is_error = False
                continue
            name, _, value = line.partition(b":")
            if name == b"data" or name == b"error":
                self._data.append(value.removeprefix(b" "))
            if name == b"error" or (name == b"event" and value.strip() == b"error"):
                self._is_error = True
        return events
