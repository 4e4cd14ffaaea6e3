"""One run under way: what it is made of, and how its state changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .._threads import Threads
from ..errors import AgentError, ToolArgumentsInvalid
from ..events import ApprovalGiven, Event, LastingEvent, RunInfo
from ..redact.veil import Veil
from ..schema import Arguments
from ..tools.progress import Progress
from .copies import RunBound
from .journal import Journal, Log
from .ledger import CallBudget, ForwardUsage, Ledger
from .observers import Observer, Observers
from .spec import AgentSpec
from .state import RunState

__all__ = ["Attachments", "InnerRun", "Leave", "Run", "Scope"]


class Leave(Protocol):
    """Says when a run is to be left: a `threading.Event`, an `asyncio.Event`, or anything like it."""

    def is_set(self) -> bool:
        """Whether it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """What is attached to one run from outside."""

    deps: Any = None
    observers: Sequence[Observer] = ()
    log: Log | None = None
    leave: Leave | None = None
    scope: Scope | None = None
    """That of the tool call that makes this run."""
    leaves_with_parent: bool = False
    """Whether it is left when the run around it is: only where it can go on later, as a run made by `as_tool` can."""


class Run:
    """One run under way. Its journal is the only way in which its state changes."""

    def __init__(self, spec: AgentSpec, state: RunState, run_id: str, attached: Attachments) -> None:
        scope = attached.scope
        if scope is not None:  # what binds the run around this one binds it as well
            outer = scope.run.spec
            spec = replace(spec, policies=(*spec.policies, *outer.policies), approve=spec.approve or outer.approve)
        self.around: CallBudget | None = scope.budget if scope else None
        self.depth = self.around.depth + 1 if self.around else 0
        if scope and spec.limits.depth is not None and self.depth > spec.limits.depth:
            raise AgentError(f"agents run inside agents {self.depth} deep; Limits(depth={spec.limits.depth}) allows no more")
        self.spec: AgentSpec = spec
        self.deps, self._leave = attached.deps, attached.leave
        self.ledger = Ledger(spec.limits, state, self.around.ledger if self.around else None)
        self._leaves_with_parent = attached.leaves_with_parent
        self.veil = Veil(spec.model)
        observers = (*spec.observers, *attached.observers, *((ForwardUsage(self.around),) if self.around else ()))
        self._parent = scope.run if scope else None
        info = RunInfo(run_id, spec.name, self._parent.observers.run.run_id if self._parent else None, self.depth)
        self.observers: Observers = Observers(observers, info, self._parent.observers if self._parent else None)
        self.journal = Journal(state, self.observers, attached.log, self.veil.over, spec.clock)
        self.own_thread, self.threads = Threads(), Threads()
        self.parsed: dict[str, Arguments | ToolArgumentsInvalid] = {}
        """The arguments of judged calls, by call id: what was decided on is what runs."""

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self.journal.state

    @property
    def is_leaving(self) -> bool:
        """Whether the run is to be left: no further decision and no further call."""
        if self.has_failed or (self._leave is not None and self._leave.is_set()):
            return True
        return self._leaves_with_parent and self._parent is not None and self._parent.is_leaving

    @property
    def can_be_left(self) -> bool:
        """Whether somebody may ask for it to be left."""
        return self._leave is not None or self._parent is not None

    @property
    def has_failed(self) -> bool:
        """Whether the log or a strict observer of this run, or of one around it, has failed: nothing more may happen."""
        if self.journal.failed is not None or self.observers.raised is not None:
            return True
        return self._parent is not None and self._parent.has_failed

    async def record(self, *events: LastingEvent) -> None:
        """Take lasting events in: into the state and the log, and then to the observers."""
        await self.journal.record(*events)

    async def emit(self, event: Event) -> None:
        """Tell the observers of a passing event."""
        if self.observers:
            await self.observers.notify(self.veil.over(event))

    def end_threads(self) -> None:
        """End the run's threads: the idle ones now, the others when their function has returned."""
        self.own_thread.close()
        self.threads.close()


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


class Scope(RunBound):
    """What binds the runs that are made `within` a call: the run around them, and the budget of the call."""

    __slots__ = ("budget", "inner", "progress", "run")

    def __init__(self, run: Run, budget: CallBudget, progress: Progress | None = None, inner: InnerRun | None = None) -> None:
        self.run, self.budget, self.progress, self.inner = run, budget, progress, inner

    def report(self, data: Any) -> None:
        """Show the watchers how far the call is."""
        if self.progress is not None:
            self.progress.report(data)
