"""Faults of streams that need a watcher of their own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from agentkit import Agent
from agentkit.events import TextDelta
from tests.models.raw_server import Step, raw_server, stream_head

from .conftest import Fault
from .rows import events
from .sse_rows import HELLO, PARTS, STOP

pytestmark = pytest.mark.faults


def test_one_event_per_tcp_segment(fault: Fault) -> None:
    """The server goes on only when the watcher has seen what came so far."""
    fault("sse one_event_per_tcp_segment")
    seen: list[str] = []

    def gated(_number: int) -> Iterator[Step]:
        yield stream_head()
        for count, part in enumerate(PARTS, 1):
            yield events(part)
            for _ in range(1000):
                if len(seen) >= count:
                    break
                yield 0.005
            assert len(seen) == count
        yield events(STOP, b"[DONE]")

    async def main() -> Any:
        async with raw_server(gated) as server:
            model = server.model()
            stream = Agent(model).stream("hi")
            async for event in stream:
                if isinstance(event, TextDelta):
                    seen.append(event.text)  # noqa: PERF401  the server looks at it
            await model.aclose()
            return stream.result

    assert asyncio.run(main()).output == "hello there" and seen == ["hel", "lo", " there"]


def test_consumer_stops_early(fault: Fault) -> None:
    fault("sse consumer_stops_early")

    async def main() -> None:
        async with raw_server(lambda _number: [stream_head() + events(PARTS[0]), inf]) as server:
            model = server.model()
            before = asyncio.all_tasks()
            async with Agent(model).stream("hi") as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        break
            assert stream.result.stop_reason == "cancelled"
            assert asyncio.all_tasks() - before <= {task for task in asyncio.all_tasks() if "serve" in repr(task)}
            async with asyncio.timeout(30):
                await server.left.wait()  # the connection is closed with the stream, not with the model
            await model.aclose()

    asyncio.run(main())
    gc.collect()  # an open socket would be a ResourceWarning, which fails the test


def test_slow_consumer(fault: Fault) -> None:
    """A watcher that does not come holds the server back: what it has not taken is bounded."""
    fault("sse slow_consumer")
    sent = 0

    def much(_number: int) -> Iterator[Step]:
        nonlocal sent
        yield stream_head()
        for _ in range(64):
            sent += 1
            yield events(PARTS[0]) * 12_000  # about a mebibyte
        yield events(*HELLO[1:])

    async def main() -> None:
        async with raw_server(much) as server:
            model = server.model()
            stream = Agent(model).stream("hi")
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
            level = -1
            while level != sent:  # until nothing more gets through
                level = sent
                await asyncio.sleep(0.3)
            await stream.aclose()
            await model.aclose()
        assert sent < 48

    asyncio.run(main())
