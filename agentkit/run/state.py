"""The state of a run: only the fold of its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from .._dataclass import with_field
from ..events import (
    PASSING,
    ApprovalGiven,
    CallJudged,
    CallReconciled,
    CallSuspended,
    Event,
    LastingEvent,
    MessageAdded,
    ModelReplied,
    ResultGiven,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    ToolFinished,
    ToolStarted,
    UsageAdded,
)
from ..messages import Assistant, Message, Spending, ToolCall, Usage, distinct_text
from .open_call import Counter, OpenCall, check_pending
from .stored import StoredRun

__all__ = ["OpenCall", "RunState", "load_messages"]

_ONE_CALL = Usage(tool_calls=1)
_PASSING = frozenset(PASSING)


class RunState(StoredRun):
    """The state of a run. It changes only by `apply`, and folding the same events gives the same state.

    `messages` is the transcript. Every call in it is answered right after its message, in call order. The calls of the last
    reply are an exception: they are in `calls` until all of them are answered.
    """

    def __init__(self) -> None:
        self.events: list[LastingEvent] = []
        self.run_id = ""
        self.metadata: Mapping[str, Any] = {}
        self.messages: list[Message] = []
        self.new_from = 0
        self.calls: dict[str, OpenCall] = {}
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.estimated_usage = Usage()
        """Estimated usage that the server did not count."""
        self.known_cost = 0.0
        """US dollars spent, as far as prices are known, including estimated usage. `Limits(cost=)` is checked against it."""
        self.waited = 0.0
        self.context_tokens = 0
        """Tokens of the last model call's prompt and answer: about the minimum of the next prompt. 0 if not counted."""
        self.finish_reason = ""
        self.price_note = ""
        """Whose prices the last known cost is based on, if not the server's own."""
        self.steps = 0
        """Model calls that ended with a whole reply."""
        self.calls_made = 0
        self.call_ids: set[str] = set()
        self.corrections: dict[str, int] = {}
        """How many messages the loop itself added, by reason."""
        self.failures: dict[str, int] = {}
        """Consecutive failed calls, by tool. Only calls that were run count."""
        self.pending: tuple[ToolCall, ...] = ()
        self.stop_reason: str | None = None
        self.reached: str | None = None
        """The stop reason of a limit that prevented tool calls. The run ends with it."""
        self.attempts = 1
        """How often the run was started or resumed."""
        self.uncertain: tuple[ToolCall, ...] = ()
        """The calls that may or may not have taken effect: the run's own calls, and those of its child runs."""
        self._denied, self._exchanges = Counter(), Counter()
        self._unanswered = self._forked_at = 0

    def __repr__(self) -> str:
        status = self.stop_reason or ("paused" if self.pending else "running")
        return f"RunState({self.run_id!r}, {self.steps} steps, {len(self.messages)} messages, {status})"

    @classmethod
    def replay(cls, events: Iterable[Event]) -> RunState:
        """The state after these events. Any prefix of a run's events gives a state that can be driven on.

        Passing events, which observers get too, are skipped.
        """
        state = cls()
        for event in events:
            if type(event) not in _PASSING:
                state.apply(event)  # type: ignore[arg-type]
        return state

    @property
    def lineage(self) -> str:
        """Identifies the run by its id and its start time, because another run may have the same id."""
        return f"{self.run_id}@{self.events[0].at if self.events else 0}"

    @property
    def open_calls(self) -> list[OpenCall]:
        """The calls of the last reply that are not answered yet, in call order."""
        return [c for c in self.calls.values() if c.result is None]

    @property
    def repeats(self) -> int:
        """How often the most frequent call was made. Calls are equal if their arguments and results are."""
        return self._exchanges.max

    @property
    def refusals(self) -> int:
        """How often the most frequently denied call was denied."""
        return self._denied.max

    @property
    def spent(self) -> Spending:
        """All known spending, including estimates. Limits are checked against it."""
        return Spending(self.usage + self.estimated_usage, self.known_cost)

    @property
    def last_reply(self) -> Assistant | None:
        """The model's last reply in this run, or None before the first."""
        new = range(len(self.messages) - 1, self.new_from - 1, -1)
        return next((m for i in new if isinstance(m := self.messages[i], Assistant)), None)

    @property
    def limit(self) -> str | None:
        """The stop reason of the limit for which the model was asked for its last answer, or None."""
        return next((reason for reason in self.corrections if reason.startswith("limit:")), None)

    def apply(self, event: LastingEvent) -> LastingEvent:
        """Apply one event, and return it completed with the arguments of its call.

        Raises ValueError, and changes nothing, if the event does not fit the state.
        """
        if isinstance(event, RunStarted) == bool(self.events):
            raise ValueError(f"{type(event).__name__} is event {len(self.events)}; a run begins with RunStarted, and only once")
        match event:  # those of each step first
            case ModelReplied():
                self._replied(event)
            case ToolStarted():
                event = self._call_started(event)
            case ToolFinished():
                event = self._finished(event)
            case UsageAdded():
                self._usage_added(event)
            case RunPaused():
                event = self._paused(event)
            case RunResumed() | RunFinished():
                self._status_changed(event)
            case RunStarted():
                self._started(event)
            case MessageAdded():
                self._check_answered(event)
                self.messages.append(event.message)
                self.corrections[event.reason] = self.corrections.get(event.reason, 0) + 1
            case _:
                self._apply_to_call(event)
        self.events.append(event)
        return event

    def _apply_to_call(self, event: CallJudged | CallSuspended | CallReconciled | ApprovalGiven | ResultGiven) -> None:
        match event:
            case CallJudged():
                self._judged(event)
            case CallSuspended():
                self._suspended(event)
            case CallReconciled():
                self._reconciled(event)
            case ApprovalGiven() | ResultGiven():
                self._answered(event)
            case _:
                assert_never(event)

    @property
    def waiting(self) -> list[ToolCall]:
        """The calls that wait for an approval: the run's own calls, and those of its child runs."""
        return [call for c in self.open_calls for call in c.approvals_wanted]

    @property
    def outside(self) -> list[ToolCall]:
        """The calls of outside tools that wait for their result: the run's own calls, and those of its child runs."""
        return [call for c in self.open_calls for call in c.results_wanted]

    def _check_answered(self, event: ModelReplied | MessageAdded) -> None:
        if self._unanswered:
            raise ValueError(f"{type(event).__name__} before an answer to the tool calls {', '.join(self.calls)}")

    def _started(self, event: RunStarted) -> None:
        self.run_id, self.metadata, self._forked_at = event.run_id, event.metadata, event.forked_at
        self.messages, self.new_from = list(event.messages), event.new_from
        self.call_ids = {c.id for m in event.messages if isinstance(m, Assistant) for c in m.tool_calls}

    def _paused(self, event: RunPaused) -> RunPaused:
        known = {call.id: call for call in (*self.waiting, *self.outside)}
        check_pending(event, known)
        self.pending = tuple(call if call.arguments else known[call.id] for call in event.pending)
        return with_field(event, "pending", self.pending)

    def _status_changed(self, event: RunResumed | RunFinished) -> None:
        match event:
            case RunResumed():
                self.attempts += 1
                self._resumed()
            case RunFinished():
                self.stop_reason, self.pending = event.stop_reason, ()

    def _resumed(self) -> None:
        if self.stop_reason is not None:  # the limit that ended the run may have changed since
            self.corrections = {why: n for why, n in self.corrections.items() if not why.startswith("limit:")}
            self.reached, self._denied = None, Counter()
        if not self.pending:  # ask again for approvals that no pause has confirmed
            for waiting in self.open_calls:
                if waiting.judged is not None and not waiting.started:
                    waiting.call, waiting.approved, waiting.edited = waiting.judged, None, False
        self.pending, self.stop_reason = (), None

    def _replied(self, event: ModelReplied) -> None:
        self._check_answered(event)
        ids = [call.id for call in event.message.tool_calls]
        if len({*ids} - self.call_ids) < len(ids):
            raise ValueError(f"the ids of the tool calls {', '.join(ids)} are not new, or not different")
        self.steps += 1
        self.messages.append(event.message)
        self.call_ids.update(ids)
        for call in event.message.tool_calls:
            self.calls[call.id] = OpenCall(call, self.calls_made, self.attempts - 1)
            self.calls_made += 1
        self._unanswered = len(ids)
        self._add_usage(event.usage, event.cost)
        self.waited += event.waited
        self.context_tokens = event.usage.total_tokens
        self.finish_reason = event.finish_reason
        self.price_note = event.price_note or self.price_note

    def _add_usage(self, usage: Usage, cost: float | None) -> None:
        self.usage += usage
        self.cost = None if self.cost is None or cost is None else self.cost + cost
        self.known_cost += cost or 0.0

    def _usage_added(self, event: UsageAdded) -> None:
        if event.estimated:
            self.estimated_usage += event.usage
            self.known_cost += event.cost or 0.0
        else:
            self._add_usage(event.usage, event.cost)

    def _open_call(self, call_id: str) -> OpenCall:
        try:
            found = self.calls[call_id]
        except KeyError:
            raise ValueError(f"no open tool call {call_id!r}; open: {', '.join(self.calls) or 'none'}") from None
        if found.result is not None:
            raise ValueError(f"tool call {call_id!r} is answered already")
        return found

    def _judged(self, event: CallJudged) -> None:
        judged = self._open_call(event.call_id)
        judged.verdict, judged.why = event.verdict, event.reason
        if event.arguments is not None:
            judged.call = replace(judged.call, arguments=event.arguments)
        judged.judged = judged.call

    def _call_started(self, event: ToolStarted) -> ToolStarted:
        call = self._open_call(event.call.id)
        if not event.call.arguments:
            event = with_field(event, "call", call.call)
        elif not event.repaired and event.call != call.call:  # version 1 wrote it so
            event = with_field(event, "repaired", True)
        if not call.started:  # a call that is run again after a crash, or continues, counts once
            self.usage += _ONE_CALL
        call.started, call.call, call.suspended, call.answers, call.reconciled = True, event.call, None, {}, ""
        call.inherited = len(self.events) < self._forked_at
        return event

    def _reconciled(self, event: CallReconciled) -> None:
        call = self._open_call(event.call_id)
        if not call.started:
            raise ValueError(f"tool call {event.call_id!r} is reconciled before it is started")
        call.reconciled, call.why = event.outcome, event.reason

    def _suspended(self, event: CallSuspended) -> None:
        call = self._open_call(event.call_id)
        if not call.started:
            raise ValueError(f"tool call {event.call_id!r} is suspended before it is started")
        call.suspended = event

    def _finished(self, event: ToolFinished) -> ToolFinished:
        answered = self._open_call(event.call.id)
        if event.result.call_id != event.call.id:
            raise ValueError(f"the result of tool call {event.call.id!r} answers {event.result.call_id!r}")
        if not event.call.arguments:
            event = with_field(event, "call", answered.call)
        answered.result, answered.suspended = event.result, None
        self._unanswered -= 1
        if event.outcome == "unknown":
            self.uncertain += (event.call,)
        if event.uncertain:
            self.uncertain += tuple(replace(call, id=f"{event.call.id}/{call.id}") for call in event.uncertain)
        if event.refused:
            self._refused(event)
        if answered.may_have_run:
            name = event.call.name
            if event.outcome != "unknown":
                self.failures[name] = self.failures.get(name, 0) + 1 if event.result.is_error else 0
            self._exchanges.add(name, answered.call.arguments, distinct_text(event.result))
        if not self._unanswered:
            self.messages += [c.result for c in self.calls.values() if c.result]
            self.calls = {}
        return event

    def _refused(self, event: ToolFinished) -> None:
        if event.refused.startswith("limit:"):
            self.reached = event.refused
        if event.refused == "denied":
            self._denied.add(event.call.name, event.call.arguments)

    def _answered(self, event: ApprovalGiven | ResultGiven) -> None:
        if self.pending:
            raise ValueError(f"{type(event).__name__} while the run is paused; RunResumed comes before it")
        if event.call_id not in self.calls:
            for call in self.open_calls:
                own_id = event.call_id.removeprefix(f"{call.call.id}/")
                if call.suspended and own_id != event.call_id:
                    call.answers[own_id] = replace(event, call_id=own_id)
                    return
        waiting = self._open_call(event.call_id)
        if isinstance(event, ResultGiven):
            waiting.given = event
            return
        waiting.approved = event.approved
        if not event.approved:
            waiting.why = event.reason
        if event.arguments is not None:
            waiting.call, waiting.edited = replace(waiting.call, arguments=event.arguments), True


def load_messages(path: str | Path) -> list[Message]:
    """The conversation in a file of `result.save`, or of `/save` in a chat, for `messages=`. An empty one without a file.

    Raises ValueError for a file that holds something else.
    """
    return list(RunState.load(path).messages) if Path(path).exists() else []
