"""The ledger: what a run and its child runs have spent, what is reserved for their calls in flight, and the limits on both."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .._sync import may_wait
from ..errors import LimitReached
from ..events import Event, LastingEvent, ModelReplied, UsageAdded
from ..messages import Spending, ToolCall, Usage
from ..prices import Price
from .copies import RunBound
from .limits import Limits
from .state import RunState

__all__ = ["CallBudget", "ForwardUsage", "Ledger", "OverBudget", "Reservation"]

_MIN_ANSWER = 4_000
"""Tokens reserved for an answer without `max_tokens`, until there was a longer answer."""
_MAX_WAIT = 30.0
"""Max seconds that a call waits for room under the limits."""


class OverBudget(LimitReached):
    """A model call would break a limit of its run or of a parent. The run ends with the stop reason.

    `of_own`: the limit belongs to the run itself, not to a parent.
    """

    def __init__(self, stop_reason: str, *, of_own: bool = False) -> None:
        super().__init__(stop_reason)
        self.of_own = of_own


class Reservation(NamedTuple):
    """Money and tokens reserved for one model call: an upper bound, as far as it is known."""

    amount: Spending
    waited: float
    """Seconds that the call waited for room."""


class _Total:
    """The sum of several calls. It changes under the tree's lock.

    The garbage collector may settle a call in the middle of a change, in the same thread. No amount is lost, because it
    cannot interrupt a `+=` of plain numbers.
    """

    def __init__(self) -> None:
        self.calls = self.input_tokens = self.output_tokens = 0
        self.cost = 0.0

    def add(self, spent: Spending, sign: int = 1) -> None:
        """Add a call, or remove it with a `sign` of -1."""
        input_tokens, output_tokens, cost = spent.usage.input_tokens, spent.usage.output_tokens, spent.cost or 0.0
        self.calls += sign
        self.input_tokens += sign * input_tokens
        self.output_tokens += sign * output_tokens
        self.cost += sign * cost

    def plus(self, more: Spending) -> Spending:
        """The sum plus `more`."""
        return Spending(Usage(0, self.input_tokens, self.output_tokens) + more.usage, self.cost + (more.cost or 0.0))


class _Tree:
    """State shared by the ledgers of a run and all its child runs. They may be on several threads and event loops."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a thread that holds it may settle a call, in a garbage collection
        self.max_answer = _MIN_ANSWER
        """Tokens of the longest answer so far."""
        self.max_cost = 0.0
        """US dollars of the most expensive call so far."""
        self._ends: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

    def next_end(self) -> asyncio.Future[None]:
        """A future that is done when the next call ends. All tasks that wait on this event loop share it."""
        loop = asyncio.get_running_loop()
        return self._ends.setdefault(loop, loop.create_future())

    def settled(self, spent: Spending) -> None:
        """Note the longest answer and the highest cost, and wake all calls that wait for room."""
        self.max_answer = max(self.max_answer, spent.usage.output_tokens)
        self.max_cost = max(self.max_cost, spent.cost or 0.0)
        while self._ends:
            loop, end = self._ends.popitem()
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(_set, end)


class Ledger:
    """What a run and its child runs have spent, and what is reserved for their calls in flight.

    Before a call is made, it is reserved in the ledgers of its run and of all parents. If its prompt alone would break a limit,
    the call is refused. If the whole reservation, added to those in flight, would break a limit, the call waits until others
    end, for at most 30 seconds. So concurrent calls exceed a limit only by what they spend beyond their reservations.
    """

    def __init__(self, limits: Limits, state: RunState, parent: Ledger | None = None) -> None:
        self._limits, self._state = limits, state
        self._parents: tuple[Ledger, ...] = () if parent is None else (parent, *parent._parents)
        self._tree: _Tree = _Tree() if parent is None else parent._tree
        self._spent, self._reserved = _Total(), _Total()
        self._spent.add(state.spent)
        self.is_closed = False
        """Whether further spending is refused although the run has not ended yet."""

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended."""
        return self._state.stop_reason is not None

    @property
    def binds(self) -> bool:
        """Whether calls must be reserved: the run has limits, or a parent, which may have limits or end first."""
        return bool(self._parents) or self._limits.bind_spending

    async def reserve(
        self, prompt: Spending, max_tokens: int | None, price: Price | None, *, skip_own: bool = False
    ) -> Reservation:
        """Reserve a call with this prompt (its tokens and minimum cost) and an answer of at most `max_tokens`.

        Waits for room, unless a call in flight may be waiting for this code (`may_wait`). `skip_own` skips the limits of the
        run itself, as for its last answer. Raises `OverBudget`.
        """
        began: float | None = None
        while True:
            with self._tree.lock:
                end = self._tree.next_end()  # before the check, so that no end is missed
                self.check(prompt, skip_own=skip_own)
                amount = self._max_spending(prompt, max_tokens, price)
                full = self._full(amount, skip_own=skip_own)
                if full is None:
                    for ledger in (self, *self._parents):
                        ledger._reserved.add(amount)
                    return Reservation(amount, 0.0 if began is None else time.monotonic() - began)
            began = began or time.monotonic()
            left = began + _MAX_WAIT - time.monotonic()
            if left <= 0 or not may_wait():
                raise full
            await asyncio.wait((end,), timeout=left)

    def settle(self, reservation: Reservation, spent: Spending) -> None:
        """Release the reservation of a call that has ended, and count what it spent."""
        with self._tree.lock:
            for ledger in (self, *self._parents):
                ledger._spent.add(spent)
                ledger._reserved.add(reservation.amount, -1)
            self._tree.settled(spent)

    def count(self, spent: Spending) -> None:
        """Count what was spent without a reservation."""
        with self._tree.lock:
            for ledger in (self, *self._parents):
                ledger._spent.add(spent)

    def check(self, prompt: Spending, failed: Spending = Spending(), *, skip_own: bool = False) -> None:  # noqa: B008  frozen
        """Raise `OverBudget` if this prompt would break a limit. `failed` is what failed attempts of the same call spent."""
        for ledger in self._binding(skip_own=skip_own):
            reason = ledger._limit(ledger._spent.plus(failed), prompt)
            if ledger.is_closed or ledger.has_ended:
                reason = "limit:outer_run"
            if reason is not None:
                raise OverBudget(reason, of_own=ledger is self)

    def _full(self, amount: Spending, *, skip_own: bool) -> OverBudget | None:
        """The error if the amount, added to the reservations in flight, would break a limit. A single call always has room."""
        for ledger in self._binding(skip_own=skip_own):
            reserved = ledger._reserved
            if reserved.calls and (reason := ledger._limit(ledger._spent.plus(reserved.plus(Spending())), amount)) is not None:
                return OverBudget(reason, of_own=ledger is self)
        return None

    def _limit(self, spent: Spending, more: Spending) -> str | None:
        return self._limits.spending(spent, more) if self._limits.bind_spending else None

    def _binding(self, *, skip_own: bool) -> tuple[Ledger, ...]:
        return self._parents if skip_own else (self, *self._parents)

    def _max_spending(self, prompt: Spending, max_tokens: int | None, price: Price | None) -> Spending:
        """The amount to reserve. Without a price, its cost is that of the most expensive call so far."""
        answer = max_tokens or self._tree.max_answer
        cost = self._tree.max_cost if price is None else price.max_cost(prompt.usage.input_tokens, answer)
        return Spending(prompt.usage + Usage(output_tokens=answer), cost)


def _set(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)


class CallBudget(RunBound):
    """The budget of one tool call, shared by the child runs that it makes.

    `record` records an event of the calling run, on the event loop of that run.
    """

    def __init__(
        self,
        call_id: str,
        ledger: Ledger,
        depth: int,
        record: Callable[[LastingEvent], Awaitable[None]],
        parent: CallBudget | None = None,
    ) -> None:
        self.depth, self.ledger = depth, ledger
        self.call_id, self._record, self._parent = call_id, record, parent
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._runs: dict[str, int] = {}
        self.uncertain: tuple[ToolCall, ...] = ()
        """The calls of ended child runs that may or may not have taken effect."""
        self._in_flight: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    def next_run(self, key: str) -> int:
        """Count a run of this call, and return how many runs with the same key began before."""
        with self._lock:
            self._runs[key] = self._runs.get(key, 0) + 1
            return self._runs[key] - 1

    def note_uncertain(self, calls: tuple[ToolCall, ...]) -> None:
        """Add the uncertain calls of a child run that has ended."""
        with self._lock:
            self.uncertain += tuple(call for call in calls if call not in self.uncertain)  # a child may be driven on again

    async def add(self, usage: Usage, cost: float | None, *, estimated: bool) -> None:
        """Record usage that the ledger has counted, as an event of the calling run or, if that has ended, of its parent.

        On another event loop it does not wait: the run's own loop may be waiting for this one, or be closed.
        """
        event = UsageAdded(self.call_id, usage, cost, estimated)
        if asyncio.get_running_loop() is self._loop:
            await self._add(event)
            return
        with contextlib.suppress(RuntimeError):  # the run's loop is closed
            self._loop.call_soon_threadsafe(self._start_add, event)

    async def add_earlier(self, usage: Usage, cost: float | None, *, estimated: bool) -> None:
        """Record usage of an earlier drive, which this ledger has not counted."""
        self.ledger.count(Spending(usage, cost))
        await self.add(usage, cost, estimated=estimated)

    def _start_add(self, event: UsageAdded) -> None:
        task = self._loop.create_task(self._add(event))  # the event is recorded in its first step, before the call ends
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _add(self, event: UsageAdded) -> None:
        if self.ledger.has_ended:
            if self._parent is not None:
                await self._parent.add(event.usage, event.cost, estimated=event.estimated)
            return
        try:
            await self._record(event)
        except Exception as error:  # noqa: BLE001  of an observer: it ends the run, and must not become the tool's error
            self._failed = self._failed or error
            self.ledger.is_closed = True

    def check(self) -> None:
        """Raise the error of an observer of the run that occurred while usage was recorded."""
        if self._failed is not None:
            raise self._failed


class ForwardUsage:
    """Observer that records what a run spends in its parent run."""

    deltas = False

    def __init__(self, parent: CallBudget) -> None:
        self._parent = parent

    def __call__(self, event: Event) -> Awaitable[None] | None:
        """Record the event's usage in the parent."""
        if isinstance(event, ModelReplied):
            return self._parent.add(event.usage, event.cost, estimated=False)
        if isinstance(event, UsageAdded):
            return self._parent.add(event.usage, event.cost, estimated=event.estimated)
        return None
