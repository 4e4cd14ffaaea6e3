"""Middleware that finds out why a server's prompt cache missed."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import Any

from ..model import ModelReply, ModelRequest, PromptPrefix
from ..run.middleware import Middleware, NextModelCall
from ..run.prefix import CacheMiss, cache_misses, change
from ..tools.context import RunContext

__all__ = ["CacheMiss", "CacheReport", "cache_misses"]

_MAX_RUNS = 100
_MAX_REQUESTS = 4
"""Requests that are kept of a run. More than one: a middleware may send others between those of two steps."""


class CacheReport(Middleware):
    """Compares each request of a run with earlier ones, so that `result.cache_misses` can say what changed.

        agent = Agent(..., middleware=[..., CacheReport()])

    Put it last, so that it sees the requests as they are sent. It changes no request. It sets `sent`, `same_prefix` and
    `changed` of the `ModelReplied` events, so its findings are stored with the run. The last requests of up to 100 runs are
    kept in memory. After a resume in another process, the first request of the run is not compared.
    """

    changes_requests = False

    def __init__(self) -> None:
        self._runs: dict[str, tuple[ModelRequest, ...]] = {}
        """The last requests of each run, the newest first."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the requests out of copies and pickles: they contain what users wrote."""
        return {**vars(self), "_runs": {}}

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        """Send the request, and record how much of its beginning was sent before."""
        sent = replace(request, messages=tuple(request.messages))  # the list may change while the model answers
        reply = await next(request)
        before = self._runs.get(request.run_id, ())
        self._keep(request.run_id, (sent, *before[: _MAX_REQUESTS - 1]))
        return replace(reply, prefix=_compared(before, sent))

    def _keep(self, run_id: str, requests: tuple[ModelRequest, ...]) -> None:
        self._runs.pop(run_id, None)  # keeps the runs in the order of their last requests
        if run_id:  # without an id, the run is unknown
            self._runs[run_id] = requests
        if len(self._runs) > _MAX_RUNS:
            self._runs.pop(next(iter(self._runs)), None)


def _compared(before: tuple[ModelRequest, ...], sent: ModelRequest) -> PromptPrefix:
    """Compare with the request that has the longest common beginning: a server's cache may serve any of them."""
    if not before:
        return PromptPrefix(len(sent.messages))
    nearest = max(before, key=lambda request: _same(request, sent))  # the newest, if several are equal
    same = _same(nearest, sent)
    return PromptPrefix(len(sent.messages), same, change(nearest, nearest.messages, sent, same))


def _same(before: ModelRequest, after: ModelRequest) -> int:
    """The number of messages that both requests begin with."""
    if after.messages[: len(before.messages)] == before.messages:  # the fast path: most requests only grow
        return len(before.messages)
    pairs = zip(before.messages, after.messages, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
