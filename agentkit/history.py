"""Repairs transcripts so that servers accept them, and makes shorter views of long ones. Pure functions of message lists."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import takewhile
from typing import Protocol

from ._dataclass import frozen_dataclass
from ._renamed import renamed
from .errors import SettingsError
from .messages import BYTES_PER_TOKEN, Assistant, Message, System, ToolResult, User

__all__ = ["DropToolResults", "History", "KeepTurns", "are_whole", "mend", "repaired_history", "unique_ids"]

NOT_ANSWERED = "outcome unknown: the conversation was interrupted before this call was answered"


def are_whole(*numbers: object) -> bool:
    """Whether these options are whole numbers. An index that is 1.5 would fail in the middle of a run."""
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)


class History(Protocol):
    """A view of the transcript: the messages that the next request sends. It must be pure, so that prefixes stay the same."""

    def __call__(self, messages: Sequence[Message], new_from: int) -> Sequence[Message]:
        """The messages to send. Messages from `new_from` on belong to the current run, and all of them must be included.

        If the view is a new list, it is repaired before it is sent, so that it cannot break the server's rules.
        """
        ...


@renamed(most="max_turns", least="min_turns")
@frozen_dataclass
class KeepTurns:
    """Sends at most `max_turns` turns. A turn is a user message and all messages up to the next user message.

    It drops the oldest turns, in blocks of `max_turns - min_turns` turns (default: half of `max_turns`). Between two drops, the
    prompt's prefix stays the same, so the server's cache serves it. System messages and turns of the current run are kept.
    """

    max_turns: int
    min_turns: int | None = None

    def __post_init__(self) -> None:
        given = self.max_turns, 0 if self.min_turns is None else self.min_turns
        if not are_whole(*given) or self.max_turns < 1 or not 0 <= self._min < self.max_turns:
            raise SettingsError(
                f"KeepTurns({self.max_turns!r}, {self.min_turns!r}): allowed: whole numbers, max_turns at least 1, and "
                "min_turns from 0, below it"
            )

    @property
    def _min(self) -> int:
        return self.max_turns // 2 if self.min_turns is None else self.min_turns

    def __call__(self, messages: Sequence[Message], new_from: int) -> Sequence[Message]:
        """The messages without the dropped turns."""
        starts = [index for index, message in enumerate(messages) if isinstance(message, User)]
        if len(starts) <= self.max_turns:
            return messages
        block = self.max_turns - self._min
        dropped = -(-(len(starts) - self.max_turns) // block) * block
        current_turn = max((start for start in starts if start <= new_from), default=0)
        cut = min(starts[dropped], current_turn)
        kept = [message for message in messages[:cut] if isinstance(message, System)]
        return [*kept, *messages[cut:]]


@renamed(most="max_chars", least="min_chars")
@frozen_dataclass
class DropToolResults:
    """Sends the newest tool results whole, and replaces older ones by a note of one line.

    When all results together have more than `max_chars` characters, the oldest are replaced until about `min_chars` characters
    (default: half of `max_chars`) are left. Until `max_chars` is reached again, the prompt's prefix stays the same, so the
    server's cache serves it. Results of at most `small` characters are kept, and so are results that the model has not read
    yet. The transcript keeps all results whole.
    """

    max_chars: int = 200_000
    min_chars: int | None = None
    small: int = 200

    def __post_init__(self) -> None:
        given = self.max_chars, 0 if self.min_chars is None else self.min_chars, self.small
        if not are_whole(*given) or self.max_chars < 1 or not 0 <= self._min < self.max_chars or self.small < 0:
            raise SettingsError(
                f"DropToolResults({self.max_chars!r}, {self.min_chars!r}, {self.small!r}): allowed: whole numbers, max_chars "
                "at least 1, min_chars from 0, below it, and small at least 0"
            )

    @property
    def _min(self) -> int:
        return self.max_chars // 2 if self.min_chars is None else self.min_chars

    def __call__(self, messages: Sequence[Message], new_from: int) -> Sequence[Message]:
        """The messages, with notes in place of old results."""
        whole = sum(_length(m) for m in messages if isinstance(m, ToolResult))
        if whole <= self.max_chars:
            return messages
        block = self.max_chars - self._min
        until = -(-(whole - self.max_chars) // block) * block
        unread = len([*takewhile(lambda m: not isinstance(m, Assistant), reversed(messages))])
        seen, notes = 0, dict[int, ToolResult]()
        for index, message in enumerate(messages[: len(messages) - unread]):
            if isinstance(message, ToolResult):
                if seen >= until:
                    break
                if _length(message) > self.small:
                    notes[index] = _note(message.call_id, message.name, _length(message))
                seen += _length(message)
        return [notes.get(index, message) for index, message in enumerate(messages)] if notes else messages


def _length(result: ToolResult) -> int:
    """The characters of a result. Its parts count as the text that would have as many tokens."""
    return len(result.content) + sum(part.tokens * BYTES_PER_TOKEN for part in result.parts)


@lru_cache(maxsize=4096)
def _note(call_id: str, name: str, length: int) -> ToolResult:
    """The note for a result, cached so that it is encoded once. It must not invite the model to repeat a call with effects."""
    return ToolResult(call_id, name, f"[this call was made; its result of {length:,} characters is not shown any more]")


def repaired_history(messages: Sequence[Message]) -> list[Message]:
    """The messages as a history that every server accepts. Valid parts are unchanged.

    Every call is answered right after its message, in call order. An answer that comes later, but before the next calls, is
    moved there. Any other misplaced answer is dropped, and a missing answer is added ("outcome unknown"). Call ids are made
    unique and not empty. A reply without text and calls is dropped. DeepSeek enforces these rules with status 400
    (docs/deepseek.md).
    """
    repaired: list[Message] = []
    taken: set[str] = set()
    for index, message in enumerate(messages):
        match message:
            case ToolResult():
                continue  # added with its call below
            case Assistant(text="", tool_calls=()):
                continue
            case Assistant(tool_calls=calls) if calls:
                until_next = takewhile(lambda m: not (isinstance(m, Assistant) and m.tool_calls), messages[index + 1 :])
                repaired += _answered(message, [m for m in until_next if isinstance(m, ToolResult)], taken)
            case _:
                repaired.append(message)
    return repaired


def mend(messages: Sequence[Message]) -> list[Message]:
    """The old name of `repaired_history`."""
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
    """The message with call ids that are not empty, not in `taken` and without NUL. It adds them to `taken`."""
    calls = []
    for call in message.tool_calls:
        given = call.id.replace("\0", "")
        new = given or f"call_{len(taken)}"
        number = 1
        while new in taken:
            number += 1
            new = f"{given or 'call'}_{number}"
        taken.add(new)
        calls.append(call if new == call.id else replace(call, id=new))
    return message if tuple(calls) == message.tool_calls else replace(message, tool_calls=tuple(calls))
