"""Tool calls of a reply, assembled from streamed pieces. Pure.

Servers identify the call of a piece by index, by id, or by neither.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..events import ToolArgsDelta
from ..messages import ToolCall
from . import opaque
from .arguments import ArgumentText, contains, is_object
from .pieces import joined_halves, json_of

__all__ = ["Calls", "calls_in", "index_of"]

_KNOWN_FIELDS = frozenset({"index", "id", "type", "function"})
_KNOWN_FUNCTION_FIELDS = frozenset({"name", "arguments"})
_MAX_NAME = 256
"""Characters of a name that are kept. A name may come in any number of pieces; no tool's name is as long."""


class _Call:
    """A call that is being assembled. `key` is the server's index, if it gave one; `position` counts the calls of the reply."""

    __slots__ = ("arguments", "id", "key", "name", "opaque", "position")

    def __init__(self, key: int | None, position: int) -> None:
        self.key, self.position = key, position
        self.id = self.name = ""
        self.arguments = ArgumentText()
        self.opaque: dict[str, Any] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it has neither a name nor arguments. Some servers end their calls with such a piece."""
        return not (self.name.strip() or self.arguments.size)


class Calls:
    """The calls of one reply."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._last: dict[int | None, _Call] = {}
        """The last call at each index; under None, the last call of all."""
        self._by_id: dict[tuple[int | None, str], _Call] = {}
        self._next_key = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def pieces(self) -> list[str]:
        """All names and pieces of arguments so far."""
        return [piece for call in self._calls for piece in (call.name, *call.arguments.text.pieces)]

    @property
    def are_whole(self) -> bool:
        """Whether the arguments of each call are one whole object."""
        return all(is_object(call.arguments.final_text()) for call in self._calls if not call.is_empty)

    def take(self, pieces: Sequence[Any]) -> list[ToolArgsDelta]:
        """Read the `tool_calls` of a delta. Each entry is a piece of a call."""
        found = []
        for position, piece in enumerate(pieces):
            if isinstance(piece, dict):
                index = index_of(piece.get("index"))
                key = index if index is not None else position if len(pieces) > 1 else None
                delta = self._piece(piece, key)
                if delta is not None:
                    found.append(delta)
        return found

    def complete(self, entries: Sequence[Any]) -> list[ToolArgsDelta]:
        """Read the `tool_calls` of a whole message: new calls, and what the streamed calls still lack.

        An entry belongs to the call with its id. Otherwise it belongs to the call at its position, if that has the same name
        and no other entry has its id.
        """
        entries = [entry for entry in entries if isinstance(entry, dict)]
        known, by_position, has_all = dict[str, _Call](), list[_Call | None](), len(entries) >= len(self._calls)
        if self._calls:
            ids = {_text(entry.get("id")) for entry in entries} - {""}
            known = {call_id: call for call_id in ids if (call := self._by_id.get((None, call_id)))}
            by_position = [None if call.id in known else call for call in self._in_order()] if has_all else []
        found = []
        for position, entry in enumerate(entries):
            call_id, name = _text(entry.get("id")), _text(_function_of(entry).get("name"))
            call = known.pop(call_id, None)
            if (
                call is None
                and position < len(by_position)
                and (same := by_position[position])
                and ("" in (name, same.name) or name == same.name)
            ):
                call = same
            if call is None and (call_id or has_all):
                call = self._new_call(self._next_key, call_id)
            if call is not None and (new := self._completed(call, entry)) is not None:
                found.append(new)
        return found

    @staticmethod
    def _completed(call: _Call, entry: Mapping[str, Any]) -> ToolArgsDelta | None:
        """Add to a call what its entry in a whole message has and its pieces lack."""
        function = _function_of(entry)
        call.id = call.id or _text(entry.get("id"))
        call.name = call.name or _text(function.get("name"))[:_MAX_NAME]
        call.opaque.update(_unknown(entry, function))
        text, streamed = _as_text(function.get("arguments")), call.arguments
        if streamed.size:
            if streamed.is_whole and not (len(text) > streamed.size and contains(text, streamed.snapshot)):
                return None
            if not is_object(text):
                return None
            call.arguments = ArgumentText()
        if not text:
            return None
        new = call.arguments.add(text)
        if streamed is not call.arguments and streamed.has_streamed:
            new = text[streamed.size :] if text.startswith(streamed.snapshot) else ""
        return ToolArgsDelta(call.position, call.name, new)

    def _piece(self, piece: Mapping[str, Any], key: int | None) -> ToolArgsDelta | None:
        function = _function_of(piece)
        name, text = _text(function.get("name")), _as_text(function.get("arguments"))
        call = self._call_of(key, _text(piece.get("id")), name, text)
        if name != call.name:
            call.name = (name if name.startswith(call.name) else call.name + name)[:_MAX_NAME]
        if unknown := _unknown(piece, function):
            opaque.merge(call.opaque, unknown)
        if not text:
            return None
        new = call.arguments.add(text)
        return ToolArgsDelta(call.position, call.name, new) if new or len(call.arguments.text.pieces) == 1 else None

    def _call_of(self, key: int | None, call_id: str, name: str, text: str) -> _Call:
        """The call that a piece belongs to.

        A new id begins a new call, even at a known index. A name after complete arguments also begins one, unless the piece
        repeats the same arguments.
        """
        last = self._last.get(key)
        if call_id:
            found = self._by_id.get((key, call_id))
            if found is None and last is not None and key is not None and self._is_renamed(last, name, text):
                found = last  # the server sends its id late, or a new id with each piece
        else:
            found = last
            if last is not None and name and last.name and last.arguments.is_whole:
                streamed = last.arguments
                is_repeat = key is not None and (not text or (len(text) == streamed.size and text == streamed.snapshot))
                found = last if is_repeat else None
        if found is None:
            return self._new_call(key, call_id)
        found.id = found.id or call_id
        self._register(found, key, call_id)
        return found

    def _new_call(self, key: int | None, call_id: str) -> _Call:
        call = _Call(key, len(self._calls))
        call.id = call_id
        self._calls.append(call)
        self._next_key = max(self._next_key, 1 + (key or 0))
        self._register(call, key, call_id)
        return call

    def _register(self, call: _Call, key: int | None, call_id: str) -> None:
        """Record the index and the id under which the next piece of this call may come."""
        self._last[key] = self._last[None] = call
        if call_id:
            self._by_id.setdefault((key, call_id), call)
            self._by_id.setdefault((None, call_id), call)

    @staticmethod
    def _is_renamed(last: _Call, name: str, text: str) -> bool:
        """Whether a piece with a new id continues this call: nothing in it, or in the call, says that another one begins."""
        if not last.id:
            return True
        if last.arguments.is_whole:
            return not (name or text)
        text = text.lstrip()
        return not name or (name == last.name and last.arguments.size > 0 and text != "" and text[0] != "{")

    def _in_order(self) -> list[_Call]:
        return sorted(self._calls, key=lambda call: call.key if call.key is not None else 0)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls in index order, each with a unique id."""
        calls, seen = [], set[str]()
        for call in self._in_order():
            if call.is_empty:
                continue
            call_id = call.id if call.id and call.id not in seen else f"call_{os.urandom(12).hex()}"
            seen.add(call_id)
            arguments = call.arguments.final_text()
            arguments = arguments if arguments.strip() else "{}"
            calls.append(ToolCall(call_id, call.name.strip(), arguments, opaque.dump(call.opaque)))
        return tuple(calls)


def index_of(value: Any) -> int | None:
    """An index, which some servers send as text."""
    if isinstance(value, str) and len(value) < 7 and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) else None


def calls_in(message: Mapping[str, Any]) -> Sequence[Any]:
    """The calls in a message or a delta: a list, or a single one."""
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else [calls] if isinstance(calls, dict) else ()


def _function_of(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The name and the arguments of a call. Some gateways leave out the `function` around them."""
    function = entry.get("function")
    return function if isinstance(function, dict) else entry if "name" in entry else {}


def _unknown(entry: Mapping[str, Any], function: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a call that are stored unchanged."""
    if function is entry:
        return opaque.unknown_fields(entry, _KNOWN_FIELDS | _KNOWN_FUNCTION_FIELDS)
    unknown = opaque.unknown_fields(entry, _KNOWN_FIELDS)
    if inner := opaque.unknown_fields(function, _KNOWN_FUNCTION_FIELDS):
        unknown["function"] = inner
    return unknown


def _as_text(arguments: Any) -> str:
    """Arguments as JSON text; some servers send the object itself."""
    return arguments if isinstance(arguments, str) else "" if arguments is None else json_of(arguments).decode()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return joined_halves(value) if isinstance(value, str) else ""
