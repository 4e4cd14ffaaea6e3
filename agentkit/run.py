"""One run: its state, who watches it, and how its decisions are done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from .budget import CallBudget, Forward, Ledger, Reservation
from .copies import RunFunction
from .decisions import AskModel, Finish, RunTools
from .errors import AgentError, LimitReached, ToolArgumentsInvalid
from .events import (
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
from .execute import arguments_of, describe_error, execute, own_chain, plan
from .history import mend, unique_ids
from .limits import ahead
from .messages import Assistant, Message, Spent, ToolCall, ToolResult, checked
from .model import DeltaSink, ModelReply, ModelRequest
from .names import wire_name
from .output import TextOutput
from .progress import Progress
from .result import RunResult
from .schema import Arguments
from .spec import AgentSpec, Observer
from .state import OpenCall, RunState
from .threads import Threads
from .tool import Budget, RunContext
from .veil import Pieces, Veil

__all__ = ["OBSERVER_GRACE", "Run", "beyond"]

log = logging.getLogger("agentkit")

NOT_RUN = "not run: the run ended before this call"
USED = "not run: the approval of this call was used already"
OBSERVER_GRACE = 5.0
"""Seconds that the observers of a cancelled run have for what is left."""
_OF_OBSERVERS = (Exception, asyncio.CancelledError)
"""What they raise, or a second cancellation while they are told, must not hide the error that ends a run."""
GIVEN_UP = "outcome unknown: the run ended while this call was running; it may or may not have taken effect"


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
        self.spec, self.state, self.deps, self._outer = spec, state, deps, outer
        self._veil = Veil(spec.model)
        self._ledger = Ledger(spec.limits, state, spec.kind, outer.ledger if outer else None)
        self._observers = (*observers, *((Forward(outer),) if outer else ()))
        self._watchers = tuple(o for o in self._observers if getattr(o, "deltas", True))
        self._own_thread, self.threads = Threads(), Threads()
        self._turn = asyncio.Lock()
        self._step = _Step()
        self._untold: deque[LastingEvent] = deque()
        self._observers_end: float | None = None
        """When the observers of a cancelled run must have taken in what is left, by the clock of the event loop."""
        self.parsed: dict[str, Arguments | ToolArgumentsInvalid] = {}
        """The arguments of judged calls, by call id: what was decided on is what runs."""

    async def record(self, *events: LastingEvent) -> None:
        """Take lasting events into the state, then tell the observers; each is told of all events in the state's order."""
        events = tuple(map(self._veil.over, events))
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
        await self._tell(self._watchers, self._veil.over(event))

    async def _tell(self, observers: Iterable[Observer], event: Event, *, in_reply: bool = False) -> None:
        """Tell all of them, whatever one of them or a cancellation does to the others; then raise the first error."""
        raised: BaseException | None = None
        for observer in observers:
            try:
                waiting = observer(event)
                if waiting is not None:
                    lasts = isinstance(event, LastingEvent) and getattr(observer, "shielded", True)
                    await (self._finished(waiting, observer) if lasts else waiting)
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

    async def _finished(self, waiting: Awaitable[None], observer: Observer) -> None:
        """Wait for an observer to take a lasting event in, also when the run is cancelled meanwhile.

        An observer that writes events down then has each of them. One that is not done `OBSERVER_GRACE` after the cancellation
        is told of no other event, and a warning says so.
        """
        task, loop = asyncio.ensure_future(waiting), asyncio.get_running_loop()
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            left = None if self._observers_end is None else self._observers_end - loop.time()
            if left is not None and left <= 0:
                task.cancel()
                self._drop(observer)
                log.warning("the observer %.80r did not take an event in within %g s and lost it", observer, OBSERVER_GRACE)
                break
            try:
                await asyncio.wait((task,), timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
                self._observers_end = self._observers_end or loop.time() + OBSERVER_GRACE
        if cancelled is None and task.done():
            return task.result()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        if cancelled is not None:
            raise cancelled
        return None

    def _drop(self, observer: Observer) -> None:
        """It missed an event, so it is told of no later one."""
        self._observers = tuple(o for o in self._observers if o is not observer)
        self._watchers = tuple(o for o in self._watchers if o is not observer)

    async def ask_model(self, ask: AskModel) -> None:
        """One model call, and its reply into the state."""
        if ask.prompt is not None:
            await self.record(MessageAdded(ask.prompt, ask.reason))
        state, spec = self.state, self.spec
        if self._watchers:
            await self.emit(StepStarted(state.steps + 1))
        messages: Sequence[Message] = state.messages
        if spec.history:
            view = spec.history(messages, state.new_from)
            messages = view if view is messages else mend(view)
        choice = ask.tool_choice if spec.offered else "auto"
        request = ModelRequest(messages, spec.offered, choice, spec.settings, run_id=state.run_id)
        started = time.perf_counter()
        self._step = step = _Step()
        try:
            reply = await self._reply(request)
            said = _answer_of(reply, spec.model)
        except BaseException:
            with contextlib.suppress(*_OF_OBSERVERS):
                await self._end_step(step)
            raise
        message = unique_ids(said, set(state.call_ids)) if said.tool_calls else said
        seconds = time.perf_counter() - started
        counts = reply.usage, reply.finish_reason, reply.model, reply.cost, seconds, reply.waited
        await self._end_step(step, reply, ModelReplied(message, *counts, *reply.prefix, reply.price_note))

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
        pieces = Pieces(self._veil, self._show)
        watch: DeltaSink | None = pieces.show if self._watchers else None
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
            with contextlib.suppress(_OfWatcher):
                await pieces.end()
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
                await self._answer(call, todo.refusal, todo.refused)
            return
        for stage in plan(todo.calls, self.spec.tools):
            if len(stage) == 1:
                await self._run_chain(stage[0], self._own_thread)
                continue
            own = own_chain(stage, self.spec.tools)
            turns = asyncio.Semaphore(self.spec.limits.calls_at_once or len(stage))
            try:
                async with asyncio.TaskGroup() as together:
                    for chain in stage:
                        threads = self._own_thread if chain is own else self.threads
                        together.create_task(self._run_chain(chain, threads, turns))
            except BaseExceptionGroup as failed:  # an observer's error comes out as it is, however many calls there are
                raise failed.exceptions[0] from None

    async def _run_chain(self, chain: list[OpenCall], threads: Threads, turns: asyncio.Semaphore | None = None) -> None:
        for call in chain:
            async with turns or contextlib.nullcontext():
                await self.run_tool(call, threads)

    async def run_tool(self, open_call: OpenCall, threads: Threads) -> None:
        """One tool call: started, executed, finished."""
        call, state = open_call.call, self.state
        tool = self.spec.tools.get(call.name)
        if tool and tool.retries is not None and state.failures.get(call.name, 0) > tool.retries:
            failed = state.failures[call.name]
            text = f"not run: {wire_name(call.name)} failed {failed} times in a row; go on without it"
            await self._answer(open_call, text, "failed")
            return
        if open_call.approved and tool and not tool.may_repeat and not tool.claims.take((state.run_id, call.id)):
            await self._answer(open_call, USED, "denied")
            return
        arguments = self.parsed.pop(call.id, None) or (await arguments_of(call, tool, threads) if tool else None)
        if tool and isinstance(arguments, Arguments) and arguments.repairs:
            call = replace(call, arguments=tool.as_it_runs(arguments))
        await self.record(ToolStarted(call, open_call.position))
        progress = Progress(partial(self._report, call)) if self._watchers else None
        report = RunFunction(progress.report) if progress else None
        budget = CallBudget(call.id, self._ledger, self.depth, self.record, self._outer)
        ctx = RunContext(self.deps, state.run_id, call, open_call.position, report, budget)
        started = time.perf_counter()
        try:
            outcome = await execute(call, ctx, self.spec, threads, arguments)
        except BaseException:
            if progress:
                progress.drop()
            raise
        seconds = time.perf_counter() - started
        result = outcome.result
        if outcome.crashed:
            log.warning("the tool %s failed in run %s (call %s)\n%s", call.name, state.run_id, call.id, outcome.error)
        if open_call.edited:  # the model reads its own arguments in the history, not these
            told_first = f"[run with other arguments, given with the approval: {call.arguments}]"
            result = replace(result, content=f"{told_first}\n{result.content}")
        try:
            if progress:
                await progress.end()
        finally:  # the call has had its effect, whatever a watcher makes of its progress
            await self.record(ToolFinished(call, result, seconds, outcome.error, outcome.repairs, outcome.whole))
        budget.check()

    async def _report(self, call: ToolCall, data: Any, replaced: int) -> None:
        await self.emit(ToolProgress(call, data, replaced))

    async def _answer(self, open_call: OpenCall, text: str, refused: str) -> None:
        call = open_call.call
        result = ToolResult(call.id, call.name, f"error: {text}", is_error=True)
        await self.record(ToolFinished(call, result, error=text, refused=refused))

    def end_threads(self) -> None:
        """End the run's threads: the idle ones now, the others when their function has returned."""
        self._own_thread.close()
        self.threads.close()

    async def pause(self, calls: tuple[ToolCall, ...]) -> RunResult[Any]:
        """Stop here until the approvals are given to `agent.resume`."""
        result: RunResult[Any] = RunResult(None, self.state)
        await self.record(RunPaused(calls, result))
        return result

    async def finish(self, finish: Finish) -> RunResult[Any]:
        """End the run: answer what is open, and give the result, or raise what was asked to be raised."""
        await self._close_calls(finish.stop_reason if finish.stop_reason.startswith("limit:") else "ended")
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
        if isinstance(error, asyncio.CancelledError):
            self._observers_end = self._observers_end or asyncio.get_running_loop().time() + OBSERVER_GRACE
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

    async def _close_calls(self, refused: str) -> None:
        for call in self.state.open_calls:
            await self._close(call, refused)

    async def _close(self, call: OpenCall, refused: str = "ended") -> None:
        never = beyond(refused) if refused.startswith("limit:") else NOT_RUN
        await self._answer(call, GIVEN_UP if call.started else never, refused)


def _answer_of(reply: ModelReply, model: object) -> Assistant:
    """The message of a reply. Raises TypeError where a model, or a middleware, gives something else."""
    try:
        message = checked(reply.message)
        if not isinstance(message, Assistant):
            raise ValueError(f"a {type(message).__name__}")
    except (ValueError, AttributeError) as error:
        raise TypeError(f"the model {model!r:.80} replied with something that is no answer: {error}") from None
    return message


def beyond(limit: str) -> str:
    """What the model is told of a call that a limit, by its stop reason, does not let run."""
    return f"not run: the run has reached its limit of {limit.removeprefix('limit:').replace('_', ' ')}"


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


async def _model_layer(layer: Any, inner: Any, request: ModelRequest) -> ModelReply:
    reply: ModelReply = await layer.model_call(request, inner)
    return reply
