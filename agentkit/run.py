"""One run: its state, who watches it, and how its decisions are done."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Any, Generic

from ._typing import OutputT
from .budget import CallBudget, Forward, Ledger, Reservation
from .copies import RunFunction
from .decisions import AskModel, Finish, RunTools
from .errors import AgentError, LimitReached
from .events import (
    ApprovalGiven,
    ApprovalRequired,
    Delta,
    Event,
    LastingEvent,
    MessageAdded,
    ModelReplied,
    Retrying,
    RunFinished,
    RunPaused,
    StepStarted,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    UsageAdded,
)
from .execute import describe_error, execute, plan
from .history import mend, unique_ids
from .limits import ahead
from .messages import Message, Spent, ToolCall, ToolResult, Usage
from .model import DeltaSink, ModelReply, ModelRequest
from .names import wire_name
from .output import TextOutput
from .prefix import CacheMiss, cache_misses, change
from .spec import AgentSpec, Observer
from .state import OpenCall, RunState
from .tool import Budget, RunContext

__all__ = ["Run", "RunResult"]

NOT_RUN = "not run: the run ended before this call"
_OF_OBSERVERS = (Exception, asyncio.CancelledError)
"""What they raise, or a second cancellation while they are told, must not hide the error that ends a run."""
GIVEN_UP = "outcome unknown: the run ended while this call was running; it may or may not have taken effect"


@dataclass(frozen=True, slots=True)
class RunResult(Generic[OutputT]):
    """What a run came to.

    `output` is the answer; when the run ended without one (a limit, a pause, a cancellation) it is None, or the text so
    far where a text was asked for. `state` has everything else, and can be stored and resumed.
    """

    output: OutputT
    state: RunState

    @property
    def stop_reason(self) -> str:
        """Why the run ended: "answer", "limit:<which>", "pending_approval", "cancelled" or "error"."""
        return "pending_approval" if self.state.pending else self.state.stop_reason or "unfinished"

    @property
    def messages(self) -> list[Message]:
        """The whole transcript; pass it to the next run as `messages=` to go on with the conversation."""
        return list(self.state.messages)

    @property
    def new_messages(self) -> list[Message]:
        """What this run added to the messages that it was given."""
        return self.state.messages[self.state.new_from :]

    @property
    def usage(self) -> Usage:
        """Tokens, cache hits and calls of the whole run; for a step, see the `ModelReplied` events."""
        return self.state.usage

    @property
    def cost(self) -> float | None:
        """US dollars by the price table, an estimate; None where a price is not known."""
        return self.state.cost

    @property
    def uncounted(self) -> Usage:
        """What the server did not count, by estimate, and which is not in `usage` and `cost`: replies that broke off, and
        those of a server that counts nothing. Limits hold it as well."""
        return self.state.uncounted

    @property
    def waited(self) -> float:
        """Seconds that model calls waited for their turn at the server (see `Limiter`), between retries, or for room beside
        other calls under a limit that they share."""
        return self.state.waited

    @property
    def steps(self) -> int:
        """How many model calls were answered."""
        return self.state.steps

    @property
    def cache_misses(self) -> list[CacheMiss]:
        """The steps whose prompt the server's cache did not serve as far as it was sent before, and why."""
        return cache_misses(self.state.events)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.state.run_id

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The calls that wait for an approval; answer them with `agent.resume(result.state, approvals={id: True})`."""
        return self.state.pending

    @property
    def events(self) -> list[LastingEvent]:
        """The lasting events: the run itself."""
        return list(self.state.events)


class Run:
    """One run under way. `record` is the only way in which its state changes."""

    def __init__(
        self,
        spec: AgentSpec,
        state: RunState,
        deps: Any = None,
        observers: Iterable[Observer] = (),
        outer: Budget | None = None,
    ) -> None:
        self.depth = outer.depth + 1 if outer else 0
        if outer and spec.limits.depth is not None and self.depth > spec.limits.depth:
            raise AgentError(f"agents run inside agents {self.depth} deep; Limits(depth={spec.limits.depth}) allows no more")
        self.spec, self.state, self.deps = spec, state, deps
        self._outer = outer
        self._ledger = Ledger(spec.limits, state, spec.kind, outer.ledger if outer else None)
        self._observers = (*observers, *((Forward(outer),) if outer else ()))
        self._watchers = tuple(o for o in self._observers if getattr(o, "deltas", True))
        self._turn = asyncio.Lock()
        self._sent: Sequence[Message] | int = state.sent_whole
        """The messages of the last request; of one that had the whole transcript, how many it had."""
        self._last: ModelRequest | None = None
        self._step = _Step()
        self._untold: deque[LastingEvent] = deque()

    async def record(self, *events: LastingEvent) -> None:
        """Take lasting events into the state, then tell the observers; each is told of all events in the state's order."""
        for event in events:
            self.state.apply(event)
        if not self._observers:
            return
        self._untold.extend(events)
        async with self._turn:  # who is cancelled while waiting here leaves the event to the next
            raised: BaseException | None = None
            while self._untold:
                try:
                    await self._tell(self._observers, self._untold.popleft())
                except _OF_OBSERVERS as error:
                    raised = raised or error
            if raised is not None:
                raise raised

    async def emit(self, event: Event) -> None:
        """Tell the watchers of a passing event."""
        await self._tell(self._watchers, event)

    async def _tell(self, observers: Iterable[Observer], event: Event, *, in_reply: bool = False) -> None:
        """Tell all of them, whatever one of them or a cancellation does to the others; then raise the first error."""
        raised: BaseException | None = None
        for observer in observers:
            try:
                waiting = observer(event)
                if waiting is not None:
                    await waiting
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task and task.cancelling():
                    raised = raised or error
                else:  # its own, which would pass for the run's
                    self._drop(observer)
                    raised = raised or RuntimeError(f"the observer {observer!r:.80} was cancelled, and the run was not")
            except Exception as error:  # noqa: BLE001
                self._drop(observer)
                raised = raised or error
        if raised is not None:
            if not in_reply or not isinstance(raised, Exception):
                raise raised
            self._step.watchers_error = raised
            raise _OfWatcher from raised

    def _drop(self, observer: Observer) -> None:
        """It missed an event, so it is told of no later one."""
        self._observers = tuple(o for o in self._observers if o is not observer)
        self._watchers = tuple(o for o in self._watchers if o is not observer)

    async def ask_model(self, ask: AskModel) -> None:
        """One model call, and its reply into the state."""
        if ask.prompt is not None:
            await self._close_calls()
            await self.record(MessageAdded(ask.prompt, ask.reason))
        state, spec = self.state, self.spec
        if self._watchers:
            await self.emit(StepStarted(state.steps + 1))
        messages: Sequence[Message] = state.messages
        if spec.history:
            view = spec.history(messages, state.new_from)
            messages = view if view is messages else mend(view)
        request = ModelRequest(messages, spec.offered, ask.tool_choice if spec.offered else "auto", spec.settings)
        started = time.perf_counter()
        self._step = step = _Step()
        try:
            reply = await self._reply(request)
        except BaseException:
            with contextlib.suppress(*_OF_OBSERVERS):
                await self._end_step(step)
            raise
        message = unique_ids(reply.message, set(state.call_ids)) if reply.message.tool_calls else reply.message
        seconds = time.perf_counter() - started
        counts = reply.usage, reply.finish_reason, reply.model, reply.cost, seconds, reply.waited
        await self._end_step(step, reply, ModelReplied(message, *counts, *self._compared()))

    def _compared(self) -> tuple[int, int, str]:
        """How many messages the model was sent, how many at their beginning are those of the request before, what changed."""
        request, last, before = self._step.asked, self._last, self._sent
        if request is None:  # a middleware has answered itself
            return 0, 0, ""
        messages = request.messages
        whole = messages is self.state.messages  # it only grows
        self._last, self._sent = request, len(messages) if whole else tuple(messages)
        if isinstance(before, int) and whole:
            known: Sequence[Message] = ()
            same, all_before = before, before
        else:
            known = self.state.messages[:before] if isinstance(before, int) else before
            pairs = zip(known, messages, strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1] or pair[0] == pair[1], pairs))
            all_before = len(known)
        if last is None or (same == all_before and _same_head(last, request)):
            return len(messages), same, ""
        return len(messages), same, change(last, known, request, same)

    async def _reply(self, request: ModelRequest) -> ModelReply:
        inner: Any = self._ask
        for layer in reversed(self.spec.middleware):
            inner = partial(_model_layer, layer, inner)
        reply: ModelReply = await inner(request)
        return reply

    async def _ask(self, request: ModelRequest) -> ModelReply:
        step = self._step
        if step.asked is not None and self._watchers:  # a middleware asks again: what was shown does not count
            await self.emit(Retrying(1, 0.0, "a middleware sends another request"))
        step.asked = request
        place = await self._reserve(request) if self._ledger.binds else None
        watch: DeltaSink | None = self._show if self._watchers else None
        if place is not None:
            watch = watch and place.showing(watch)
            request = replace(request, again=partial(self._check_again, request))
        spent = Spent()
        try:
            reply = await self.spec.model.reply(request, on_delta=watch)
            if place is not None:
                spent = Spent(reply.usage + reply.uncounted.usage, (reply.cost or 0.0) + (reply.uncounted.cost or 0.0))
        except BaseException as error:
            spent = getattr(error, "uncounted", None) or spent
            step.uncounted.append(spent)
            if step.watchers_error is not None:  # whatever the model made of it
                raise step.watchers_error from None
            raise
        else:
            step.replies.append(reply)
            step.uncounted.append(reply.uncounted)
            if step.watchers_error is not None:
                raise step.watchers_error
        finally:
            if place is not None:
                self._ledger.end(place, spent)
                step.places.append(place)
            if step.has_ended:  # a middleware has left the request to itself
                await self._end_step(step)
        return replace(reply, waited=reply.waited + place.waited) if place and place.waited else reply

    def _ahead(self, request: ModelRequest) -> Spent:
        return ahead(self.state, self.spec.price, request.messages, request.tools)

    def _reserve(self, request: ModelRequest) -> Awaitable[Reservation]:
        past_own = self.state.limit is not None  # the last answer
        return self._ledger.reserve(self._ahead(request), request.settings.max_tokens, self.spec.price, past_own=past_own)

    def _check_again(self, request: ModelRequest, lost: Spent) -> None:
        self._ledger.check(self._ahead(request), lost, past_own=self.state.limit is not None)

    async def _end_step(self, step: _Step, taken: ModelReply | None = None, *replied: ModelReplied) -> None:
        """Write down what the step spent: the reply that was taken, if one was, and what was spent beside it."""
        replies, uncounted = step.replies, step.uncounted
        if taken is not None:
            replies = _not_in(taken, replies)
            if not any(taken.uncounted is spent for spent in uncounted):  # a middleware got it elsewhere
                uncounted = [*uncounted, taken.uncounted]
        events: list[ModelReplied | UsageAdded] = [*replied]
        events += [UsageAdded("", reply.usage, reply.cost) for reply in replies]
        events += [UsageAdded("", spent.usage, spent.cost, estimated=True) for spent in uncounted if spent.usage.total_tokens]
        if self._ledger.binds:
            self._ledger.count([Spent(event.usage, event.cost) for event in events], step.places)
        step.replies, step.uncounted, step.places, step.has_ended = [], [], [], True
        if not self._ledger.has_ended:
            await self.record(*events)
        elif self._outer is not None:
            for event in events:
                await self._outer.add(event.usage, event.cost, estimated=isinstance(event, UsageAdded) and event.estimated)

    def _show(self, delta: Delta) -> Awaitable[None]:
        return self._tell(self._watchers, delta, in_reply=True)

    async def run_tools(self, todo: RunTools) -> None:
        """Answer the calls, as many at once as `plan` allows."""
        if todo.refusal is not None:
            for call in todo.calls:
                await self._answer(call, todo.refusal)
            return
        for stage in plan(todo.calls, self.spec.tools):
            if len(stage) == 1:
                await self._run_chain(stage[0])
                continue
            turns = asyncio.Semaphore(self.spec.limits.calls_at_once or len(stage))
            try:
                async with asyncio.TaskGroup() as together:
                    for chain in stage:
                        together.create_task(self._run_chain(chain, turns))
            except BaseExceptionGroup as failed:  # an observer's error comes out as it is, however many calls there are
                raise failed.exceptions[0] from None

    async def _run_chain(self, chain: list[OpenCall], turns: asyncio.Semaphore | None = None) -> None:
        for call in chain:
            async with turns or contextlib.nullcontext():
                await self.run_tool(call)

    async def run_tool(self, open_call: OpenCall) -> None:
        """One tool call: started, executed, finished."""
        call, state = open_call.call, self.state
        tool = self.spec.tools.get(call.name)
        if tool and tool.retries is not None and state.failures.get(call.name, 0) > tool.retries:
            failed = state.failures[call.name]
            await self._answer(open_call, f"not run: {wire_name(call.name)} failed {failed} times in a row; go on without it")
            return
        await self.record(ToolStarted(call, open_call.position))
        told: list[asyncio.Task[None]] = []
        report = RunFunction(self._reporter(call, told)) if self._watchers else None
        budget = CallBudget(call.id, self._ledger, self.depth, self.record, self._outer)
        ctx = RunContext(self.deps, state.run_id, call, open_call.position, report, budget)
        started = time.perf_counter()
        outcome = await execute(call, ctx, self.spec)
        seconds = time.perf_counter() - started
        result = outcome.result
        if open_call.edited:  # the model reads its own arguments in the history, not these
            told_first = f"[run with other arguments, given with the approval: {call.arguments}]"
            result = replace(result, content=f"{told_first}\n{result.content}")
        try:
            if told:
                await asyncio.gather(*told)
        finally:  # the call has had its effect, whatever a watcher makes of its progress
            await self.record(ToolFinished(call, result, seconds, outcome.error, outcome.repairs, outcome.whole))
        budget.check()

    def _reporter(self, call: ToolCall, told: list[asyncio.Task[None]]) -> Any:
        """A function that any thread may call to report progress."""
        loop, home = asyncio.get_running_loop(), threading.get_ident()

        def tell(data: Any) -> None:
            if not any(open_call.call.id == call.id for open_call in self.state.open_calls):
                return  # from a thread that outlived its call
            told.append(loop.create_task(self.emit(ToolProgress(call, data))))

        def report(data: Any) -> None:
            if threading.get_ident() == home:  # at once, so that it comes before the end of the call
                tell(data)
            else:
                loop.call_soon_threadsafe(tell, data)

        return report

    async def _answer(self, open_call: OpenCall, text: str) -> None:
        call = open_call.call
        result = ToolResult(call.id, call.name, f"error: {text}", is_error=True)
        await self.record(ToolFinished(call, result, error=text))

    async def ask_approval(self, calls: tuple[ToolCall, ...]) -> bool:
        """Ask `approve` about each call. False when there is nobody to ask."""
        for call in calls:
            await self.emit(ApprovalRequired(call, f"{call.name} needs an approval"))
        if self.spec.approve is None:
            return False
        for call in calls:
            answer = await self.spec.threads.run(partial(self.spec.approve, call))  # it may wait for a person
            approved = await answer if isinstance(answer, Awaitable) else answer
            await self.record(ApprovalGiven(call.id, bool(approved)))
        return True

    async def pause(self, calls: tuple[ToolCall, ...]) -> RunResult[Any]:
        """Stop here until the approvals are given to `agent.resume`."""
        result: RunResult[Any] = RunResult(None, self.state)
        await self.record(RunPaused(calls, result))
        return result

    async def finish(self, finish: Finish) -> RunResult[Any]:
        """End the run: answer what is open, and give the result, or raise what was asked to be raised."""
        await self._close_calls()
        output = self._text_so_far() if finish.output is None and finish.stop_reason != "answer" else finish.output
        result: RunResult[Any] = RunResult(output, self.state)
        error: AgentError | None = finish.error
        if error is None and finish.stop_reason.startswith("limit:") and self.spec.limits.on_limit == "raise":
            error = LimitReached(finish.stop_reason)
        await self.record(RunFinished(finish.stop_reason, str(error) if error else None, result))
        if error is not None:
            raise error
        return result

    def _text_so_far(self) -> str | None:
        reply = self.state.last_reply
        return reply.text if reply and isinstance(self.spec.output, TextOutput) else None

    async def abandon(self, stop_reason: str, error: BaseException) -> None:
        """Leave a whole state behind when a run is cancelled or fails; the error gets it as `.state`."""
        if isinstance(error, AgentError):
            error.state = self.state
        if self.state.stop_reason is not None:
            return
        for call in self.state.open_calls:
            with contextlib.suppress(*_OF_OBSERVERS):
                await self._close(call)
        text = None if stop_reason == "cancelled" else describe_error(error)
        with contextlib.suppress(*_OF_OBSERVERS):
            await self.record(RunFinished(stop_reason, text, RunResult(self._text_so_far(), self.state)))

    async def _close_calls(self) -> None:
        for call in self.state.open_calls:
            await self._close(call)

    async def _close(self, call: OpenCall) -> None:
        await self._answer(call, GIVEN_UP if call.started else NOT_RUN)


class _OfWatcher(BaseException):
    """A watcher failed at a piece of a reply: no error of the model, which retries or another model could mend."""


def _not_in(taken: ModelReply, replies: list[ModelReply]) -> list[ModelReply]:
    """The replies that the usage of the one that a middleware gave back does not count; it may be of one of them, or a sum."""
    usage, rest = taken.usage, [*replies]
    same = [place for place, reply in enumerate(replies) if reply.usage is usage]
    if same:  # the last one, as a model may have one object for all of its replies
        del rest[same[-1]]
        return rest
    own = [reply for reply in rest if reply.message is taken.message]
    missing: list[ModelReply] = []
    for reply in (*own, *(reply for reply in reversed(rest) if reply not in own)):
        left = usage - reply.usage
        if usage.covers(reply.usage) and (left.requests > 0 or not left.total_tokens or reply in own):
            usage = left
        elif reply not in own:  # whose counts a middleware has put right
            missing.insert(0, reply)
    return missing


@dataclass(slots=True)
class _Step:
    """A step under way."""

    asked: ModelRequest | None = None
    """What the model was sent last."""
    replies: list[ModelReply] = field(default_factory=list)
    """What it answered: more than once where a middleware asks again."""
    uncounted: list[Spent] = field(default_factory=list)
    places: list[Reservation] = field(default_factory=list)
    watchers_error: Exception | None = None
    has_ended: bool = False


def _same_head(a: ModelRequest, b: ModelRequest) -> bool:
    return a.tools is b.tools and a.settings is b.settings and a.tool_choice == b.tool_choice


async def _model_layer(layer: Any, inner: Any, request: ModelRequest) -> ModelReply:
    reply: ModelReply = await layer.model_call(request, inner)
    return reply
