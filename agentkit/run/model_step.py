"""The model calls of a run: the request, the reply, and the spending."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from .._sync import Blocking, may_wait
from ..events import Delta, MessageAdded, ModelReplied, PartialOutput, Retrying, StepStarted, UsageAdded
from ..history import repaired_history, unique_ids
from ..messages import Assistant, Message, Spending, ToolCall, Usage, checked
from ..model import ModelReply, ModelRequest
from ..names import with_article
from ..redact.veil import Pieces
from ..tools.context import RunContext
from .decisions import AskModel
from .ledger import CallBudget
from .limits import prompt_estimate
from .observers import required_arguments
from .output import JsonOutput, ToolOutput
from .partial import PartialAnswer
from .run import Run, Scope

__all__ = ["Leaving", "ModelSteps"]


class Leaving(BaseException):
    """Raised instead of a retry, because the run is to be left."""


class ModelSteps:
    """The model calls of one run, one after another."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._step = _Step()
        self.asked = ""
        """What the last call asked, in words; empty if no server was asked."""

    async def ask(self, ask: AskModel) -> None:
        """Make one model call and record its reply."""
        if ask.prompt is not None:
            await self.run.record(MessageAdded(ask.prompt, ask.reason))
        state, spec = self.run.state, self.run.spec
        await self.run.emit(StepStarted(state.steps + 1))
        messages: Sequence[Message] = state.messages
        if spec.history:
            view = spec.history(messages, state.new_from)
            messages = view if view is messages else repaired_history(view)
        choice = ask.tool_choice if spec.offered else "auto"
        request = ModelRequest(messages, spec.offered, choice, spec.settings, run_id=state.run_id)
        started = time.perf_counter()
        self._step = step = _Step(partial=self._partial())
        try:
            reply = await self._reply(request)
            answer = _answer_of(reply, spec.model)
        except BaseException:
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await self._end_step(step)
            raise
        message = unique_ids(answer, set(state.call_ids)) if answer.tool_calls else answer
        seconds = time.perf_counter() - started
        counted = step.take(reply)
        self.asked = counted.asked
        counts = counted.usage, reply.finish_reason, reply.model, counted.cost, seconds, counted.waited
        await self._end_step(step, ModelReplied(message, *counts, *reply.prefix, counted.price_note))

    def _partial(self) -> PartialAnswer | None:
        output = self.run.spec.output
        if not isinstance(output, ToolOutput | JsonOutput) or not self.run.observers.want_deltas:
            return None
        return PartialAnswer(output.tool.name if output.tool else None, is_object=output.is_object)

    async def _reply(self, request: ModelRequest) -> ModelReply:
        inner: Any = self._ask
        context = self._context() if self.run.spec.middleware else None
        for layer in reversed(self.run.spec.middleware):
            inner = partial(_model_layer, layer, context, inner)
        reply: ModelReply = await inner(request)
        return reply

    def _context(self) -> RunContext[Any]:
        """The context that middleware gets. Its idempotency key names the step."""
        run = self.run
        call = ToolCall("", f"model:{run.state.steps}")
        budget = CallBudget("", run.ledger, run.depth, run.record, run.parent_budget)
        return RunContext(run.deps, run.state.run_id, call, run.state.steps, Scope(run, budget))

    async def _ask(self, request: ModelRequest) -> ModelReply:
        step = self._step
        if step.request is not None:  # a middleware sends another request: the deltas shown so far do not count
            await self.run.emit(Retrying(1, 0.0, request.reason or "a middleware sends another request"))
        step.request = request
        ledger, reservation, check_limits = self.run.ledger, None, None
        if ledger.binds:
            skip_own = self.run.state.limit is not None  # the last answer
            prompt = prompt_estimate(self.run.state, self.run.spec.price, request.messages, request.tools)
            max_tokens = request.settings.max_tokens
            reservation = await ledger.reserve(prompt, max_tokens, self.run.spec.price, skip_own=skip_own)
            check_limits = partial(ledger.check, prompt, skip_own=skip_own)
        pieces = Pieces(self.run.veil, self._show)
        is_watched = self.run.observers.want_deltas
        if check_limits or self.run.can_be_left or self.run.observers:
            before_retry, on_retry = partial(self._before_retry, check_limits), None if is_watched else self.run.emit
            request = replace(request, before_retry=before_retry, on_retry=on_retry)
        spent = Spending()
        try:
            reply = await self.run.spec.model.reply(request, on_delta=pieces.show if is_watched else None)
        except BaseException as error:
            spent = getattr(error, "estimated", None) or spent
            step.estimated.append(spent)
            raise
        else:
            if reservation is not None:
                spent = Spending(reply.usage + reply.estimated.usage, (reply.cost or 0.0) + (reply.estimated.cost or 0.0))
                reply = replace(reply, waited=reply.waited + reservation.waited)
            step.replies.append(reply)
            step.estimated.append(reply.estimated)
            await pieces.end()
        finally:
            if reservation is not None:
                ledger.settle(reservation, spent)
            if step.has_ended:  # a middleware did not wait for this request
                await self._end_step(step)
        return reply

    def _before_retry(self, check_limits: Callable[[Spending], None] | None, failed: Spending) -> None:
        """Raise if the request may not be retried. `failed` is what its failed attempts spent."""
        if self.run.is_leaving:
            raise Leaving
        if check_limits is not None:
            check_limits(failed)

    def _show(self, delta: Delta) -> Awaitable[None]:
        answer = self._step.partial.after(delta) if self._step.partial else None
        notifying = self._notify_both(delta, answer) if answer else self.run.observers.notify(delta)
        return _as_callback(notifying) if may_wait() else notifying  # `ChatModel` marks its callbacks itself

    async def _notify_both(self, delta: Delta, partial_output: PartialOutput) -> None:
        await self.run.observers.notify(delta)
        await self.run.emit(partial_output)

    async def _end_step(self, step: _Step, *replied: ModelReplied) -> None:
        """Record what the step spent: on the reply that was used, if any, and on other requests."""
        events: list[ModelReplied | UsageAdded] = [*replied]
        events += [UsageAdded("", reply.usage, reply.cost) for reply in step.replies]
        events += [
            UsageAdded("", spent.usage, spent.cost, estimated=True) for spent in step.estimated if spent.usage.total_tokens
        ]
        step.replies, step.estimated, step.has_ended = [], [], True
        parent = self.run.parent_budget
        if not self.run.ledger.has_ended:
            await self.run.journal.record_with_next(*events)
        elif parent is not None:
            for event in events:
                await parent.add(event.usage, event.cost, estimated=isinstance(event, UsageAdded) and event.estimated)


def _answer_of(reply: ModelReply, model: object) -> Assistant:
    """The message of a reply. Raises TypeError if a model or a middleware returned something else."""
    try:
        message = checked(reply.message)
        if not isinstance(message, Assistant):
            raise ValueError(with_article(type(message).__name__))
    except (ValueError, AttributeError) as error:
        raise TypeError(f"the model {model!r:.80} replied with something that is no answer: {error}") from None
    return message


@dataclass(slots=True)
class _Step:
    """One step: its requests, replies and spending."""

    request: ModelRequest | None = None
    """The last request that was sent to the model."""
    replies: list[ModelReply] = field(default_factory=list)
    """Replies of the model: several if a middleware sent several requests."""
    estimated: list[Spending] = field(default_factory=list)
    has_ended: bool = False
    partial: PartialAnswer | None = None

    def take(self, reply: ModelReply) -> ModelReply:
        """Remove and return the model's reply that the middleware's reply is based on; its counts are recorded.

        This is the reply with the same message, or else the last one. A middleware may change the message, never the counts.
        If it answered without the model, all counts are 0.
        """
        if not self.replies:
            return ModelReply(reply.message, Usage(), cost=0.0)
        last = len(self.replies) - 1
        same = (number for number in range(last, -1, -1) if self.replies[number].message is reply.message)
        return self.replies.pop(next(same, last))


async def _as_callback(notifying: Awaitable[None]) -> None:
    with Blocking():
        await notifying


async def _model_layer(layer: Any, ctx: RunContext[Any] | None, inner: Any, request: ModelRequest) -> ModelReply:
    takes_context = required_arguments(layer.model_call) > 2
    reply: ModelReply = await (layer.model_call(request, ctx, inner) if takes_context else layer.model_call(request, inner))
    return reply
