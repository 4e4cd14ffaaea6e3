"""One call of the client against a raw server, and the replies that it sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agentkit import ChatModel, ModelSettings, User
from agentkit.events import Delta, TextDelta
from agentkit.messages import Message
from agentkit.model import ModelRequest, ToolSpec

from .raw_server import RawServer, Step, raw_server

KEY = "key-0123456789"
CLOCK = ToolSpec("clock", "Time.", {"type": "object", "properties": {}})
HI: list[Message] = [User("hi")]


def ask(messages: list[Message] | None = None, settings: ModelSettings | None = None, **fields: Any) -> ModelRequest:
    return ModelRequest(HI if messages is None else messages, settings=settings or ModelSettings(), **fields)


def connections_of(model: ChatModel) -> Any:
    """The connections of a model that one event loop has used."""
    ((transport, _closer),) = model._transports._by_loop.values()
    return transport


class Seen(list[Delta]):
    async def add(self, delta: Delta) -> None:
        self.append(delta)

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self if isinstance(delta, TextDelta))


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def choice(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


DONE = event(b"[DONE]")
GOOD = event(choice(content="hel")) + event(choice(content="lo")) + event(choice("stop")) + DONE
WHOLE = json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode()


def replied(
    answer: Callable[[int], Sequence[Step]] | Sequence[Step],
    use: Callable[[ChatModel, Seen, RawServer], Awaitable[Any]] | None = None,
    *,
    watched: bool = True,
    keep_open: bool = False,
    **options: Any,
) -> tuple[Any, Seen, RawServer]:
    """What `use` (by default one call) gives back against a raw server."""

    async def main() -> tuple[Any, Seen, RawServer]:
        seen = Seen()
        async with raw_server(answer if callable(answer) else lambda _n: answer, keep_open=keep_open) as server:
            model = server.model(**options)
            try:
                result = await (use(model, seen, server) if use else model.reply(ask(), seen.add if watched else None))
            finally:
                await model.aclose()
        return result, seen, server

    return asyncio.run(main())
