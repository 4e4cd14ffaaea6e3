"""One tool call, from the model's text to a rendered result; and which calls of a reply run together."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .._threads import Threads
from ..errors import ModelRetry, Suspended, ToolArgumentsInvalid
from ..messages import ToolCall, ToolResult, plain_text, shorten
from ..names import nearest_names, wire_name
from ..redact import redact
from ..redact.veil import Veil
from ..schema import Arguments
from ..tools.registry import ToolRegistry
from ..tools.tasks import NoResult
from ..tools.tool import AnyTool, RunContext
from .spec import AgentSpec
from .state import OpenCall

__all__ = ["Outcome", "arguments_of", "describe_error", "execute", "own_chain", "plan", "render", "shorten", "unknown_tool"]

CANCELLED = "the call was cancelled; it may or may not have taken effect"
_LONGEST_ERROR = 10_000
_SHOWN = 500
"""Characters of an exception's message that the model is told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: the message for the model, the full error, which it does not see, and what was mended in the
    text of its arguments."""

    result: ToolResult
    error: str | None = None
    repairs: tuple[str, ...] = ()
    whole: str | None = None
    """The result as it was rendered, where the model is told a part of it only."""
    crashed: bool = False
    """Whether the tool raised an exception that was not made for the model."""
    is_json: bool = False
    is_unknown: bool = False
    """Whether the tool may still be at work, or may or may not have done its work."""
    suspended: Suspended | None = None


def plan(calls: Iterable[OpenCall], tools: ToolRegistry) -> list[list[list[OpenCall]]]:
    """The calls as stages of chains: stages run one after another, the chains of a stage together, a chain in order.

    Async tools and sync tools labelled `read_only` or `parallel` are a chain each. Other sync tools share one chain, in
    call order: most functions are not thread-safe, and a call may rely on the one before it. A `sequential` tool is a
    stage of its own.
    """
    stages: list[list[list[OpenCall]]] = []
    in_order: list[OpenCall] = []
    barrier = True
    for call in calls:
        tool = tools.get(call.call.name)
        if barrier or (tool and tool.sequential):
            stages.append([])
            in_order = []
        barrier = tool is not None and tool.sequential
        if tool is None or not _is_in_order(tool):
            stages[-1].append([call])
            continue
        if not in_order:
            stages[-1].append(in_order)
        in_order.append(call)
    return stages


def own_chain(stage: list[list[OpenCall]], tools: ToolRegistry) -> list[OpenCall] | None:
    """The chain of a stage that runs in the run's own thread: the sync calls in call order, else the first sync call."""
    found = [(chain, tools.get(chain[0].call.name)) for chain in stage]
    sync = [(chain, tool) for chain, tool in found if tool is not None and not tool.is_async]
    in_order = [chain for chain, tool in sync if _is_in_order(tool)]
    return next(iter([*in_order, *(chain for chain, _ in sync)]), None)


def _is_in_order(tool: AnyTool) -> bool:
    return not (tool.is_async or tool.read_only or tool.parallel)


async def execute(
    call: ToolCall,
    ctx: RunContext[Any],
    spec: AgentSpec,
    *,
    threads: Threads | None = None,
    arguments: Arguments | ToolArgumentsInvalid | None = None,
    veil: Veil | None = None,
) -> Outcome:
    """Run one call and render its result; whatever goes wrong in it becomes an error message for the model.

    `arguments` are those of the call, or why it has none, where it was parsed before: it is not parsed again.
    `veil` is the run's.

    The model is told the kind of error and its text, short; `Outcome.error` has the traceback. Both are without secrets. A
    result is without the model's own key. Only a cancellation of the run itself, KeyboardInterrupt and SystemExit come out.
    """
    way, hide = _Way(ctx, spec, threads or Threads(), call, arguments), (veil or Veil(spec.model)).hide
    crashed = unknown = False
    try:
        value = await _through_middleware(way)
        text, is_json = _rendered(value) if spec.middleware else value
        text, repairs, tool = hide(text), tuple(way.repairs), spec.tools.get(call.name)
        told = shorten(text, tool.max_output if tool else None)
        result = ToolResult(call.id, call.name, told)
        return Outcome(result, None, repairs, None if told is text else text, is_json=is_json)
    except Suspended as suspended:
        return Outcome(ToolResult(call.id, call.name, ""), suspended=suspended)
    except (ModelRetry, ToolArgumentsInvalid) as error:
        told = shorten(redact(hide(_text_of(error))), _LONGEST_ERROR)
        full = traceback.format_exc() if error.__cause__ else f"{type(error).__name__}: {told}"
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        told, full, crashed, unknown = CANCELLED, traceback.format_exc(), True, True
    except NoResult as error:
        told, full, crashed, unknown = f"TimeoutError: {error}", traceback.format_exc(), True, True
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  the border between the model's world and the program's
        told, full, crashed = describe_error(error, hide), traceback.format_exc(), True
    result = ToolResult(call.id, call.name, plain_text(f"error: {told}"), is_error=True)
    full = plain_text(redact(hide(full)))
    return Outcome(result, full, tuple(way.repairs), crashed=crashed, is_unknown=unknown)


async def arguments_of(call: ToolCall, tool: AnyTool, threads: Threads) -> Arguments | ToolArgumentsInvalid:
    """The arguments of a call, or why it has none."""
    try:
        return await tool.parsed(call.arguments, threads)
    except ToolArgumentsInvalid as error:
        return error


@dataclass(slots=True)
class _Way:
    """What goes with a call through the middleware."""

    ctx: RunContext[Any]
    spec: AgentSpec
    threads: Threads
    call: ToolCall
    arguments: Arguments | ToolArgumentsInvalid | None
    """Those of `call`, or why it has none, where it is parsed already."""
    repairs: list[str] = field(default_factory=list)


async def _through_middleware(way: _Way) -> Any:
    middleware = way.spec.middleware
    if not middleware:  # rendered at once: a live object that a later call changes must not rewrite this answer
        return await _invoke(way, way.call, _rendered)
    inner = partial(_invoke, way)
    for layer in reversed(middleware):
        inner = partial(_layered, layer, inner, way.ctx)
    return await inner(way.call)


async def _layered(layer: Any, inner: Any, ctx: RunContext[Any], call: ToolCall) -> Any:
    return await layer.tool_call(call, ctx, inner)


async def _invoke(way: _Way, call: ToolCall, finish: Callable[[Any], Any] | None = None) -> Any:
    tool = way.spec.tools.get(call.name)
    if tool is None:
        raise ModelRetry(unknown_tool(call.name, way.spec.tools))
    known = way.arguments if call == way.call else None
    if isinstance(known, ToolArgumentsInvalid):
        raise known
    way.arguments = None  # for one run of the function, which may change them
    arguments = await tool.parsed(call.arguments, way.threads) if known is None else known
    way.repairs += arguments.repairs
    return await tool.invoke(arguments, way.ctx, way.threads, finish)


def unknown_tool(name: str, tools: ToolRegistry) -> str:
    """What the model is told when it calls a tool that is not there: the names that are, nearest first."""
    name = name if len(name) <= 200 else f"{name[:200]}..."
    names = [wire_name(tool.name) for tool in tools]  # as the model knows them
    near = nearest_names(name, names)
    ordered = near + [n for n in names if n not in near]
    return f"there is no tool {name!r}; the tools are: {', '.join(ordered[:50]) or 'none'}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  an exception may fail to print itself
        return "(no text)"


def describe_error(error: BaseException, hide: Callable[[str], str] = str) -> str:
    """An exception's type and text for the model: one short text, secrets removed. `hide` takes out the model's own key."""
    text = _text_of(error)
    if isinstance(error, BaseExceptionGroup):
        text += ": " + "; ".join(describe_error(inner, hide) for inner in error.exceptions[:5])
    seen = redact(hide(text[: 4 * _SHOWN]))  # a long text takes no longer; its cut end is not shown
    short = seen if max(len(seen), len(text)) <= _SHOWN else f"{seen[:_SHOWN]}... ({len(text)} characters)"
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


def _rendered(value: Any) -> tuple[str, bool]:
    """The value as text, and whether that is JSON."""
    return render(value), not isinstance(value, str)


def render(value: Any) -> str:
    """A tool's value as the text that the model reads: a text as it is, anything else as JSON.

    Raises TypeError, naming the type, for a value that JSON cannot hold.
    """
    if isinstance(value, str):
        return plain_text(value)
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(value, inf_nan_mode="strings").decode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise TypeError(
            f"the tool returned a {type(value).__name__}, which JSON cannot hold ({str(error)[:200]}); "
            "return text, numbers, lists, dicts, dataclasses or pydantic models"
        ) from None
