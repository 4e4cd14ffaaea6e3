"""Tools: what the decorator makes of a function, the registry, and what a running tool is told."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import inspect
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, NewType, Optional, TypeVar

import pytest
import typing_extensions as te
from pydantic import BaseModel

from agentkit import (
    Agent,
    NotDone,
    RunContext,
    ScriptedModel,
    Tool,
    ToolArgumentsInvalid,
    ToolCall,
    ToolDefinitionError,
    ToolProgress,
    ToolRegistry,
    tool,
)
from agentkit._threads import Threads
from agentkit.testing import call
from agentkit.tools.registry import as_tools
from agentkit.tools.tool import AnyTool, ToolOptions

T = TypeVar("T")
NAN, INF = float("nan"), float("inf")


class Later:
    async def __call__(self, **arguments: Any) -> bool:
        return False


class Point(BaseModel):
    x: int
    y: int = 0


@tool
def add(x: int, y: int = 2) -> int:
    """Add two numbers.

    Args:
        x: The first.
    """
    return x + y


@tool(timeout=5, read_only=True)
async def twice(point: Point) -> Point:
    """Twice the point."""
    return Point(x=2 * point.x, y=2 * point.y)


def run(made: AnyTool, arguments: Any = "", **given: Any) -> Any:
    return asyncio.run(made.call(arguments, **given))


# ---- the tool is still the function


def test_a_tool_is_called_as_the_function_that_it_is() -> None:
    assert add(1) == 3 and add(1, y=1) == 2
    assert asyncio.run(twice(Point(x=1))) == Point(x=2)


def test_a_tool_looks_like_its_function() -> None:
    assert isinstance(add, Tool)
    assert [getattr(add, name) for name in ("__name__", "__qualname__", "__module__")] == ["add", "add", __name__]
    assert (add.__doc__ or "").startswith("Add two numbers.")
    assert str(inspect.signature(add)) == "(x: 'int', y: 'int' = 2) -> 'int'"
    assert inspect.unwrap(add) is add.function


def test_a_changed_tool_keeps_all_but_the_change() -> None:
    other = tool(twice, name="double", retries=1)
    assert (other.name, other.retries, other.timeout, other.read_only) == ("double", 1, 5, True)
    assert (vars(other)["__name__"], other.__doc__, other.function) == ("twice", "Twice the point.", twice.function)
    assert other.is_async and other.spec.name == "double" and twice.spec.name == "twice"


def test_a_tool_is_a_value_of_its_own() -> None:
    assert add == add and tool(add) != add
    assert len({add, twice, tool(add)}) == 3
    with pytest.raises(AttributeError):
        add.name = "other"  # type: ignore[misc]


def test_the_three_ways_to_make_a_tool_are_equal() -> None:
    def fn(x: int) -> int:
        """Doc."""
        return x

    decorator: Callable[[Callable[[int], int]], AnyTool] = tool(name="f", timeout=3)
    for made in (tool(fn, name="f", timeout=3), decorator(fn), tool(tool(fn), name="f", timeout=3)):
        assert (made.name, made.timeout, made.description) == ("f", 3, "Doc.")
        assert made.schema() == tool(fn, name="f").schema()


def test_the_schema_is_that_of_the_api() -> None:
    assert add.schema() == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "x": {"type": "integer", "description": "The first."},
                    "y": {"type": "integer", "default": 2},
                },
                "required": ["x"],
                "additionalProperties": False,
            },
        },
    }
    assert tool(add, strict=True).schema()["function"]["strict"] is True
    assert tool(add, description="mine").schema()["function"]["description"] == "mine"


def test_the_labels_have_mcps_defaults_and_are_kept() -> None:
    assert (add.read_only, add.destructive, add.idempotent, add.open_world) == (False, True, False, True)
    assert (add.sensitive, add.output, add.trusted_fields) == ((), "untrusted", ())
    options: ToolOptions = {
        "name": "n",
        "description": "d",
        "timeout": 1.5,
        "retries": 2,
        "max_output": 500,
        "returns": True,
        "parallel": True,
        "sequential": True,
        "final": True,
        "strict": True,
        "approval": True,
        "enabled": False,
        "read_only": True,
        "destructive": False,
        "idempotent": True,
        "open_world": False,
        "sensitive": ("x",),
        "reconcile": lambda key, arguments: NotDone(),
        "output": "trusted",
        "trusted_fields": ("id",),
    }
    assert {*options} == {*ToolOptions.__annotations__}
    made = tool(add, **options)
    assert {name: getattr(made, name) for name in options} == options


# ---- every kind of function


class Service:
    def __init__(self, base: int) -> None:
        self.base = base

    def above(self, x: int) -> int:
        """More than the base."""
        return self.base + x

    async def later(self, x: int) -> int:
        return self.base + x

    @staticmethod
    @tool
    def static(x: int) -> int:
        return x

    def __call__(self, x: int) -> int:
        """Call it."""
        return self.base * x


class AsyncService:
    async def __call__(self, x: int) -> int:
        return -x


@pytest.mark.parametrize(
    ("fn", "options", "name", "is_async", "result"),
    [
        (Service(10).above, {}, "above", False, 11),
        (Service(10).later, {}, "later", True, 11),
        (Service(10).static, {}, "static", False, 1),
        (Service(10), {}, "Service", False, 10),
        (AsyncService(), {}, "AsyncService", True, -1),
        (lambda x: x + 5, {"name": "five"}, "five", False, 6),
        (functools.partial(add.function, y=7), {}, "add", False, 8),
        (functools.partial(add, y=7), {}, "add", False, 8),
        (functools.partial(Service(10).later), {}, "later", True, 11),
    ],
)
def test_what_can_be_a_tool(fn: Any, options: Any, name: str, is_async: bool, result: int) -> None:
    made = tool(fn, **options)
    assert (made.name, made.is_async) == (name, is_async)
    assert run(made, {"x": 1}) == result


UNKNOWN: Any = {"colour": "red"}
NO_FUNCTION: Any = 3
CLASS_METHOD: Any = classmethod(lambda cls: None)


def test_a_method_is_refused_where_it_has_no_object() -> None:
    with pytest.raises(ToolDefinitionError, match=r"parameter 'self': a method has no object yet; use tool\(object.method\)"):

        class Files:
            @tool
            def read(self, path: str) -> str:
                return path


def given(**options: Any) -> Any:
    """Options as a caller without a type checker gives them."""
    return options


OPTIONS: list[tuple[str, list[Any], str]] = [
    ("timeout", [0, -1, NAN, INF, -INF, True, "5", 1j], "None or seconds above 0"),
    ("retries", [-1, 1.5, 2.0, NAN, INF, True, "1"], "None or a whole number of at least 0"),
    ("max_output", [99, 1e3, 100.5, NAN, INF, True, "500"], "None or a whole number of at least 100"),
    ("read_only", [1, None, "no"], "True, False"),
    ("strict", ["yes"], "True, False"),
    ("parallel", [0], "True, False"),
    ("description", [None, b"x", 3], "text"),
    ("output", ["safe", None, True], "untrusted, trusted"),
    ("approval", [1, "always", None], "True, False, or a plain function of the arguments"),
]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tool(add, **UNKNOWN), "@tool has no option colour; it has name, description, timeout"),
        (lambda: tool(add.function, **UNKNOWN), "@tool has no option colour"),
        (lambda: tool(**UNKNOWN)(add.function), "@tool has no option colour"),
        (
            lambda: tool(lambda x: x),
            "tool name '<lambda>': a name has 1 to 200 printable characters except for < and >; give one with @tool(name=...)",
        ),
        (lambda: tool(add, name=""), "tool name ''"),
        (lambda: tool(add, name=" a"), "tool name ' a'"),
        (lambda: tool(add, name="a\n"), "tool name 'a\\n'"),
        (lambda: tool(add, name="x" * 201), "a name has 1 to 200"),
        (lambda: tool(NO_FUNCTION), "a tool is made of a function, not of int 3"),
        (lambda: tool(CLASS_METHOD), "a tool is made of a function, not of classmethod"),
        (lambda: tool(add, sensitive=("z", "x")), "tool 'add': sensitive names no parameter of it: z"),
        (lambda: tool(add, sensitive="x"), "tool 'add': sensitive is 'x'; allowed: names, as a tuple or a list"),
        (lambda: tool(add, **given(trusted_fields=b"id")), "tool 'add': trusted_fields is b'id'; allowed: names"),
        (lambda: tool(add, **given(sensitive=3)), "tool 'add': sensitive is 3; allowed: names"),
        (lambda: tool(add, sensitive=(n for n in ("z",))), "tool 'add': sensitive names no parameter of it: z"),
        (lambda: tool(add, **given(trusted_fields=["a", 1])), "tool 'add': trusted_fields holds 1; allowed: names"),
        *(
            (functools.partial(tool, add, **given(**{option: value})), f"tool 'add': {option} is {value!r}; allowed: {allowed}")
            for option, values, allowed in OPTIONS
            for value in values
        ),
        (lambda: tool(add, **given(approval=Later())), "allowed: True, False, or a plain function of the arguments"),
        (lambda: tool(add, **given(approval=functools.partial(Later().__call__))), "allowed: True, False, or a plain function"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_at_once(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ToolDefinitionError) as caught:
        make()
    assert says in str(caught.value)


def test_names_may_come_in_any_iterable() -> None:
    for given in (["y", "x"], ("y", "x"), (name for name in "yx"), {"y": 1, "x": 2}, iter(["y", "x"])):
        made = tool(add, sensitive=given, trusted_fields=(name for name in ["id"]))
        assert (made.sensitive, made.trusted_fields) == (("y", "x"), ("id",))
    assert tool(add, sensitive={"y", "x"}).sensitive == ("x", "y"), "a set has no order that lasts"
    assert ToolRegistry(one for one in (add, twice)).schemas() == ToolRegistry([add, twice]).schemas()


# ---- the context


def first(ctx: RunContext[str], x: int) -> Any:
    return ctx.deps, x


def last(x: int, *, ctx: RunContext) -> Any:  # type: ignore[type-arg]
    return ctx.deps, x


def before_the_slash(ctx: RunContext[str], /, x: int) -> Any:
    return ctx.deps, x


def optional(x: int, ctx: RunContext[str] | None = None) -> Any:
    return ctx.deps if ctx else None, x


def noted(x: int, ctx: Annotated[RunContext[str], "not for the model"]) -> Any:
    return ctx.deps, x


def starred(ctx: RunContext[str], *rest: int, x: int) -> Any:
    return ctx.deps, x


async def of_async(x: int, ctx: RunContext[str]) -> Any:
    return ctx.deps, x


class Own(RunContext[str]):
    """The program's own name for it."""

    @property
    def shouted(self) -> str:
        return self.deps.upper()


@dataclasses.dataclass(frozen=True)
class More(RunContext[str]):
    extra: int = 3


@dataclasses.dataclass(frozen=True)
class Needs(RunContext[str]):
    extra: int = dataclasses.field(kw_only=True)


class OwnInit(RunContext[str]):
    def __init__(self, deps: str, *, connection: object) -> None: ...


Alias = RunContext[str]
TypeAlias = te.TypeAliasType("TypeAlias", RunContext[str])
OfOwn = te.TypeAliasType("OfOwn", Own)
OfDeps = te.TypeAliasType("OfDeps", RunContext[T], type_params=(T,))
New = NewType("New", RunContext[str])
NewOwn = NewType("NewOwn", Own)
Bound = TypeVar("Bound", bound=RunContext[str])


@pytest.mark.parametrize(
    "annotation",
    [
        RunContext, Alias, TypeAlias, OfOwn, OfDeps[str], New, NewOwn, Bound, Own, More, Own | None, TypeAlias | None,
        Optional[More], Annotated[Own, "not for the model"], Annotated[TypeAlias | None, "x"],  # noqa: UP045
        "Own", "TypeAlias", "Optional[New]", "Alias",
    ],
)  # fmt: skip
def test_the_context_is_known_by_every_name(annotation: Any) -> None:
    def look(ctx: Any, x: int) -> Any:
        return ctx

    look.__annotations__["ctx"] = annotation
    made = tool(look)
    assert list(made.parameters["properties"]) == ["x"]
    found = run(made, {"x": 1}, deps="deps")
    assert isinstance(found, RunContext) and found.deps == "deps"


def test_a_subclass_of_the_context_gets_an_instance_of_it() -> None:
    @tool
    def look(own: Own, more: More, plain: RunContext[str]) -> str:
        own.progress(own.call.name)
        return f"{own.shouted} {more.deps} {more.extra} {type(plain).__name__} {own.scope is plain.scope}"

    stream = Agent(ScriptedModel([call("look"), "end"]), tools=[look]).stream_sync("go", deps="d")
    told = [event.data for event in stream if isinstance(event, ToolProgress)]
    assert told == ["look"]
    assert stream.result.messages[-2].content == "D d 3 RunContext True"  # type: ignore[union-attr]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax of PEP 695 needs Python 3.12")
def test_the_context_by_a_type_statement() -> None:
    scope: dict[str, Any] = {"RunContext": RunContext, "tool": tool}
    exec("type Ctx[D] = RunContext[D]\ntype Mine = Ctx[str] | None\ndef look(ctx: Mine, x: int): return ctx.deps", scope)
    made = tool(scope["look"])
    assert list(made.parameters["properties"]) == ["x"] and run(made, {"x": 1}, deps="deps") == "deps"


@pytest.mark.parametrize("kind", [Needs, OwnInit])
def test_a_subclass_that_needs_more_than_a_run_has_is_refused(kind: Any) -> None:
    def look(ctx: Any) -> None: ...

    look.__annotations__["ctx"] = kind
    with pytest.raises(
        ToolDefinitionError, match=f"parameter 'ctx': {kind.__name__} is a RunContext that needs more than a run"
    ):
        tool(look)


class OfObject:
    def __call__(self, x: int, ctx: RunContext[str]) -> Any:
        return ctx.deps, x


@pytest.mark.parametrize(
    "fn", [first, last, before_the_slash, optional, noted, starred, of_async, OfObject(), OfObject().__call__]
)
def test_the_context_is_filled_wherever_it_stands_and_not_shown(fn: Any) -> None:
    made = tool(fn, name="f")
    assert "ctx" not in str(made.parameters)
    assert run(made, {"x": 1}, deps="deps") == ("deps", 1)


def test_the_model_cannot_fill_the_context() -> None:
    with pytest.raises(ToolArgumentsInvalid, match="ctx: unknown parameter; known: x"):
        tool(first).parse('{"x": 1, "ctx": 2}')


def test_a_context_tells_the_call_its_key_and_takes_progress() -> None:
    reported: list[Any] = []

    class Scope:
        def report(self, data: Any) -> None:
            reported.append(data)

    ctx = RunContext(None, "run-1", ToolCall("a", "f"), 4, Scope())
    ctx.progress({"done": 0.5})
    assert reported == [{"done": 0.5}]
    key = ctx.idempotency_key
    assert key == "run-1:4"
    assert RunContext(None, "run-1", ToolCall("b", "f"), 4).idempotency_key == key, "the same call, made again"
    others = [
        RunContext(None, "run-2", ctx.call, 4),
        RunContext(None, "run-1", ctx.call, 5),
        RunContext(None, "run-1", ctx.call, 4, attempt=1),
        RunContext(None, "run-1", ToolCall("a", "g"), 4, attempt=1),
        RunContext(None, "run-1", ToolCall("a", "f", "[]"), 4, attempt=2),
    ]
    assert len({key, *(other.idempotency_key for other in others)}) == 6
    RunContext(None).progress("nobody watches")


# ---- running


def test_arguments_arrive_as_models() -> None:
    assert run(twice, '{"point": {"x": 2, "y": 3}}') == Point(x=4, y=6)
    assert run(twice, b'{"point": {"x": 2}}') == Point(x=4)
    assert run(add, {"x": 5}) == 7
    with pytest.raises(ToolArgumentsInvalid, match="x: required, but missing"):
        run(add, "{}")
    with pytest.raises(ToolArgumentsInvalid, match="the text of the arguments is empty"):
        run(add, "")


USER: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def test_a_sync_function_runs_in_a_thread_with_the_context_variables_and_an_async_one_in_the_loop() -> None:
    def where() -> Any:
        return threading.get_ident(), USER.get()

    async def where_async() -> Any:
        return threading.get_ident(), USER.get()

    async def main() -> Any:
        USER.set("ann")
        return await tool(where).call(), await tool(where_async).call()

    (thread, seen), (loop_thread, seen_async) = asyncio.run(main())
    assert thread != threading.get_ident() == loop_thread
    assert (seen, seen_async) == ("ann", "ann")


def test_a_sync_function_that_returns_an_awaitable_is_awaited() -> None:
    async def later(x: int) -> int:
        return x + 1

    def wrapper(x: int) -> Any:
        return later(x)

    assert run(tool(wrapper), {"x": 1}) == 2


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("mine"), KeyError("k")])
def test_what_a_function_raises_comes_out_as_it_is(error: Exception) -> None:
    def sync() -> None:
        raise error

    async def not_sync() -> None:
        raise error

    for fn in (sync, not_sync):
        with pytest.raises(type(error)) as caught:
            run(tool(fn, timeout=60))
        assert caught.value is error


def test_a_call_that_takes_too_long_is_given_up() -> None:
    release, cancelled = threading.Event(), []

    def hang() -> None:
        release.wait(30)

    async def hang_async() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    try:
        for fn in (hang, hang_async):
            with pytest.raises(TimeoutError, match=r"no result within 0\.01 seconds"):
                run(tool(fn, timeout=0.01))
    finally:
        release.set()
    assert cancelled == [True]


def test_a_timeout_of_the_caller_is_not_taken_for_that_of_the_tool() -> None:
    @tool(timeout=60)
    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.timeout(0.01):
            await hang.call()

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())
    assert "no result within" not in str(caught.value)


def test_invoke_uses_the_threads_that_it_is_given() -> None:
    class Counting(Threads):
        used = 0

        async def run(self, fn: Callable[[], Any]) -> Any:
            self.used += 1
            return await super().run(fn)

    threads = Counting()
    asyncio.run(add.invoke(add.parse('{"x": 1}'), RunContext(None), threads))
    asyncio.run(twice.invoke(twice.parse('{"point": {"x": 1}}'), RunContext(None), threads))
    assert threads.used == 1


@pytest.mark.parametrize(
    ("approval", "arguments", "needed"),
    [
        (False, '{"x": 1}', False),
        (True, '{"x": 1}', True),
        (lambda x, y: x + y > 10, '{"x": 9}', True),
        (lambda x, y: x + y > 10, '{"x": 8}', False),
        (lambda x, y: None, '{"x": 8}', True),
        (lambda x, y: 0, '{"x": 8}', True),
        (lambda x, y: 1 / 0, '{"x": 8}', True),
        (lambda x: False, '{"x": 8}', True),
    ],
)
def test_an_approval_is_needed_always_never_or_by_the_arguments(approval: Any, arguments: str, needed: bool) -> None:
    made = tool(add, approval=approval)
    assert made.needs_approval(made.parse(arguments)) is needed


# ---- the registry


def test_a_registry_decorates_and_collects() -> None:
    registry = ToolRegistry()

    @registry.tool
    def one() -> None: ...

    @registry.tool(name="two", timeout=3)
    async def other() -> None: ...

    registry.add([add, [twice]])
    assert [item.name for item in registry] == ["one", "two", "add", "twice"]
    assert isinstance(one, Tool) and isinstance(other, Tool) and registry["two"] is other and other.timeout == 3
    assert "add" in registry and "nope" not in registry and len(registry) == 4
    assert registry.get("nope") is None and registry.get("add") is add
    assert registry.schemas() == [item.schema() for item in (one, other, add, twice)]
    assert repr(registry) == "ToolRegistry(one, two, add, twice)"


def test_registries_combine() -> None:
    a, b = ToolRegistry([add]), ToolRegistry(twice)
    assert [item.name for item in a | b] == ["add", "twice"]
    assert [item.name for item in a | twice | [tool(add, name="more")]] == ["add", "twice", "more"]
    assert list(a | a) == [add]
    assert len(a) == 1  # the parts are not changed


def test_a_part_of_a_registry_and_longer_names() -> None:
    registry = ToolRegistry([add, twice])
    assert list(registry.only("twice")) == [twice]
    longer = registry.prefix("w_")
    assert [item.name for item in longer] == ["w_add", "w_twice"]
    assert longer["w_twice"].timeout == 5 and run(longer["w_add"], {"x": 1}) == 3
    with pytest.raises(ToolDefinitionError, match="a name has 1 to 200"):
        registry.prefix("no lines\n")


def test_a_name_stands_for_one_tool() -> None:
    with pytest.raises(ToolDefinitionError, match=r"two tools are called 'add'; rename one with tool\(fn, name=...\)"):
        ToolRegistry([add, tool(add)])
    assert list(ToolRegistry([add, add])) == [add]


@pytest.mark.parametrize("look", [lambda r: r["sub"], lambda r: r.only("add", "sub")])
def test_an_unknown_name_is_answered_with_the_known_ones(look: Any) -> None:
    with pytest.raises(KeyError, match="no tool 'sub'; there are: add, twice"):
        look(ToolRegistry([add, twice]))


def test_tools_are_found_in_anything_that_holds_them() -> None:
    def plain() -> None: ...

    found = list(as_tools([plain, (twice, {add: 1}), ToolRegistry([tool(add, name="more")]), iter(())]))
    assert [item.name for item in found] == ["plain", "twice", "add", "more"]
    with pytest.raises(ToolDefinitionError, match="a tool is made of a function, not of int 3"):
        list(as_tools([3]))  # type: ignore[list-item]


class Weather(BaseModel):
    degrees: int
    wind: str = ""


def weather(city: str) -> Weather:
    """Weather in a city.

    Returns:
        Today's values.
    """
    return Weather(degrees=len(city))


async def forecast(city: str) -> AsyncIterator[int]:
    """Degrees of the next days."""
    yield len(city)


def test_the_result_is_described_on_request() -> None:
    schema = tool(weather).result_schema()
    assert schema["description"] == "Today's values."
    assert schema["properties"] == {"degrees": {"type": "integer"}, "wind": {"default": "", "type": "string"}}
    assert tool(forecast).result_schema() == {"type": "array", "items": {"type": "integer"}}
    assert tool(lambda: 1, name="bare").result_schema() == {}
    assert tool(Weather).result_schema()["type"] == "object", "a class returns its object"


def test_the_model_is_told_what_comes_back_if_the_tool_says_so() -> None:
    assert tool(weather).spec.description == tool(weather).description == "Weather in a city."
    told = tool(weather, returns=True)
    assert told.description == "Weather in a city." and told.spec.description == told.schema()["function"]["description"]
    text, _, schema = told.spec.description.partition("\n\nThe JSON Schema of the result: ")
    assert (text, json.loads(schema)) == ("Weather in a city.", told.result_schema())


def test_a_result_that_json_cannot_hold_is_refused_where_it_is_asked_for() -> None:
    def opened(path: str) -> Callable[[], int]:
        return lambda: len(path)

    assert tool(opened).name == "opened"
    with pytest.raises(ToolDefinitionError, match="opened: its result cannot be described"):
        tool(opened, returns=True)


def test_registries_are_filtered_renamed_and_prefixed() -> None:
    @tool(read_only=True)
    def read() -> str:
        """Read."""
        return "read"

    @tool
    def write() -> str:
        """Write."""
        return "written"

    registry = ToolRegistry([read, write])
    assert [item.name for item in registry.filtered(lambda item: item.read_only)] == ["read"]
    assert [item.name for item in registry.renamed({"read": "look"})] == ["look", "write"]
    assert [item.name for item in registry.prefixed("f_")] == ["f_read", "f_write"]
    assert [item.name for item in registry] == ["read", "write"], "the first is as it was"
    with pytest.raises(KeyError, match="no tool 'gone'"):
        registry.renamed({"gone": "x"})
    with pytest.raises(ToolDefinitionError, match="two tools are called 'write'"):
        registry.renamed({"read": "write"})
