"""Connections by event loop: made when first needed, closed with the loop or with their owner."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TypeAlias

from .http.senders import Sender

__all__ = ["LoopClients"]

_Held: TypeAlias = dict[asyncio.AbstractEventLoop, tuple[Sender, AsyncGenerator[None, None]]]


class LoopClients:
    """One sender, made by `make`, for each event loop that asks, as connections belong to a loop.

    A forgotten `aclose` leaks nothing. When a loop ends, `asyncio.run` closes its asynchronous generators, and one of them
    closes the connections in its `finally`. When the owner goes first, a finalizer has the loop close that generator. A loop
    that was closed without either is forgotten when the next one asks.
    """

    def __init__(self, make: Callable[[], Sender]) -> None:
        self._make = make
        self._held: _Held = {}
        # the finalizer holds the senders from outside, so a garbage cycle with the owner in it never has the sockets in it
        weakref.finalize(self, _close_soon, self._held).atexit = False

    async def current(self) -> Sender:
        """The sender of the running loop."""
        loop, held = asyncio.get_running_loop(), self._held
        if loop not in held:
            for closed in [one for one in list(held) if one.is_closed()]:
                held.pop(closed, None)
            sender = self._make()
            closer = _open_until_closed(sender, loop, held)
            held[loop] = sender, closer
            await closer.__anext__()
        return held[loop][0]

    async def aclose(self) -> None:
        """Close the connections of the running loop, if there are any."""
        held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()


async def _open_until_closed(sender: Sender, loop: asyncio.AbstractEventLoop, held: _Held) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        held.pop(loop, None)
        await sender.aclose()


def _close_soon(held: _Held) -> None:
    for loop, (_sender, closer) in list(held.items()):
        with suppress(RuntimeError):  # it is closed, and has no use for a task
            loop.call_soon_threadsafe(_start_close, loop, closer)


def _start_close(loop: asyncio.AbstractEventLoop, closer: AsyncGenerator[None, None]) -> None:
    loop.create_task(_close(closer))


async def _close(closer: AsyncGenerator[None, None]) -> None:
    await closer.aclose()
