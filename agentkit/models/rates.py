"""The parts of a limiter: token buckets, the window of requests in flight, and the circuit breaker."""

from __future__ import annotations

import errno
import math

from ..errors import ConnectionFailed, ModelError, Overloaded, SettingsError

__all__ = ["Circuit", "Rates", "Window", "check_setting"]

_QUIET = 60.0
"""Seconds without a 429 after which the window grows fast. Servers count by the minute."""
_LOCAL_ERRNOS = (errno.EMFILE, errno.ENFILE)
"""Too many open files in this process, which does not count as a failure of the server."""


class _Bucket:
    """A token bucket: refills at a constant rate, holds at most one minute's allowance.

    A request that used more than estimated puts it in debt, by at most one minute.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate, self._max = per_minute / 60, per_minute
        self._level, self._at = per_minute, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until the bucket holds the amount. An amount above the bucket's size waits for a full bucket."""
        self._level, self._at = min(self._max, self._level + (now - self._at) * self._rate), now
        return max(0.0, (min(amount, self._max) - self._level) / self._rate)

    def take(self, amount: float) -> None:
        """Take the amount out; a negative amount is put back."""
        self._level = max(-self._max, self._level - amount)


class Rates:
    """Requests and tokens per minute; None means no limit."""

    def __init__(self, requests: float | None, tokens: float | None, now: float) -> None:
        self._requests, self._tokens = (_Bucket(rate, now) if rate else None for rate in (requests, tokens))

    def wait(self, tokens: int, now: float) -> float:
        """Seconds until a request of so many tokens may be sent."""
        if self._requests is self._tokens:  # both are None, as a rule
            return 0.0
        for_requests = self._requests.wait(1, now) if self._requests else 0.0
        return max(for_requests, self._tokens.wait(tokens, now) if self._tokens else 0.0)

    def take(self, requests: int, tokens: int, now: float) -> None:
        """Take these out of the buckets; negative numbers are put back."""
        self.wait(0, now)
        if self._requests:
            self._requests.take(requests)
        if self._tokens:
            self._tokens.take(tokens)


class Window:
    """Max requests in flight, by additive increase and multiplicative decrease. `size` is None while there is no limit."""

    def __init__(self, max_size: int | None) -> None:
        self._max = float(max_size) if max_size else None
        self.size = self._max
        self._peak, self._peak_at = 0, -math.inf
        self._shrunk_at = -math.inf

    @property
    def bound(self) -> float:
        """Current max requests in flight; infinite without a limit."""
        return math.inf if self.size is None else max(1, int(self.size))

    def entered(self, in_flight: int, now: float) -> None:
        """A request was sent; `in_flight` includes it."""
        if in_flight > self._peak or now - self._peak_at > _QUIET:
            self._peak, self._peak_at = in_flight, now

    def answered(self, in_flight: int, now: float) -> None:
        """A request was answered: grow the window, unless far fewer requests are in flight than it allows."""
        if self.size is not None and self.size <= 2 * in_flight:
            grown = self.size + (1.0 if now - self._shrunk_at > _QUIET else 1 / self.size)
            self.size = grown if self._max is None else min(grown, self._max)

    def refused(self, sent: float, in_flight: int, now: float) -> None:
        """A 429: halve the window, or the last minute's peak if that is lower.

        Requests sent before the last cut do not cut again. A request that was refused while alone in flight says nothing about
        concurrency.
        """
        if sent > self._shrunk_at and in_flight > 1:
            self.size = max(1.0, min(self.size or math.inf, self._peak) / 2)
            self._shrunk_at = now


class Circuit:
    """Circuit breaker: opens for `pause` seconds after `failures` failures in a row (None: never). Then one request probes."""

    def __init__(self, failures: int | None, pause: float) -> None:
        self._max, self._pause = failures, pause
        self.failed = 0
        """Failures in a row."""
        self.open_until = -math.inf
        """-inf: the circuit is closed. After this time, it is half open until an answer comes."""

    def entered(self, now: float) -> None:
        """A request was sent. If the circuit is half open, this is the probe, and no other request is sent meanwhile."""
        if self.open_until > -math.inf:
            self.open_until = now + self._pause

    def close(self) -> None:
        """The server began to answer. The failures still count until a reply is complete."""
        self.open_until = -math.inf

    def ended(self, error: BaseException | None, *, has_answered: bool, now: float) -> None:
        """A request ended. A connection lost after the answer began does not count as a failure of the server."""
        if isinstance(error, ModelError) and getattr(error.__cause__, "errno", None) in _LOCAL_ERRNOS:
            return
        if isinstance(error, ConnectionFailed) and not error.retryable:  # the client is closed, or belongs to another loop
            return
        failures = Overloaded if has_answered else (Overloaded, ConnectionFailed)
        if error is None or (isinstance(error, ModelError) and not isinstance(error, failures)):
            self.failed = 0
            self.close()
        elif isinstance(error, ModelError):
            self.failed += 1
            if self._max and self.failed >= self._max:
                self.open_until = now + self._pause


def check_setting(name: str, value: object, *, whole: bool = False, needed: bool = False) -> None:
    """Raise SettingsError unless the setting is a number above 0, or None and not `needed`."""
    if value is None and not needed:
        return
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < math.inf:
        raise SettingsError(f"limiter: {name} is {value!r}; allowed: a {'whole ' if whole else ''}number above 0")
