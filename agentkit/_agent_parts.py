"""The parts of an agent and the options of a run: their checks, and the `AgentSpec` made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import NoneType
from typing import Any, Literal, TypedDict, cast

from ._per_run import OVERRIDES, Instructions, Tools, depends_on_run
from .errors import SettingsError, ToolDefinitionError
from .history import History
from .messages import Message
from .model import Model, ModelInfo, ModelRequest, ModelSettings, info_of
from .models.retry import Retry
from .names import with_article
from .policy import Policy
from .run.journal import Log, TreeLog, state_of
from .run.limits import Limits
from .run.middleware import Middleware
from .run.observers import Observer
from .run.output import Output, output_of
from .run.run import Leave
from .run.spec import AgentSpec, Approve
from .run.state import RunState
from .run.storing import RunStore
from .tools.registry import ToolRegistry
from .tools.tool import RunContext, Tool

__all__ = [
    "AgentParts", "RunOptions", "check_messages", "check_options", "check_parts", "check_price",
    "check_settings", "known_state", "model_of", "owner", "several", "spec_of", "tool_names",
]  # fmt: skip


class RunOptions(TypedDict, total=False):
    """The options of one run. `Agent.run` documents those without a text here."""

    messages: Sequence[Message] | None
    deps: Any
    observers: Sequence[Observer]
    run_id: str | None
    within: RunContext[Any] | None
    log: Log | None
    leave: Leave | None
    store: RunStore | None
    """Where the run is stored, from `agentkit.store.open_store`. Another process can go on with it, by its id."""
    session: str | None
    """The conversation in the store that the run belongs to. It goes on where the session's last run ended."""
    session_busy: Literal["wait", "fail"]
    """If another run of the session has not ended: "wait" up to a minute for it, or "fail" with `RunBusy` at once."""
    allow_changed: bool
    """Of a resume: go on although the agent is not the one that began the run. Default: no with `store`, else yes."""
    metadata: Mapping[str, Any] | None
    model: str | Model | None
    tools: Tools
    instructions: Instructions
    settings: ModelSettings | None
    limits: Limits | None


class AgentParts(TypedDict, total=False):
    """The parts of an agent except for its model and output type. `Agent` documents them."""

    instructions: Instructions
    tools: Tools
    tool_choice: str
    settings: ModelSettings | None
    limits: Limits | None
    retry: Retry | None
    approve: Approve | None
    history: History | None
    middleware: Iterable[Middleware]
    output_retries: int
    deps_type: type[Any] | None
    name: str
    description: str
    policy: Policy | Iterable[Policy]
    observers: Iterable[Observer]
    clock: Callable[[], float]


_KINDS: dict[str, tuple[Any, ...]] = {
    "tool_choice": (str,),
    "settings": (ModelSettings, NoneType),
    "limits": (Limits, NoneType),
    "retry": (Retry, NoneType),
    "approve": (Callable, NoneType),
    "history": (Callable, NoneType),
    "middleware": (tuple,),
    "output_retries": (int,),
    "deps_type": (type, NoneType),
    "name": (str,),
    "description": (str,),
    "policy": (tuple,),
    "observers": (tuple,),
    "clock": (Callable,),
}


def _format_of(output: Output) -> dict[str, Any]:
    return {"response_format": output.response_format} if output.response_format else {}


def check_parts(parts: Mapping[str, Any]) -> None:
    for name, kinds in _KINDS.items():
        if not isinstance(parts[name], kinds):
            allowed = " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
            raise SettingsError(f"{name} is {parts[name]!r:.80}; allowed: {allowed}")
    for layer in parts["middleware"]:
        if not isinstance(layer, Middleware):
            raise SettingsError(f"middleware holds {layer!r:.80}; allowed: objects of subclasses of Middleware")
    for policy in parts["policy"]:
        if not isinstance(policy, Policy):
            raise SettingsError(f"policy holds {policy!r:.80}; allowed: objects of subclasses of Policy")
    for observer in parts["observers"]:
        if not callable(observer):
            raise SettingsError(f"observers holds {observer!r:.80}; allowed: functions of an event")


def model_of(model: object) -> Model:
    """The model with this name, or the given model itself."""
    if model is None or isinstance(model, str):
        from .models.chat import ChatModel

        return ChatModel(model)
    if isinstance(model, type) or not hasattr(model, "reply"):
        raise SettingsError(f"model is {with_article(type(model).__name__)}; allowed: a model's name, or a Model with `reply`")
    return cast("Model", model)


def several(parts: Any, one: type[Any] = NoneType) -> Any:
    """The parts as a tuple. A value that is not iterable is refused later."""
    if isinstance(parts, one):
        return () if parts is None else (parts,)
    return tuple(parts) if isinstance(parts, Iterable) else parts


def spec_of(model: Model, info: ModelInfo, parts: Mapping[str, Any]) -> AgentSpec:
    output = output_of(parts["output_type"], info.output_mode)
    tools = [item for item in parts["tools"] if isinstance(item, Tool) and item.enabled is not False]
    registry = _with_answer(ToolRegistry(tools), output)
    texts = [part for part in parts["instructions"] if isinstance(part, str)]
    added = (
        [] if any(output.instructions in text for text in texts) else [output.instructions]
    )  # those of a resumed run have it
    names, tool_choice, retry = tool_names(registry), parts["tool_choice"], parts["retry"]
    if not depends_on_run(parts) and tool_choice not in ("auto", "none", *(["required"] if names else []), *names):
        raise ToolDefinitionError(f"tool_choice {tool_choice!r} fits no tool; there are: {', '.join(names) or 'none'}")
    same = (
        "output_retries",
        "tool_choice",
        "history",
        "approve",
        "middleware",
        "observers",
        "name",
        "clock",
    )
    return AgentSpec(
        model=retry.wrap(model) if retry else model,
        tools=registry,
        offered=tuple(item.spec for item in registry),
        instructions="\n\n".join(part for part in (*texts, *added) if part),
        own_instructions=None if len(texts) < len(parts["instructions"]) else "\n\n".join(filter(None, texts)),
        settings=replace(parts["settings"] or ModelSettings(), **_format_of(output)),
        limits=parts["limits"] or Limits(),
        price=info.price,
        output=output,
        policies=parts["policy"],
        **{name: parts[name] for name in same},
    )


def check_settings(info: ModelInfo, spec: AgentSpec) -> None:
    """Raise `SettingsError` if the model would refuse the settings, unless a middleware may change the request."""
    if not any(layer.changes_requests for layer in spec.middleware):
        info.check(ModelRequest((), spec.offered, spec.tool_choice, spec.settings))


def check_messages(model: Model, spec: AgentSpec, messages: Sequence[Message]) -> None:
    """Raise `SettingsError` if the model does not take an image, audio or a file in the messages of a new run.

    A middleware or a view of the history may take them out, so with one of these, only the model itself checks.
    """
    is_sent = spec.history is None and not any(layer.changes_requests for layer in spec.middleware)
    if is_sent and any(message.parts for message in messages):
        info_of(model).check(ModelRequest(messages, spec.offered, spec.tool_choice, spec.settings))


def check_price(info: ModelInfo, limits: Limits | None) -> None:
    """Raise `SettingsError` for a cost limit if the model costs money but its price is unknown."""
    if limits and limits.cost is not None and info.unpriced:
        raise SettingsError(
            f"limits: cost is set, but the price of {info.unpriced[0]} is not known; give it with "
            "ChatModel(price=(in, out)), US dollars per million tokens, see docs/limits.md"
        )


def check_options(options: RunOptions, deps_type: type[Any] | None) -> None:
    """Raise `SettingsError` for run options that cannot work. It makes `observers` a tuple."""
    unknown = sorted({*options} - {*RunOptions.__annotations__, *OVERRIDES})
    if unknown:
        raise SettingsError(f"a run has no {', '.join(unknown)}; it has: {', '.join(RunOptions.__annotations__)}")
    options["observers"] = _observers_of(options.get("observers"))
    run_id = options.get("run_id")
    if run_id is not None and not (isinstance(run_id, str) and run_id):
        raise SettingsError(f"run_id is {run_id!r:.80}; allowed: a text that is not empty, or None")
    within = options.get("within")
    if within is not None and not isinstance(within, RunContext):
        raise SettingsError(f"within is {with_article(type(within).__name__)}; allowed: the RunContext of a tool, or None")
    log, leave = options.get("log"), options.get("leave")
    if log is not None and not (hasattr(log, "append") and hasattr(log, "load")):
        raise SettingsError(f"log is {log!r:.80}; allowed: a Log with `append(seq, events)` and `load()`, or None")
    store = options.get("store")
    if store is not None and not hasattr(store, "reopen"):
        raise SettingsError(f"store is {store!r:.80}; allowed: what open_store() of agentkit.store gives, or None")
    if store is None and options.get("session") is not None:
        raise SettingsError("session is a conversation in a store: give store= too, or messages= without a store")
    if leave is not None and not hasattr(leave, "is_set"):
        raise SettingsError(f"leave is {leave!r:.80}; allowed: an Event, or anything with `is_set()`, or None")
    _check_metadata(options.get("metadata"))
    deps = options.get("deps")
    if deps_type is not None and not isinstance(deps, deps_type):
        raise SettingsError(f"deps is {with_article(type(deps).__name__)}; this agent's deps_type is {deps_type.__name__}")


def _observers_of(given: object) -> tuple[Any, ...]:
    if given is None:
        return ()
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) and not callable(given) else (None,)
    if not all(map(callable, found)):
        raise SettingsError(f"observers is {given!r:.80}; allowed: a list of functions of an event")
    return found


def _check_metadata(metadata: object) -> None:
    try:
        is_json = metadata is None or (isinstance(metadata, Mapping) and json.loads(json.dumps(metadata)) == metadata)
    except (TypeError, ValueError, RecursionError):
        is_json = False
    if not is_json:
        raise SettingsError(f"metadata is {metadata!r:.80}; allowed: a dict with text as keys and values that JSON can hold")


async def known_state(state: RunState | dict[str, Any] | None, log: Log | None) -> RunState:
    """A new state to continue from: a copy of the given state, or the state from the log."""
    given = None
    if state is not None:
        given = RunState.replay(state.events) if isinstance(state, RunState) else RunState.from_json(state)
    if log is None:
        if given is None:
            raise SettingsError("there is nothing to go on with: give a state, or a log")
        return _without_others(given, log)
    logged = _without_others(await state_of(log), log)
    if not logged.events:
        raise SettingsError("the log has no events: there is no run to go on with")
    if given is not None and given.events != logged.events:
        raise SettingsError(
            f"the state has {len(given.events)} events and the log {len(logged.events)}, or others; go on with the log alone"
        )
    return logged


def _without_others(state: RunState, log: Log | None) -> RunState:
    """The state. Raises `SettingsError` if it needs the log of a child run and `log` is not a `TreeLog`."""
    for call in state.open_calls:
        if call.suspended and call.suspended.run_id and not call.suspended.events and not isinstance(log, TreeLog):
            run_id = call.suspended.run_id
            raise SettingsError(
                f"the call {call.call.id!r} goes on in the log of its run {run_id!r}: give log=, a TreeLog that has it"
            )
    return state


def owner() -> str:
    """Identifies this process: host name and process id."""
    import socket

    return f"{socket.gethostname()}:{os.getpid()}"


def _with_answer(registry: ToolRegistry, output: Output) -> ToolRegistry:
    """The tools and the answer tool. That is strict if all others are: a request is strict for all tools or for none."""
    if output.tool is not None:
        registry.add(replace(output.tool, strict=bool(registry) and all(item.strict for item in registry)))
    return registry


def tool_names(registry: ToolRegistry) -> list[str]:
    return [item.name for item in registry]
