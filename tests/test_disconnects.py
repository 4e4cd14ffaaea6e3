"""Clients that leave a web app in the middle of an answer: a real server, real connections, and the run behind them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from agentkit import Agent, Assistant, ModelReply, ModelRequest, RunFinished, TextDelta, tool
from agentkit.testing import call
from agentkit.web import sse

EXAMPLE = Path(__file__).parent.parent / "examples" / "05_fastapi_app.py"


class Slow:
    """A model that may say something, then takes its time, and then calls the tool `pay`."""

    def __init__(self, said: str) -> None:
        self.said, self.go_on, self.asked, self.cancelled = said, asyncio.Event(), threading.Event(), threading.Event()

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        try:
            if self.said:
                await on_delta(TextDelta(self.said))
            self.asked.set()
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return ModelReply(Assistant("", tool_calls=(call("pay"),)))


class Shop:
    """An agent with a slow model, and what became of its run."""

    def __init__(self, said: str) -> None:
        self.model, self.paid, self.ended = Slow(said), list[str](), threading.Event()
        self.stop_reasons: list[str] = []

        @tool
        async def pay() -> str:
            """Pay."""
            self.paid.append("paid")
            return "paid"

        self.agent = Agent(self.model, tools=[pay])

    def watch(self, event: Any) -> None:
        if isinstance(event, RunFinished):
            self.stop_reasons.append(event.stop_reason)
            self.ended.set()

    def stream(self) -> Any:
        return self.agent.stream("Pay", observers=[self.watch])


def with_block(shop: Shop) -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def texts() -> AsyncIterator[str]:
            async with shop.stream() as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        yield event.text

        return StreamingResponse(texts())

    return app


def generator_expression(shop: Shop) -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(event.text async for event in shop.stream() if isinstance(event, TextDelta))

    return app


def held_by_the_app(shop: Shop) -> FastAPI:
    """The stream stays referenced, so nothing is collected."""
    app, held = FastAPI(), list[Any]()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        held.append(shop.stream())
        return StreamingResponse(event.text async for event in held[0] if isinstance(event, TextDelta))

    return app


def looked_at_first(shop: Shop) -> FastAPI:
    """The handler's own task takes the first event; another one goes on."""
    app = FastAPI()

    @app.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        events = shop.stream()
        await anext(events)
        return StreamingResponse(event.text async for event in events if isinstance(event, TextDelta))

    return app


def behind_a_middleware(shop: Shop) -> FastAPI:
    """Starlette's middleware passes the response on through tasks of its own."""
    app = with_block(shop)

    @app.middleware("http")
    async def timed(request: Request, handle: Any) -> Any:
        response = await handle(request)
        response.headers["x-served"] = "yes"
        return response

    return app


def as_sse(shop: Shop) -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(sse(shop.stream()), media_type="text/event-stream")

    return app


def as_text(shop: Shop) -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(shop.agent.stream_text("Pay", observers=[shop.watch]))

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[tuple[str, int]]:
    """The app on a port of the system's choice."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


@contextmanager
def client(address: tuple[str, int], path: str, until: bytes) -> Iterator[None]:
    """A client that asks for the path, reads until it has seen so much, and leaves."""
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        seen = b""
        while until not in seen:
            piece = connection.recv(4096)
            assert piece, seen
            seen += piece
        yield


APPS = [with_block, generator_expression, held_by_the_app, looked_at_first, behind_a_middleware, as_sse, as_text]


@pytest.mark.parametrize("said", ["I pay.", ""])
@pytest.mark.parametrize(
    "make_app", [with_block, generator_expression, held_by_the_app, looked_at_first, behind_a_middleware, as_sse, as_text]
)
def test_a_client_that_leaves_ends_the_run(make_app: Callable[[Shop], FastAPI], said: str) -> None:
    shop = Shop(said)
    with served(make_app(shop)) as address:
        with client(address, "/stream", said.encode() or b"\r\n\r\n"):
            assert shop.model.asked.wait(10)
        assert shop.model.cancelled.wait(10)
        assert shop.ended.wait(10)
    assert (shop.stop_reasons, shop.paid) == (["cancelled"], [])


def test_a_client_of_the_example_that_leaves_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", "test")
    spec = util.spec_from_file_location("example_05", EXAMPLE)
    assert spec and spec.loader
    module: Any = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shop = Shop("I pay.")
    module.agent = shop.agent
    with served(module.app) as address:
        with client(address, "/stream?question=Pay", b"I pay."):
            ...
        assert shop.model.cancelled.wait(10)
    assert shop.paid == []
