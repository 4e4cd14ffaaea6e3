"""httpx clients by event loop: made when first needed, closed with the loop or with their owner."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

__all__ = ["LoopClients"]


class LoopClients:
    """One `httpx.AsyncClient` for each event loop that asks, as connections belong to a loop.

    A forgotten `aclose` leaks nothing. When a loop ends, `asyncio.run` closes its asynchronous generators, and one of them
    closes the client in its `finally`. When the owner goes first, a finalizer has the loop close that generator.
    `trust_env` lets the environment name proxies and certificates.
    """

    def __init__(self, *, trust_env: bool = True) -> None:
        self._trust_env = trust_env
        self._held: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[httpx.AsyncClient, Any]]
        self._held = weakref.WeakKeyDictionary()

    async def current(self) -> httpx.AsyncClient:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is not None:
            return held[0]
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)
        client = httpx.AsyncClient(limits=limits, follow_redirects=False, trust_env=self._trust_env)
        ended: list[Callable[[], object]] = []
        closer = _open_until_closed(client, ended)
        self._held[loop] = client, closer
        # the finalizer holds the client from outside, so a garbage cycle with the owner in it never has the sockets in it
        finalizer = weakref.finalize(self, _close_soon, weakref.ref(loop), closer)
        finalizer.atexit = False
        ended.append(finalizer.detach)
        await closer.__anext__()
        return client

    async def aclose(self) -> None:
        """Close the client of the running loop, if there is one."""
        held = self._held.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()


async def _open_until_closed(client: httpx.AsyncClient, ended: list[Callable[[], object]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for call in ended:
            call()
        await client.aclose()


def _close_soon(loop_ref: weakref.ref[asyncio.AbstractEventLoop], closer: AsyncGenerator[None, None]) -> None:
    loop = loop_ref()
    if loop is not None and not loop.is_closed():
        loop.call_soon_threadsafe(lambda: loop.create_task(_close(closer)))


async def _close(closer: AsyncGenerator[None, None]) -> None:
    await closer.aclose()
