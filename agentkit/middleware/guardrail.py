"""Guardrails: checks of what the user says and of what the model answers, which can stop a run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeAlias

from ..errors import SettingsError, StopRun
from ..messages import Assistant, Message, ToolCall, User, message_text
from ..model import ModelReply, ModelRequest
from ..names import reduced
from ..run.execute import render
from ..run.middleware import Middleware, NextModelCall, NextToolCall
from ..run.run import Scope
from ..tools.context import RunContext

__all__ = ["Check", "Guardrail", "guardrail"]

Check: TypeAlias = Callable[..., "str | Awaitable[str | None] | None"]
"""`check(text)` or `check(text, ctx)`: the reason to stop, in words, or None to go on. A sync check must not wait."""


class Guardrail(Middleware):
    """Stops a run whose input or answer a check refuses: the `stop_reason` is "guardrail:NAME", and there is no output.

    An "input" check gets the text of the user's newest message. It runs beside the first model call, which is cancelled when
    the check refuses; no tool has run then. An "output" check gets the text of each reply, the arguments of the final answer,
    and the result of a `final` tool, before the run ends with it. The reason is in `RunFinished.error`. An error of a check
    ends the run.
    """

    changes_requests = False

    def __init__(self, check: Check, on: Literal["input", "output"], name: str = "") -> None:
        if on not in ("input", "output") or not callable(check):
            raise SettingsError(f"Guardrail({check!r:.60}, on={on!r}); allowed: a function, and 'input' or 'output'")
        self.check, self.on = check, on
        self.name = name or getattr(check, "__name__", type(check).__name__)
        self._takes_context = len(inspect.signature(check).parameters) > 1

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled by its place in its module, if it was made there by the decorator."""
        return reduced(self, self.check) or super().__reduce_ex__(protocol)

    def __call__(self, *args: Any) -> Any:
        """Call the check itself."""
        return self.check(*args)

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        """The model call, beside the check of the input or before that of the answer."""
        if self.on == "output":
            reply = await next(request)
            if (text := _answer_in(reply.message)) is not None:
                await self._judge(text, ctx)
            return reply
        newest = _newest_user(request.messages)
        if ctx.position or newest is None:  # it was checked with the first step
            return await next(request)
        asking = asyncio.ensure_future(next(request))
        try:
            await self._judge(message_text(newest), ctx)
            return await asking
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait([asking])
            elif not asking.cancelled():
                asking.exception()  # retrieved: the check has stopped the run

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """The tool call. The result of a `final` tool, such as a hand-off, is an answer too, and is checked as one."""
        value = await next(call)
        if self.on == "output" and isinstance(ctx.scope, Scope):
            tool = ctx.scope.run.spec.tools.get(call.name)
            if tool is not None and tool.final:
                await self._judge(value if isinstance(value, str) else render(value), ctx)
        return value

    async def _judge(self, text: str, ctx: RunContext[Any]) -> None:
        why = self.check(text, ctx) if self._takes_context else self.check(text)
        if inspect.isawaitable(why):
            why = await why
        if why is not None and not isinstance(why, str):
            raise SettingsError(f"the guardrail {self.name} gave {why!r:.80}; allowed: a reason to stop, or None")
        if why is not None:
            raise StopRun(f"guardrail:{self.name}", why=why)


def guardrail(on: Literal["input", "output"], name: str = "") -> Callable[[Check], Guardrail]:
    """Decorator: `@guardrail("input")` makes a check a `Guardrail`, for `Agent(middleware=[...])`."""
    if callable(on):
        raise SettingsError(f'@guardrail without brackets at {on!r:.60}; write @guardrail("input") or @guardrail("output")')
    return lambda check: Guardrail(check, on, name)


def _answer_in(message: Assistant) -> str | None:
    """What may become the answer: the arguments of its tool, or the text, which is the answer of a run that a limit ends."""
    calls = [call.arguments for call in message.tool_calls if call.name == "final_answer"]
    return "\n".join([message.text, *calls]).strip() or None


def _newest_user(messages: Sequence[Message]) -> User | None:
    return next((message for message in reversed(messages) if isinstance(message, User)), None)
