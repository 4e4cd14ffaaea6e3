"""The agent: users construct it, then run, stream and resume runs."""

from __future__ import annotations

import copy
import inspect
import os
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Generic, Unpack, cast, overload

from . import _sync as portal
from ._agent_parts import (
    AgentParts,
    RunOptions,
    check_options,
    check_parts,
    check_price,
    check_settings,
    known_state,
    model_of,
    owner,
    several,
    spec_of,
    tool_names,
)
from ._typing import OutputT
from .errors import LogFailed, ModelRetry, SettingsError, Suspended
from .events import LastingEvent, RunResumed, RunStarted
from .history import History, repaired_history
from .messages import Assistant, Message, System, ToolResult, User, checked, plain_text
from .model import Model, ModelSettings, close, info_of
from .models.rate_limit import as_run
from .models.retry import Retry
from .policy import Policy
from .run.approvals import Approvals, answers
from .run.fingerprint import digest, fingerprint_of
from .run.limits import Limits
from .run.loop import drive
from .run.middleware import Middleware
from .run.observers import Observer
from .run.result import RunResult
from .run.run import Attachments, Run, Scope
from .run.spec import Approve
from .run.state import RunState
from .run.stream import RunStream, SyncRunStream
from .tools.registry import ToolLike, as_tools
from .tools.tool import AnyTool, RunContext, tool

__all__ = ["Agent", "AgentParts", "RunOptions"]


_OWN = ("_parts", "model", "deps_type", "spec", "fingerprint")


class Agent(Generic[OutputT]):
    """A model, tools and instructions. It can be run any number of times, also concurrently.

    `model` is a model's name (its server and key come from the environment), a `ChatModel`, or any `Model`. `tools` are tools,
    functions or registries. `output_type` is `str` or any type that pydantic can validate. `tool_choice` is "auto", "none",
    "required" or a tool's name; a forced choice becomes "auto" after the first call. `output_retries` is how often an invalid
    answer is sent back to the model. `approve` is asked about calls that need an approval; without it, the run pauses.
    `history` is a view of long transcripts, such as `KeepTurns(20)`. `middleware` wraps model calls and tool calls, the first
    one outermost. `policy` judges each call before it runs. `observers` get the events of all runs. `name` is recorded in the
    events. `clock` gives their time, in seconds since 1970. `retry=None` disables retries. Raises `ToolDefinitionError` or
    `SettingsError` for parts that cannot work.
    """

    @overload
    def __init__(self: Agent[str], model: str | Model | None = None, **parts: Unpack[AgentParts]) -> None: ...
    @overload
    def __init__(
        self, model: str | Model | None = None, *, output_type: type[OutputT], **parts: Unpack[AgentParts]
    ) -> None: ...
    @overload
    def __init__(
        self: Agent[Any], model: str | Model | None = None, *, output_type: Any, **parts: Unpack[AgentParts]
    ) -> None: ...
    def __init__(
        self,
        model: str | Model | None = None,
        *,
        instructions: str = "",
        tools: ToolLike = (),
        output_type: Any = str,
        tool_choice: str = "auto",
        settings: ModelSettings | None = None,
        limits: Limits | None = None,
        retry: Retry | None = Retry(),  # noqa: B008  a frozen value
        approve: Approve | None = None,
        history: History | None = None,
        middleware: Iterable[Middleware] = (),
        output_retries: int = 2,
        deps_type: type[Any] | None = None,
        name: str = "",
        policy: Policy | Iterable[Policy] = (),
        observers: Iterable[Observer] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        tools = tuple(as_tools(tools))  # read once: it may be a generator
        middleware, observers, policy = several(middleware), several(observers), several(policy, Policy)
        self._parts = {name: value for name, value in locals().items() if name != "self"}
        check_parts(self._parts)
        self.model: Model = model_of(model)
        self.deps_type = deps_type
        info = info_of(self.model)
        check_price(info, limits)
        self.spec = spec_of(self.model, info, self._parts)
        check_settings(info, self.spec)

    def copy(self, **changes: Any) -> Agent[OutputT]:
        """A copy of the agent with some constructor arguments changed: `agent.copy(model=ScriptedModel([...]))`."""
        unknown = sorted({*changes} - {*self._parts})
        if unknown:
            raise SettingsError(f"an agent has no {', '.join(unknown)}; it has: {', '.join(self._parts)}")
        return Agent(**{**self._parts, **changes})

    def __deepcopy__(self, memo: dict[int, Any]) -> Agent[OutputT]:
        """A copy of the agent with its own copy of the model, and the same tools and functions."""
        shared = {name for name, part in self._parts.items() if name == "output_type" or inspect.isroutine(part)}
        parts = {name: part if name in shared else copy.deepcopy(part, memo) for name, part in self._all_parts.items()}
        return _made_of(type(self), parts, copy.deepcopy(self._more, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the agent by its parts, which must be picklable."""
        return _made_of, (type(self), self._all_parts, self._more)

    @property
    def _all_parts(self) -> dict[str, Any]:
        return {**self._parts, "model": self.model}

    @property
    def _more(self) -> dict[str, Any]:
        """The attributes that a subclass has added."""
        return {name: value for name, value in vars(self).items() if name not in _OWN}

    def __repr__(self) -> str:
        return f"Agent({self.model!r}, tools=[{', '.join(tool_names(self.spec.tools))}])"

    async def run(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> RunResult[OutputT]:
        """Run to the end and return the result.

        `prompt` is the user's new message. `messages` is the conversation so far, such as the last result's `.messages`. It is
        repaired where a server would refuse it, and its system message is replaced by this agent's instructions. `deps` is
        what tools get as `ctx.deps`. `observers` get every event. `run_id` names the run (default: a new id).

        `within` is the context of a tool that makes this run, and the tool's run becomes the parent. Spending counts in the
        parent too, and the parent's policies and limits on tokens and cost apply. The parent's observers get the events, and
        its `approve` is asked if this agent has none. Without a `run_id`, the run is named after the call and the prompt.

        `log` stores each event before anything that depends on it happens. When `leave.is_set()`, the calls in flight end, and
        the run is left: nothing more is recorded, the `stop_reason` is "left", and `resume` can continue the run.

        A run that ends at a limit or pauses for an approval returns a result with a `stop_reason`. Raises a `ModelError` if the
        model cannot be reached or refuses, `OutputInvalid`, `LogFailed`, and `LimitReached` with
        `Limits(on_limit="raise")`; each has the state so far. A cancelled task raises CancelledError as usual.
        """
        return await self._drive(RunState(), [self._begin(prompt, options)], options)

    def run_sync(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> RunResult[OutputT]:
        """`run` for sync code: scripts, threads, Jupyter cells, after a fork. Ctrl-C cancels the run."""
        return portal.run(self.run(prompt, **options))

    def stream(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> RunStream[OutputT]:
        """An asynchronous iterator over the events of a run. It takes the arguments of `run`."""
        begin = self._begin(prompt, options)
        return RunStream(lambda watcher: self._drive(RunState(), [begin], options, watcher))

    def stream_sync(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> SyncRunStream[OutputT]:
        """`stream` for sync code: an iterator with `.result`, `.close()` and `with`. A `break` cancels the run."""
        return SyncRunStream(self.stream(prompt, **options))

    async def resume(
        self,
        state: RunState | dict[str, Any] | None = None,
        approvals: Approvals | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Continue a run that was paused, cancelled, left or interrupted, from its state, the state's JSON data, or its `log`.

        `approvals` answers pending calls by id: True, False, `{"deny": "why"}` to refuse a call with a reason for the model,
        or `{"args": {...}}` to run it with other arguments. The dicts may name who answered, under `"by"`. The calls run as
        `result.pending` showed them. In one process an approval counts once: a second resume of the same state with it is
        refused. A call that was started and not finished runs again only if its tool is `read_only` or `idempotent`. The given
        state is not changed.

        Raises `SettingsError` for an answer of an unknown form, and for a call that does not wait or that the model did not
        make. It also raises it if the `log` and the state have different events.
        """
        check_options(options, self.deps_type)
        if options.get("messages"):
            raise SettingsError("messages cannot be given to a run that goes on; its transcript is in its state")
        known = await known_state(state, options.get("log"))
        given = answers(approvals or {}, known, self.spec.tools)
        return await self._drive(known, [self._resumed(known), *given], options)

    def resume_sync(
        self,
        state: RunState | dict[str, Any] | None = None,
        approvals: Approvals | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """`resume` for sync code."""
        return portal.run(self.resume(state, approvals, **options))

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """A digest of each part that a run depends on: `instructions`, `tools`, `output`, `model` and `settings`."""
        return fingerprint_of(self.spec)

    def as_tool(self, name: str, description: str, **options: Any) -> AnyTool:
        """This agent as a tool of another. The tool takes a `task` and returns the output; `options` are those of `@tool`.

        Each call is a child run of the run that calls it, with the same `deps` (see `within` of `run`). If the child pauses for
        an approval, the parent pauses too: the call is in `result.pending`, with an id made of both calls' ids. If the child
        ends without an answer, the model that called the tool gets an error with the last text.
        """

        async def run_agent(ctx: RunContext[Any], task: str) -> Any:
            result = await self._run_inside(task, ctx)
            if result.stop_reason == "answer" or _is_last_answer(result):
                return result.output
            text = f"; its last words: {result.output}" if isinstance(result.output, str) and result.output else ""
            raise ModelRetry(f"the agent {name} gave no answer: {result.stop_reason}{text}")

        vars(run_agent)["is_run"] = True
        return tool(run_agent, name=name, description=description, **options)

    async def _run_inside(self, task: str, ctx: RunContext[Any]) -> RunResult[OutputT]:
        """Start the child run of the call, or continue it. Raises `Suspended` if the child run pauses or is left."""
        scope = _scope(ctx)
        inner = scope.inner if scope else None
        options = RunOptions(deps=ctx.deps, within=ctx, log=inner.log if inner else None)
        try:
            known = await inner.state() if inner else RunState()
            if inner and known.events:
                first: list[LastingEvent] = [self._resumed(known), *inner.answers]
            else:
                options["run_id"] = inner.run_id if inner else None
                first = [self._begin(task, options)]
            result = await self._drive(known, first, options, leaves_with_parent=True)
        except LogFailed as error:
            if scope:
                await scope.run.journal.fail_with(error)
            raise
        if result.pending or result.stop_reason == "left":
            raise Suspended(
                result.run_id, result.pending, () if inner and inner.log else tuple(result.state.to_json()["events"])
            )
        return result

    def _resumed(self, known: RunState) -> RunResumed:
        return RunResumed(self.spec.name, self.fingerprint, owner(), known.attempts + 1)

    async def aclose(self) -> None:
        """Close the model's connections of this event loop. If it is not called, they are closed when the loop ends."""
        await close(self.model)

    async def __aenter__(self) -> Agent[OutputT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _begin(self, prompt: str | None, options: RunOptions) -> RunStarted:
        check_options(options, self.deps_type)
        if prompt is not None and not isinstance(prompt, str):
            raise SettingsError(f"the prompt is a {type(prompt).__name__}; allowed: text (messages= takes messages)")
        given = options.get("messages") or ()
        try:
            history = repaired_history([checked(message) for message in given])
        except (ValueError, TypeError) as error:
            raise SettingsError(f"messages: {error}") from None
        if prompt is None and not history:
            raise SettingsError("there is nothing to say: give a prompt, or messages")
        if self.spec.instructions:
            rest = history[1:] if history and isinstance(history[0], System) else history
            history = [System(self.spec.instructions), *rest]
        new: list[Message] = [] if prompt is None else [User(plain_text(prompt))]
        run_id = options.get("run_id") or self._id_within(options.get("within"), prompt or "") or os.urandom(16).hex()
        return RunStarted(run_id, (*history, *new), len(history), self.spec.name, self.fingerprint, owner())

    def _id_within(self, within: RunContext[Any] | None, prompt: str) -> str | None:
        """A run id made of the calling tool call, the agent and the prompt. It is the same after a crash."""
        if within is None or not within.run_id:
            return None
        key = f"{within.idempotency_key}.{digest(self.spec.name + chr(0) + prompt)[:8]}"
        scope = _scope(within)
        before = scope.budget.next_run(key) if scope else 0
        return f"{key}.{before}" if before else key

    async def _drive(
        self,
        state: RunState,
        first: Iterable[LastingEvent],
        options: RunOptions,
        watcher: Observer | None = None,
        *,
        leaves_with_parent: bool = False,
    ) -> RunResult[OutputT]:
        observers = (*(options.get("observers") or ()), *((watcher,) if watcher else ()))
        first = tuple(first)
        run_id = first[0].run_id if isinstance(first[0], RunStarted) else state.run_id
        attached = Attachments(
            deps=options.get("deps"),
            observers=observers,
            log=options.get("log"),
            leave=options.get("leave"),
            scope=_scope(options.get("within")),
            leaves_with_parent=leaves_with_parent,
        )
        with as_run():
            return cast("RunResult[OutputT]", await drive(Run(self.spec, state, run_id, attached), first))


def _made_of(kind: type[Agent[Any]], parts: dict[str, Any], more: dict[str, Any]) -> Agent[Any]:
    made = kind.__new__(kind)
    Agent.__init__(made, **parts)
    vars(made).update(more)
    return made


def _scope(ctx: RunContext[Any] | None) -> Scope | None:
    return cast("Scope | None", getattr(ctx, "scope", None))


def _is_last_answer(result: RunResult[Any]) -> bool:
    """Whether the output is the last answer that the model was asked for at a limit, and not an earlier text."""
    state, last = result.state, result.state.messages[-1]
    answered = isinstance(last, Assistant) or (isinstance(last, ToolResult) and not isinstance(result.output, str))
    return answered and bool(result.output) and result.stop_reason == state.limit and state.finish_reason != "length"
