"""Connections by event loop: they go with their loop or their owner, whichever goes first."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agentkit import ChatModel
from agentkit.testing import DeepSeekSimulator

from .calls import ask

Ways = Callable[[Coroutine[Any, Any, Any]], Any]
Loop = weakref.ref[asyncio.AbstractEventLoop]


def bare(work: Coroutine[Any, Any, Any]) -> Any:
    """As older programs do it: the loop is closed, and its asynchronous generators are not."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


async def asked(model: ChatModel) -> tuple[Loop, list[socket.socket]]:
    """The loop of a request, and what it was sent over."""
    assert (await model.reply(ask())).message.text == "here"
    transport, _closer = model._transports._by_loop[asyncio.get_running_loop()]
    sent_over = [connection._transport.get_extra_info("socket") for connection in transport._all]  # type: ignore[attr-defined]
    return weakref.ref(asyncio.get_running_loop()), sent_over


@pytest.mark.parametrize("way", [asyncio.run, bare])
def test_a_loop_that_ended_is_forgotten_though_the_model_lives_on(way: Ways) -> None:
    with DeepSeekSimulator(lambda _request: "here") as simulator, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a loop that was closed with its sockets open
        model = ChatModel(base_url=simulator.base_url)
        made = [way(asked(model)) for _ in range(3)]
        asyncio.run(asked(model))
        gc.collect()
        assert not model._transports._by_loop
        assert [loop() for loop, _sockets in made] == [None] * 3
        assert {one.fileno() for _loop, sockets in made for one in sockets} == {-1}
