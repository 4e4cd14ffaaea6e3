"""A whole run with each kind of server: a call and an answer, streamed and whole, in the form that this server sends.

The forms, in tests/data/servers.jsonl, are written by hand after what is known of the servers (docs/providers.md): none of them
can be reached from here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Retry, RunResult, tool

from .calls import DONE, choice, event
from .raw_server import http, raw_server, stream_head


@dataclass(frozen=True)
class Shape:
    """What a server sends for the call, in chunks and as a body, with what must come of it."""

    server: str
    profile: str
    chunks: Sequence[Any]
    """A text is a comment of the stream."""
    body: Any
    thinking: str
    cached: int
    counted: bool
    """Whether usage comes in a stream."""
    back: str | None
    """The field in which the thinking text goes back."""
    done: bool
    """Whether a stream ends with [DONE]."""


_LINES = (Path(__file__).parents[1] / "data" / "servers.jsonl").read_text(encoding="utf-8").splitlines()
SHAPES = {shape.server: shape for shape in (Shape(**json.loads(line)) for line in _LINES)}
ANSWER = {"choices": [{"index": 0, "message": {"content": "It is 5."}, "finish_reason": "stop"}]}


@tool
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def run(shape: Shape, *, streamed: bool) -> tuple[RunResult[str], list[dict[str, Any]]]:
    """The run's result, and the requests that came."""

    def chunks(items: Sequence[Any]) -> bytes:
        data = b"".join(f"{item}\n\n".encode() if isinstance(item, str) else event(item) for item in items)
        return stream_head() + data + (DONE if shape.done else b"")

    def answer(number: int) -> list[bytes]:
        if streamed:
            return [chunks(shape.chunks if number == 0 else [choice(content="It is 5."), choice("stop")])]
        body = shape.body if number == 0 else ANSWER
        return [http(json.dumps(body).encode())]

    async def main() -> tuple[RunResult[str], list[dict[str, Any]]]:
        async with raw_server(answer) as server:
            agent = Agent(server.model(profile=shape.profile), tools=[add], retry=Retry(attempts=1))
            if streamed:
                stream = agent.stream("What is 2 + 3?")
                async for _event in stream:
                    pass
                result = stream.result
            else:
                result = await agent.run("What is 2 + 3?")
            await agent.aclose()
            return result, [json.loads(body) for body in server.bodies]

    return asyncio.run(main())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("server", SHAPES)
def test_a_run_with_this_server(server: str, streamed: bool) -> None:
    shape = SHAPES[server]
    result, requests = run(shape, streamed=streamed)
    assert (result.output, result.stop_reason, result.usage.tool_calls) == ("It is 5.", "answer", 1)
    asked: Any = result.messages[1]
    assert (asked.reasoning, asked.text) == (shape.thinking, "")
    usage = result.usage
    if shape.counted:
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (10, 4, shape.cached), "counted once"
    replied, told = requests[1]["messages"][-2:]
    (sent,) = replied["tool_calls"]
    assert (sent["function"]["name"], json.loads(sent["function"]["arguments"])) == ("add", {"a": 2, "b": 3})
    assert told["tool_call_id"] == sent["id"] != ""
    assert (told["role"], told["content"]) == ("tool", "5")
    plain = ("reasoning_content", "reasoning")
    assert {key: replied[key] for key in replied if key in plain} == ({shape.back: shape.thinking} if shape.back else {})
    tagged = f"<think>{shape.thinking}</think>\n\n" if server == "minimax" else ""
    assert replied["content"] == tagged, "MiniMax asks for its thinking text in the content"
    details = [{"type": "reasoning.text", "text": shape.thinking}] if server == "openrouter" and streamed else None
    assert replied.get("reasoning_details") == details, "opaque fields go back"
    if server == "mistral":
        assert sent["id"] == "abcDEF123"
