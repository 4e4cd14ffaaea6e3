"""Retries of failed model calls: a policy value, executed by tenacity."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .._dataclass import frozen_dataclass
from ..errors import CircuitOpen, ModelError, SettingsError, kind_of
from ..events import Retrying
from ..model import DeltaSink, FailedAttempts, Model, ModelInfo, ModelReply, ModelRequest, info_of
from .wrapper import ModelWrapper

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

__all__ = ["Retry", "RetryingModel", "is_transient"]

log = logging.getLogger("agentkit")

_MAX_UNSENT = 20
"""Max errors of one call, raised before anything was sent, that do not count as attempts."""


def is_transient(error: ModelError) -> bool:
    """Whether the same request may succeed later: the error says that it is `retryable`."""
    return error.retryable


@frozen_dataclass(kw_only=True)
class Retry:
    """How often, and after which waits, a failed model call is retried with the same request.

    `when` decides by the error. By default these are retried: 408, 409, 425, 429, 5xx, transport errors, cut streams and empty
    replies. The wait is random between 0 and `first * 2 ** n` seconds, at most `longest` (full jitter). If the server asks for
    a wait, that one is used; if it is longer than `longest_asked`, the error is raised at once, with its `retry_after`. No wait
    begins that would end more than `total` seconds after the first failure; time in the limiter's queue does not count. A
    `CircuitOpen` does not count as an attempt, since nothing was sent.
    """

    attempts: int = 5
    """Calls in all; 1 means no retry."""
    first: float = 0.5
    """Max seconds of the first wait. It doubles with each further attempt, up to `longest`."""
    longest: float = 20.0
    longest_asked: float = 60.0
    total: float = 180.0
    when: Callable[[ModelError], bool] = is_transient
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits for this many seconds; a test may give its own."""

    def __post_init__(self) -> None:
        for name, low in (("attempts", 1), ("first", 0), ("longest", 0), ("longest_asked", 0), ("total", 0)):
            value, kind = getattr(self, name), int if name == "attempts" else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not value >= low:
                raise SettingsError(f"retry: {name} is {value!r}; allowed: a number of at least {low}")
        if not callable(self.when):
            raise SettingsError(f"retry: when is {self.when!r}; allowed: a function of a ModelError")

    def wrap(self, model: Model) -> Model:
        """The model with retries of each call. A model that makes its own retries, such as `Fallback`, stays unchanged."""
        return model if info_of(model).makes_retries else RetryingModel(model, self)

    def may_retry(self, error: BaseException) -> bool:
        """Whether a call that failed with this error is retried, if attempts are left."""
        if not isinstance(error, ModelError) or not self.when(error):
            return False
        return error.retry_after is None or error.retry_after <= self.longest_asked


class RetryingModel(ModelWrapper):
    """A model whose failed calls are retried as `retry` says. Observers get a `Retrying` event before each retry."""

    def __init__(self, model: Model, retry: Retry) -> None:
        super().__init__(model)
        self.retry = retry

    @property
    def info(self) -> ModelInfo:
        """The wrapped model's info, with `makes_retries`, so that an agent adds no retries of its own."""
        return replace(super().info, makes_retries=True)

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The reply of the first attempt that succeeds. Raises the last error when no further attempt is allowed."""
        import tenacity  # noqa: F401  before the first failure, which may be that no more files can be opened

        try:
            return await self.model.reply(request, on_delta)  # most calls succeed, and need no machinery
        except Exception as error:
            if self.retry.attempts < 2 or not self.retry.may_retry(error):
                raise
            return await _Attempts(self, error, on_delta, on_delta or request.on_retry).reply(request)


class _Attempts:
    """The attempts after the first failure of a call."""

    def __init__(
        self,
        owner: RetryingModel,
        error: Exception,
        on_delta: DeltaSink | None,
        on_retry: Callable[[Retrying], Awaitable[None]] | None,
    ) -> None:
        self._model, self._retry, self._on_delta, self._on_retry = owner.model, owner.retry, on_delta, on_retry
        self._first_error: Exception | None = error
        self._failed_attempts = FailedAttempts()
        self._unsent = 0
        self._began = time.monotonic() - getattr(error, "waited", 0.0)

    async def reply(self, request: ModelRequest) -> ModelReply:
        retrying = self._retrying()
        try:
            reply: ModelReply = await retrying(self._attempt, request)
        except BaseException as error:
            self._failed_attempts.waited += _slept(retrying)
            self._failed_attempts.attach_to(error)
            raise
        self._failed_attempts.waited += _slept(retrying)
        return self._failed_attempts.add_to(reply)

    async def _attempt(self, request: ModelRequest) -> ModelReply:
        try:
            if self._first_error:
                first, self._first_error = self._first_error, None
                raise first
            return await self._model.reply(request, self._on_delta)
        except BaseException as error:
            self._failed_attempts.add(error)
            if isinstance(error, CircuitOpen) and self._unsent < _MAX_UNSENT:
                self._unsent += 1
            if isinstance(error, ModelError) and request.before_retry:
                request.before_retry(self._failed_attempts.spent)
            raise

    def _retrying(self) -> AsyncRetrying:
        import tenacity

        retry = self._retry
        backoff = tenacity.wait_random_exponential(multiplier=retry.first, max=retry.longest)

        def wait(state: RetryCallState) -> float:
            asked = getattr(_failure(state), "retry_after", None)
            return backoff(state) if asked is None else float(asked)

        def stop(state: RetryCallState) -> bool:
            elapsed = time.monotonic() - self._began - self._failed_attempts.waited
            return state.attempt_number - self._unsent >= retry.attempts or elapsed + state.upcoming_sleep > retry.total

        async def on_retry(state: RetryCallState) -> None:
            error = _failure(state)
            attempt, seconds = state.attempt_number, state.upcoming_sleep
            text = f"{type(error).__name__}: {error}"
            log.info("attempt %d failed, the next one is in %.1f s: %s", attempt, seconds, kind_of(error))
            if self._on_retry:
                await self._on_retry(Retrying(attempt, seconds, text))

        return tenacity.AsyncRetrying(
            stop=stop,
            wait=wait,
            retry=tenacity.retry_if_exception(retry.may_retry),
            before_sleep=on_retry,
            sleep=retry.sleep,
            reraise=True,
        )


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _slept(retrying: AsyncRetrying) -> float:
    return float(retrying.statistics.get("idle_for", 0.0))
