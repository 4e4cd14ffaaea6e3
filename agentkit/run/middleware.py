"""Middleware wraps the model calls and tool calls of an agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from ..messages import ToolCall
from ..model import ModelReply, ModelRequest
from ..tools.context import RunContext

__all__ = ["Middleware", "NextModelCall", "NextToolCall"]

NextModelCall: TypeAlias = Callable[[ModelRequest], Awaitable[ModelReply]]
NextToolCall: TypeAlias = Callable[[ToolCall], Awaitable[Any]]


class Middleware:
    """Wraps model calls and tool calls. Override one method or both, and call `next` to go on, as often as you like."""

    changes_requests = True
    """Whether `model_call` may change requests. If no middleware does, the agent checks its settings when it is constructed."""

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        """Wrap one model call, including its retries. `ctx` is the run's context; a run made `within=ctx` is its child.

        The method may also take only `(request, next)`, without the context.
        """
        return await next(request)

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """Wrap one tool call. `next` validates the arguments of the call, runs it, and returns the value before rendering.

        An exception counts as the tool's: the model gets an error, and the run goes on.
        """
        return await next(call)
