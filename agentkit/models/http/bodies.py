"""The JSON of replies: a chunk of a stream, and a reply in one piece. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic_core import from_json

from ...errors import StreamBroken
from ..refusals import cut_text
from ..replies import Parts, ReplyReader

__all__ = ["error_chunk", "is_json", "read_chunk", "read_whole"]

_BOM = b"\xef\xbb\xbf"
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""The beginning of an escape for half of a surrogate pair."""


def read_whole(data: bytes, reader: ReplyReader | None = None) -> Parts:
    """A reply that came in one piece. `reader` must be a fresh one.

    Raises `StreamBroken` for an empty or cut body. Raises the error that the body contains.
    """
    text = data.removeprefix(_BOM).strip()
    if not text:
        raise StreamBroken("the server closed the connection without a reply")
    reply = read_chunk(text, "the reply")
    if isinstance(reply, dict) and isinstance(inner := reply.get("data"), dict) and "choices" in inner:
        reply = inner
    reader = reader or ReplyReader()
    reader.feed(reply)
    if not reader.has_choice:
        raise StreamBroken("the reply has no choice in it", body=cut_text(text))
    return reader.parts()


def is_json(data: bytes) -> bool:
    """Whether the data is one complete JSON text."""
    try:
        read_chunk(data.removeprefix(_BOM).strip())
    except StreamBroken:
        return False
    return True


def read_chunk(data: bytes, what: str = "a stream chunk") -> Any:
    """The JSON of a reply or of a chunk. Raises `StreamBroken`, with the beginning of the text, if it is invalid or cut."""
    try:
        return from_json(data)
    except ValueError as error:
        reason = error
    try:  # `json` accepts half of a surrogate pair, whose other half comes in the next chunk; `from_json` checks the rest
        from_json(_HALF.sub(rb"\\u00", data))
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise StreamBroken(f"{what} is not whole JSON: {reason}", body=cut_text(data, 200)) from None


def error_chunk(data: bytes) -> dict[str, Any]:
    """The data of an error event as a chunk that is an error, whatever the data is."""
    try:
        error = read_chunk(data)
    except StreamBroken:
        error = data.decode("utf-8", "replace")
    return {"error": error or "no text"}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
