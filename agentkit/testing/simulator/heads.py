"""The head of an HTTP request, and the check whether the server accepts the request at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .replies import Failure

__all__ = ["BODY_LIMIT", "HEAD_LIMIT", "Head", "parsed", "rejection"]

HEAD_LIMIT = 65_536
BODY_LIMIT = 64 * 1024 * 1024
"""DeepSeek's limit for a request, in bytes."""

_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)
_SINGLE_HEADERS = ("host", "origin", "content-length", "content-type")


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and headers. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    length: int

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after the response."""
        return self.headers.get("connection", "").lower() != "close"


def parsed(data: bytes) -> Head | None:
    """The head in these bytes; None if they are not HTTP, or if a header that may occur only once has two different values."""
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or (name in _SINGLE_HEADERS and headers.get(name, value) != value):
            return None
        headers[name] = value
    length = headers.get("content-length", "0")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not length.isdecimal() or len(length) > 18:
        return None
    return Head(words[0], words[1], headers, int(length))


def rejection(head: Head) -> Failure | None:
    """The refusal of a request before its body is read; None if it is accepted. The texts are ours.

    A web page must not reach a test's server, neither through a host name that resolves to 127.0.0.1 (see `Host`) nor from
    another origin.
    """
    host, origin = head.headers.get("host"), head.headers.get("origin")
    if host is not None and not _LOOPBACK.fullmatch(host):
        return Failure(403, f"the simulator answers to localhost only, not to the host {host!r}")
    if origin is not None and origin != f"http://{host}":
        return Failure(403, f"the simulator takes no requests of web pages; this one comes from {origin!r}")
    if "transfer-encoding" in head.headers:
        return Failure(411, "the simulator takes bodies with a Content-Length only")
    if head.length > BODY_LIMIT:
        return Failure(413, f"the body has {head.length} bytes; at most {BODY_LIMIT} are allowed")
    return None
