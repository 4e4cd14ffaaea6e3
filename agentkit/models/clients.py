"""Connections by event loop: made when first needed, closed with the loop or with their owner."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

from .senders import Sender

__all__ = ["LoopClients"]


class LoopClients:
    """One sender, made by `make`, for each event loop that asks, as connections belong to a loop.

    A forgotten `aclose` leaks nothing. When a loop ends, `asyncio.run` closes its asynchronous generators, and one of them
    closes the connections in its `finally`. When the owner goes first, a finalizer has the loop close that generator.
    """

    def __init__(self, make: Callable[[], Sender]) -> None:
        self._make = make
        self._held: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Sender, Any]] = weakref.WeakKeyDictionary()

    async def current(self) -> Sender:
        """The sender of the running loop."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is not None:
            return held[0]
        sender = self._make()
        ended: list[Callable[[], object]] = []
        closer = _open_until_closed(sender, ended)
        self._held[loop] = sender, closer
        # the finalizer holds the sender from outside, so a garbage cycle with the owner in it never has the sockets in it
        finalizer = weakref.finalize(self, _close_soon, weakref.ref(loop), closer)
        finalizer.atexit = False
        ended.append(finalizer.detach)
        await closer.__anext__()
        return sender

    async def aclose(self) -> None:
        """Close the connections of the running loop, if there are any."""
        held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()


async def _open_until_closed(sender: Sender, ended: list[Callable[[], object]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for call in ended:
            call()
        await sender.aclose()


def _close_soon(loop_ref: weakref.ref[asyncio.AbstractEventLoop], closer: AsyncGenerator[None, None]) -> None:
    loop = loop_ref()
    if loop is not None and not loop.is_closed():
        loop.call_soon_threadsafe(lambda: loop.create_task(_close(closer)))


async def _close(closer: AsyncGenerator[None, None]) -> None:
    await closer.aclose()
