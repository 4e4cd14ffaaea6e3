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
    """Stands round model calls and tool calls. Override one method or both; call `next` to go on, as often as you like."""

    changes_requests = True
    """Whether `model_call` may change requests. An agent whose middleware never does checks its settings when it is made."""

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        """Round one model call, its retries included. `ctx` is the run's context; a run made `within=ctx` is part of it.

        A method of two arguments, `(request, next)`, gets no context.
        """
        return await next(request)

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """Round one tool call. `next` takes the call, validates its arguments and runs it; the value is not rendered yet.

        An exception counts as the tool's: the model is told, and the run goes on.
        """
        return await next(call)
