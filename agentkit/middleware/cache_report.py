"""A middleware that finds out why a server's prompt cache missed."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import Any

from ..model import ModelReply, ModelRequest, PromptPrefix
from ..run.middleware import Middleware, NextModelCall
from ..run.prefix import CacheMiss, cache_misses, change
from ..tools.context import RunContext

__all__ = ["CacheMiss", "CacheReport", "cache_misses"]

_RUNS = 100
_REQUESTS = 4
"""How many requests of a run are kept: a middleware may send others between those of two steps."""


class CacheReport(Middleware):
    """Compares each request of a run with those before it, so that `result.cache_misses` can say what changed.

        agent = Agent(..., middleware=[..., CacheReport()])

    Put it last, so that it sees the requests as they are sent. It changes none of them. What it finds is in the
    `ModelReplied` events: `sent`, `same_prefix` and `changed`; so it is stored with the run. The last requests of up to 100
    runs are kept in memory. The first request of a run that is resumed in another process is not compared.
    """

    changes_requests = False

    def __init__(self) -> None:
        self._runs: dict[str, tuple[ModelRequest, ...]] = {}
        """The last requests of each run, the newest first."""

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or a pickle, knows no requests: they are what users said."""
        return {**vars(self), "_runs": {}}

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        """Send the request, and note how much of its beginning was sent before."""
        sent = replace(request, messages=tuple(request.messages))  # the list may change while the model answers
        reply = await next(request)
        before = self._runs.get(request.run_id, ())
        self._keep(request.run_id, (sent, *before[: _REQUESTS - 1]))
        return replace(reply, prefix=_compared(before, sent))

    def _keep(self, run_id: str, requests: tuple[ModelRequest, ...]) -> None:
        self._runs.pop(run_id, None)  # so that the runs stay in the order of their last requests
        if run_id:  # else it is of no known run, and compared with nothing
            self._runs[run_id] = requests
        if len(self._runs) > _RUNS:
            self._runs.pop(next(iter(self._runs)), None)


def _compared(before: tuple[ModelRequest, ...], sent: ModelRequest) -> PromptPrefix:
    """Compare with the request that has most of the beginning in common: a server's cache may serve any of them."""
    if not before:
        return PromptPrefix(len(sent.messages))
    nearest = max(before, key=lambda request: _same(request, sent))  # of several, the newest
    same = _same(nearest, sent)
    return PromptPrefix(len(sent.messages), same, change(nearest, nearest.messages, sent, same))


def _same(before: ModelRequest, after: ModelRequest) -> int:
    """With how many messages both requests begin."""
    if after.messages[: len(before.messages)] == before.messages:  # most requests only grow, and this is the fast way
        return len(before.messages)
    pairs = zip(before.messages, after.messages, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
