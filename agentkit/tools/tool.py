"""The `tool` decorator and the `Tool` that it makes of a function."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from .._sync import check_loop
from .._threads import Threads
from ..errors import Suspended, ToolArgumentsInvalid, ToolDefinitionError
from ..model import ToolSpec
from ..names import object_at, wire_name
from ..redact import redacted_traceback
from ..schema import Arguments, Signature, describe, result_schema
from ..schema.context import context_class
from ..schema.parse import LONG_TEXT
from .claims import Claims
from .context import CallScope, RunContext
from .options import ToolOptions, check_known, check_name, check_option, names_of
from .reconcile import Reconcile
from .tasks import NoResult, run_with_timeout
from .values import async_value, completed_call, copied, is_async, sync_value

__all__ = ["AnyTool", "CallScope", "RunContext", "Tool", "ToolOptions", "tool"]

log = logging.getLogger("agentkit")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Tool(Generic[P, R]):
    """A function that a model can call, made by `tool`. Programs can still call it like the function.

    The labels `read_only`, `destructive`, `idempotent` and `open_world` are MCP's annotations with MCP's defaults. Policies
    read them, as well as `sensitive`, `output` and `trusted_fields`.
    """

    function: Callable[P, R]
    name: str
    """The name that the model sees; that of the function unless given."""
    description: str
    """What the model reads about the tool; the text of the function's docstring unless given."""
    signature: Signature = field(repr=False)
    timeout: float | None = None
    """Seconds after which the run stops waiting for a call, and the model gets an error."""
    retries: int | None = None
    """How often in a row the model may retry a failed call. Further calls are refused. None: no limit."""
    max_output: int | None = 100_000
    """Max characters of a result that the model gets. A longer one is cut in the middle, with a count of what is left out."""
    returns: bool = False
    """Describe the result to the model beforehand, with the docstring's text on it and its JSON Schema."""
    parallel: bool = False
    """The sync function may run in several threads concurrently (`read_only` implies it)."""
    sequential: bool = False
    """A call runs alone: after the previous calls of the reply, and before the later ones."""
    final: bool = False
    """A result of this tool is the answer of the run: the model is not asked again. An error goes to the model as usual."""
    strict: bool = False
    """Use the server's strict function mode."""
    approval: bool | Callable[..., bool] = False
    """A call needs an approval: always, or if this function of the call's arguments says so."""
    enabled: bool | Callable[[Any], bool | Awaitable[bool]] = True
    """Whether the tool is offered. A function of the `RunContext` is asked once for each run and resume; it may be async."""
    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True
    sensitive: Iterable[str] = ()
    """Names of arguments that choose a destination or a victim. Stored as a tuple."""
    reconcile: Reconcile | None = None
    """Asked on resume about a call that was started and has no result, unless it may be repeated. It gets the idempotency key
    and a dict of the arguments, and returns `Done(result)`, `NotDone()` or `Unknown()`; it may be async."""
    output: Literal["untrusted", "trusted"] = "untrusted"
    trusted_fields: Iterable[str] = ()

    def __post_init__(self) -> None:
        self._check_options()
        self._full_description()
        names = (name for name in functools.WRAPPER_ASSIGNMENTS if hasattr(self.function, name))
        vars(self).update({name: getattr(self.function, name) for name in names}, __wrapped__=self.function)

    def _check_options(self) -> None:
        check_name(self.name)
        for option in ToolOptions.__annotations__:
            check_option(self.name, option, getattr(self, option))
        for option in ("sensitive", "trusted_fields"):
            object.__setattr__(self, option, names_of(self.name, option, getattr(self, option)))
        if unknown := sorted({*self.sensitive} - {*self.parameters.get("properties", {})}):
            raise ToolDefinitionError(f"tool {self.name!r}: sensitive names no parameter of it: {', '.join(unknown)}")

    def __copy__(self) -> Tool[P, R]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tool[P, R]:
        """Itself, as a function is; a tool of the copy, if its function is a method or a partial of a copied object."""
        function = _of_copies(self.function, memo)
        return self if function is self.function else replace(self, function=function)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickled by its name, like a function, if its module has it under that name; else by its function and options."""
        options = {name: getattr(self, name) for name in ToolOptions.__annotations__}
        if not self.signature.is_of_function:
            return _unpickled_schema, (self.parameters, self.function, options)
        found = _module_tool(self.function)
        if found is self:
            return str(found.__qualname__)  # type: ignore[attr-defined]
        return _unpickled, (found or self.function, {name: getattr(self, name) for name in ToolOptions.__annotations__})

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON Schema of the arguments."""
        return self.signature.parameters

    @cached_property
    def is_async(self) -> bool:
        """Whether the function must be awaited. A sync function runs in a thread."""
        target = self.function
        while isinstance(target, functools.partial):
            target = target.func
        return any(map(is_async, (target, type(target).__call__)))

    @cached_property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it."""
        return ToolSpec(self.name, self._full_description(), self.parameters, self.strict)

    def result_schema(self) -> dict[str, Any]:
        """The JSON Schema of the result, from the annotation; `{}` without one. The docstring gives its description.

        Raises `ToolDefinitionError` if JSON cannot hold the annotated type.
        """
        schema = result_schema(self.function)
        return {**schema, "description": self.signature.returns} if self.signature.returns else schema

    def _full_description(self) -> str:
        """The description. With `returns` it includes the result, for which the API has no field."""
        if not self.returns:
            return self.description
        schema = json.dumps(self.result_schema(), ensure_ascii=False)
        return f"{self.description}\n\nThe JSON Schema of the result: {schema}"

    def schema(self) -> dict[str, Any]:
        """The tool in the form of the chat-completions API: `{"type": "function", "function": {...}}`.

        A name that servers do not accept is replaced by its `wire_name`.
        """
        function = {"name": wire_name(self.name), "description": self._full_description(), "parameters": self.parameters}
        return {"type": "function", "function": {**function, "strict": True} if self.strict else function}

    def parse(self, arguments: str | bytes | dict[str, Any]) -> Arguments:
        """The arguments, converted to the function's types. Raises `ToolArgumentsInvalid`, with a message for the model.

        Broken arguments with only one possible meaning are repaired. `.repairs` lists the repairs; docs/calls.md has the table.
        """
        if isinstance(arguments, dict):
            from pydantic_core import PydanticSerializationError, to_json

            try:
                arguments = to_json(arguments, inf_nan_mode="constants")
            except (PydanticSerializationError, ValueError) as error:
                raise ToolArgumentsInvalid(f"the arguments hold what JSON cannot: {error}") from None
        return self.signature.parse(arguments, self.name)

    async def parsed(self, arguments: str, threads: Threads) -> Arguments:
        """Like `parse`, but a long text is parsed in a thread, so that it does not block the event loop."""
        if len(arguments) <= LONG_TEXT:
            return self.parse(arguments)
        return await threads.run(partial(self.parse, arguments))

    @cached_property
    def claims(self) -> Claims:
        """The approved calls of this tool that have run in this process."""
        return Claims()

    @staticmethod
    def from_schema(
        name: str, description: str, parameters: Mapping[str, Any], call: Callable[..., Any], **options: Any
    ) -> AnyTool:
        """A tool of a JSON Schema: `call` gets the validated arguments as one dict, and the `RunContext` if it takes two.

        `parameters` is the schema of an object, and goes to the model as it is. Any schema can be used, except for references
        to other documents; `format` is not checked. `options` are those of `@tool`. Raises `ToolDefinitionError` for a schema
        that cannot be used, or with a keyword whose value means nothing, such as an unknown `type`.
        """
        from ..schema.foreign import foreign_signature

        check_known(f"tool {name!r}", options)
        signature = foreign_signature(call, name, description, parameters, RunContext)
        return Tool(call, name, description, signature, **options)

    @staticmethod
    def outside(name: str, description: str, parameters: Mapping[str, Any], **options: Any) -> AnyTool:
        """A tool that somebody else carries out: a browser, a person, another service.

        A call of it pauses the run when nothing else is left to do: it is in `result.pending`, and the `stop_reason` is
        "pending_result". `agent.resume(state, results={call_id: value})` goes on. `parameters` and `options` are those of
        `from_schema`.
        """
        wait = partial(_wait)  # not the function itself, which is shared
        vars(wait)["is_outside"] = True
        return Tool.from_schema(name, description, parameters, wait, **options)

    @property
    def is_run(self) -> bool:
        """Whether a call of the tool is a child run, which can continue after a crash if it has a log of its own."""
        return getattr(self.function, "is_run", False)

    @property
    def is_outside(self) -> bool:
        """Whether somebody else carries its calls out; see `Tool.outside`."""
        return getattr(self.function, "is_outside", False)

    @property
    def may_repeat(self) -> bool:
        """Whether a started call, which may have taken effect, may be run again."""
        return self.read_only or self.idempotent

    def needs_approval(self, arguments: Arguments) -> bool:
        """Whether a call with these arguments needs an approval. A predicate must return False to prevent it, and not raise."""
        if not callable(self.approval):
            return self.approval
        try:
            return self.approval(**copied(arguments.values)) is not False
        except Exception as error:  # noqa: BLE001  of the program's own predicate
            log.warning("the approval predicate of %s failed, so its call waits\n%s", self.name, redacted_traceback(error))
            return True

    def completed_arguments(self, arguments: Arguments) -> str:
        """The JSON text of a call with these arguments: those that the model gave, repaired and completed with defaults.

        If JSON cannot hold a default, it is left out. If the completed text would parse to other values, all defaults are.
        """
        return completed_call(arguments, self.parse)

    async def call(self, arguments: str | bytes | dict[str, Any] = "{}", *, deps: Any = None) -> Any:
        """Parse the arguments and run the function, without an agent. Returns its value, and raises its errors."""
        check_loop()
        return await self.invoke(self.parse(arguments), RunContext(deps), Threads())

    async def invoke(
        self, arguments: Arguments, ctx: RunContext[Any], threads: Threads, finish: Callable[[Any], Any] | None = None
    ) -> Any:
        """Run the function, for at most `timeout`: in a task of this loop if it is async, or else in a thread.

        The task or thread gets a copy of the caller's context variables. `finish` converts the value there.
        Raises `NoResult` after `timeout`. Other errors of the function, a TimeoutError included, are raised unchanged.
        """
        positional, keyword = self.signature.bind(arguments, ctx)
        run = functools.partial(self.function, *positional, **keyword)
        if self.is_async:
            return await run_with_timeout(async_value(run, ctx, finish), self.timeout)
        scope = asyncio.timeout(self.timeout)
        try:
            async with scope:
                result = await threads.run(lambda: sync_value(run(), ctx, finish))
        except TimeoutError:
            if scope.expired():
                raise NoResult(self.timeout or 0.0) from None
            raise
        if inspect.isawaitable(result) or inspect.isasyncgen(result):
            return await run_with_timeout(async_value(lambda: result, ctx, finish), self.timeout)
        return result


async def _wait(arguments: dict[str, Any]) -> Any:
    raise Suspended


def _of_copies(function: Any, memo: Mapping[int, Any]) -> Any:
    """The function in a deep copy: its object or its bound arguments are the copies, where `memo` has some."""
    if inspect.ismethod(function) and id(function.__self__) in memo:
        return function.__func__.__get__(memo[id(function.__self__)])
    if isinstance(function, partial) and any(id(value) in memo for value in (*function.args, *function.keywords.values())):
        keywords = {name: memo.get(id(value), value) for name, value in function.keywords.items()}
        made = partial(function.func, *(memo.get(id(value), value) for value in function.args), **keywords)
        vars(made).update(vars(function))
        return made
    return function


def _module_tool(function: Any) -> AnyTool | None:
    """The tool that replaces the function in its module, or None."""
    found = object_at(getattr(function, "__module__", None) or "", getattr(function, "__qualname__", ""))
    return found if isinstance(found, Tool) and found.function is function else None


AnyTool: TypeAlias = Tool[..., Any]


@overload
def tool(fn: Callable[P, R], /, **options: Unpack[ToolOptions]) -> Tool[P, R]: ...
@overload
def tool(**options: Unpack[ToolOptions]) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(fn: Callable[..., Any] | None = None, /, **options: Unpack[ToolOptions]) -> Any:
    """Make a function a tool: `@tool`, `@tool(timeout=5)` or `tool(fn, name="other")`.

    The schema comes from the signature, and the descriptions come from the docstring (Google, NumPy, reST or Epydoc style). A
    parameter annotated `RunContext` is not shown to the model. A generator is a streaming tool: its result is the list of its
    items, and each item is also reported as progress (see `RunContext.progress`: slow observers miss some). Raises
    `ToolDefinitionError`, which says what to do, if the function, a parameter or an option cannot be used.
    """
    if fn is None:
        return lambda function: tool(function, **options)
    check_known("@tool", options)
    if isinstance(fn, Tool):
        return replace(fn, **options)
    if not callable(fn):
        raise ToolDefinitionError(f"a tool is made of a function, not of {type(fn).__name__} {fn!r:.60}")
    signature = describe(fn, context_of=partial(context_class, base=RunContext))
    target = fn.func if isinstance(fn, functools.partial) and not hasattr(fn, "__name__") else fn
    defaults = {"name": getattr(target, "__name__", type(target).__name__), "description": signature.description}
    return Tool(function=fn, signature=signature, **{**defaults, **options})  # type: ignore[arg-type]


def _unpickled_schema(parameters: Any, call: Any, options: dict[str, Any]) -> AnyTool:
    return Tool.from_schema(options.pop("name"), options.pop("description"), parameters, call, **options)


def _unpickled(source: Any, options: Any) -> AnyTool:
    return tool(source, **options)
