"""A tool's own task: it can be given up, whatever it does with its cancellation."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["GRACE", "within"]

T = TypeVar("T")

GRACE = 1.0
"""Seconds for a cancelled function to clean up; then it is left to itself, with a RuntimeWarning."""


async def within(work: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """What `work` returns or raises; it runs in a task, with a copy of the context variables.

    It is cancelled when the caller is, or after `seconds`: then TimeoutError is raised. What it still returns or raises
    after that is dropped. Its GeneratorExit is a RuntimeError.
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
        except GeneratorExit as error:  # it would end the coroutines that await it, as if they had been closed
            raise RuntimeError(f"the function raised {error!r}") from error
    await _stop(task)
    raise TimeoutError(f"no result within {seconds:g} seconds")


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    try:
        await asyncio.wait((task,), timeout=GRACE)
    finally:
        task.add_done_callback(_drop)
    if not task.done():
        text = f"{task.get_coro()!r:.200} goes on though it was cancelled; what it comes to is dropped"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _drop(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # seen, so that asyncio does not report it
