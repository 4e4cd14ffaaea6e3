"""The calls in a run's state: the open ones, and counts of equal calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..events import ApprovalGiven, CallSuspended, ResultGiven, RunPaused, digest_of
from ..messages import ToolCall, ToolResult

__all__ = ["Counter", "OpenCall", "canonical", "check_pending"]


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
    """Why the call needs an approval, why it was refused, or why its outcome is unknown."""
    approved: bool | None = None
    edited: bool = False
    started: bool = False
    inherited: bool = False
    """Whether the call was started by the run that this one is a fork of. Its idempotency key there was another one."""
    reconciled: str = ""
    """What the tool's `reconcile` function said of a started call: "not done" or "unknown"."""
    suspended: CallSuspended | None = None
    """The child run that the call waits for, if it is suspended."""
    answers: dict[str, ApprovalGiven | ResultGiven] = field(default_factory=dict)
    """Approvals and results of the child run's calls, by their ids in that run."""
    given: ResultGiven | None = None
    """The result of a call of an outside tool."""
    result: ToolResult | None = None

    @property
    def may_have_run(self) -> bool:
        """Whether the call was started, and is not known to have had no effect."""
        return self.started and self.reconciled != "not done"

    @property
    def approvals_wanted(self) -> list[ToolCall]:
        """The call itself if it waits for an approval, and the calls of its child run that do, with their ids in this run."""
        if self.suspended is not None:
            return self._pending_inside(outside=False)
        return [self.call] if self.verdict == "ask" and self.approved is None and not self.started else []

    @property
    def results_wanted(self) -> list[ToolCall]:
        """The call itself if it is one of an outside tool that waits, and the calls of its child run that are."""
        if self.suspended is None or self.given is not None:
            return []
        return self._pending_inside(outside=True) if self.suspended.run_id else [self.call]

    def _pending_inside(self, *, outside: bool) -> list[ToolCall]:
        suspended = self.suspended
        pending = [call for call in suspended.pending if call.id not in self.answers] if suspended else []
        outside_ids = suspended.outside if suspended else ()
        return [replace(call, id=f"{self.call.id}/{call.id}") for call in pending if (call.id in outside_ids) == outside]


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


def check_pending(event: RunPaused, known_calls: Mapping[str, ToolCall]) -> None:
    """Raise if the calls of a pause are not the known ones, that wait: then a call could be answered that was never shown."""
    for index, call in enumerate(event.pending):
        known = known_calls.get(call.id)
        same = known is not None and (not call.arguments or (known.name, known.arguments) == (call.name, call.arguments))
        if known is None or not same or event.digests[index : index + 1] not in ((), (digest_of(known),)):
            raise ValueError(f"the paused call {call.id!r} is not the one that waits for an approval")
