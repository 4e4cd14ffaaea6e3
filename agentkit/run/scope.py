"""What a running tool call hands on to the runs that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..events import ApprovalGiven
from .copies import OfRun
from .state import RunState

if TYPE_CHECKING:
    from ..tools.progress import Progress
    from .journal import Log
    from .ledger import CallBudget
    from .run import Run

__all__ = ["InnerRun", "Scope"]


@dataclass(frozen=True, slots=True)
class InnerRun:
    """The run that a call of an agent is, which goes on where it was: it has a log of its own, or had paused with `events`."""

    run_id: str
    log: Log | None
    events: tuple[Mapping[str, Any], ...]
    answers: tuple[ApprovalGiven, ...]
    """To the calls that it waits for."""

    async def state(self) -> RunState:
        """Its events so far."""
        if self.log is not None:
            return RunState.replay(await self.log.load())
        return RunState.from_json({"version": 2, "events": self.events})


class Scope(OfRun):
    """What binds the runs that are made `within` a call: the run around them, and the budget of the call."""

    __slots__ = ("budget", "inner", "progress", "run")

    def __init__(self, run: Run, budget: CallBudget, progress: Progress | None = None, inner: InnerRun | None = None) -> None:
        self.run, self.budget, self.progress, self.inner = run, budget, progress, inner

    def report(self, data: Any) -> None:
        """Show the watchers how far the call is."""
        if self.progress is not None:
            self.progress.report(data)
