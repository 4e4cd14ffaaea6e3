"""Server-sent events from bytes, at any split. No I/O.

The format is the WHATWG HTML standard's, section 9.2.6: lines end in LF, CRLF or CR; `data` lines of one event are joined by
LF; a blank line ends an event; comments and the fields event, id and retry are passed over; a byte order mark at the
start is dropped; an event without its blank line at the end of the stream is not an event.
"""

from __future__ import annotations

import re

__all__ = ["SSEParser"]

_LINE = re.compile(rb"\r\n|\n|\r")


class SSEParser:
    """Give it bytes as they come; it gives back the data of the events that they complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._started = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that ended in `chunk`, in order; an event without data gives nothing."""
        if self._after_cr and chunk:  # the LF of a CRLF whose CR has ended its line already
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        buffer = self._rest + chunk if self._rest else chunk
        if not self._started:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._rest = buffer
                return []
            buffer, self._started = buffer.removeprefix(b"\xef\xbb\xbf"), True
        if b"\r" in buffer:
            self._after_cr = buffer.endswith(b"\r")
            *lines, self._rest = _LINE.split(buffer)
        else:
            *lines, self._rest = buffer.split(b"\n")
        return self._take(lines)

    def _take(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._data.append(b"")
        return events
