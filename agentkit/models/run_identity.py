"""Which run a request is part of, for the limiter's fairness between runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["as_run", "current_run"]

_run: ContextVar[object] = ContextVar("agentkit_run", default=None)


def current_run() -> object:
    """Identifies the outermost run that this code is part of; None outside of runs."""
    return _run.get()


@contextlib.contextmanager
def as_run() -> Iterator[None]:
    """The code inside counts as one run for the limiter, unless it is already part of a run."""
    if _run.get() is not None:
        yield
        return
    token = _run.set(object())
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the garbage collector may close a coroutine in another context
            _run.reset(token)
