"""The agent: users construct it, then run, stream and resume runs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar, Unpack, cast, overload

from ._agent_forms import AgentForms
from ._agent_parts import (
    AgentParts,
    RunOptions,
    check_messages,
    check_options,
    check_parts,
    check_price,
    check_settings,
    model_of,
    owner,
    several,
    spec_of,
    tool_names,
)
from ._agent_tool import run_id_of, scope_of, tool_of
from ._importing import check_not_importing
from ._per_run import (
    OVERRIDES,
    Conversation,
    Instructions,
    Tools,
    depends_on_run,
    instructions_of,
    parts_for,
    tools_of,
)
from ._stored import Given, go_on, run_stored
from ._sync import check_loop
from ._typing import OutputT, T
from .errors import SettingsError
from .events import LastingEvent, RunResumed, RunStarted
from .history import History
from .model import Model, ModelSettings, close, info_of
from .models.retry import Retry
from .models.run_identity import as_run
from .parts import Content
from .policy import Policy
from .run.approvals import Approvals
from .run.copies import followed
from .run.fingerprint import fingerprint_of
from .run.limits import Limits
from .run.loop import drive
from .run.middleware import Middleware
from .run.observers import Observer
from .run.result import RunResult
from .run.run import Attachments, Run
from .run.spec import Approve, OutputValidator
from .run.state import RunState
from .run.stream import RunStream
from .tools.context import RunContext
from .tools.registry import ToolRegistry
from .tools.tool import AnyTool

__all__ = ["Agent", "AgentParts", "RunOptions"]

Validator = TypeVar("Validator", bound=OutputValidator)


_OWN = ("_parts", "_depends_on_run", "model", "deps_type", "spec", "fingerprint")


class Agent(AgentForms[OutputT]):
    """A model, tools and instructions. It can be run any number of times, also concurrently.

    `model` is a model's name (its server and key come from the environment), a `ChatModel`, or any `Model`. `instructions` are
    text, a function of the run's context, or a list of these. `tools` are tools, functions, registries and toolsets, or one
    function of the context that gives them. `output_type` is `str`, any type that pydantic can validate, several in a list, or
    a function. `tool_choice` is "auto", "none", "required" or a tool's name; a forced choice becomes "auto" after the first
    call. `settings` are sent with each model call. `limits` bound each run; the default is `Limits()`. `retry` is how failed
    model calls are retried, None for not at all. `approve` is asked about calls that need an approval; without it, the run
    pauses. `history` is a view of long transcripts, such as `KeepTurns(20)`. `middleware` wraps model calls and tool calls, the
    first one outermost. `output_retries` is how often an invalid answer is sent back to the model. `deps_type` is the class
    that the `deps` of each run must have. `name` is recorded in the events. `description` says what the agent is for, in words
    for another agent. `policy` judges each call before it runs. `observers` get the events of all runs. `clock` gives their
    time, in seconds since 1970. Raises `ToolDefinitionError` or `SettingsError` for parts that cannot work.
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
        instructions: Instructions = "",
        tools: Tools = (),
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
        description: str = "",
        policy: Policy | Iterable[Policy] = (),
        observers: Iterable[Observer] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        tools, instructions = tools_of(tools), instructions_of(instructions)  # read once: they may be generators
        middleware, observers, policy = several(middleware), several(observers), several(policy, Policy)
        self._parts = {name: value for name, value in locals().items() if name != "self"}
        check_parts(self._parts)
        self.model: Model = model_of(model)
        self.deps_type = deps_type
        info = info_of(self.model)
        check_price(info, limits)
        self.spec = spec_of(self.model, info, self._parts)
        self._depends_on_run = depends_on_run(self._parts)
        self._validators: tuple[OutputValidator, ...] = ()
        check_settings(info, self.spec)

    def copy(self, **changes: Any) -> Agent[OutputT]:
        """A copy of the agent with some constructor arguments changed: `agent.copy(model=ScriptedModel([...]))`."""
        unknown = sorted({*changes} - {*self._parts})
        if unknown:
            raise SettingsError(f"an agent has no {', '.join(unknown)}; it has: {', '.join(self._parts)}")
        return _made_of(type(self), {**self._all_parts, **changes}, self._more)

    @property
    def parts(self) -> Mapping[str, Any]:
        """The constructor's arguments, as `copy` takes them."""
        return MappingProxyType(self._parts)

    @property
    def name(self) -> str:
        """The agent's name, which stands in the events of its runs."""
        return self.spec.name

    @property
    def description(self) -> str:
        """What the agent is for, in words for another agent."""
        return str(self._parts["description"])

    @property
    def tools(self) -> ToolRegistry:
        """The agent's tools by name. Its toolsets are in `tools.toolsets`; `agent.tools | [extra]` has them as well."""
        return ToolRegistry.of_agent(self._parts["tools"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Agent[OutputT]:
        """Another agent: with copies of its model, middleware and policies, and the same tools, functions and observers.

        A method of an object that is copied as well becomes one of the copy. A part that cannot be copied is shared.
        """
        kept = ("observers", "output_type")
        parts = {name: followed(part, memo, name not in kept) for name, part in self._parts.items()}
        return _made_of(type(self), {**parts, "model": copy.deepcopy(self.model, memo)}, copy.deepcopy(self._more, memo))

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

    @overload
    async def run(self, prompt: Content | None = None, **options: Unpack[RunOptions]) -> RunResult[OutputT]: ...
    @overload
    async def run(
        self, prompt: Content | None = None, *, output_type: type[T], **options: Unpack[RunOptions]
    ) -> RunResult[T]: ...
    async def run(self, prompt: Content | None = None, **options: Any) -> RunResult[Any]:
        """Run to the end and return the result.

        `prompt` is the user's new message: text, or a list of texts, images, audio and files. `messages` is the conversation
        so far, such as the last result's `.messages`. It is repaired where a server would refuse it, and its system message is
        replaced by this agent's instructions. `deps` is what tools get as `ctx.deps`. `observers` get every event. `run_id`
        names the run (default: a new id).

        `within` is the context of a tool that makes this run, and the tool's run becomes the parent. Spending counts in the
        parent too, and the parent's policies and limits on tokens and cost apply. The parent's observers get the events, and
        its `approve` is asked if this agent has none. Without a `run_id`, the run is named after the call and the prompt.

        `log` stores each event before anything that depends on it happens. When `leave` is set (`leave.is_set()`), the calls in
        flight end, and the run is left: nothing more is recorded, the `stop_reason` is "left", and `resume` can continue it.

        `model`, `tools`, `instructions`, `settings`, `limits` and `output_type` replace the agent's own for this run.
        `metadata` is recorded with the run: a dict that JSON can hold. A `store` keeps the run, and its `session`.

        A run that ends at a limit or pauses for an approval returns a result with a `stop_reason`. Raises a `ModelError` if the
        model cannot be reached or refuses, `OutputInvalid`, `LogFailed`, and `LimitReached` with
        `Limits(on_limit="raise")`; each has the state so far. A cancelled task raises CancelledError as usual.
        """
        given = cast("RunOptions", options)
        return await self._run(self._conversation(prompt, given), given)

    def stream(self, prompt: Content | None = None, **options: Unpack[RunOptions]) -> RunStream[OutputT]:
        """An asynchronous iterator over the events of a run. It takes the arguments of `run`."""
        conversation = self._conversation(prompt, options)
        return RunStream(lambda watcher: self._run(conversation, options, watcher))

    async def resume(
        self,
        state: RunState | dict[str, Any] | str | None = None,
        approvals: Approvals | None = None,
        results: Mapping[str, Any] | None = None,
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
        return await self._resume(state, approvals, results, options)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """A digest of each part: `instructions` (if they do not depend on the run), `tools`, `output`, `model`, `settings`."""
        return fingerprint_of(self.spec)

    def as_tool(self, name: str = "", description: str = "", **options: Any) -> AnyTool:
        """This agent as a tool of another. The tool takes a `task` and returns the output; `options` are those of `@tool`.

        Without a name or a description, it has those of the agent.

        Each call is a child run of the run that calls it, with the same `deps` (see `within` of `run`). If the child pauses for
        an approval, the parent pauses too: the call is in `result.pending`, with an id made of both calls' ids. If the child
        ends without an answer, the model that called the tool gets an error with the last text.
        """

        return tool_of(self, name or self.name, description or self.description, options)

    async def _resume(
        self, state: Any, approvals: Any, results: Any, options: RunOptions, watcher: Observer | None = None
    ) -> RunResult[Any]:
        check_options(options, self.deps_type)
        return await go_on(self, state, Given.of(approvals, results), options, watcher)

    def _resumed(self, known: RunState) -> RunResumed:
        return RunResumed(self.spec.name, self.fingerprint, owner(), known.attempts + 1)

    def output_validator(self, function: Validator) -> Validator:
        """Decorator: this function checks or changes each answer, after the validators that the agent has.

        It takes `(value)` or `(ctx, value)`, may be async, and returns the answer. `ModelRetry` sends the answer back.
        """
        self._validators = (*self._validators, function)
        return function

    async def aclose(self) -> None:
        """Close the model's connections of this event loop. If it is not called, they are closed when the loop ends."""
        await close(self.model)

    async def __aenter__(self) -> Agent[OutputT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _conversation(self, prompt: Content | None, options: RunOptions) -> Conversation:
        check_options(options, self.deps_type)
        return Conversation.of(prompt, options.get("messages"))

    async def _run(self, conversation: Conversation, options: RunOptions, watcher: Observer | None = None) -> RunResult[Any]:
        if options.get("store") is not None:
            return await run_stored(self, conversation, options, watcher)
        options["run_id"] = run_id_of(self.name, conversation.prompt, options)
        agent = await self._for_run(options)
        return await agent._drive(RunState(), [agent._begin(conversation, options)], options, watcher)

    async def _for_run(self, options: RunOptions, known: RunState | None = None) -> Agent[Any]:
        """The agent for one run: with the parts that are given for it, and with what its instructions and tools say."""
        check_not_importing()
        popped = {name: options.pop(name) for name in OVERRIDES if name in options}  # type: ignore[misc]
        given = {name: part for name, part in popped.items() if part is not None}
        agent, own = self.copy(**given) if given else self, None if "instructions" in given else self.spec.own_instructions
        if agent._depends_on_run:
            ctx = RunContext(options.get("deps"), known.run_id if known else options.get("run_id") or "")
            parts, stop = await parts_for(agent._parts, ctx, known)
            agent = agent.copy(**parts)
            agent.spec = replace(agent.spec, stop=stop, own_instructions=own)
        elif given:
            agent.spec = replace(agent.spec, own_instructions=own)
        return agent

    def _begin(self, conversation: Conversation, options: RunOptions) -> RunStarted:
        messages, new_from = conversation.after(self.spec.instructions)
        check_messages(self.model, self.spec, messages)
        run_id, metadata = options.get("run_id") or "", options.get("metadata") or {}
        return RunStarted(run_id, messages, new_from, self.spec.name, self.fingerprint, owner(), metadata)

    async def _drive(
        self,
        state: RunState,
        first: Iterable[LastingEvent],
        options: RunOptions,
        watcher: Observer | None = None,
        *,
        leaves_with_parent: bool = False,
    ) -> RunResult[OutputT]:
        check_loop()
        observers = (*(options.get("observers") or ()), *((watcher,) if watcher else ()))
        first = tuple(first)
        run_id = first[0].run_id if isinstance(first[0], RunStarted) else state.run_id
        attached = Attachments(
            deps=options.get("deps"),
            observers=observers,
            log=options.get("log"),
            leave=options.get("leave"),
            scope=scope_of(options.get("within")),
            leaves_with_parent=leaves_with_parent,
            validators=self._validators,
        )
        with as_run():
            return cast("RunResult[OutputT]", await drive(Run(self.spec, state, run_id, attached), first))


def _made_of(kind: type[Agent[Any]], parts: dict[str, Any], more: dict[str, Any]) -> Agent[Any]:
    made = kind.__new__(kind)
    Agent.__init__(made, **parts)
    vars(made).update(more)
    return made
