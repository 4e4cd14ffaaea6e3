"""Scripted spending: replies with a price, calls of sub-agents, attempts that break off."""

from __future__ import annotations

import asyncio
from typing import Any

from agentkit import (
    Assistant,
    Middleware,
    ModelReply,
    ModelRequest,
    RunContext,
    ScriptedModel,
    StreamBroken,
    ToolCall,
    Usage,
    tool,
)  # fmt: skip
from agentkit.messages import Spending


def priced(item: Any, tokens: int = 100, cost: float | None = 0.01) -> ModelReply:
    """A reply of 10 answer tokens: a text, a call, or a message."""
    if not isinstance(item, Assistant):
        item = Assistant(item) if isinstance(item, str) else Assistant(tool_calls=(item,))
    return ModelReply(item, Usage(1, tokens, 10), "tool_calls" if item.tool_calls else "stop", "scripted", cost)


def asking(name: str, number: int = 0) -> ToolCall:
    """A call of a sub-agent, or of a tool that takes a task."""
    return ToolCall(f"c{number}", name, '{"task": "x"}')


@tool
async def again(task: str) -> str:
    """Again."""
    await asyncio.sleep(0)
    return "once more"


def endless(number: int = 50) -> ScriptedModel:
    """A model that calls `again` for ever."""
    return ScriptedModel([priced(asking("again", n)) for n in range(number)])


def broken(output_tokens: int, cost: float, input_tokens: int = 10) -> StreamBroken:
    """The error of an attempt that spent this before it broke off."""
    error = StreamBroken("cut")
    error.estimated = Spending(Usage(0, input_tokens, output_tokens), cost)
    return error


class Twice(Middleware):
    """Asks again, and takes the second reply."""

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
        await next(request)
        reply: ModelReply = await next(request)
        return reply
