"""The ledger: what a run and the runs inside it have spent, what their calls in flight may spend, and the limits on both."""

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
from ..messages import Spending, Usage
from ..prices import Price
from .copies import OfRun
from .limits import Limits
from .state import RunState

__all__ = ["CallBudget", "Forward", "Ledger", "OverBudget", "Reservation"]

_MIN_ANSWER = 4_000
"""Tokens reserved for an answer that no `max_tokens` bounds, until a longer one has come."""
_MAX_WAIT = 30.0
"""Seconds that a call waits for room, in total."""


class OverBudget(LimitReached):
    """A model call that would break a limit of its run or of a parent; the run ends with the stop reason.

    `of_own`: the limit is that of the run itself.
    """

    def __init__(self, stop_reason: str, *, of_own: bool = False) -> None:
        super().__init__(stop_reason)
        self.of_own = of_own


class Reservation(NamedTuple):
    """Money and tokens held for one model call: an upper bound, as far as it is known."""

    held: Spending
    waited: float
    """Seconds that it waited for room."""


class _Total:
    """A sum of calls, changed under the tree's lock.

    The garbage collector may settle a call in the middle of a change, in the same thread. That loses nothing, as it cannot
    interrupt a `+=` of plain numbers.
    """

    def __init__(self) -> None:
        self.calls = self.input_tokens = self.output_tokens = 0
        self.cost = 0.0

    def add(self, spent: Spending, sign: int = 1) -> None:
        """Count a call in, or with -1 out."""
        input_tokens, output_tokens, cost = spent.usage.input_tokens, spent.usage.output_tokens, spent.cost or 0.0
        self.calls += sign
        self.input_tokens += sign * input_tokens
        self.output_tokens += sign * output_tokens
        self.cost += sign * cost

    def plus(self, more: Spending) -> Spending:
        """The sum with this in it."""
        return Spending(Usage(0, self.input_tokens, self.output_tokens) + more.usage, self.cost + (more.cost or 0.0))


class _Tree:
    """What the ledgers of a run and of all runs inside it share. The runs may be on several threads and event loops."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # the garbage collector may settle a call in a thread that holds it
        self.max_answer = _MIN_ANSWER
        """Tokens of the longest answer so far."""
        self.max_cost = 0.0
        """US dollars of the most expensive call so far."""
        self._ends: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

    def next_end(self) -> asyncio.Future[None]:
        """Done when the next call ends; one future for all who wait on this event loop."""
        loop = asyncio.get_running_loop()
        return self._ends.setdefault(loop, loop.create_future())

    def settled(self, spent: Spending) -> None:
        """A call has ended: learn from it, and wake all who wait for room."""
        self.max_answer = max(self.max_answer, spent.usage.output_tokens)
        self.max_cost = max(self.max_cost, spent.cost or 0.0)
        while self._ends:
            loop, end = self._ends.popitem()
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(_set, end)


class Ledger:
    """What a run has spent, the runs inside it included, and what is reserved for their calls in flight.

    A call is reserved before it is made, in the ledgers of its run and of all parents. It is refused where its prompt would
    break a limit. Where the whole reservation would, beside those in flight, it waits for the next call to end, for at most 30
    seconds. So concurrent calls pass a limit only by what they spend beyond their reservations.
    """

    def __init__(self, limits: Limits, state: RunState, parent: Ledger | None = None) -> None:
        self._limits, self._state = limits, state
        self._parents: tuple[Ledger, ...] = () if parent is None else (parent, *parent._parents)
        self._tree: _Tree = _Tree() if parent is None else parent._tree
        self._spent, self._reserved = _Total(), _Total()
        self._spent.add(state.spent)
        self.is_closed = False
        """Whether nothing more may be spent here, though the run has not ended yet."""

    @property
    def has_ended(self) -> bool:
        """Whether the run has."""
        return self._state.stop_reason is not None

    @property
    def binds(self) -> bool:
        """Whether calls have to be reserved: the run has limits, or a parent, which may have some or end first."""
        return bool(self._parents) or self._limits.bind_spending

    async def reserve(
        self, prompt: Spending, max_tokens: int | None, price: Price | None, *, past_own: bool = False
    ) -> Reservation:
        """Reserve a call with this prompt (its tokens, and its minimum cost) and an answer of at most `max_tokens`.

        Waits for room, unless a call in flight may be waiting for this code (`may_wait`). `past_own`: the limits of the run
        itself do not bind, as for its last answer. Raises `OverBudget`.
        """
        began: float | None = None
        while True:
            with self._tree.lock:
                end = self._tree.next_end()  # before the check, so that no end is missed
                self.check(prompt, past_own=past_own)
                held = self._held(prompt, max_tokens, price)
                full = self._full(held, past_own=past_own)
                if full is None:
                    for ledger in (self, *self._parents):
                        ledger._reserved.add(held)
                    return Reservation(held, 0.0 if began is None else time.monotonic() - began)
            began = began or time.monotonic()
            left = began + _MAX_WAIT - time.monotonic()
            if left <= 0 or not may_wait():
                raise full
            await asyncio.wait((end,), timeout=left)

    def settle(self, reservation: Reservation, spent: Spending) -> None:
        """The call has ended and has spent this."""
        with self._tree.lock:
            for ledger in (self, *self._parents):
                ledger._spent.add(spent)
                ledger._reserved.add(reservation.held, -1)
            self._tree.settled(spent)

    def check(self, prompt: Spending, lost: Spending = Spending(), *, past_own: bool = False) -> None:  # noqa: B008  a frozen value
        """Raise `OverBudget` where this prompt would break a limit; `lost` was spent by attempts of a call in flight."""
        for ledger in self._binding(past_own=past_own):
            reason = ledger._limit(ledger._spent.plus(lost), prompt)
            if ledger.is_closed or ledger.has_ended:
                reason = "limit:outer_run"
            if reason is not None:
                raise OverBudget(reason, of_own=ledger is self)

    def _full(self, held: Spending, *, past_own: bool) -> OverBudget | None:
        """The error if this, beside the calls in flight, would break a limit. A call that is alone always has room."""
        for ledger in self._binding(past_own=past_own):
            reserved = ledger._reserved
            if reserved.calls and (reason := ledger._limit(ledger._spent.plus(reserved.plus(Spending())), held)) is not None:
                return OverBudget(reason, of_own=ledger is self)
        return None

    def _limit(self, spent: Spending, more: Spending) -> str | None:
        return self._limits.spending(spent, more) if self._limits.bind_spending else None

    def _binding(self, *, past_own: bool) -> tuple[Ledger, ...]:
        return self._parents if past_own else (self, *self._parents)

    def _held(self, prompt: Spending, max_tokens: int | None, price: Price | None) -> Spending:
        """What to reserve. Without a price that is the cost of the most expensive call so far."""
        answer = max_tokens or self._tree.max_answer
        cost = self._tree.max_cost if price is None else price.most(prompt.usage.input_tokens, answer)
        return Spending(prompt.usage + Usage(output_tokens=answer), cost)


def _set(end: asyncio.Future[None]) -> None:
    if not end.done():
        end.set_result(None)


class CallBudget(OfRun):
    """The budget of one tool call, for the runs that it makes. `record` takes an event into its run, on its event loop."""

    def __init__(
        self,
        call_id: str,
        ledger: Ledger,
        depth: int,
        record: Callable[[LastingEvent], Awaitable[None]],
        outer: CallBudget | None = None,
    ) -> None:
        self.depth, self.ledger = depth, ledger
        self.call_id, self._record, self._outer = call_id, record, outer
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._runs: dict[str, int] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    def next_run(self, key: str) -> int:
        """How many runs of this call and this key began before."""
        with self._lock:
            self._runs[key] = self._runs.get(key, 0) + 1
            return self._runs[key] - 1

    async def add(self, usage: Usage, cost: float | None, *, estimated: bool) -> None:
        """Write down, as an event of the run, what the ledger has counted; one that has ended hands it to the run around it.

        From another event loop it is handed over without waiting: the run's own loop may be waiting for this one, or gone.
        """
        event = UsageAdded(self.call_id, usage, cost, estimated)
        if asyncio.get_running_loop() is self._loop:
            await self._add(event)
            return
        with contextlib.suppress(RuntimeError):  # the run's loop is closed
            self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: UsageAdded) -> None:
        task = self._loop.create_task(self._add(event))  # its first step, the event, comes before the call's end
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _add(self, event: UsageAdded) -> None:
        if self.ledger.has_ended:
            if self._outer is not None:
                await self._outer.add(event.usage, event.cost, estimated=event.estimated)
            return
        try:
            await self._record(event)
        except Exception as error:  # noqa: BLE001  an observer's: it is the run's, and not to be told to the model
            self._failed = self._failed or error
            self.ledger.is_closed = True

    def check(self) -> None:
        """Raise what an observer of the run raised, which a tool could not be told."""
        if self._failed is not None:
            raise self._failed


class Forward:
    """An observer that writes down what its run spends in the run that it is part of."""

    deltas = False
    shielded = False
    """It needs no protection from a cancellation: what it writes down is in the outer run's state at once."""

    def __init__(self, outer: CallBudget) -> None:
        self._outer = outer

    def __call__(self, event: Event) -> Awaitable[None] | None:
        """Write down what the event spent."""
        if isinstance(event, ModelReplied):
            return self._outer.add(event.usage, event.cost, estimated=False)
        if isinstance(event, UsageAdded):
            return self._outer.add(event.usage, event.cost, estimated=event.estimated)
        return None
