"""What the fold of a run knows of its calls: the open ones, and how often the same call came again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from ..events import ApprovalGiven, CallSuspended
from ..messages import ToolCall, ToolResult

__all__ = ["Counter", "OpenCall", "canonical"]


@dataclass(slots=True)
class OpenCall:
    """A call of the last reply, until all calls of that reply are answered. `position` counts the calls of the run.

    `call` is the call as it runs: the model's own, then as it was judged, then with the arguments of its approval.
    """

    call: ToolCall
    position: int
    attempt: int = 0
    """How often the run had been resumed when the model made it."""
    judged: ToolCall | None = None
    """The call as it was judged: repaired and with its defaults."""
    verdict: str = ""
    why: str = ""
    """Why it has to be approved, or why it was not."""
    approved: bool | None = None
    edited: bool = False
    started: bool = False
    suspended: CallSuspended | None = None
    """What it waits for, where it is started and waits for something outside."""
    answers: dict[str, ApprovalGiven] = field(default_factory=dict)
    """The approvals of the calls that it waits for, by their own ids."""
    result: ToolResult | None = None

    @property
    def unanswered(self) -> list[ToolCall]:
        """The calls of a run inside it that wait for an approval, under ids that the run around it knows them by."""
        pending = self.suspended.pending if self.suspended else ()
        return [replace(call, id=f"{self.call.id}/{call.id}") for call in pending if call.id not in self.answers]


@dataclass(slots=True)
class Counter:
    """Counts calls that are the same but for white space and the order of keys. `max` is the count of the most frequent one."""

    _counts: dict[tuple[str, ...], int] = field(default_factory=dict)
    _waiting: list[tuple[str, str, str]] = field(default_factory=list)
    _max: int = 0

    def add(self, name: str, arguments: str, content: str = "") -> None:
        """Count a call, with its result where that has to be the same as well."""
        self._waiting.append((name, arguments, content))

    @property
    def max(self) -> int:
        """How often the most frequent one was counted. Calls are compared when it is asked for."""
        for name, arguments, content in self._waiting:
            key = name, canonical(arguments), content
            self._counts[key] = self._counts.get(key, 0) + 1
            self._max = max(self._max, self._counts[key])
        self._waiting.clear()
        return self._max


def canonical(arguments: str) -> str:
    """The same text for arguments that differ in white space and the order of keys only."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
