"""Rate limiting of requests to a server, across all runs of the process: concurrency, rates per minute, circuit breaker."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from functools import partial

from .. import _sync as portal
from .._renamed import renamed
from ..errors import CircuitOpen, ModelError, RateLimited
from .rates import Circuit, Rates, Window, check_setting
from .run_identity import current_run

__all__ = ["Limiter", "Slot", "limiter_for"]

_LEASE = 60.0
"""Seconds without a byte from the server after which a slot no longer counts. Also the max seconds that a waiter sleeps."""
_MIN_SLEEP = 0.001
"""Seconds. It keeps rounding errors from turning a wait for a bucket into a busy loop."""
_MAX_JITTER = 2.0
"""Max random seconds added to a refused request's wait, so that requests refused together do not retry together."""
_MAX_PAUSE = 60.0
"""Seconds. If the server asks for a longer wait, the request fails instead of all requests waiting."""


@renamed(at_once="concurrency")
class Limiter:
    """Paces requests. All runs that use the same model on the same server with the same key share one limiter.

    Runs take turns; a run and its child runs count as one. The requests of one run are sent in the order in which they came.

    `concurrency` is the max number of requests in flight (the window). A 429 while other requests are in flight halves the
    window, or the last minute's peak if that is lower, down to 1. Answers grow it by one per round trip (additive increase,
    multiplicative decrease), and by one per answer after a minute without a 429. A request that has received nothing for a
    minute no longer counts. If the server asks for a wait of up to a minute, all requests wait.

    `requests_per_minute` and `tokens_per_minute` are token buckets. The tokens of a request are estimated from its size, and
    corrected by the usage of its reply. After `failures` consecutive failures of the server (5xx, no connection), requests fail
    immediately for `pause` seconds. Then one request probes the server.

    Some code may block a request that is in flight: an observer's callback, or a sync call inside a running event loop. Its own
    requests skip the queue, since waiting could deadlock. Threads and event loops may share a limiter, and it works after a
    fork.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        failures: int | None = 20,
        pause: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_setting("concurrency", concurrency, whole=True)
        check_setting("requests_per_minute", requests_per_minute)
        check_setting("tokens_per_minute", tokens_per_minute)
        check_setting("failures", failures, whole=True)
        check_setting("pause", pause, needed=True)
        self._rates = Rates(requests_per_minute, tokens_per_minute, clock())
        self._window, self._circuit, self._paused_until = Window(concurrency), Circuit(failures, pause), -math.inf
        self.clock = clock
        self._reset()
        _limiters.add(self)

    def _reset(self) -> None:
        """Start with nothing queued or in flight. In a forked process, the existing requests belong to the parent."""
        self._lock = threading.RLock()  # reentrant: the garbage collector may end a request in a thread that holds the lock
        self._queue: OrderedDict[object, OrderedDict[Slot, None]] = OrderedDict()  # by run; the first run is next
        self._in_flight: set[Slot] = set()
        self._changes: deque[Callable[[], None]] = deque()
        self._is_changing = False
        self._leases_end = -math.inf

    @property
    def concurrency(self) -> float | None:
        """Current max requests in flight; None means no limit."""
        return self._window.size

    @property
    def closed_for(self) -> float:
        """Seconds until the next request may be sent, after the server asked for a wait or failed too often."""
        return max(0.0, max(self._paused_until, self._circuit.open_until) - self.clock())

    def slot(self, tokens: int) -> Slot:
        """A slot for a request of about `tokens` tokens: `async with limiter.slot(900) as slot: ...; slot.used = 1234`.

        Entering it waits. Raises `CircuitOpen` during the pause after too many failures.
        """
        return Slot(self, tokens)

    async def enter(self, slot: Slot) -> None:
        """Wait until the request may go."""
        asked = self.clock()
        try:
            if portal.may_wait():
                await self._wait_in_queue(slot)
            else:
                await self._bypass_queue(slot)
        except BaseException:
            self._change(partial(self._drop, slot))
            raise
        slot.sent = slot.renewed_at = self.clock()
        slot.waited = slot.sent - asked

    async def _wait_in_queue(self, slot: Slot) -> None:
        self._change(partial(self._join, slot))
        while True:
            woken = slot.woken = slot.loop.create_future()  # before the checks below, so that no change is missed
            if slot in self._in_flight:
                return
            self._check_circuit()
            await _wait(woken, slot.wakes_at - self.clock())
            slot.woken = None
            self._change(slot.sleep)

    async def _bypass_queue(self, slot: Slot) -> None:
        """Skip the queue. Only waits that no other request can shorten apply: the server's pause, and the buckets."""
        self._check_circuit()
        self._change(partial(self._admit_now, slot))
        if (seconds := slot.wakes_at - self.clock()) > 0:
            await asyncio.sleep(seconds)

    def _change(self, change: Callable[[], None]) -> None:
        """Make this change, then admit the requests that may be sent now.

        Changes are made one at a time. The garbage collector may interrupt a change, and end another request in the same
        thread. That second change is then made right after the interrupted one.
        """
        self._changes.append(change)
        with self._lock:
            if self._is_changing:
                return
            self._is_changing = True
            try:
                while self._changes:
                    self._changes.popleft()()
                    self._admit_queued()
            finally:
                self._is_changing = False

    def _join(self, slot: Slot) -> None:
        self._queue.setdefault(slot.run, OrderedDict())[slot] = None
        slot.sleep()

    def _admit_now(self, slot: Slot) -> None:
        now = self.clock()
        slot.wakes_at = now + self._wait_for_rates(slot, now)
        self._admit(slot)

    def _admit_queued(self) -> None:
        now = self.clock()
        while self._queue and self._circuit.open_until <= now:
            slot = next(iter(next(iter(self._queue.values()))))
            seconds = max(self._wait_for_rates(slot, now), self._wait_for_slot(now))
            if seconds > 0:  # the first in the queue wakes up for all; it may be sleeping for longer than needed
                wakes_at = now + max(seconds, _MIN_SLEEP)
                if wakes_at >= slot.wakes_at:
                    return
                slot.wakes_at = wakes_at
            else:
                self._leave_queue(slot)
                if slot.run in self._queue:
                    self._queue.move_to_end(slot.run)
                self._admit(slot)
            if not slot.wake():
                self._drop(slot)
            elif seconds > 0:
                return

    def _admit(self, slot: Slot) -> None:
        now = slot.renewed_at = self.clock()
        self._rates.take(1, slot.tokens, now)
        self._in_flight.add(slot)
        self._window.entered(len(self._in_flight), now)
        self._circuit.entered(now)
        self._wake_if_open()

    def _leave_queue(self, slot: Slot) -> None:
        queued = self._queue.get(slot.run)
        if queued is not None and queued.pop(slot, self) is None and not queued:
            del self._queue[slot.run]

    def _drop(self, slot: Slot) -> None:
        """Remove a request that will not be sent."""
        self._leave_queue(slot)
        if slot in self._in_flight:
            self._in_flight.remove(slot)
            self._rates.take(-1, -slot.tokens, self.clock())

    def _wait_for_rates(self, slot: Slot, now: float) -> float:
        """Seconds that a request must wait for the server's pause and the rates."""
        return max(self._paused_until - now, self._rates.wait(slot.tokens, now))

    def _wait_for_slot(self, now: float) -> float:
        """Seconds until the next lease ends if the window is full, else 0."""
        if len(self._in_flight) < self._window.bound:
            return 0.0
        if now >= self._leases_end:  # no counted lease ends before `_leases_end`
            ends = [slot.renewed_at + _LEASE for slot in self._in_flight]
            live = [end for end in ends if end > now]
            if len(live) < self._window.bound:
                return 0.0
            if len(live) < len(ends):
                return min(live) - now
            self._leases_end = min(live)
        return self._leases_end - now

    def _check_circuit(self) -> None:
        seconds = self._circuit.open_until - self.clock()
        if seconds > 0:
            failed = self._circuit.failed
            text = f"the server failed {failed} times in a row and is left alone for {seconds:.0f} s (see Limiter)"
            raise CircuitOpen(text, retry_after=seconds + _jitter())

    def _wake_if_open(self) -> None:
        """If the circuit is open, wake all waiting requests, so that they fail."""
        if self._circuit.open_until > self.clock():
            for slot in [slot for queued in self._queue.values() for slot in queued]:
                slot.wake()

    def leave(self, slot: Slot, error: BaseException | None) -> None:
        """The request ended; `error` is None if it succeeded."""
        self._change(partial(self._end, slot, error))

    def _end(self, slot: Slot, error: BaseException | None) -> None:
        now = self.clock()
        if slot.used is not None:
            self._rates.take(0, slot.used - slot.tokens, now)
        if isinstance(error, RateLimited):
            self._window.refused(slot.sent, len(self._in_flight), now)
        elif error is None:
            self._window.answered(len(self._in_flight), now)
        if isinstance(error, ModelError) and error.retryable and (error.retry_after or math.inf) <= _MAX_PAUSE:
            self._paused_until = max(self._paused_until, now + (error.retry_after or 0.0))
        self._circuit.ended(error, has_answered=slot.has_answered, now=now)
        self._wake_if_open()
        self._in_flight.discard(slot)


class Slot:
    """A slot for one request in flight: a lease of one minute, renewed by each received byte.

    It belongs to the running event loop. `waited` is the seconds that the request queued. Set `used` to the tokens of the
    reply.
    """

    def __init__(self, limiter: Limiter, tokens: int) -> None:
        self._limiter, self.tokens = limiter, tokens
        self.used: int | None = None
        self.run = current_run()
        self.loop = asyncio.get_running_loop()
        self.woken: asyncio.Future[None] | None = None
        self.wakes_at = self.renewed_at = self.sent = self.waited = 0.0
        self.has_answered = False

    def answered(self) -> None:
        """The server began to answer."""
        self.has_answered = True
        self._limiter._circuit.close()

    def renew(self) -> None:
        """Renew the lease: bytes came from the server."""
        self.renewed_at = self._limiter.clock()

    def sleep(self) -> None:
        """Sleep until woken, for a minute at most: the request that should wake it may be on a blocked event loop."""
        self.wakes_at = self._limiter.clock() + _LEASE

    def wake(self) -> bool:
        """Wake the request if it sleeps. Returns False if its event loop is closed."""
        woken, self.woken = self.woken, None  # it references the task, which may have to be garbage-collected
        if woken is not None:
            try:
                self.loop.call_soon_threadsafe(_set, woken)
            except RuntimeError:
                return False
        return True

    async def __aenter__(self) -> Slot:
        await self._limiter.enter(self)
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._limiter.leave(self, error)


def _jitter() -> float:
    import random

    return random.uniform(0.0, _MAX_JITTER)


async def _wait(woken: asyncio.Future[None], seconds: float) -> None:
    await asyncio.wait((woken,), timeout=max(0.0, seconds))


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_limiters: weakref.WeakSet[Limiter] = weakref.WeakSet()
_shared: weakref.WeakValueDictionary[tuple[str, str, int], Limiter] = weakref.WeakValueDictionary()
_recent: deque[Limiter] = deque(maxlen=64)
"""Keeps recent limiters alive without a model: a program that makes a model per request reuses what the limiter learned."""
_shared_lock = threading.Lock()


def limiter_for(server: str, model: str, key: Hashable) -> Limiter:
    """The limiter that all models of this name, server and key share in this process. The key itself is not stored.

    `key` identifies the account: an API key, the function that returns it, or a client that signs the requests.
    """
    with _shared_lock:
        limiter = _shared.setdefault((server, model, hash(key)), Limiter())
        if limiter not in _recent:
            _recent.append(limiter)
        return limiter


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for limiter in _limiters:
        limiter._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
