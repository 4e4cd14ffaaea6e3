"""Tool calls of a reply, as they grow from pieces. Pure.

Servers differ in how they key the pieces of a call (by index, by id, by neither), and in what a piece of arguments is: a
fragment, all of the arguments so far, or all of them once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

from ..events import ToolArgsDelta
from ..messages import ToolCall
from . import opaque
from .pieces import Text, joined_halves, json_of

__all__ = ["ArgumentText", "Calls", "settled"]

_KNOWN = frozenset({"index", "id", "type", "function"})
_KNOWN_OF_FUNCTION = frozenset({"name", "arguments"})
_MARK = re.compile(r'[{}\[\]"\\]')


class ArgumentText:
    """The arguments of one call as JSON text, from pieces of any kind."""

    __slots__ = ("_closed", "_depth", "_escaped", "_in_text", "_scanned", "_shown", "text")

    def __init__(self) -> None:
        self.text = Text()
        self._shown = 0
        self._scanned = self._depth = self._closed = 0
        self._in_text = self._escaped = False

    def add(self, piece: str) -> str:
        """Take a piece in, and give back what of it is new for a watcher: all of it, if it is a fragment."""
        text = self.text
        if len(piece) == text.size and piece[:1] == "{" and piece[-1] == "}" and piece == str(text):
            return ""  # all of them once more; no object has this inside
        last = text.pieces[-1] if text.pieces else ""
        new = piece = text.add(piece)
        if not last and piece.strip() == "{}":
            new = ""  # perhaps a placeholder
        elif piece[:1] == "{" and self._shown == len(last) < len(piece) and piece.startswith(last):
            new = piece[len(last) :]  # all of the arguments so far
        self._shown += len(new)
        return new

    @property
    def is_whole(self) -> bool:
        """Whether the brackets of one object have been opened and closed. Each piece is read once, however often this is
        asked."""
        pieces = self.text.pieces
        for piece in pieces[self._scanned :]:
            self._scan(piece)
        self._scanned = len(pieces)
        return self._closed == 1 and self._depth == 0 and pieces[-1].rstrip().endswith("}")

    def _scan(self, piece: str) -> None:
        start = 1 if self._escaped and piece else 0
        self._escaped = False
        for mark in _MARK.finditer(piece, start):
            if mark.start() < start:
                continue  # it is escaped
            sign = mark[0]
            if sign == '"':
                self._in_text = not self._in_text
            elif not self._in_text:
                self._depth += (sign in "{[") - (sign in "}]")
                self._closed += sign in "}]" and self._depth == 0
            elif sign == "\\":
                start = mark.end() + 1
                self._escaped = start > len(piece)


def settled(pieces: Sequence[str]) -> str:
    """The arguments that the pieces stand for. Fragments are joined, as the API has them.

    Where the joined text is no object, and the pieces have one other reading, it is that one: a placeholder `{}` before the
    arguments, arguments that came whole so far each time, or whole once more at the end, perhaps spaced otherwise.
    """
    joined = "".join(pieces)
    if not any(piece.lstrip()[:1] == "{" for piece in pieces[1:]) or _object(joined) is not None:
        return joined
    rest = [piece for piece in pieces if piece.strip()]
    if _object(rest[0]) == {}:
        rest = rest[1:]
        if _object("".join(rest)) is not None:
            return "".join(rest)
    last = _object(rest[-1])
    if last is None:
        return joined
    while len(rest) > 1 and rest[-2].lstrip()[:1] == "{" and _object(rest[-2]) == last:
        rest = rest[:-1]
    before = "".join(rest[:-1])
    is_snapshot = all(longer.startswith(shorter) for shorter, longer in pairwise(rest)) or rest[-1].startswith(before)
    return rest[-1] if is_snapshot or _object(before) == last else joined


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = from_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class _Call:
    """A call as it grows; `key` is the server's index, if it gave one, `place` its position in the reply."""

    __slots__ = ("arguments", "id", "key", "name", "opaque", "place")

    def __init__(self, key: int | None, place: int) -> None:
        self.key, self.place = key, place
        self.id = self.name = ""
        self.arguments = ArgumentText()
        self.opaque: dict[str, Any] = {}


class Calls:
    """The calls of one reply."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._last: dict[int | None, _Call] = {}
        """The last call of each index; that of None is the last of all."""
        self._by_id: dict[tuple[int | None, str], _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def pieces(self) -> list[str]:
        """All that came of names and arguments."""
        return [piece for call in self._calls for piece in (call.name, *call.arguments.text.pieces)]

    @property
    def are_whole(self) -> bool:
        """Whether the arguments of each call are one whole object."""
        return all(_object(settled(call.arguments.text.pieces)) is not None for call in self._calls)

    def take(self, pieces: Sequence[Any], *, whole: bool) -> list[ToolArgsDelta]:
        """Take the entries of a `tool_calls` field in. `whole`: they are the calls themselves, and each entry is one."""
        found = []
        by_place = whole or len(pieces) > 1
        for place, piece in enumerate(pieces):
            if isinstance(piece, Mapping):
                index = piece.get("index")
                key = place if whole or (not isinstance(index, int) and by_place) else index if isinstance(index, int) else None
                delta = self._piece(piece, key)
                if delta is not None:
                    found.append(delta)
        return found

    def complete(self, pieces: Sequence[Any]) -> list[ToolArgsDelta]:
        """Take in the calls of a whole message that comes after its pieces: only what is missing of the known ones."""
        found = []
        for call, piece in zip(self._calls, pieces, strict=False):
            function = _mapping(_mapping(piece).get("function"))
            if not call.arguments.text and (text := _as_text(function.get("arguments"))):
                found.append(ToolArgsDelta(call.place, call.name, call.arguments.add(text)))
        return found

    def _piece(self, piece: Mapping[str, Any], key: int | None) -> ToolArgsDelta | None:
        function = _mapping(piece.get("function"))
        name, text = _text(function.get("name")), _as_text(function.get("arguments"))
        call = self._call_of(key, _text(piece.get("id")), name, text)
        if name != call.name:
            call.name = name if name.startswith(call.name) else call.name + name
        unknown = opaque.unknown_fields(piece, _KNOWN)
        if inner := opaque.unknown_fields(function, _KNOWN_OF_FUNCTION):
            unknown["function"] = inner
        if unknown:
            opaque.merge(call.opaque, unknown)
        if not text:
            return None
        new = call.arguments.add(text)
        return ToolArgsDelta(call.place, call.name, new) if new or len(call.arguments.text.pieces) == 1 else None

    def _call_of(self, key: int | None, call_id: str, name: str, text: str) -> _Call:
        """The call that a piece belongs to: a new id begins a new call even at a known index, and so does a name after
        arguments that are whole, unless it brings the same ones again."""
        last = self._last.get(key)
        if call_id:
            found = self._by_id.get((key, call_id))
            if found is None and last is not None and key is not None and self._is_renamed(last, name):
                found = last  # its id comes late, or changes with each piece
        else:
            found = last
            if last is not None and name and last.name and last.arguments.is_whole:
                said = last.arguments.text
                again = key is not None and (not text or (len(text) == said.size and text == str(said)))
                found = last if again else None
        if found is None:
            found = _Call(key, len(self._calls))
            self._calls.append(found)
        found.id = found.id or call_id
        self._last[key] = self._last[None] = found
        if call_id:
            self._by_id.setdefault((key, call_id), found)
            self._by_id.setdefault((None, call_id), found)
        return found

    @staticmethod
    def _is_renamed(last: _Call, name: str) -> bool:
        return not last.id or not (name or last.arguments.is_whole)

    def made(self) -> tuple[ToolCall, ...]:
        """The calls in the order of their index, each with an id of its own."""
        calls, seen = [], set[str]()
        for call in sorted(self._calls, key=lambda c: c.key if c.key is not None else 0):
            call_id = call.id if call.id and call.id not in seen else f"call_{uuid4().hex[:24]}"
            seen.add(call_id)
            arguments = settled(call.arguments.text.pieces)
            arguments = arguments if arguments.strip() else "{}"
            calls.append(ToolCall(call_id, call.name.strip(), arguments, opaque.dump(call.opaque)))
        return tuple(calls)


def _as_text(arguments: Any) -> str:
    """Arguments as JSON text; some servers send the object itself."""
    return arguments if isinstance(arguments, str) else "" if arguments is None else json_of(arguments).decode()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return joined_halves(value) if isinstance(value, str) else ""
