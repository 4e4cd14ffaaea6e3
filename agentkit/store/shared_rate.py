"""A limit on model calls that all processes of a store share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import RateLimited, SettingsError
from ..model import DeltaSink, Model, ModelReply, ModelRequest
from ..models.wrapper import ModelWrapper
from ..names import check_name

if TYPE_CHECKING:
    from .sql import SqlStore

__all__ = ["SharedRate"]


class SharedRate(ModelWrapper):
    """A model that is called at most `per_minute` times a minute by all processes together.

    The processes share the limit by its `name` in the store, such as that of an API key. Up to a minute's calls may come at
    once. A call waits for its turn for at most `max_wait` seconds, and raises `RateLimited` if its turn comes later.
    """

    def __init__(self, model: Model, store: SqlStore, name: str, *, per_minute: float, max_wait: float = 120.0) -> None:
        super().__init__(model)
        check_name("name", name)
        if not per_minute > 0:
            raise SettingsError(f"per_minute is {per_minute!r}; allowed: a number above 0")
        self._store, self._name, self._interval, self._max_wait = store, name, 60.0 / per_minute, max_wait

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The model's reply, when it is this call's turn."""
        wait = await asyncio.to_thread(self._take)
        if wait > 0:
            await asyncio.sleep(wait)
        return await super().reply(request, on_delta)

    def _take(self) -> float:
        """Take one call out of the bucket. Returns the seconds until it may be made."""
        now = self._store.now
        with self._store.transaction() as db:
            (wait,) = db.execute(
                f"INSERT INTO agentkit_rates AS r (name, full_at) VALUES (?, {now} + ?)"
                f" ON CONFLICT (name) DO UPDATE SET full_at = CASE WHEN r.full_at > {now} THEN r.full_at ELSE {now} END + ?"
                f" RETURNING full_at - {now} - 60.0",
                (self._name, self._interval, self._interval),
            ).fetchone()
            if wait > self._max_wait:  # the exception rolls the transaction back, so that nothing is taken
                text = f"the shared limit {self._name!r} has no room for {wait:.0f} s; at most {self._max_wait:g} s are waited"
                raise RateLimited(text, retry_after=wait)
        return float(wait)
