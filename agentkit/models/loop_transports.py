"""One transport per event loop: opened on first use, closed with the loop or with the owner."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TypeAlias

from .http.transports import Transport

__all__ = ["LoopTransports"]

_ByLoop: TypeAlias = dict[asyncio.AbstractEventLoop, tuple[Transport, AsyncGenerator[None, None]]]


class LoopTransports:
    """One transport, made by `make`, for each event loop: connections belong to a loop.

    A forgotten `aclose` leaks nothing. `asyncio.run` closes the asynchronous generators of its loop when it ends, and one of
    them closes the connections in its `finally`. If the owner is collected first, a finalizer schedules the closing of that
    generator. A loop that was closed in another way is dropped on the next call of `current`.
    """

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._by_loop: _ByLoop = {}
        # The finalizer references the transports, so a garbage cycle that contains the owner never contains the sockets.
        weakref.finalize(self, _close_soon, self._by_loop).atexit = False

    async def current(self) -> Transport:
        """The transport of the running loop."""
        loop, by_loop = asyncio.get_running_loop(), self._by_loop
        if loop not in by_loop:
            for closed in [known for known in list(by_loop) if known.is_closed()]:
                by_loop.pop(closed, None)
            transport = self._make()
            closer = _open_until_closed(transport, loop, by_loop)
            by_loop[loop] = transport, closer
            await closer.__anext__()
        return by_loop[loop][0]

    async def aclose(self) -> None:
        """Close the connections of the running loop, if there are any."""
        by_loop = self._by_loop.pop(asyncio.get_running_loop(), None)
        if by_loop is not None:
            await by_loop[1].aclose()


async def _open_until_closed(
    transport: Transport, loop: asyncio.AbstractEventLoop, by_loop: _ByLoop
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        by_loop.pop(loop, None)
        await transport.aclose()


def _close_soon(by_loop: _ByLoop) -> None:
    for loop, (_transport, closer) in list(by_loop.items()):
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_start_close, loop, closer)


def _start_close(loop: asyncio.AbstractEventLoop, closer: AsyncGenerator[None, None]) -> None:
    loop.create_task(_close(closer))


async def _close(closer: AsyncGenerator[None, None]) -> None:
    await closer.aclose()
