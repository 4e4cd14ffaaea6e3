"""Runs one tool call, from the model's text to the rendered result, and plans which calls of a reply run concurrently."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from .._dataclass import frozen_dataclass
from .._sync import is_being_cancelled
from .._threads import Threads
from ..errors import ModelRetry, StopRun, Suspended, ToolArgumentsInvalid
from ..messages import ToolCall, ToolResult, plain_text, shorten
from ..names import nearest_names, wire_name, with_article
from ..parts import Part, ToolReturn, content_text
from ..redact import redact
from ..redact.veil import Veil
from ..schema import Arguments
from ..tools.reconcile import Done
from ..tools.registry import ToolRegistry
from ..tools.tasks import NoResult
from ..tools.tool import AnyTool, RunContext
from .spec import AgentSpec
from .state import OpenCall

__all__ = [
    "Outcome", "arguments_of", "describe_error", "execute", "own_chain", "plan", "render", "short_text", "shorten",
    "unknown_tool",
]  # fmt: skip

CANCELLED = "the call was cancelled; it may or may not have taken effect"
_MAX_ERROR = 10_000
_MAX_MESSAGE = 500
"""Max characters of an exception's message, and of the reason for an unknown outcome, that the model gets."""


@frozen_dataclass
class Outcome:
    """The outcome of a call: the message for the model, the full error (which the model does not see), and the repairs made
    in the text of its arguments."""

    result: ToolResult
    error: str | None = None
    repairs: tuple[str, ...] = ()
    whole: str | None = None
    """The whole rendered result, if the model gets only a part of it."""
    crashed: bool = False
    """Whether the tool raised an exception that is not meant for the model."""
    is_json: bool = False
    artifact: Any = None
    is_unknown: bool = False
    """Whether the tool may still be running, or may or may not have taken effect."""
    suspended: Suspended | None = None


def plan(calls: Iterable[OpenCall], tools: ToolRegistry) -> list[list[list[OpenCall]]]:
    """The calls as stages of chains. Stages run one after another. The chains of a stage run concurrently, each in order.

    Each call of an async tool, or of a sync tool labelled `read_only` or `parallel`, is a chain of its own. All other sync
    calls share one chain, in call order: most functions are not thread-safe, and a call may rely on the previous one. A call
    of a `sequential` tool is a stage of its own.
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
    """The chain of a stage that runs in the run's own thread: the ordered sync calls or, without any, the first sync call."""
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
    done: Done | None = None,
) -> Outcome:
    """Run one call and render its result. Any error in it becomes an error message for the model.

    `arguments` are the parsed arguments, or the error of parsing them; None if the call is not parsed yet. `veil` is the
    run's. With `done`, the function is not called: middleware and rendering get that result instead.

    The model gets the type of the error and its shortened text; `Outcome.error` has the traceback. Secrets are removed from
    both, and the model's own key from results. It raises only KeyboardInterrupt, SystemExit, and a cancellation of the run.
    """
    context, hide = _CallContext(ctx, spec, threads or Threads(), call, arguments, done), (veil or Veil(spec.model)).hide
    crashed = unknown = False
    try:
        value = await _through_middleware(context)
        return _succeeded(context, _rendered(value) if spec.middleware else value, hide)
    except Suspended as suspended:
        return Outcome(ToolResult(call.id, call.name, ""), suspended=suspended)
    except (ModelRetry, ToolArgumentsInvalid) as error:
        message = shorten(redact(hide(_text_of(error))), _MAX_ERROR)
        full = traceback.format_exc() if error.__cause__ else f"{type(error).__name__}: {message}"
    except asyncio.CancelledError:
        if is_being_cancelled():
            raise
        message, full, crashed, unknown = CANCELLED, traceback.format_exc(), True, True
    except NoResult as error:
        message, full, crashed, unknown = f"TimeoutError: {error}", traceback.format_exc(), True, True
    except (KeyboardInterrupt, SystemExit, StopRun):
        raise
    except BaseException as error:  # noqa: BLE001  the one border where any error goes to the model
        message, full, crashed = describe_error(error, hide), traceback.format_exc(), True
    result = ToolResult(call.id, call.name, plain_text(f"error: {message}"), is_error=True)
    return Outcome(result, plain_text(redact(hide(full))), tuple(context.repairs), crashed=crashed, is_unknown=unknown)


def _succeeded(context: _CallContext, rendered: _Rendered, hide: Callable[[str], str]) -> Outcome:
    call, tool, text = context.call, context.spec.tools.get(context.call.name), hide(rendered.text)
    content = shorten(text, tool.max_output if tool else None)
    result, whole = ToolResult(call.id, call.name, content, parts=rendered.parts), None if content is text else text
    return Outcome(result, None, tuple(context.repairs), whole, is_json=rendered.is_json, artifact=rendered.artifact)


async def arguments_of(call: ToolCall, tool: AnyTool, threads: Threads) -> Arguments | ToolArgumentsInvalid:
    """The parsed arguments of a call, or the error of parsing them."""
    try:
        return await tool.parsed(call.arguments, threads)
    except ToolArgumentsInvalid as error:
        return error


@dataclass(slots=True)
class _CallContext:
    """What a call needs on its way through the middleware."""

    ctx: RunContext[Any]
    spec: AgentSpec
    threads: Threads
    call: ToolCall
    arguments: Arguments | ToolArgumentsInvalid | None
    """The parsed arguments of `call`, or the error of parsing them; None if it is not parsed yet."""
    done: Done | None = None
    """The result of a call that took effect before a crash."""
    repairs: list[str] = field(default_factory=list)


async def _through_middleware(context: _CallContext) -> Any:
    middleware = context.spec.middleware
    if not middleware:  # rendered immediately: a later call that changes the returned object must not change this answer
        return await _invoke(context, context.call, _rendered)
    inner = partial(_invoke, context)
    for layer in reversed(middleware):
        inner = partial(_layered, layer, inner, context.ctx)
    return await inner(context.call)


async def _layered(layer: Any, inner: Any, ctx: RunContext[Any], call: ToolCall) -> Any:
    return await layer.tool_call(call, ctx, inner)


async def _invoke(context: _CallContext, call: ToolCall, finish: Callable[[Any], Any] | None = None) -> Any:
    if context.done is not None:
        return finish(context.done.result) if finish else context.done.result
    tool = context.spec.tools.get(call.name)
    if tool is None:
        raise ModelRetry(unknown_tool(call.name, context.spec.tools))
    known = context.arguments if call == context.call else None
    if isinstance(known, ToolArgumentsInvalid):
        raise known
    context.arguments = None  # for one call of the function, which may change them
    arguments = await tool.parsed(call.arguments, context.threads) if known is None else known
    context.repairs += arguments.repairs
    return await tool.invoke(arguments, context.ctx, context.threads, finish)


def unknown_tool(name: str, tools: ToolRegistry) -> str:
    """The message for a model that calls an unknown tool: it lists the existing tools, the most similar names first."""
    name = name if len(name) <= 200 else f"{name[:200]}..."
    names = [wire_name(tool.name) for tool in tools]  # as the model knows them
    nearest = nearest_names(name, names)
    ordered = nearest + [n for n in names if n not in nearest]
    return f"there is no tool {name!r}; the tools are: {', '.join(ordered[:50]) or 'none'}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  an exception may fail to print itself
        return "(no text)"


def describe_error(error: BaseException, hide: Callable[[str], str] = str) -> str:
    """An exception's type and short text for the model, without secrets. `hide` removes the model's own key."""
    text = _text_of(error)
    if isinstance(error, BaseExceptionGroup):
        text += ": " + "; ".join(describe_error(inner, hide) for inner in error.exceptions[:5])
    short = short_text(text, hide)
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


def short_text(text: str, hide: Callable[[str], str] = str) -> str:
    """A text of the program for the model: at most 500 characters, without secrets. `hide` removes the model's own key."""
    seen = redact(hide(text[: 4 * _MAX_MESSAGE]))  # a long text is cut first, so that it takes no longer
    return seen if max(len(seen), len(text)) <= _MAX_MESSAGE else f"{seen[:_MAX_MESSAGE]}... ({len(text)} characters)"


class _Rendered(NamedTuple):
    """A tool's value as text for the model, and what goes beside it."""

    text: str
    is_json: bool
    parts: tuple[Part, ...] = ()
    artifact: Any = None


def _rendered(value: Any) -> _Rendered:
    """The value as text. A part, or a list of texts and parts, is text with its label, and the parts.

    Raises TypeError for a part among other values, since its data would be sent as text.
    """
    if isinstance(value, ToolReturn):
        return _Rendered(plain_text(value.text), False, tuple(value.parts), value.artifact)
    items = value if isinstance(value, list | tuple) else (value,)
    parts = tuple(item for item in items if isinstance(item, Part))
    if parts and all(isinstance(item, str | Part) for item in items):
        return _Rendered(plain_text(content_text(items)), False, parts)
    if parts or (isinstance(value, dict) and any(isinstance(item, Part) for item in value.values())):
        raise TypeError("the tool returned an image, audio or a file among other values; return ToolReturn(text, parts=[...])")
    return _Rendered(render(value), not isinstance(value, str))


def render(value: Any) -> str:
    """A tool's value as text for the model: text unchanged, anything else as JSON.

    Raises TypeError, which names the type, for a value that JSON cannot hold.
    """
    if isinstance(value, str):
        return plain_text(value)
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(value, inf_nan_mode="strings").decode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise TypeError(
            f"the tool returned {with_article(type(value).__name__)}, which JSON cannot hold ({str(error)[:200]}); "
            "return text, numbers, lists, dicts, dataclasses or pydantic models"
        ) from None
