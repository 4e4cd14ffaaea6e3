"""Transcripts that a server accepts, and shorter views of long ones. Pure functions of message lists."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from typing import Protocol

from ._renamed import renamed
from .errors import SettingsError
from .messages import Assistant, Message, System, ToolResult, User

__all__ = ["DropToolResults", "History", "KeepTurns", "mend", "repaired_history", "unique_ids"]

NOT_ANSWERED = "outcome unknown: the conversation was interrupted before this call was answered"


class History(Protocol):
    """A view of the transcript: what of it the next request sends. It must be a pure function, so that prefixes stay."""

    def __call__(self, messages: Sequence[Message], new_from: int) -> Sequence[Message]:
        """The messages to send. Those from `new_from` on belong to the run under way and must all be there.

        A view that is not the list itself is mended before it is sent, so that it cannot break the server's rules.
        """
        ...


@renamed(most="max_turns", least="min_turns")
@dataclass(frozen=True, slots=True)
class KeepTurns:
    """Sends at most `max_turns` turns; a turn is a user message and all that follows it up to the next.

    It drops whole turns, the oldest first, in blocks of `max_turns - min_turns` turns (default: half of `max_turns`), and never
    a turn of the current run. So the prompt's prefix, and with it the cache, stays the same between two drops. System messages
    stay.
    """

    max_turns: int
    min_turns: int | None = None

    def __post_init__(self) -> None:
        if self.max_turns < 1 or not 0 <= self._min < self.max_turns:
            raise SettingsError(
                f"KeepTurns({self.max_turns}, {self.min_turns}): allowed: max_turns at least 1, and min_turns from 0, below it"
            )

    @property
    def _min(self) -> int:
        return self.max_turns // 2 if self.min_turns is None else self.min_turns

    def __call__(self, messages: Sequence[Message], new_from: int) -> Sequence[Message]:
        """The messages without the turns that are too many."""
        starts = [place for place, message in enumerate(messages) if isinstance(message, User)]
        if len(starts) <= self.max_turns:
            return messages
        block = self.max_turns - self._min
        dropped = -(-(len(starts) - self.max_turns) // block) * block
        under_way = max((start for start in starts if start <= new_from), default=0)
        cut = min(starts[dropped], under_way)
        kept = [message for message in messages[:cut] if isinstance(message, System)]
        return [*kept, *messages[cut:]]


@renamed(most="max_chars", least="min_chars")
@dataclass(frozen=True, slots=True)
class DropToolResults:
    """Sends the newest results of tools whole, and of older ones only that they were there.

    When all results together have more than `max_chars` characters, the oldest are replaced by a note of a line, until about
    `min_chars` (default: half of `max_chars`) are left. The next are replaced when there are `max_chars` again, so that the
    prompt's prefix stays the same, and cached, in between. Results of at most `small` characters stay, and so do those that
    the model has not read yet, however long they are. The transcript keeps them all whole.
    """

    max_chars: int = 200_000
    min_chars: int | None = None
    small: int = 200

    def __post_init__(self) -> None:
        if self.max_chars < 1 or not 0 <= self._min < self.max_chars or self.small < 0:
            raise SettingsError(
                f"DropToolResults({self.max_chars}, {self.min_chars}, {self.small}): allowed: max_chars at least 1, and "
                "min_chars from 0, below it"
            )

    @property
    def _min(self) -> int:
        return self.max_chars // 2 if self.min_chars is None else self.min_chars

    def __call__(self, messages: Sequence[Message], new_from: int) -> Sequence[Message]:
        """The messages with notes in the place of the results that are too old."""
        whole = sum(len(m.content) for m in messages if isinstance(m, ToolResult))
        if whole <= self.max_chars:
            return messages
        block = self.max_chars - self._min
        until = -(-(whole - self.max_chars) // block) * block
        unread = len([*takewhile(lambda m: not isinstance(m, Assistant), reversed(messages))])
        seen, notes = 0, dict[int, ToolResult]()
        for place, message in enumerate(messages[: len(messages) - unread]):
            if isinstance(message, ToolResult):
                if seen >= until:
                    break
                if len(message.content) > self.small:
                    notes[place] = _note(message.call_id, message.name, len(message.content))
                seen += len(message.content)
        return [notes.get(place, message) for place, message in enumerate(messages)] if notes else messages


@lru_cache(maxsize=4096)
def _note(call_id: str, name: str, length: int) -> ToolResult:
    """One object for one result, so that it is encoded once. It does not ask for the call again, which may have effects."""
    return ToolResult(call_id, name, f"[this call was made; its result of {length:,} characters is not shown any more]")


def repaired_history(messages: Sequence[Message]) -> list[Message]:
    """The messages as a history that every server accepts, unchanged where it is one already.

    Every call is answered right after its message, in call order: an answer that stands later, before the next calls, is
    moved there, one elsewhere is dropped, and a missing one is made up ("outcome unknown"). Call ids are not empty and stand
    for one call only. A reply without text and calls is dropped. These are the rules that DeepSeek enforces with status 400
    (docs/deepseek.md).
    """
    mended: list[Message] = []
    taken: set[str] = set()
    for place, message in enumerate(messages):
        match message:
            case ToolResult():
                continue  # taken in with its call below
            case Assistant(text="", tool_calls=()):
                continue
            case Assistant(tool_calls=calls) if calls:
                until_next = takewhile(lambda m: not (isinstance(m, Assistant) and m.tool_calls), messages[place + 1 :])
                mended += _answered(message, [m for m in until_next if isinstance(m, ToolResult)], taken)
            case _:
                mended.append(message)
    return mended


def mend(messages: Sequence[Message]) -> list[Message]:
    """The earlier name of `repaired_history`."""
    warnings.warn("agentkit.history.mend is now repaired_history", DeprecationWarning, stacklevel=2)
    return repaired_history(messages)


def _answered(message: Assistant, answers: list[ToolResult], taken: set[str]) -> list[Message]:
    renamed = unique_ids(message, taken)
    results = []
    for old, new in zip(message.tool_calls, renamed.tool_calls, strict=True):
        answer = next((a for a in answers if a.call_id == old.id), None)
        if answer is None:
            answer = ToolResult(new.id, new.name, NOT_ANSWERED, is_error=True)
        else:
            answers.remove(answer)
        results.append(answer if answer.call_id == new.id else replace(answer, call_id=new.id))
    return [renamed, *results]


def unique_ids(message: Assistant, taken: set[str]) -> Assistant:
    """The message with call ids that are not empty and not in `taken`; they are added to it."""
    calls = []
    for call in message.tool_calls:
        new = call.id or f"call_{len(taken)}"
        number = 1
        while new in taken:
            number += 1
            new = f"{call.id or 'call'}_{number}"
        taken.add(new)
        calls.append(call if new == call.id else replace(call, id=new))
    return message if tuple(calls) == message.tool_calls else replace(message, tool_calls=tuple(calls))
