"""A task for an async function that must end in bounded time, even if it ignores its cancellation."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["GRACE", "NoResult", "within"]

T = TypeVar("T")

GRACE = 1.0
"""Seconds that a cancelled function has to clean up. Then nobody waits for it any more, and a RuntimeWarning says so."""


class NoResult(TimeoutError):
    """A function was given up after its timeout. It may or may not have taken effect."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no result within {seconds:g} seconds")


async def within(work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """What `work` returns or raises. It runs in a task of its own, with a copy of the context variables.

    The task is cancelled when the caller is, and after `seconds`, which raises NoResult. What it returns or raises after
    that is dropped. A GeneratorExit becomes a RuntimeError.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        await _stop(task)
        raise
    if task.done():
        try:
            return task.result()
        except GeneratorExit as error:  # it would end every coroutine that awaits this, as if it had been closed
            raise RuntimeError(f"the function raised {error!r}") from error
    await _stop(task)
    raise NoResult(seconds or 0.0)


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    try:
        await asyncio.wait((task,), timeout=GRACE)
    finally:
        task.add_done_callback(_drop)
    if not task.done():
        text = f"{task.get_coro()!r:.200} goes on though it was cancelled; what it comes to is dropped"
        # in a callback: where warnings are errors, it must not take the place of the cancellation
        asyncio.get_running_loop().call_soon(warnings.warn, text, RuntimeWarning)


def _drop(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not report it as lost
