"""JSON as rows of a database: large texts are kept apart, and a run of a session does not repeat the conversation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

from .._dataclass import frozen_dataclass
from ..events import LastingEvent, RunStarted, decode_event, encode_event, load_event
from ..messages import Message, System

__all__ = ["MAX_VALUE", "Blob", "Row", "decoded", "encoded", "messages_from", "messages_to", "prefix_of", "row_of", "value_of"]

MAX_VALUE = 256 * 1024
"""Characters of a text above which it is stored as a blob, once for all rows that have it."""


@frozen_dataclass
class Blob:
    """A large text of a row. `path` is where it stands in the row's JSON, as JSON."""

    path: str
    hash: str
    data: str


@frozen_dataclass
class Row:
    """An event, a message or an output as it is stored: JSON without its large texts, and these."""

    data: str
    blobs: tuple[Blob, ...] = ()


def encoded(event: LastingEvent) -> Row:
    """The event as a row."""
    return row_of(encode_event(event).decode())


def row_of(data: str) -> Row:
    """The row of a JSON text."""
    if len(data) <= MAX_VALUE:
        return Row(data)
    found: list[Blob] = []
    kept = _without_large(json.loads(data), (), found)
    return Row(json.dumps(kept, separators=(",", ":")), tuple(found)) if found else Row(data)


def value_of(data: str, blobs: Iterable[tuple[str, str]] = ()) -> Any:
    """The JSON value of a row; `blobs` are the paths and the texts of its large values."""
    whole = [json.loads(data)]
    for path, text in blobs:
        names = [0, *json.loads(path)]
        inner: Any = whole
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = text
    return whole[0]


def _without_large(value: Any, path: tuple[str | int, ...], found: list[Blob]) -> Any:
    if isinstance(value, str) and len(value) > MAX_VALUE:
        found.append(Blob(json.dumps(path), sha256(value.encode("utf-8", "surrogatepass")).hexdigest(), value))
        return ""
    if isinstance(value, dict):
        return {name: _without_large(item, (*path, name), found) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_large(item, (*path, index), found) for index, item in enumerate(value)]
    return value


def decoded(data: str, blobs: Sequence[tuple[str, str]] = ()) -> LastingEvent:
    """The event of a row, with its blobs as for `value_of`. Raises ValueError, as `decode_event`."""
    return load_event(value_of(data, blobs)) if blobs else decode_event(data)


def messages_to(messages: Sequence[Message]) -> list[Row]:
    """Each message as a row."""
    listed = json.loads(encode_event(RunStarted("", tuple(messages))))["messages"]
    return [row_of(json.dumps(message, separators=(",", ":"))) for message in listed]


def messages_from(values: Iterable[Any]) -> list[Message]:
    """The messages of the JSON values of such rows."""
    data = {"v": 2, "type": "RunStarted", "run_id": "", "messages": [*values]}
    return list(cast("RunStarted", load_event(data)).messages)


def prefix_of(event: RunStarted, history: Sequence[Message]) -> tuple[RunStarted, Mapping[str, int] | None]:
    """The event without the conversation that it continues, and where that stands; None if it does not stand in it."""
    at = 1 if event.messages and isinstance(event.messages[0], System) else 0
    end = at + len(history)
    inner = event.messages[at:end]
    if not history or len(inner) < len(history) or any(a is not b for a, b in zip(inner, history, strict=True)):
        return event, None
    short = replace(event, messages=(*event.messages[:at], *event.messages[end:]))
    return short, {"at": at, "length": len(history)}
