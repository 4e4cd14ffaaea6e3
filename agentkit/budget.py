"""What a run may spend together with the runs that its tools make: a ledger for each, and limits that bind all of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from .copies import OfRun
from .errors import LimitReached
from .events import Event, LastingEvent, ModelReplied, UsageAdded
from .limits import Limits
from .messages import Spent, Usage
from .prices import Price
from .state import RunState
from .tool import Budget
from .underway import LOOK, UnderWay

__all__ = ["CallBudget", "Forward", "Ledger", "OverBudget", "Reservation"]

_LONG_ANSWER = 32_000
"""Tokens that a call is taken to write where no `max_tokens` bounds it, and nothing is known of its agent's."""
_HOPS = 16
"""How many of those that wait look one after another where the first finds no room."""
_USUAL_ANSWER = 4_000
"""Tokens that it is taken to write where as many have ended, and none has written more."""


class OverBudget(LimitReached):
    """A model call that would break a limit of its run, or of a run around it; the run ends with the stop reason.

    `of_own`: the limit is that of the run itself.
    """

    def __init__(self, stop_reason: str, *, of_own: bool = False) -> None:
        super().__init__(stop_reason)
        self.of_own = of_own


class Reservation(UnderWay):
    """What a call under way may spend; once it has ended, what it has spent until that is written down."""

    def __init__(self, most: Spent, likely: Spent) -> None:
        super().__init__()
        self.most, self.likely = most, likely
        self.waited = 0.0
        self.has_ended = False


class _Waiter:
    """One who waits for room; `turn` is when it is to look again."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[None] = self.loop.create_future()
        self.hops = 0
        self.is_woken = False


@dataclass(slots=True)
class _Known:
    """What is known of an agent's calls: how many have ended, tokens of the longest answer, US dollars of the dearest."""

    ended: int = 0
    under_way: int = 0
    longest: int = 0
    dearest: float = 0.0


@dataclass(slots=True, eq=False)
class _Tree:
    """What the ledgers of a run and of all runs inside it share."""

    lock: threading.RLock = field(default_factory=threading.RLock)  # the garbage collector may end a call that holds it
    waiting: dict[_Waiter, None] = field(default_factory=dict)
    """In the order in which they came."""
    known: dict[object, _Known] = field(default_factory=dict)
    """By agent."""

    def most(self, agent: object, ahead: Spent, max_tokens: int | None, price: Price | None) -> tuple[Spent, Spent]:
        """What a call may spend, and what it is likely to as far as that is known.

        The calls that have ended speak for as many at once, as the first ones may be short; those beyond may be long ones.
        Without a price nothing is known of these, and they go alone.
        """
        known = self.known.setdefault(agent, _Known())
        speaks = known.under_way < known.ended
        answer = max_tokens or (max(known.longest, _USUAL_ANSWER) if speaks else _LONG_ANSWER)
        unpriced = known.dearest if speaks else math.inf
        cost = unpriced if price is None else price.most(ahead.usage.input_tokens, answer)
        likely = Usage(output_tokens=min(answer, known.longest))
        return Spent(ahead.usage + Usage(output_tokens=answer), cost), Spent(ahead.usage + likely, known.dearest)

    def learn(self, agent: object, spent: Spent) -> None:
        """One has ended, and has spent this."""
        known = self.known[agent]
        known.under_way -= 1
        if spent.usage != Usage():
            known.ended += 1
            known.longest = max(known.longest, spent.usage.output_tokens)
            known.dearest = max(known.dearest, spent.cost or 0.0)

    def wake(self, after: _Waiter | None = None) -> None:
        """Let the first who waits look again, or the first behind this one. It wakes the next: where it finds room, and some
        times where it finds none, as one behind it may need less."""
        line = iter(tuple(self.waiting))
        if after is not None:
            if after.hops == 0:
                return
            for waiter in line:
                if waiter is after:
                    break
        for waiter in line:
            if waiter.is_woken:
                continue
            waiter.is_woken, waiter.hops = True, _HOPS if after is None else after.hops - 1
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiter.loop.call_soon_threadsafe(_wake, waiter.turn)
                return


class Ledger:
    """What a run has spent, those inside it included, and what is reserved for their calls under way.

    A call is entered in the ledgers of its run and of all runs around it before it is made. Where its prompt would break a
    limit it is refused; where what it may spend would do so beside the calls under way, it waits until one of these has
    ended. So several calls at once pass a limit only by what they spend more than those of the same agent before them. Every
    thread may use it.
    """

    def __init__(self, limits: Limits, state: RunState, agent: object, outer: Ledger | None = None) -> None:
        self._limits, self._state, self._agent = limits, state, agent
        self._around: tuple[Ledger, ...] = () if outer is None else (outer, *outer._around)
        self._tree: _Tree = _Tree() if outer is None else outer._tree
        self._spent = state.spent
        self._reserved: set[Reservation] = set()
        self.closed: str | None = None
        """Why nothing more may be spent here, though the run has not ended yet."""

    @property
    def has_ended(self) -> bool:
        """Whether the run has."""
        return self._state.stop_reason is not None

    @property
    def binds(self) -> bool:
        """Whether a limit is held here, or a run around this one, which may have one, or end before it."""
        return bool(self._around) or self._limits.bind_spending

    async def reserve(
        self, ahead: Spent, max_tokens: int | None, price: Price | None, *, past_own: bool = False
    ) -> Reservation:
        """A place for a call with this prompt, and an answer of at most so many tokens; waits until there is one.

        `past_own`: the limits of the run itself do not hold, as for its last answer. Raises `OverBudget`, also where the
        calls that it would wait for are held up, and may wait for this one.
        """
        tree, waiter = self._tree, _Waiter()
        began: float | None = None
        try:
            while True:
                with tree.lock:
                    made = self._place(ahead, max_tokens, price, past_own=past_own)
                    if made is not None:
                        made.waited = 0.0 if began is None else time.monotonic() - began
                        return made
                    if waiter.is_woken:
                        tree.wake(after=waiter)
                        waiter.turn, waiter.is_woken = waiter.loop.create_future(), False
                    tree.waiting[waiter] = None
                began = began or time.monotonic()
                await asyncio.wait((waiter.turn,), timeout=LOOK)
        finally:
            with tree.lock:
                tree.waiting.pop(waiter, None)
                tree.wake()

    def _place(self, ahead: Spent, max_tokens: int | None, price: Price | None, *, past_own: bool) -> Reservation | None:
        """A place, if there is room for it."""
        self.check(ahead, past_own=past_own)
        most, likely = self._tree.most(self._agent, ahead, max_tokens, price)
        full = [ledger for ledger in self._held(past_own=past_own) if ledger._beside(most) is not None]
        if not all(ledger._is_held_up for ledger in full):
            return None
        for ledger in full:
            if (reason := ledger._beside(likely, likely=True)) is not None:
                raise OverBudget(reason, of_own=ledger is self)
        made = Reservation(most, likely)
        self._tree.known[self._agent].under_way += 1
        for ledger in (self, *self._around):
            ledger._reserved.add(made)
        return made

    def _held(self, *, past_own: bool) -> tuple[Ledger, ...]:
        return self._around if past_own else (self, *self._around)

    def check(self, ahead: Spent, lost: Spent = Spent(), *, past_own: bool = False) -> None:  # noqa: B008  a frozen value
        """Raise `OverBudget` where a call with this prompt would break a limit; `lost` was spent, and is not counted yet."""
        for ledger in self._held(past_own=past_own):
            if (reason := ledger._refusal(ahead, lost)) is not None:
                raise OverBudget(reason, of_own=ledger is self)

    def end(self, made: Reservation, spent: Spent) -> None:
        """The call has ended, and has spent this, which is yet to be counted."""
        with self._tree.lock:
            made.most = made.likely = Spent(spent.usage, spent.cost or 0.0)
            made.has_ended = True
            self._tree.learn(self._agent, spent)
            self._tree.wake()

    def count(self, spent: Iterable[Spent], ended: Iterable[Reservation] = ()) -> None:
        """The run has spent this, in calls that have ended."""
        total = sum((Spent(one.usage, one.cost or 0.0) for one in spent), start=Spent())
        with self._tree.lock:
            for ledger in (self, *self._around):
                ledger._spent += total
                ledger._reserved.difference_update(ended)
            self._tree.wake()

    def _refusal(self, ahead: Spent, lost: Spent) -> str | None:
        if self.closed is not None or self.has_ended:  # it pays for nothing more
            return "limit:outer_run"
        if not self._limits.bind_spending:
            return None
        ended = [other.most for other in tuple(self._reserved) if other.has_ended]
        return self._limits.spending(sum(ended, start=self._spent + Spent(lost.usage, lost.cost or 0.0)), ahead)

    def _beside(self, more: Spent, *, likely: bool = False) -> str | None:
        """The stop reason if this, beside what the calls under way may spend, would break a limit."""
        others = tuple(self._reserved)  # the garbage collector may end one meanwhile
        if not self._limits.bind_spending or all(other.has_ended for other in others):
            return None
        reserved = [other.likely if likely else other.most for other in others]
        return self._limits.spending(sum(reserved, start=self._spent), more)

    @property
    def _is_held_up(self) -> bool:
        """Whether none of the calls under way can be waited for."""
        held_up = [other.is_held_up for other in tuple(self._reserved) if not other.has_ended]  # each is asked
        return all(held_up)


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class CallBudget(OfRun):
    """The budget of one tool call, for the runs that it makes. `record` takes an event into its run, on its event loop."""

    def __init__(
        self,
        call_id: str,
        ledger: Ledger,
        depth: int,
        record: Callable[[LastingEvent], Awaitable[None]],
        outer: Budget | None = None,
    ) -> None:
        self.depth, self.ledger = depth, ledger
        self._call_id, self._record, self._outer = call_id, record, outer
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._runs = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    def next_run(self) -> int:
        """How many runs of this call began before."""
        with self._lock:
            self._runs += 1
            return self._runs - 1

    async def add(self, usage: Usage, cost: float | None, *, estimated: bool) -> None:
        """Write down, as an event of the run, what the ledger has counted; one that has ended hands it to the run around it.

        From another event loop it is handed over without waiting: the run's own loop may be waiting for this one, or gone.
        """
        event = UsageAdded(self._call_id, usage, cost, estimated)
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
            self.ledger.closed = "error"

    def check(self) -> None:
        """Raise what an observer of the run raised, which a tool could not be told."""
        if self._failed is not None:
            raise self._failed


class Forward:
    """An observer that writes down what its run spends in the run that it is part of."""

    deltas = False
    shielded = False
    """It needs no protection from a cancellation: what it writes down is in the outer run's state at once."""

    def __init__(self, outer: Budget) -> None:
        self._outer = outer

    def __call__(self, event: Event) -> Awaitable[None] | None:
        """Write down what the event spent."""
        if isinstance(event, ModelReplied):
            return self._outer.add(event.usage, event.cost, estimated=False)
        if isinstance(event, UsageAdded):
            return self._outer.add(event.usage, event.cost, estimated=event.estimated)
        return None
