"""What a run may spend together with the runs that its tools make: a ledger for each, and limits that bind all of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from . import portal
from .errors import LimitReached
from .events import Event, LastingEvent, ModelReplied, UsageAdded
from .limits import Limits
from .messages import Spent, Usage
from .models.prices import Price
from .state import RunState
from .tool import Budget

__all__ = ["CallBudget", "Forward", "Ledger", "OverBudget", "Reservation"]

_LONG_ANSWER = 32_000
"""Tokens that a call inside another run is taken to write before any has ended, where no `max_tokens` bounds it."""


class OverBudget(LimitReached):
    """A model call that would break a limit of its run, or of a run around it; the run ends with the stop reason."""


@dataclass(slots=True, eq=False)
class Reservation:
    """What a call under way may spend; `loop` is where it runs."""

    most: Spent
    loop: asyncio.AbstractEventLoop
    waited: float
    """Seconds until there was room for it."""


@dataclass(slots=True, eq=False)
class _Tree:
    """What the ledgers of a run and of all runs inside it share."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = field(default_factory=list)
    longest: int | None = None
    """Tokens of the longest answer in a run inside another; the next one is taken to be as long."""
    dearest: float | None = None
    """US dollars of the dearest call in such a run."""

    def most(self, ahead: Spent, max_tokens: int | None, price: Price | None) -> Spent:
        """What a call may spend. Without a price one that is the first goes alone, as nothing is known of it."""
        answer = max_tokens or self.longest or _LONG_ANSWER
        if price is not None:
            cost = price.most(ahead.usage.input_tokens, answer)
        else:
            cost = math.inf if self.dearest is None else self.dearest
        return Spent(ahead.usage + Usage(output_tokens=answer), cost)


class Ledger:
    """What a run has spent, those inside it included, and what is reserved for their calls under way.

    A call is entered in the ledgers of its run and of all runs around it before it is made. Where its prompt would break a
    limit it is refused; where what it may spend would do so beside the calls under way, it waits until one of these has
    ended. So several calls at once pass a limit only by what they spend more than the dearest call before them. Every thread
    may use it.
    """

    def __init__(self, limits: Limits, state: RunState, outer: Ledger | None = None) -> None:
        self._limits, self._state = limits, state
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

        `past_own`: the limits of the run itself do not hold, as for its last answer. Raises `OverBudget`.
        """
        loop = asyncio.get_running_loop()
        began: float | None = None
        held = self._around if past_own else (self, *self._around)
        while True:
            with self._tree.lock:
                for ledger in held:
                    if (reason := ledger._refusal(ahead)) is not None:
                        raise OverBudget(reason)
                most = self._tree.most(ahead, max_tokens, price)
                if all(ledger._has_room(most) for ledger in held):
                    made = Reservation(most, loop, 0.0 if began is None else time.monotonic() - began)
                    for ledger in (self, *self._around):
                        ledger._reserved.add(made)
                    return made
                turn = loop.create_future()
                self._tree.waiting.append((loop, turn))
            began = began or time.monotonic()
            await turn

    def settle(self, made: Reservation | None, spent: Spent) -> None:
        """The call has ended, and has spent this; those that wait look again."""
        tree, known = self._tree, spent.cost or 0.0
        with tree.lock:
            for ledger in (self, *self._around):
                if made is not None:
                    ledger._reserved.discard(made)
                ledger._spent += Spent(spent.usage, known)
            if self._around and spent.usage != Usage():
                tree.longest = max(tree.longest or 0, spent.usage.output_tokens)
                tree.dearest = max(tree.dearest or 0.0, known)
            waiting, tree.waiting = tree.waiting, []
        for loop, turn in waiting:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(_wake, turn)

    def _refusal(self, ahead: Spent) -> str | None:
        ended = self.closed or self._state.stop_reason
        if ended is not None:  # it pays for nothing more
            return f"limit:{ended.removeprefix('limit:')}"
        return self._limits.spending(self._spent, ahead)

    def _has_room(self, most: Spent) -> bool:
        # a call on a loop that a sync call holds up cannot end before the call that would wait for it
        if all(portal.holds_up(other.loop) for other in self._reserved):
            return True
        beside = sum((other.most for other in self._reserved), start=self._spent)
        return self._limits.spending(beside, most) is None


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class CallBudget:
    """The budget of one tool call, for the runs that it makes. `record` takes an event into its run, on its event loop."""

    def __init__(self, call_id: str, ledger: Ledger, depth: int, record: Callable[[LastingEvent], Awaitable[None]]) -> None:
        self.depth, self.ledger = depth, ledger
        self._call_id, self._record = call_id, record
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
        """Write down, as an event of the run, what the ledger has counted; a run that has ended takes no more.

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

    def __init__(self, outer: Budget) -> None:
        self._outer = outer

    async def __call__(self, event: Event) -> None:
        """Write down what the event spent."""
        if isinstance(event, ModelReplied):
            await self._outer.add(event.usage, event.cost, estimated=False)
        elif isinstance(event, UsageAdded):
            await self._outer.add(event.usage, event.cost, estimated=event.estimated)
