"""Runs an async function in bounded time, even if it ignores its cancellation."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["GRACE", "NoResult", "run_with_timeout"]

T = TypeVar("T")

GRACE = 1.0
"""Seconds that a cancelled function has for its cleanup. After that it is abandoned, with a RuntimeWarning."""


class NoResult(TimeoutError):
    """A function did not end within its timeout. It may or may not have taken effect."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no result within {seconds:g} seconds")


async def run_with_timeout(work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """Run `work` in a task of its own, with a copy of the context variables, and return its value.

    The task is cancelled if the caller is, and after `seconds`; then NoResult is raised. Whatever the task returns or raises
    after its cancellation is dropped. A GeneratorExit becomes a RuntimeError.
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
        except GeneratorExit as error:  # it would end every awaiting coroutine, as if that had been closed
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
        text = f"{task.get_coro()!r:.200} goes on though it was cancelled; its result is dropped"
        # in a callback: if warnings are errors, it must not replace the cancellation
        asyncio.get_running_loop().call_soon(warnings.warn, text, RuntimeWarning)


def _drop(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not warn that it was never retrieved
