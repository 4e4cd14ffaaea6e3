"""Kinds of signature, each with a call and what the function must get: `python -m tests.signatures` prints the table.

No `from __future__ import annotations` here: the annotations are values. Those that are texts are in `LATE`.
"""

import asyncio
import collections
import collections.abc as cabc
import dataclasses
import datetime as dt
import enum
import functools
import ipaddress
import json
import re
import sys
import types
import typing
import uuid
import warnings
import zoneinfo
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    LiteralString,
    NamedTuple,
    NewType,
    Optional,
    ParamSpec,
    TypeVar,
    Unpack,
)

import jsonschema
import typing_extensions as te
from pydantic import (
    AnyUrl,
    BaseModel,
    ByteSize,
    Field,
    HttpUrl,
    StringConstraints,
    WrapValidator,
    field_validator,
    model_validator,
)

from agentkit import RunContext, tool

__all__ = ["KINDS", "ONE", "Color", "Kind", "Mood", "Permission", "outcome"]

T = TypeVar("T")
P = ParamSpec("P")


class Color(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    TWO = 2


class Word(enum.StrEnum):
    A = "a"


class Bits(enum.IntFlag):
    X = 1
    Y = 2


class Permission(enum.IntFlag):
    R = 4
    W = 2
    X = 1


class Point(BaseModel):
    x: int
    y: int = 0


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Alias(BaseModel):
    a: int = Field(alias="theA")


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    bark: int


class Box(BaseModel, Generic[T]):
    item: T


@dataclasses.dataclass
class Data:
    a: int
    b: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Outer:
    data: Data


class Old(typing.TypedDict):
    a: int
    b: typing.NotRequired[str]


class OldPartial(typing.TypedDict, total=False):
    a: typing.Required[int]
    b: str


class OldNested(typing.TypedDict):
    inner: Old


class New(te.TypedDict, total=False):
    a: te.Required[int]
    b: str


class Pair(NamedTuple):
    a: int
    b: str = "x"


class Fixed(te.TypedDict):
    a: te.ReadOnly[int]
    b: te.NotRequired[te.ReadOnly[str]]


class Mood(BaseModel):
    """Takes more than its schema says: its validators read a value first."""

    kind: Literal["good", "bad"]
    tags: Annotated[list[str], WrapValidator(lambda value, read: read(value.split(";") if isinstance(value, str) else value))]

    @field_validator("kind", mode="before")
    @classmethod
    def lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def renamed(cls, value: Any) -> Any:
        return {"kind": value.pop("mood"), **value} if "mood" in value else value


UserId = NewType("UserId", int)
Row = NewType("Row", Old)  # type: ignore[valid-newtype]
Numbers = te.TypeAliasType("Numbers", cabc.Iterable[int])
Items = te.TypeAliasType("Items", cabc.Iterable[T], type_params=(T,))
Json = te.TypeAliasType("Json", "int | str | list[Json] | dict[str, Json]")
Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
ID = "12345678-1234-5678-1234-567812345678"

ONE: list[tuple[str, Any, Any, Any]] = [
    ("int", int, 1, 1),
    ("float", float, 1.5, 1.5),
    ("float from an integer", float, 1, 1.0),
    ("bool", bool, True, True),
    ("str", str, "007", "007"),
    ("None", None, None, None),
    ("LiteralString", LiteralString, "a", "a"),
    ("Literal", Literal["a", 1, True, None], 1, 1),
    ("Literal of integers", Literal[1, 2], 2, 2),
    ("Literal of Enum members", Literal[Color.RED], "red", Color.RED),
    ("nested Literal", Literal["a", "b"], "b", "b"),
    ("Enum", Color, "red", Color.RED),
    ("IntEnum", Number, 2, Number.TWO),
    ("StrEnum", Word, "a", Word.A),
    ("IntFlag", Bits, 2, Bits.Y),
    ("sum of IntFlags", Permission, 6, Permission.R | Permission.W),
    ("no IntFlag", Bits, 0, Bits(0)),
    ("Optional", Optional[int], None, None),  # noqa: UP045
    ("Union", int | str, "7", "7"),
    ("Union of lists", list[int] | list[str], ["a"], ["a"]),
    ("Optional Literal", Literal["a"] | None, None, None),
    ("model", Point, {"x": 1}, Point(x=1)),
    ("optional model", Point | None, {"x": 1}, Point(x=1)),
    ("list of models", list[Point], [{"x": 1}], [Point(x=1)]),
    ("dict of models", dict[str, Point], {"k": {"x": 1}}, {"k": Point(x=1)}),
    ("Sequence of models", cabc.Sequence[Point], [{"x": 1}], [Point(x=1)]),
    ("recursive model", Tree, {"value": 1, "children": [{"value": 2}]}, Tree(value=1, children=[Tree(value=2)])),
    ("model with an alias", Alias, {"theA": 1}, Alias(theA=1)),
    ("discriminated union", Pet, {"kind": "dog", "bark": 1}, Dog(kind="dog", bark=1)),
    ("list of a discriminated union", list[Pet], [{"kind": "cat"}], [Cat(kind="cat")]),
    ("generic model", Box[int], {"item": 1}, Box[int](item=1)),
    ("generic model of models", Box[Point], {"item": {"x": 1}}, Box[Point](item=Point(x=1))),
    ("recursive alias", Json, {"a": [1, "b"]}, {"a": [1, "b"]}),
    ("dataclass", Data, {"a": 1}, Data(1)),
    ("nested dataclass", Outer, {"data": {"a": 1, "b": ["c"]}}, Outer(Data(1, ["c"]))),
    ("typing.TypedDict", Old, {"a": 1}, {"a": 1}),
    ("typing.TypedDict, total=False", OldPartial, {"a": 1, "b": "c"}, {"a": 1, "b": "c"}),
    ("typing.TypedDict in one", OldNested, {"inner": {"a": 1}}, {"inner": {"a": 1}}),
    ("list of typing.TypedDict", list[Old], [{"a": 1}], [{"a": 1}]),
    ("optional typing.TypedDict", Old | None, {"a": 1}, {"a": 1}),
    ("typing_extensions.TypedDict", New, {"a": 1}, {"a": 1}),
    ("TypedDict with ReadOnly keys", Fixed, {"a": 1}, {"a": 1}),
    ("NewType of a typing.TypedDict", Row, {"a": 1}, {"a": 1}),
    ("alias of an Iterable", Numbers, [1], [1]),
    ("generic alias of an Iterable", Items[int], [1], [1]),
    ("TypeVar bound to an Iterable", TypeVar("I", bound=cabc.Iterable[int]), [1], [1]),
    ("NamedTuple", Pair, [1, "b"], Pair(1, "b")),
    ("NewType", UserId, 3, 3),
    ("datetime", dt.datetime, "2026-01-01T00:00:00Z", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    ("optional datetime", dt.datetime | None, "2026-01-01T00:00:00Z", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    ("date", dt.date, "2026-01-01", dt.date(2026, 1, 1)),
    ("time", dt.time, "10:00:00", dt.time(10)),
    ("timedelta", dt.timedelta, "PT1H", dt.timedelta(hours=1)),
    ("UUID", uuid.UUID, ID, uuid.UUID(ID)),
    ("Decimal", Decimal, "1.50", Decimal("1.50")),
    ("Decimal from a number", Decimal, 1.5, Decimal("1.5")),
    ("Fraction", Fraction, "1/2", Fraction(1, 2)),
    ("complex", complex, "1+2j", 1 + 2j),
    ("Path", Path, "/a", Path("/a")),
    ("PurePosixPath", PurePosixPath, "/a", PurePosixPath("/a")),
    ("bytes", bytes, "abc", b"abc"),
    ("bytearray", bytearray, "abc", bytearray(b"abc")),
    ("IPv4Address", ipaddress.IPv4Address, "1.2.3.4", ipaddress.IPv4Address("1.2.3.4")),
    ("IPv6Address", ipaddress.IPv6Address, "::1", ipaddress.IPv6Address("::1")),
    ("IPv4Network", ipaddress.IPv4Network, "10.0.0.0/8", ipaddress.IPv4Network("10.0.0.0/8")),
    ("AnyUrl", AnyUrl, "ftp://a.b/", AnyUrl("ftp://a.b/")),
    ("HttpUrl", HttpUrl, "http://a.b/", HttpUrl("http://a.b/")),
    ("ZoneInfo", zoneinfo.ZoneInfo, "UTC", zoneinfo.ZoneInfo("UTC")),
    ("Pattern", re.Pattern[str], "a+", re.compile("a+")),
    ("ByteSize", ByteSize, 5, ByteSize(5)),
    ("list", list, [1], [1]),
    ("list[int]", list[int], [1], [1]),
    ("dict", dict, {"a": 1}, {"a": 1}),
    ("dict[str, int]", dict[str, int], {"a": 1}, {"a": 1}),
    ("dict[int, str]", dict[int, str], {"1": "a"}, {1: "a"}),
    ("dict[Color, int]", dict[Color, int], {"red": 1}, {Color.RED: 1}),
    ("tuple", tuple, [1, 2], (1, 2)),
    ("tuple[int, str]", tuple[int, str], [1, "a"], (1, "a")),
    ("tuple[int, ...]", tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    ("set[int]", set[int], [1, 2], {1, 2}),
    ("frozenset[str]", frozenset[str], ["a"], frozenset({"a"})),
    ("Sequence", cabc.Sequence[int], [1], [1]),
    ("MutableSequence", cabc.MutableSequence[int], [1], [1]),
    ("Iterable", cabc.Iterable[int], [1], [1]),
    ("Collection", cabc.Collection[int], [1], [1]),
    ("Mapping", cabc.Mapping[str, int], {"a": 1}, {"a": 1}),
    ("MutableMapping", cabc.MutableMapping[str, int], {"a": 1}, {"a": 1}),
    ("Set", cabc.Set[int], [1], frozenset({1})),
    ("MutableSet", cabc.MutableSet[int], [1], {1}),
    ("deque", collections.deque[int], [1], collections.deque([1])),
    ("defaultdict", collections.defaultdict[str, int], {"a": 1}, {"a": 1}),
    ("OrderedDict", collections.OrderedDict[str, int], {"a": 1}, {"a": 1}),
    ("Counter", collections.Counter[str], {"a": 1}, {"a": 1}),
    ("Any", Any, {"a": [1, None]}, {"a": [1, None]}),
    ("object", object, [1], [1]),
    ("Field with bounds", Annotated[int, Field(ge=1, le=5)], 3, 3),
    ("StringConstraints", Annotated[str, StringConstraints(min_length=1)], "a", "a"),
    ("text as metadata", Annotated[int, "how many"], 3, 3),
    ("Doc", Annotated[int, te.Doc("how many")], 3, 3),
    ("Final", Final[int], 3, 3),
    ("TypeVar", T, 5, 5),
    ("TypeVar with a bound", TypeVar("B", bound=int), 5, 5),
    ("TypeVar of choices", TypeVar("C", int, str), "a", "a"),
]  # fmt: skip

NAMES = [
    "schema", "copy", "json", "model_config", "args", "kwargs", "self", "cls", "team", "function", "context", "_private",
    "__dunder", "ctx", "name", "arguments", "model_fields", "values", "validate", "dict", "type", "id", "description", "title",
    "default", "return_", "properties", "required",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kind:
    """A function, the JSON arguments of a call, and what it must return."""

    name: str
    fn: Callable[..., Any]
    arguments: dict[str, Any]
    wanted: Any


def _of(annotation: Any, *default: Any) -> Callable[..., Any]:
    def take(x):  # type: ignore[no-untyped-def]
        return x

    take.__annotations__ = {"x": annotation}
    take.__defaults__ = default
    return take


def _named(name: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {}
    exec(f"def take({name}: int, other: str = 'x'):\n    return {name}", scope)
    made: Callable[..., Any] = scope["take"]
    return made


def _plain(a, b=1, c="x", d=None, e=[1]):  # type: ignore[no-untyped-def]  # noqa: B006
    return a, b, c, d, e


def keyword_only(a: int, *, b: str = "x") -> Any:
    return a, b


def positional_only(a: int, b: int = 2, /, c: int = 3) -> Any:
    return a, b, c


def variadic(a: int, *args: str) -> Any:
    return a, args


def hooked(hook: Callable[[], int] = int, /, a: int = 1, *more: Callable[[], int]) -> Any:
    return hook(), a, more


def open_end(a: int, **kwargs: float) -> Any:
    return a, kwargs


def every(a: int, /, b: int, *args: int, c: int = 1, **kwargs: str) -> Any:
    return a, b, args, c, kwargs


def unpacked(**kwargs: Unpack[New]) -> Any:
    return kwargs


def unpacked_old(**kwargs: Unpack[Old]) -> Any:
    return kwargs


class Methods:
    def bound(self, a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int) -> int:
        return a

    @staticmethod
    def static(a: int) -> int:
        return a

    async def later(self, a: int) -> int:
        return a

    def __call__(self, a: int) -> int:
        return a


def decorated(fn: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return fn(*args, **kwargs)

    return wrapper


class Store(Generic[T]):
    def save(self, item: T, more: list[T] | None = None) -> T:
        return item

    @decorated
    def wrapped(self, item: T) -> T:
        return item

    @classmethod
    def load(cls, item: T) -> T:
        return item


K = TypeVar("K")


class Between(Store[K], Generic[K]): ...


class Points(Between[Point]): ...


async def later(a: int) -> int:
    return a


async def stream(a: int) -> AsyncIterator[int]:
    for number in range(a):
        yield number


def generate(a: int) -> Iterator[int]:
    yield from range(a)


@typing.overload
def overloaded(a: int) -> int: ...
@typing.overload
def overloaded(a: str) -> str: ...
def overloaded(a: int | str) -> int | str:
    return a


def context_between(a: int, ctx: RunContext[Any], b: int = 1) -> Any:
    return a, b


def context_by_name(a: int, *, ctx: RunContext[Any] | None = None) -> Any:
    return a, ctx is not None


def iterates(x: cabc.Iterator[int]) -> list[int]:
    return list(x)


LATE = sys.modules["late"] = types.ModuleType("late")
exec(
    """
from __future__ import annotations
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypedDict, NotRequired
from pydantic import BaseModel, Field
from agentkit import tool

class Later(BaseModel):
    x: int

class Words(TypedDict):
    a: int
    b: NotRequired[str]

def late(x: Later, y: Annotated[int, Field(ge=1)] = 1) -> Unknown:
    return x.x, y

def late_words(x: Words) -> object:
    return x

def forward(x: "list[Later]") -> object:
    return [item.x for item in x]

def local():
    class Local(BaseModel):
        x: int

    def take(value: Local) -> object:
        return value.x

    return tool(take)

class Shop:
    class Order(BaseModel):
        x: int

    def method(self, order: Order, more: list[int] = ()) -> object:
        return order.x

    def list(self) -> object: ...

    @staticmethod
    def static(order: Order) -> object:
        return order.x

    def __call__(self, order: Order) -> object:
        return order.x

def local_classes():
    class Inner(BaseModel):
        x: int

    @dataclass
    class Data:
        inner: Inner

    class Tuple(NamedTuple):
        inner: Inner

    class Dict(TypedDict):
        inner: Inner

    def take(data: Data, pair: Tuple, words: Dict) -> object:
        return data.inner.x, pair.inner.x, words["inner"].x

    return tool(take)
""",
    vars(LATE),
)

KINDS = [
    *(Kind(name, _of(annotation), {"x": value}, wanted) for name, annotation, value, wanted in ONE),
    *(Kind(f"parameter called {name}", _named(name), {name: 1}, 1) for name in NAMES),
    Kind("no annotations", _plain, {"a": [1]}, ([1], 1, "x", None, [1])),
    Kind("mutable default", _of(list[int], []), {}, []),
    Kind("default of a dataclass", _of(Data, Data(1)), {}, Data(1)),
    Kind("sets in a default", _of(dict[str, set[str]], {"a": set("abcdef")}), {}, {"a": set("abcdef")}),
    Kind("default of an Enum", _of(Color, Color.RED), {}, Color.RED),
    Kind("default that JSON cannot hold", _of(int, object()), {"x": 1}, 1),
    Kind("Field with a default", _of(Annotated[int, Field(ge=1)], Field(default=3)), {}, 3),
    Kind("Field with a default factory", _of(list[int], Field(default_factory=list)), {}, []),
    Kind("a factory and a default", _of(Annotated[list[int], Field(default_factory=lambda: [1], max_length=3)], [7]), {}, [7]),
    Kind("optional that no schema describes", _of(Callable[[], int] | None, None), {}, None),
    Kind("Iterator", iterates, {"x": [1, 2]}, [1, 2]),
    Kind("by position, and no schema describes them", hooked, {"a": 3}, (0, 3, ())),
    Kind("keyword-only", keyword_only, {"a": 1, "b": "z"}, (1, "z")),
    Kind("positional-only", positional_only, {"a": 1, "c": 9}, (1, 2, 9)),
    Kind("*args", variadic, {"a": 1, "args": ["x", "y"]}, (1, ("x", "y"))),
    Kind("**kwargs", open_end, {"a": 1, "z": 2.5}, (1, {"z": 2.5})),
    Kind("every kind of parameter", every, {"a": 1, "b": 2, "args": [3], "z": "q"}, (1, 2, (3,), 1, {"z": "q"})),
    Kind("Unpack of typing_extensions.TypedDict", unpacked, {"a": 1}, {"a": 1}),
    Kind("Unpack of typing.TypedDict", unpacked_old, {"a": 1, "b": "c"}, {"a": 1, "b": "c"}),
    Kind("bound method", Methods().bound, {"a": 1}, 1),
    Kind("class method", Methods.of_class, {"a": 1}, 1),
    Kind("static method", Methods.static, {"a": 1}, 1),
    Kind("async method", Methods().later, {"a": 1}, 1),
    Kind("callable object", Methods(), {"a": 1}, 1),
    Kind("method of a generic class", Points().save, {"item": {"x": 1}, "more": [{"x": 2}]}, Point(x=1)),
    Kind("wrapped method of a generic class", Points().wrapped, {"item": {"x": 1}}, Point(x=1)),
    Kind("partial of a method of a generic class", functools.partial(Points().wrapped), {"item": {"x": 1}}, Point(x=1)),
    Kind("class method of a generic class", Points.load, {"item": {"x": 1}}, Point(x=1)),
    Kind("method of a generic object", Store[Point]().save, {"item": {"x": 1}}, Point(x=1)),
    Kind("method of a generic class without a type", Store().save, {"item": [1]}, [1]),
    Kind("partial", functools.partial(keyword_only, b="q"), {"a": 1}, (1, "q")),
    Kind("partial of a positional", functools.partial(positional_only, 1), {"c": 4}, (1, 2, 4)),
    Kind("partial of a method", functools.partial(Methods().bound), {"a": 1}, 1),
    Kind("partial with update_wrapper", functools.update_wrapper(functools.partial(later, 1), later), {}, 1),
    Kind("lru_cache", functools.lru_cache(keyword_only), {"a": 1}, (1, "x")),
    Kind("functools.wraps", decorated(keyword_only), {"a": 1}, (1, "x")),
    Kind("functools.wraps of async", decorated(later), {"a": 1}, 1),
    Kind("async", later, {"a": 1}, 1),
    Kind("async generator", stream, {"a": 3}, [0, 1, 2]),
    Kind("generator", generate, {"a": 3}, [0, 1, 2]),
    Kind("overload", overloaded, {"a": "b"}, "b"),
    Kind("context in the middle", context_between, {"a": 1}, (1, 1)),
    Kind("optional context by name", context_by_name, {"a": 1}, (1, True)),
    Kind("class as a tool", Data, {"a": 1}, Data(1)),
    Kind("model as a tool", Point, {"x": 1}, Point(x=1)),
    Kind("built-in function", len, {"obj": [1]}, 1),
    Kind("postponed annotations", LATE.late, {"x": {"x": 1}}, (1, 1)),
    Kind("postponed TypedDict", LATE.late_words, {"x": {"a": 1}}, {"a": 1}),
    Kind("forward reference", LATE.forward, {"x": [{"x": 1}]}, [1]),
    Kind("local class, postponed annotations", LATE.local(), {"value": {"x": 1}}, 1),
    Kind("class in the class of a method", LATE.Shop().method, {"order": {"x": 1}}, 1),
    Kind("class in the class of a static method", LATE.Shop.static, {"order": {"x": 1}}, 1),
    Kind("class in the class of a callable object", LATE.Shop(), {"order": {"x": 1}}, 1),
    Kind(
        "local classes that name a local class",
        LATE.local_classes(),
        {"data": {"inner": {"x": 1}}, "pair": [{"x": 2}], "words": {"inner": {"x": 3}}},
        (1, 2, 3),
    ),
]


def outcome(kind: Kind) -> str:
    """ "right", or what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            made = tool(kind.fn)
        jsonschema.Draft202012Validator.check_schema(made.parameters)
        jsonschema.Draft202012Validator(made.parameters).validate(kind.arguments)
        text = json.dumps(kind.arguments)
        assert made.parse(text).repairs == (), "a right call needs no mending"
        found = asyncio.run(made.call(text))
    except Exception as error:  # noqa: BLE001  the table shows it
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    is_right = found == kind.wanted and type(found) is type(kind.wanted)
    return (
        "right"
        if is_right or type(found) in (collections.defaultdict, collections.OrderedDict, collections.Counter)
        else f"{found!r}"
    )


def main() -> None:
    """Print how many kinds are right, and each that is not."""
    results = {kind.name: outcome(kind) for kind in KINDS}
    for name, result in results.items():
        if result != "right":
            print(f"{name}: {result}")
    print(f"{sum(result == 'right' for result in results.values())} of {len(KINDS)} kinds of signature are right")


if __name__ == "__main__":
    main()
