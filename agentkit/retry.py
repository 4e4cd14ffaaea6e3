"""When a failed model call is made again: a value, carried out by tenacity."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .errors import ModelError, SettingsError
from .events import Retrying
from .messages import Spent
from .model import DeltaSink, Model, ModelReply, ModelRequest, with_lost

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

__all__ = ["Retry", "RetryingModel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, and after which waits, a failed model call is made again with the same request.

    What is retried: errors that say they are `retryable` (408, 409, 425, 429, 5xx, transport, cut streams, empty replies).
    The wait is random between 0 and `first * 2 ** n` seconds, at most `longest` (full jitter); where the server asks for a
    wait, it is that one. If it asks for more than `longest_asked`, the error comes out at once, with its `retry_after`. No
    wait begins that would end after `total` seconds.
    """

    attempts: int = 5
    """Calls in all; 1 means no retry."""
    first: float = 0.5
    longest: float = 20.0
    longest_asked: float = 60.0
    total: float = 180.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        for name, low in (("attempts", 1), ("first", 0), ("longest", 0), ("longest_asked", 0), ("total", 0)):
            value, kind = getattr(self, name), int if name == "attempts" else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not value >= low:
                raise SettingsError(f"retry: {name} is {value!r}; allowed: a number of at least {low}")

    def wrap(self, model: Model) -> Model:
        """The model, with retries around each call."""
        return RetryingModel(model, self)


class RetryingModel:
    """A model whose failed calls are made again as `retry` says; watchers are told by a `Retrying` event."""

    def __init__(self, model: Model, retry: Retry) -> None:
        self.model, self.retry = model, retry

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The first reply that comes. Raises the last error when no further attempt is allowed."""
        import tenacity  # noqa: F401  not at the first failure: that may be that no file can be opened any more

        began = time.monotonic()
        try:
            return await self.model.reply(request, on_delta)  # most calls succeed, and need no machinery
        except Exception as error:
            if self.retry.attempts < 2 or not self._may_retry(error):
                raise
            failed: list[Exception] = [error]
        lost = Spent()

        async def attempt() -> ModelReply:
            nonlocal lost
            try:
                if failed:
                    raise failed.pop()
                return await self.model.reply(request, on_delta)
            except ModelError as error:
                lost = error.uncounted = lost + (error.uncounted or Spent())
                raise

        retrying = self._retrying(on_delta, self.retry.total - (time.monotonic() - began))
        reply: ModelReply = await retrying(attempt)
        return with_lost(replace(reply, waited=reply.waited + retrying.statistics.get("idle_for", 0.0)), lost)

    def _retrying(self, on_delta: DeltaSink | None, seconds: float) -> AsyncRetrying:
        import tenacity

        backoff = tenacity.wait_random_exponential(multiplier=self.retry.first, max=self.retry.longest)

        def wait(state: RetryCallState) -> float:
            asked = getattr(_failure(state), "retry_after", None)
            return backoff(state) if asked is None else float(asked)

        async def tell(state: RetryCallState) -> None:
            if on_delta:
                failed = _failure(state)
                await on_delta(Retrying(state.attempt_number, state.upcoming_sleep, f"{type(failed).__name__}: {failed}"))

        return tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.retry.attempts) | tenacity.stop_before_delay(seconds),
            wait=wait,
            retry=tenacity.retry_if_exception(self._may_retry),
            before_sleep=tell,
            sleep=self.retry.sleep,
            reraise=True,
        )

    def _may_retry(self, failed: BaseException) -> bool:
        asked = getattr(failed, "retry_after", None)
        return bool(getattr(failed, "retryable", False)) and (asked is None or asked <= self.retry.longest_asked)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
