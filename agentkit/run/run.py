"""A run in progress: its parts, and how its state changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from .._dataclass import frozen_dataclass
from .._threads import Threads
from ..errors import AgentError, LogFailed, ToolArgumentsInvalid
from ..events import ApprovalGiven, Event, LastingEvent, ResultGiven, RunInfo
from ..messages import ToolCall
from ..redact.veil import Veil
from ..schema import Arguments
from ..tools.context import RunContext
from ..tools.progress import Progress
from .copies import RunBound
from .journal import Journal, Log, state_of
from .ledger import CallBudget, ForwardUsage, Ledger
from .observers import Observer, Observers
from .spec import AgentSpec, OutputValidator
from .state import RunState

__all__ = ["Attachments", "ChildRun", "Leave", "Run", "Scope"]


class Leave(Protocol):
    """Says when a run is to be left: a `threading.Event`, an `asyncio.Event`, or a similar object."""

    def is_set(self) -> bool:
        """Whether the run is to be left."""
        ...


@frozen_dataclass(kw_only=True)
class Attachments:
    """Options and observers of one run."""

    deps: Any = None
    observers: Sequence[Observer] = ()
    log: Log | None = None
    leave: Leave | None = None
    scope: Scope | None = None
    """Scope of the tool call that makes this run."""
    validators: tuple[OutputValidator, ...] = ()
    leaves_with_parent: bool = False
    """Whether the run is left together with its parent. True only if it can be resumed later, as a run of `as_tool` can."""


class Run:
    """A run in progress. Its state changes only through its journal."""

    def __init__(self, spec: AgentSpec, state: RunState, run_id: str, attached: Attachments) -> None:
        scope = attached.scope
        if scope is not None:  # the policies of the parent bind this run too
            parent = scope.run.spec
            spec = replace(spec, policies=(*spec.policies, *parent.policies), approve=spec.approve or parent.approve)
        self.parent_budget: CallBudget | None = scope.budget if scope else None
        self.depth = self.parent_budget.depth + 1 if self.parent_budget else 0
        if scope and spec.limits.depth is not None and self.depth > spec.limits.depth:
            raise AgentError(f"agents run inside agents {self.depth} deep; Limits(depth={spec.limits.depth}) allows no more")
        self.spec: AgentSpec = spec
        self.deps, self._leave = attached.deps, attached.leave
        self.ledger = Ledger(spec.limits, state, self.parent_budget.ledger if self.parent_budget else None)
        self._leaves_with_parent, self.validators = attached.leaves_with_parent, attached.validators
        self.veil = Veil(spec.model)
        observers = (*spec.observers, *attached.observers, *((ForwardUsage(self.parent_budget),) if self.parent_budget else ()))
        self._parent = scope.run if scope else None
        info = RunInfo(run_id, spec.name, self._parent.observers.run.run_id if self._parent else None, self.depth)
        self.observers: Observers = Observers(observers, info, self._parent.observers if self._parent else None)
        self.journal = Journal(state, self.observers, attached.log, self.veil.over, spec.clock)
        self.own_thread, self.threads = Threads(), Threads()
        self.parsed: dict[str, Arguments | ToolArgumentsInvalid] = {}
        """The parsed arguments of judged calls, by call id. The call runs with exactly the arguments that were judged."""

    @property
    def state(self) -> RunState:
        """The current state of the run."""
        return self.journal.state

    @property
    def is_leaving(self) -> bool:
        """Whether the run is to be left: it then makes no further decision and no further call."""
        if self.has_failed or (self._leave is not None and self._leave.is_set()):
            return True
        return self._leaves_with_parent and self._parent is not None and self._parent.is_leaving

    @property
    def can_be_left(self) -> bool:
        """Whether anything may cause the run to be left."""
        return self._leave is not None or self._parent is not None

    @property
    def has_failed(self) -> bool:
        """Whether the log or a strict observer of this run or of a parent has failed. Then nothing more may happen."""
        if self.journal.failed is not None or self.observers.raised is not None:
            return True
        return self._parent is not None and self._parent.has_failed

    def context(self) -> RunContext[Any]:
        """A context that is not of a call: for validators of the answer."""
        budget = CallBudget("", self.ledger, self.depth, self.record, self.parent_budget)
        call = ToolCall("", f"run:{self.state.steps}")
        return RunContext(self.deps, self.state.run_id, call, self.state.steps, Scope(self, budget))

    async def record(self, *events: LastingEvent) -> None:
        """Record lasting events in the state and the log, then notify the observers."""
        await self.journal.record(*events)

    async def emit(self, event: Event) -> None:
        """Notify the observers of a passing event."""
        if self.observers:
            await self.observers.notify(self.veil.over(event))

    def end(self) -> None:
        """The run is not driven any more. End its threads: idle threads now, the others when their function has returned."""
        if self.parent_budget is not None:
            self.parent_budget.note_uncertain(self.state.uncertain)
        self.own_thread.close()
        self.threads.close()


@frozen_dataclass
class ChildRun:
    """The child run of a call, which can continue where it was: from a log of its own, or from the `events` of its pause."""

    run_id: str
    log: Log | None
    events: tuple[Mapping[str, Any], ...]
    answers: tuple[ApprovalGiven | ResultGiven, ...]
    """Approvals of the calls that it waits for."""

    async def state(self) -> RunState:
        """Its state so far. Raises `LogFailed` if its log cannot be read: then nobody knows whether it has begun."""
        if self.log is not None:
            try:
                return await state_of(self.log)
            except Exception as error:  # a log is the program's own code
                why = f"{type(error).__name__}: {error}"
                raise LogFailed(f"the events of the child run {self.run_id!r} cannot be read: {why}") from error
        return RunState.from_json({"version": 2, "events": self.events})


class Scope(RunBound):
    """Connects the child runs made `within` a call to their parent run and the budget of the call."""

    __slots__ = ("budget", "inner", "progress", "run")

    def __init__(self, run: Run, budget: CallBudget, progress: Progress | None = None, inner: ChildRun | None = None) -> None:
        self.run, self.budget, self.progress, self.inner = run, budget, progress, inner

    def report(self, data: Any) -> None:
        """Report the progress of the call to the observers."""
        if self.progress is not None:
            self.progress.report(data)
