"""What a running tool call hands on to the runs that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..events import ApprovalGiven
from .copies import OfRun

if TYPE_CHECKING:
    from ..policy import Policy
    from ..tools.progress import Progress
    from .ledger import CallBudget
    from .observers import Observers
    from .spec import Approve

__all__ = ["Continuation", "Scope"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """A run inside the call that had paused, and goes on: its events so far, and the answers to its calls."""

    run_id: str
    events: tuple[Mapping[str, Any], ...]
    answers: Mapping[str, ApprovalGiven]


class Scope(OfRun):
    """What binds the runs that are made `within` a call: its budget, observers, policies, and who approves.

    Nothing more happens in them when the log of the run around them has failed.
    """

    __slots__ = ("approve", "budget", "continuation", "has_failed", "is_leaving", "observers", "policies", "progress")

    def __init__(
        self,
        budget: CallBudget,
        observers: Observers,
        *,
        policies: tuple[Policy, ...],
        approve: Approve | None,
        progress: Progress | None,
        continuation: Continuation | None,
        is_leaving: Callable[[], bool],
        has_failed: Callable[[], bool],
    ) -> None:
        self.budget, self.observers, self.policies = budget, observers, policies
        self.approve, self.progress, self.continuation = approve, progress, continuation
        self.is_leaving, self.has_failed = is_leaving, has_failed

    def report(self, data: Any) -> None:
        """Show the watchers how far the call is."""
        if self.progress is not None:
            self.progress.report(data)
