"""The agent: what people make, run, stream and resume."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import NoneType
from typing import Any, Generic, TypedDict, Unpack, cast, overload
from uuid import uuid4

from . import portal
from ._typing import OutputT
from .approvals import Approvals, answers
from .errors import ModelRetry, SettingsError, ToolDefinitionError
from .events import LastingEvent, RunResumed, RunStarted
from .history import History, mend
from .limits import Limits
from .loop import drive
from .messages import Assistant, Message, System, ToolResult, User, checked, plain_text
from .middleware import Middleware
from .model import Model, ModelInfo, ModelRequest, ModelSettings, close, info_of
from .output import Output, output_of
from .result import RunResult
from .retry import Retry
from .run import Run
from .spec import AgentSpec, Approve, Observer
from .state import RunState
from .stream import RunStream, SyncRunStream
from .tool import AnyTool, RunContext, ToolLike, ToolRegistry, as_tools, tool
from .underway import as_run

__all__ = ["Agent", "AgentParts", "RunOptions"]


class RunOptions(TypedDict, total=False):
    """What one run is given; the meaning stands at `Agent.run`."""

    messages: Sequence[Message] | None
    deps: Any
    observers: Sequence[Observer]
    run_id: str | None
    within: RunContext[Any] | None


class AgentParts(TypedDict, total=False):
    """What an agent is made of, beside its model and its output type; the meaning stands at `Agent`."""

    instructions: str
    tools: ToolLike
    tool_choice: str
    settings: ModelSettings | None
    limits: Limits | None
    retry: Retry | None
    approve: Approve | None
    history: History | None
    middleware: Iterable[Middleware]
    output_retries: int
    deps_type: type[Any] | None


_KINDS: dict[str, tuple[Any, ...]] = {
    "instructions": (str,),
    "tool_choice": (str,),
    "settings": (ModelSettings, NoneType),
    "limits": (Limits, NoneType),
    "retry": (Retry, NoneType),
    "approve": (Callable, NoneType),
    "history": (Callable, NoneType),
    "middleware": (tuple,),
    "output_retries": (int,),
    "deps_type": (type, NoneType),
}


def _format_of(output: Output) -> dict[str, Any]:
    return {"response_format": output.response_format} if output.response_format else {}


def _check_parts(parts: Mapping[str, Any]) -> None:
    for name, kinds in _KINDS.items():
        if not isinstance(parts[name], kinds):
            allowed = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            raise SettingsError(f"{name} is {parts[name]!r:.80}; allowed: {allowed}")
    for layer in parts["middleware"]:
        if not isinstance(layer, Middleware):
            raise SettingsError(f"middleware holds {layer!r:.80}; allowed: objects of subclasses of Middleware")


def _model_of(model: object) -> Model:
    """The model of a name, or the model itself."""
    if model is None or isinstance(model, str):
        from .models.chat import ChatModel

        return ChatModel(model)
    if isinstance(model, type) or not hasattr(model, "reply"):
        raise SettingsError(f"model is a {type(model).__name__}; allowed: a model's name, or a Model with `reply`")
    return cast("Model", model)


def _check_settings(info: ModelInfo, spec: AgentSpec) -> None:
    """Raise `SettingsError` for what the model would refuse, unless a middleware may still change the request."""
    if not any(layer.changes_requests for layer in spec.middleware):
        info.check(ModelRequest((), spec.offered, spec.tool_choice, spec.settings))


def _check_price(info: ModelInfo, limits: Limits | None) -> None:
    """Raise `SettingsError` for a limit on money if a model costs money, but nobody knows how much."""
    if limits and limits.cost is not None and info.unpriced:
        raise SettingsError(
            f"limits: cost is set, but the price of {info.unpriced[0]} is not known; give it with "
            "ChatModel(price=(in, out)), US dollars per million tokens, see docs/deepseek.md"
        )


class Agent(Generic[OutputT]):
    """A model, tools and instructions, ready to be run any number of times, also at the same time.

    `model` is a model's name (its server and key come from the environment), a `ChatModel`, or any `Model`. `tools` are
    tools, functions or registries. `output_type` is `str` or any type that pydantic can validate. `tool_choice` is "auto",
    "none", "required" or a tool's name; a forced choice goes back to "auto" after the first call. `output_retries` is how
    often a wrong answer is sent back. `approve` is asked about calls that need an approval; without it the run pauses.
    `history` is a view of long transcripts such as `KeepTurns(20)`. `middleware` stands round model and tool calls, the
    first outermost. `retry=None` makes no retries. Raises `ToolDefinitionError` or `SettingsError` for parts that cannot work.
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
    ) -> None:
        tools = tuple(as_tools(tools))  # once, as it may be a generator
        middleware = tuple(middleware) if isinstance(middleware, Iterable) else middleware
        self._parts = {name: value for name, value in locals().items() if name != "self"}
        _check_parts(self._parts)
        self.model: Model = _model_of(model)
        self.deps_type = deps_type
        info = info_of(self.model)
        _check_price(info, limits)
        output = output_of(output_type, info.output_mode)
        registry = _with_answer(ToolRegistry(tools), output)
        names = _names(registry)
        if tool_choice not in ("auto", "none", *(["required"] if names else []), *names):
            raise ToolDefinitionError(f"tool_choice {tool_choice!r} fits no tool; there are: {', '.join(names) or 'none'}")
        self.spec = AgentSpec(
            model=retry.wrap(self.model) if retry else self.model,
            tools=registry,
            offered=tuple(item.spec for item in registry),
            instructions="\n\n".join(part for part in (instructions, output.instructions) if part),
            settings=replace(settings or ModelSettings(), **_format_of(output)),
            limits=limits or Limits(),
            price=info.price,
            output=output,
            output_retries=output_retries,
            tool_choice=tool_choice,
            history=history,
            approve=approve,
            middleware=middleware,
        )
        _check_settings(info, self.spec)

    def copy(self, **changes: Any) -> Agent[OutputT]:
        """Another agent with some of the constructor's arguments changed: `agent.copy(model=ScriptedModel([...]))`."""
        unknown = sorted({*changes} - {*self._parts})
        if unknown:
            raise SettingsError(f"an agent has no {', '.join(unknown)}; it has: {', '.join(self._parts)}")
        return Agent(**{**self._parts, **changes})

    def __deepcopy__(self, memo: dict[int, Any]) -> Agent[OutputT]:
        """Another agent: with a model of its own, and the same tools and functions."""
        shared = {name for name, part in self._parts.items() if name == "output_type" or inspect.isroutine(part)}
        parts = {name: part if name in shared else copy.deepcopy(part, memo) for name, part in self._all_parts.items()}
        return _made_of(type(self), parts, copy.deepcopy(self._more, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle has what the agent is made of. Its parts must allow it."""
        return _made_of, (type(self), self._all_parts, self._more)

    @property
    def _all_parts(self) -> dict[str, Any]:
        return {**self._parts, "model": self.model}

    @property
    def _more(self) -> dict[str, Any]:
        """What a subclass has put into it."""
        return {name: value for name, value in vars(self).items() if name not in ("_parts", "model", "deps_type", "spec")}

    def __repr__(self) -> str:
        return f"Agent({self.model!r}, tools=[{', '.join(_names(self.spec.tools))}])"

    async def run(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> RunResult[OutputT]:
        """Run to the end and give the result.

        `prompt` is what the user says now. `messages` is a conversation so far, such as the last result's `.messages`; it
        is mended where a server would refuse it, and its system message gives way to this agent's instructions. `deps` is
        what tools get as `ctx.deps`. `observers` are told of every event. `run_id` names the run (default: a new id).
        `within` is the context of a tool that makes this run: what it spends counts in that run as well, whose limits on
        tokens and cost bind it, and without a `run_id` it is named after the call.

        A limit, a pause for approval, or a cancellation by the model's own end is a result with a `stop_reason`. Raises a
        `ModelError` when the model cannot be reached or refuses, `OutputInvalid`, and `LimitReached` if asked to; each has
        the state so far. A cancelled task raises CancelledError as usual.
        """
        return await self._drive(RunState(), [self._begin(prompt, options)], options)

    def run_sync(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> RunResult[OutputT]:
        """As `run`, for sync code: scripts, threads, Jupyter cells, after a fork. Ctrl-C cancels the run."""
        return portal.run(self.run(prompt, **options))

    def stream(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> RunStream[OutputT]:
        """The same run, watched: an asynchronous iterator over its events. The arguments are those of `run`."""
        begin = self._begin(prompt, options)
        return RunStream(lambda watcher: self._drive(RunState(), [begin], options, watcher))

    def stream_sync(self, prompt: str | None = None, **options: Unpack[RunOptions]) -> SyncRunStream[OutputT]:
        """As `stream`, for sync code: an iterator with `.result`, `.close()` and `with`; leaving the loop cancels the run."""
        return SyncRunStream(self.stream(prompt, **options))

    async def resume(
        self, state: RunState | dict[str, Any], approvals: Approvals | None = None, **options: Unpack[RunOptions]
    ) -> RunResult[OutputT]:
        """Go on with a run that was paused, cancelled or broken off, from its state or the JSON data of it.

        `approvals` answers pending calls by id: True, False, `{"deny": "why"}` to refuse a call with a reason that the model
        reads, or `{"args": {...}}` to run it with other arguments. What runs is what `result.pending` showed. In one process an
        approval counts once: a state that is resumed again with it is refused. A call that was started and not finished runs
        again only if its tool is `read_only` or `idempotent`. The given state is not changed. Raises `SettingsError` for an
        answer of another form, and for a call that does not wait, or that is not what the model asked for.
        """
        self._check(options)
        if options.get("messages"):
            raise SettingsError("messages cannot be given to a run that goes on; its transcript is in its state")
        known = RunState.replay(state.events) if isinstance(state, RunState) else RunState.from_json(state)
        given = answers(approvals or {}, known, self.spec.tools)
        return await self._drive(known, [RunResumed(), *given], options)

    def resume_sync(
        self, state: RunState | dict[str, Any], approvals: Approvals | None = None, **options: Unpack[RunOptions]
    ) -> RunResult[OutputT]:
        """As `resume`, for sync code."""
        return portal.run(self.resume(state, approvals, **options))

    def as_tool(self, name: str, description: str, **options: Any) -> AnyTool:
        """This agent as a tool of another: it takes a `task` and returns the output. `options` are those of `@tool`.

        It gets the `deps` of the run that calls it, and is part of it (see `within` of `run`). A run that ends without an
        answer is an error for the model that asked, with the last text.
        """

        async def run_agent(ctx: RunContext[Any], task: str) -> Any:
            result = await self.run(task, deps=ctx.deps, within=ctx)
            if result.stop_reason == "answer" or _is_last_answer(result):
                return result.output
            text = f"; its last words: {result.output}" if isinstance(result.output, str) and result.output else ""
            raise ModelRetry(f"the agent {name} gave no answer: {result.stop_reason}{text}")

        return tool(run_agent, name=name, description=description, **options)

    async def aclose(self) -> None:
        """Close the model's connections of this event loop. A forgotten close leaks nothing: they end with the loop."""
        await close(self.model)

    async def __aenter__(self) -> Agent[OutputT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _check(self, options: RunOptions) -> None:
        unknown = sorted({*options} - {*RunOptions.__annotations__})
        if unknown:
            raise SettingsError(f"a run has no {', '.join(unknown)}; it has: {', '.join(RunOptions.__annotations__)}")
        observers = options.get("observers") or ()
        options["observers"] = () if callable(observers) or not isinstance(observers, Iterable) else tuple(observers)
        if (observers and not options["observers"]) or not all(map(callable, options["observers"])):
            raise SettingsError(f"observers is {observers!r:.80}; allowed: a list of functions of an event")
        run_id = options.get("run_id")
        if run_id is not None and not (isinstance(run_id, str) and run_id):
            raise SettingsError(f"run_id is {run_id!r:.80}; allowed: a text that is not empty, or None")
        within = options.get("within")
        if within is not None and not isinstance(within, RunContext):
            raise SettingsError(f"within is a {type(within).__name__}; allowed: the RunContext of a tool, or None")
        deps = options.get("deps")
        if self.deps_type is not None and not isinstance(deps, self.deps_type):
            raise SettingsError(f"deps is a {type(deps).__name__}; this agent's deps_type is {self.deps_type.__name__}")

    def _begin(self, prompt: str | None, options: RunOptions) -> RunStarted:
        self._check(options)
        if prompt is not None and not isinstance(prompt, str):
            raise SettingsError(f"the prompt is a {type(prompt).__name__}; allowed: text (messages= takes messages)")
        given = options.get("messages") or ()
        try:
            history = mend([checked(message) for message in given])
        except (ValueError, TypeError) as error:
            raise SettingsError(f"messages: {error}") from None
        if prompt is None and not history:
            raise SettingsError("there is nothing to say: give a prompt, or messages")
        if self.spec.instructions:
            rest = history[1:] if history and isinstance(history[0], System) else history
            history = [System(self.spec.instructions), *rest]
        new: list[Message] = [] if prompt is None else [User(plain_text(prompt))]
        run_id = options.get("run_id") or _id_within(options.get("within")) or uuid4().hex
        return RunStarted(run_id, (*history, *new), len(history))

    async def _drive(
        self, state: RunState, first: Iterable[LastingEvent], options: RunOptions, watcher: Observer | None = None
    ) -> RunResult[OutputT]:
        observers = (*(options.get("observers") or ()), *((watcher,) if watcher else ()))
        outer = getattr(options.get("within"), "budget", None)
        run = Run(self.spec, state, options.get("deps"), observers, outer)
        with as_run():
            return cast("RunResult[OutputT]", await drive(run, first))


def _made_of(kind: type[Agent[Any]], parts: dict[str, Any], more: dict[str, Any]) -> Agent[Any]:
    made = kind.__new__(kind)
    Agent.__init__(made, **parts)
    vars(made).update(more)
    return made


def _is_last_answer(result: RunResult[Any]) -> bool:
    """Whether the output is what the model answered when it was asked for its last answer, and not what came before."""
    state, last = result.state, result.state.messages[-1]
    answered = isinstance(last, Assistant) or (isinstance(last, ToolResult) and not isinstance(result.output, str))
    return answered and bool(result.output) and result.stop_reason == state.limit and state.finish_reason != "length"


def _id_within(within: RunContext[Any] | None) -> str | None:
    """The key of the call that the run is part of, the same after a crash; its second run and later ones are numbered."""
    if within is None or not within.run_id:
        return None
    before = within.budget.next_run() if within.budget else 0
    return f"{within.idempotency_key}.{before}" if before else within.idempotency_key


def _with_answer(registry: ToolRegistry, output: Output) -> ToolRegistry:
    """The tools, with the one that gives the answer; a request is strict with all of its tools or with none."""
    if output.tool is not None:
        registry.add(replace(output.tool, strict=bool(registry) and all(item.strict for item in registry)))
    return registry


def _names(registry: ToolRegistry) -> list[str]:
    return [item.name for item in registry]
