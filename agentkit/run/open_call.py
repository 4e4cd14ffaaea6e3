"""The calls in a run's state: the open ones, and counts of equal calls."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from ..events import ApprovalGiven, CallSuspended
from ..messages import ToolCall, ToolResult

__all__ = ["Counter", "OpenCall", "canonical"]


@dataclass(slots=True)
class OpenCall:
    """A call of the last reply, until all calls of that reply are answered. `position` counts the calls of the run.

    `call` is the call as it will run: at first the model's own, then as it was judged, then with the arguments of its approval.
    """

    call: ToolCall
    position: int
    attempt: int = 0
    """How often the run had been resumed when the model made the call."""
    judged: ToolCall | None = None
    """The call as it was judged: repaired, and with its defaults."""
    verdict: str = ""
    why: str = ""
    """Why the call needs an approval, or why it was refused."""
    approved: bool | None = None
    edited: bool = False
    started: bool = False
    suspended: CallSuspended | None = None
    """The child run that the call waits for, if it is suspended."""
    answers: dict[str, ApprovalGiven] = field(default_factory=dict)
    """Approvals of the child run's calls, by their ids in that run."""
    result: ToolResult | None = None

    @property
    def unanswered(self) -> list[ToolCall]:
        """Calls of the child run that wait for an approval, under the ids that they have in this run."""
        pending = self.suspended.pending if self.suspended else ()
        return [replace(call, id=f"{self.call.id}/{call.id}") for call in pending if call.id not in self.answers]


@dataclass(slots=True)
class Counter:
    """Counts equal calls, whatever their white space and order of keys. `max` is the count of the most frequent call."""

    _counts: dict[tuple[str, ...], int] = field(default_factory=dict)
    _pending: list[tuple[str, str, str]] = field(default_factory=list)
    _max: int = 0

    def add(self, name: str, arguments: str, content: str = "") -> None:
        """Count a call. If `content` is given, the result must be equal too."""
        self._pending.append((name, arguments, content))

    @property
    def max(self) -> int:
        """How often the most frequent call was made. Calls are compared only when this is read."""
        for name, arguments, content in self._pending:
            key = name, canonical(arguments), content
            self._counts[key] = self._counts.get(key, 0) + 1
            self._max = max(self._max, self._counts[key])
        self._pending.clear()
        return self._max


def canonical(arguments: str) -> str:
    """A canonical text: equal for arguments that differ only in white space and order of keys."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
