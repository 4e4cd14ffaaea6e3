"""How many requests a server gets at once and per minute, over all runs of the process; and when it gets none at all."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable

from .errors import CircuitOpen, ConnectionFailed, ModelError, Overloaded, RateLimited, SettingsError
from .underway import LOOK, UnderWay, of_run

__all__ = ["Limiter", "Turn", "limiter_for"]

_LEAST = 0.001
"""Seconds of the shortest wait for a bucket, so that rounding never makes it a busy one."""
_QUIET = 60.0
"""Seconds without a 429 after which the bound grows fast: servers count by the minute."""
_LOOKS = 20
"""How often a second, about, those who wait behind the first look whether it stands still, however many they are."""
_SPREAD = 2.0
"""The most seconds by which the wait of one who is refused is longer, as others come back at the same time."""
_LONGEST_PAUSE = 60.0
"""Seconds of the longest wait that a server may ask for on behalf of all; a longer one is an error for each."""
_OF_THIS_PROCESS = (errno.EMFILE, errno.ENFILE)
"""Too many open files: no fault of the server, which must not be left alone for it."""


class _Bucket:
    """Fills evenly to what may be spent in a minute. What a request turns out to need is owed, up to a minute's worth."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate, self._most = per_minute / 60, per_minute
        self._level, self._at = per_minute, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much is there; an amount above the bucket's size waits for a full one."""
        self._level, self._at = min(self._most, self._level + (now - self._at) * self._rate), now
        return max(0.0, (min(amount, self._most) - self._level) / self._rate)

    def take(self, amount: float) -> None:
        """Spend it; less than nothing gives back."""
        self._level = max(-self._most, self._level - amount)


class Limiter:
    """Lets requests through; one for all runs that use a model of a server with a key.

    Runs take turns, each with the runs inside it; the requests of a run go in the order in which they came.

    `at_once` bounds the requests under way. A 429 beside others halves that bound (or the most that were under way within a
    minute, where that was less), down to 1, and each answer lets it grow again by one for a whole round (additive increase,
    multiplicative decrease), by a doubling after a minute without a 429. Where the server asks for a wait of up to a minute,
    all wait. `requests_per_minute` and `tokens_per_minute` spread the requests; tokens are estimated from the bytes of a
    request, and corrected by the usage of its reply. After `failures` failures of the server in a row (5xx, no connection)
    requests fail at once for `pause` seconds, then one goes through to see. It may be used from several threads and event loops
    at once, and after a fork.
    """

    def __init__(
        self,
        *,
        at_once: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        failures: int | None = 20,
        pause: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check("at_once", at_once, whole=True)
        _check("requests_per_minute", requests_per_minute)
        _check("tokens_per_minute", tokens_per_minute)
        _check("failures", failures, whole=True)
        _check("pause", pause, needed=True)
        self._most = float(at_once) if at_once else None
        self._window = self._most
        self._clock = clock
        self._lock = threading.RLock()  # the garbage collector may end a request while this thread holds it
        self._waiting: dict[object, deque[Turn]] = {}  # by run; the first one is next
        self._waiters = 0
        self._is_letting = self._is_due = self._has_news = False
        self._under_way: set[Turn] = set()
        self._suspects: set[Turn] = set()
        self._peak, self._peak_at = 0, -math.inf
        self._shrunk_at = -math.inf
        self._not_before = -math.inf
        per_minute = (requests_per_minute, tokens_per_minute)
        self._requests, self._tokens = (_Bucket(rate, clock()) if rate else None for rate in per_minute)
        self._failures, self._pause = failures, pause
        self._failed = 0
        self._closed_until = -math.inf
        _limiters.add(self)

    @property
    def at_once(self) -> float | None:
        """The bound of requests under way now; None: there is none."""
        return self._window

    @property
    def closed_for(self) -> float:
        """Seconds for which no request goes: the server asked for a wait, or is left alone after its failures."""
        return max(0.0, max(self._not_before, self._closed_until) - self._clock())

    def turn(self, tokens: int) -> Turn:
        """The turn of a request of about so many tokens: `async with limiter.turn(900) as turn: ...; turn.used = 1234`.

        It belongs to the running event loop. Entering waits, and raises `CircuitOpen` while the server is left alone after
        its failures.
        """
        return Turn(self, tokens)

    async def enter(self, turn: Turn) -> None:
        """Wait until the request of this turn may go."""
        asked = self._clock()
        try:
            with self._lock:
                self._waiting.setdefault(turn.run, deque()).append(turn)
                self._waiters += 1
            looks = False
            while True:
                with self._lock:
                    self._check_open(turn)
                    seconds = self._let_through(turn if looks else None)
                    if turn in self._under_way:
                        break
                    turn.wake = turn.loop.create_future()
                    if self._first() is not turn:  # which keeps the time for all, if its event loop does not stand still
                        seconds = LOOK * (1 + self._waiters / _LOOKS)
                await _wait(turn.wake, seconds)
                looks = not turn.wake.done()
        except BaseException:
            self._drop(turn)
            raise
        turn.sent = self._clock()
        turn.waited = turn.sent - asked

    def _let_through(self, looking: Turn | None = None) -> float:
        """Let those through who may go, in their order; the seconds after which the next one is to look again.

        One who is `looking` passes over those that are held up, which is known of those under way as well.
        """
        if self._is_letting:  # the garbage collector has ended a request meanwhile
            self._is_due = True
            return LOOK
        self._is_letting = True
        try:
            seconds = self._let_each(looking)
            while self._is_due:
                self._is_due = False
                seconds = self._let_each(looking)
            return seconds
        finally:
            self._is_letting = False

    def _let_each(self, looking: Turn | None) -> float:
        now = self._clock()
        while (turn := self._first(looking)) is not None:
            if self._closed_until > now:  # it is to fail, and then the next
                turn.is_told, seconds = False, LOOK
            elif not self._has_room(looks=looking is not None):
                seconds = LOOK
            elif (wait := self._wait_of(turn, now)) > 0:
                seconds = max(wait, _LEAST)
            else:
                self._admit(turn, now)
                continue
            if (turn.is_told and not self._has_news) or turn.tell():
                turn.is_told, self._has_news = True, False
                return seconds
            self._give_up(turn)
        return 0.0

    def _admit(self, turn: Turn, now: float) -> None:
        if turn.is_given_up:  # by the garbage collector, just now
            return
        self._waiting[turn.run].remove(turn)  # the first, or near it
        self._waiting[turn.run] = self._waiting.pop(turn.run)  # the next run's is next
        self._waiters -= 1
        self._take(1, turn.tokens)
        self._under_way.add(turn)
        if len(self._under_way) > self._peak or now - self._peak_at > _QUIET:
            self._peak, self._peak_at = len(self._under_way), now
        if self._is_closed:  # this one goes through to see; the others wait on
            self._closed_until = now + self._pause
        if not turn.tell():
            self._give_up(turn)

    def _give_up(self, turn: Turn) -> None:
        if turn in self._under_way:
            self._under_way.remove(turn)
            self._suspects.discard(turn)
            self._take(-1, -turn.tokens)
        elif not turn.is_given_up:
            self._waiters -= 1
        turn.is_given_up = True

    def _first(self, looking: Turn | None = None) -> Turn | None:
        """Who is next."""
        if looking is not None:
            waiting = (turn for turns in self._waiting.values() for turn in turns if not turn.is_given_up)
            return next((turn for turn in waiting if turn is looking or not turn.is_held_up), None)
        while self._waiting:
            run, turns = next(iter(self._waiting.items()))
            while turns and turns[0].is_given_up:
                turns.popleft()
            if turns:
                return turns[0]
            del self._waiting[run]
        return None

    def _has_room(self, *, looks: bool) -> bool:
        if self._window is None:
            return True
        if looks:
            self._suspects.update([turn for turn in tuple(self._under_way) if turn.is_held_up])
        held_up = sum(turn.is_held_up for turn in tuple(self._suspects))  # a watcher that was slow may be so again
        return len(self._under_way) - held_up < max(1, int(self._window))

    def _wait_of(self, turn: Turn, now: float) -> float:
        waits = [self._not_before - now]
        if self._requests:
            waits.append(self._requests.wait(1, now))
        if self._tokens:
            waits.append(self._tokens.wait(turn.tokens, now))
        return max(waits)

    def _take(self, requests: int, tokens: int) -> None:
        if self._requests:
            self._requests.take(requests)
        if self._tokens:
            self._tokens.take(tokens)

    def _check_open(self, turn: Turn) -> None:
        left = self._closed_until - self._clock()
        if left > 0 and turn not in self._under_way:
            text = f"the server failed {self._failed} times in a row and is left alone for {left:.0f} s (see Limiter)"
            raise CircuitOpen(text, retry_after=left + _jitter())

    def _drop(self, turn: Turn) -> None:
        """The request of this turn is not made."""
        with self._lock:
            self._give_up(turn)
            self._let_through()

    @property
    def _is_closed(self) -> bool:
        return self._closed_until > -math.inf

    def answered(self) -> None:
        """The server has begun to answer: it need not be left alone, though it counts as failing until a reply is whole."""
        if self._is_closed:
            with self._lock:
                self._closed_until = -math.inf

    def leave(self, turn: Turn, error: BaseException | None) -> None:
        """The request of this turn ended, well or with an error."""
        with self._lock:
            now = self._clock()
            if self._tokens and turn.used is not None:
                self._tokens.wait(0, now)
                self._tokens.take(turn.used - turn.tokens)
                self._has_news = True
            if isinstance(error, RateLimited):
                self._shrink(turn.sent, now)
            elif error is None and self._window is not None and self._window <= 2 * len(self._under_way):  # it is felt
                self._window += 1.0 if now - self._shrunk_at > _QUIET else 1 / self._window
                if self._most is not None:
                    self._window = min(self._window, self._most)
            if isinstance(error, ModelError) and error.retryable and (error.retry_after or math.inf) <= _LONGEST_PAUSE:
                self._not_before = max(self._not_before, now + (error.retry_after or 0.0))
            self._count(turn, error)
            self._under_way.discard(turn)
            self._suspects.discard(turn)
            self._let_through()

    def _shrink(self, sent: float, now: float) -> None:
        if sent <= self._shrunk_at:  # it was sent before the bound shrank, and says nothing new
            return
        if len(self._under_way) > 1:  # one that is refused alone says nothing of how many may go at once
            self._window = max(1.0, min(self._window or math.inf, self._peak) / 2)
            self._shrunk_at = now

    def _count(self, turn: Turn, error: BaseException | None) -> None:
        if isinstance(error, ModelError) and getattr(error.__cause__, "errno", None) in _OF_THIS_PROCESS:
            return
        if isinstance(error, ConnectionFailed) and not error.retryable:  # a client that is closed, or of another loop
            return
        failures = Overloaded if turn.has_answered else (Overloaded, ConnectionFailed)
        if error is None or (isinstance(error, ModelError) and not isinstance(error, failures)):
            self._failed, self._closed_until = 0, -math.inf  # it answers
        elif isinstance(error, ModelError):
            self._failed += 1
            if self._failures and self._failed >= self._failures:
                self._closed_until = self._clock() + self._pause

    def _forget(self) -> None:
        """In a forked process: the requests under way are the other's."""
        self._lock = threading.RLock()
        self._waiting.clear()
        self._waiters = 0
        self._is_letting = self._is_due = False
        self._under_way.clear()
        self._suspects.clear()


class Turn(UnderWay):
    """One request's turn. `waited` is how many seconds it took to come; set `used` to the tokens of the reply."""

    def __init__(self, limiter: Limiter, tokens: int) -> None:
        super().__init__()
        self._limiter, self.tokens = limiter, tokens
        self.used: int | None = None
        self.run = of_run.get()
        self.has_answered = False
        self.is_given_up = False
        self.is_told = False
        self.waited = 0.0
        self.sent = 0.0
        self.wake: asyncio.Future[None] | None = None

    def answered(self) -> None:
        """The server has begun to answer."""
        self.has_answered = True
        self._limiter.answered()

    def tell(self) -> bool:
        """Let it look again; False if its event loop was closed while it waited."""
        if self.wake is None:  # it has not waited yet
            return True
        try:
            self.loop.call_soon_threadsafe(_set, self.wake)
        except RuntimeError:
            return False
        return True

    async def __aenter__(self) -> Turn:
        await self._limiter.enter(self)
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._limiter.leave(self, error)


def _jitter() -> float:
    """Seconds, so that those who are refused together do not come back together; the first who comes opens for them."""
    import random

    return random.uniform(0.0, _SPREAD)


async def _wait(wake: asyncio.Future[None], seconds: float | None) -> None:
    await asyncio.wait((wake,), timeout=seconds)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _check(name: str, value: object, *, whole: bool = False, needed: bool = False) -> None:
    if value is None and not needed:
        return
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
        raise SettingsError(f"limiter: {name} is {value!r}; allowed: a {'whole ' if whole else ''}number above 0")


_limiters: weakref.WeakSet[Limiter] = weakref.WeakSet()
_shared: weakref.WeakValueDictionary[tuple[str, str, int], Limiter] = weakref.WeakValueDictionary()
_recent: deque[Limiter] = deque(maxlen=64)
"""They stay though no model is left: a program that makes a model for each request goes on with what the last one learned."""
_shared_lock = threading.Lock()


def limiter_for(server: str, model: str, key: Hashable) -> Limiter:
    """The limiter that all models of this name share in this process, for a server and a key; the key is not kept.

    `key` is whatever stands for who pays: a key, the function that gives it, or a client that signs the requests.
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
        limiter._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
