"""How many requests a server gets at once and per minute, over all runs of the process; and when it gets none at all."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from .errors import ConnectionFailed, ModelError, Overloaded, RateLimited, SettingsError

__all__ = ["Limiter", "Turn", "limiter_for"]

_Waiter: TypeAlias = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]
_LEAST = 0.001
"""Seconds of the shortest wait for a bucket, so that rounding never makes it a busy one."""


class _Bucket:
    """Fills evenly to what may be spent in a minute; may be overdrawn by one request, as its size is known afterwards."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate, self._most = per_minute / 60, per_minute
        self._level, self._at = per_minute, now

    def take(self, amount: float, now: float) -> float:
        """Spend it, and say how many seconds to wait until it is there; less than nothing gives back.

        An amount above the bucket's size waits for a full one. Who comes later waits for what was taken before, so nobody
        who needs much is overtaken by those who need little.
        """
        self._level, self._at = min(self._most, self._level + (now - self._at) * self._rate), now
        wait = max(0.0, (min(amount, self._most) - self._level) / self._rate)
        self._level -= amount
        return wait


_OF_THIS_PROCESS = (errno.EMFILE, errno.ENFILE)
"""Too many open files: no fault of the server, which must not be left alone for it."""


class Limiter:
    """Lets requests through in the order in which they came; one for all runs that use a server with a key.

    `at_once` bounds the requests under way. A 429 halves that bound, down to 1, and each answer lets it grow again by one
    for a whole round (additive increase, multiplicative decrease). `requests_per_minute` and `tokens_per_minute` spread the
    requests; tokens are estimated from the bytes of a request, and corrected by the usage of its reply. After `failures`
    failures of the server in a row (5xx, no connection) requests fail at once for `pause` seconds, then one goes through
    to see. It may be used from several threads and event loops at once.
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
        for name, value in (
            ("at_once", at_once), ("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute),
            ("failures", failures), ("pause", pause),
        ):  # fmt: skip
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise SettingsError(f"limiter: {name} is {value!r}; allowed: a number above 0")
        self._most = float(at_once) if at_once else None
        self._window = self._most
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter] = deque()
        self._under_way = 0
        self._shrunk_at = -1.0
        per_minute = (requests_per_minute, tokens_per_minute)
        self._requests, self._tokens = (_Bucket(rate, clock()) if rate else None for rate in per_minute)
        self._failures, self._pause = failures, pause
        self._failed = 0
        self._closed_until = 0.0

    @property
    def at_once(self) -> float | None:
        """The bound of requests under way now; None: there is none."""
        return self._window

    def turn(self, tokens: int) -> Turn:
        """The turn of a request of about so many tokens: `async with limiter.turn(900) as turn: ...; turn.used = 1234`.

        Entering waits. It raises `Overloaded` while the server is left alone after its failures.
        """
        return Turn(self, tokens)

    async def enter(self, turn: Turn) -> None:
        """Wait until the request of this turn may go."""
        asked = self._clock()
        await self._turn()
        try:
            self._check_open()
            await self._wait_for_buckets(turn.tokens)
        except BaseException:
            self._give_back()
            raise
        turn.sent = self._clock()
        turn.waited = turn.sent - asked

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if not self._waiting and self._has_room():
                self._under_way += 1
                return
            waiter = loop, loop.create_future()
            self._waiting.append(waiter)
        try:
            await waiter[1]  # whoever lets it through counts it
        except asyncio.CancelledError:
            with self._lock:
                try:
                    self._waiting.remove(waiter)
                except ValueError:  # it was let through at the same moment
                    self._under_way -= 1
                self._let_through()
            raise

    def _has_room(self) -> bool:
        return self._window is None or self._under_way < max(1, int(self._window))

    def _let_through(self) -> None:
        """Give turns to those who wait, as far as there is room. Needs the lock."""
        while self._waiting and self._has_room():
            loop, future = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(_set, future)
            except RuntimeError:  # its loop was closed while it waited
                continue
            self._under_way += 1

    def _check_open(self) -> None:
        with self._lock:
            left = self._closed_until - self._clock()
            if self._closed_until and left > 0:
                raise Overloaded(f"the server failed {self._failed} times in a row and is left alone", retry_after=left)
            if self._closed_until:  # this one goes through to see; the others wait on
                self._closed_until = self._clock() + self._pause

    async def _wait_for_buckets(self, tokens: int) -> None:
        ends = self._clock() + self._take(1, tokens)
        try:
            while (seconds := ends - self._clock()) > 0:  # noqa: ASYNC110  buckets fill by time alone
                await asyncio.sleep(max(seconds, _LEAST))
        except BaseException:
            self._take(-1, -tokens)
            raise

    def _take(self, requests: int, tokens: int) -> float:
        with self._lock:
            now = self._clock()
            wanted = ((self._requests, requests), (self._tokens, tokens))
            return max((bucket.take(amount, now) for bucket, amount in wanted if bucket), default=0.0)

    def leave(self, turn: Turn, error: BaseException | None) -> None:
        """The request of this turn ended, well or with an error."""
        with self._lock:
            if self._tokens and turn.used is not None:
                self._tokens.take(turn.used - turn.tokens, self._clock())
            if isinstance(error, RateLimited):
                self._shrink(turn.sent)
            elif error is None and self._window is not None:
                self._window += 1 / self._window
                if self._most is not None:
                    self._window = min(self._window, self._most)
            self._count(error)
        self._give_back()

    def _shrink(self, sent: float) -> None:
        if sent <= self._shrunk_at:  # it was sent before the bound shrank, and says nothing new
            return
        now_allowed = self._under_way if self._window is None else min(self._window, self._under_way)
        self._window = max(1.0, now_allowed / 2)
        self._shrunk_at = self._clock()

    def _count(self, error: BaseException | None) -> None:
        if isinstance(error, ModelError) and getattr(error.__cause__, "errno", None) in _OF_THIS_PROCESS:
            return
        if error is None or (isinstance(error, ModelError) and not isinstance(error, Overloaded | ConnectionFailed)):
            self._failed, self._closed_until = 0, 0.0  # it answers
        elif isinstance(error, ModelError):
            self._failed += 1
            if self._failures and self._failed >= self._failures:
                self._closed_until = self._clock() + self._pause

    def _give_back(self) -> None:
        with self._lock:
            self._under_way -= 1
            self._let_through()


class Turn:
    """One request's turn. `waited` is how many seconds it took to come; set `used` to the tokens of the reply."""

    def __init__(self, limiter: Limiter, tokens: int) -> None:
        self._limiter, self.tokens = limiter, tokens
        self.used: int | None = None
        self.waited = 0.0
        self.sent = 0.0

    async def __aenter__(self) -> Turn:
        await self._limiter.enter(self)
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._limiter.leave(self, error)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_shared: dict[tuple[str, str | None], Limiter] = {}
_shared_lock = threading.Lock()


def limiter_for(server: str, key: str | None) -> Limiter:
    """The limiter that all models of this process share for a server and a key."""
    with _shared_lock:
        return _shared.setdefault((server, key), Limiter())
