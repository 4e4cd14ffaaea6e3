"""Types in which a library finds another meaning than the text has: what arrives, what is refused, what no tool can have.

No `from __future__ import annotations` here: the annotations are values.
"""

import collections
import dataclasses
import datetime as dt
import enum
import json
import subprocess
import sys
import typing
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typing_extensions as te
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    RootModel,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from agentkit import Tool, ToolArgumentsInvalid, ToolDefinitionError, ToolDefinitionWarning, tool


class One(enum.Enum):
    ONE = 1


class Two(enum.IntEnum):
    ONE = 1
    TWO = 2


class Half(enum.Enum):
    TWO = 2.0


class Word(enum.Enum):
    A = "a"


class Other(enum.Enum):
    X = "a"


class Dict(te.TypedDict):
    amount: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    amount: int = 0


class Ignoring(BaseModel):
    model_config = ConfigDict(extra="ignore")
    amount: int = 0


class Setting(BaseModel):
    a: int = 0
    b: int = 0

    @model_validator(mode="after")
    def set(self) -> "Setting":
        self.b = 9
        return self


@dataclasses.dataclass
class WithMethod:
    a: int = 0

    def dry_run(self) -> None: ...


@dataclasses.dataclass
class Aliased:
    a: Annotated[int, Field(alias="theA")] = 1


class AliasedModel(BaseModel):
    a: float = Field(alias="theA")


class Root(RootModel[dict[str, int]]): ...


class Plain(BaseModel):
    a: int = 0


@dataclasses.dataclass
class Same:
    a: int = 0


@dataclasses.dataclass
class Computed:
    a: int = 0
    n: int = dataclasses.field(init=False, default=3)


class Nested(BaseModel):
    d: int = Field(0, validation_alias=AliasPath("e", 0))


class Title(BaseModel):
    kind: Literal["title"]


class Text(BaseModel):
    kind: Literal["text"]


AWord = Annotated[str, Field(pattern="^a")]
Lower = Annotated[str, StringConstraints(to_lower=True)]
LONG = "0.12345678901234567890"


def taking(kind: Any, default: Any = ...) -> Tool[..., Any]:
    def take(x: Any) -> None: ...

    take.__annotations__ = {"x": kind}
    if default is not ...:
        take.__defaults__ = (default,)
    return tool(take)


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (dt.datetime | str, '"2026"', "would be taken for datetime"),
        (dt.datetime | str, '"20260102"', "would be taken for datetime"),
        (dt.date | str, '"86400"', "would be taken for datetime.date"),
        (list[dt.datetime] | list[str], '["2026"]', r"x\[0\]: "),
        (dict[str, dt.datetime | str], '{"a": "2026"}', r"x\.a: "),
        (Literal[0, 1] | bool, "true", "x: true would be taken for 1"),
        (Literal[True] | int, "1", "x: 1 would be taken for True"),
        (Literal[True] | float, "1.0", "x: 1.0 would be taken for True"),
        (list[Literal[False] | int], "[0]", r"x\[0\]: 0 would be taken for False"),
        (Literal[One.ONE] | bool, "true", "x: true would be taken for <One.ONE: 1>"),
        (Dict | Open, '{"amount": 5, "dry_run": true}', "or are unknown"),
        (list[Dict | Ignoring], '[{"amount": 5, "dry_run": true}]', "or are unknown"),
        (Setting | Open, '{"a": 1, "dry_run": true}', "x.dry_run: unknown key of Setting"),
        (WithMethod | Open, '{"a": 1, "dry_run": true}', "x.dry_run: unknown key of WithMethod"),
        (set[int | bool], "[1, true]", "several of its items mean the same"),
        (set[Decimal], '[1, "1.0"]', "several of its items mean the same"),
        (set[Path], '["a", "a/"]', "several of its items mean the same"),
        (set[Lower], '["A", "a"]', "several of its items mean the same"),
        (dict[AWord, Literal[0, 1]], '{"ab": true}', r"x\.ab: true is not one of"),
        (dict[AWord, int], '{"b": 1}', r"x\.b"),
        (Decimal | str, '"007"', "would be taken for Decimal"),
        (Decimal, '"1_0"', "would be taken for Decimal"),
        (Decimal, '"\u0663"', "would be taken for Decimal"),
        (list[str], '"\\"a\\""', "valid array"),
        (list[str], '"a\uff0cb"', "valid array"),
        (Annotated[str, Field(gt=5)], '"a"', "cannot be validated: TypeError"),
        (Annotated[int, BeforeValidator(lambda value: int(value))], "{}", "cannot be validated: TypeError"),
        (Json[list[int]], '"[1,"', "^x: Invalid JSON"),
        (str, '"\\ud800"', "half of a surrogate pair"),
        (Computed, '{"a": 1, "n": 2}', r"x\.n: unknown key; known: a"),
    ],
)  # fmt: skip
def test_another_meaning_is_refused(kind: Any, text: str, says: str) -> None:
    with pytest.raises(ToolArgumentsInvalid, match=says):
        taking(kind).parse(f'{{"x": {text}}}')


@pytest.mark.parametrize(
    ("kind", "text", "came"),
    [
        (dt.datetime | str, '"2026-01-02"', "2026-01-02"),
        (dt.datetime, '"2026-01-02T03:04:05Z"', dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        (Literal[0, 1] | bool, "1", 1),
        (Literal[True] | int, "true", True),
        (Literal[One.ONE, True], "true", True),
        (Literal[One.ONE, True], "1", One.ONE),
        (Decimal | str, '"1.50"', Decimal("1.50")),
        (set[int], "[1, 1]", {1}),
        (set[int], '["1", 1]', {1}),
        (dict[AWord, int], '{"ab": "1"}', {"ab": 1}),
        (dict[Two, int], '{"1": 5}', {Two.ONE: 5}),
        (set[float], f"[{LONG}]", {float(LONG)}),
        (collections.deque[float], f"[{LONG}]", collections.deque([float(LONG)])),
        (AliasedModel, f'{{"theA": {LONG}}}', AliasedModel(theA=float(LONG))),
        (tuple[Open, Root], '[{}, {"x": 1, "y": 2}]', (Open(), Root({"x": 1, "y": 2}))),
        (tuple[Open, Aliased], '[{}, {"theA": 5}]', (Open(), Aliased(5))),
        (Plain | Same, '{"a": 2.0}', Plain(a=2)),
        (list[int] | set[int], "[2.0]", [2]),
        (int | float, "2.0", 2.0),
        (Literal[1, 2], "1.0", 1),
        (Two | str, "1.0", Two.ONE),
        (Half, "2", Half.TWO),
        (Annotated[Title | Text, Field(discriminator="kind")], '{"kind": "title"}', Title(kind="title")),
    ],
)  # fmt: skip
def test_one_meaning_arrives(kind: Any, text: str, came: Any) -> None:
    made = taking(kind)
    found = made.parse(f'{{"x": {text}}}').values["x"]
    assert found == came and type(found) is type(came)
    Draft202012Validator.check_schema(made.parameters)


def test_where_any_key_may_be_given_nothing_is_an_envelope() -> None:
    def free(**kw: Any) -> None: ...

    def dicts(a: int = 1, **kw: dict[str, int]) -> None: ...

    for text in ('{"arguments": {"a": 1}}', '{"args": {"a": 1}}', '{"name": "free", "parameters": {"a": 1}}'):
        found = tool(free).parse(text)
        assert (found.values, found.repairs) == (json.loads(text), ())
    assert tool(dicts).parse('{"args": {"b": 1}}').values == {"a": 1, "args": {"b": 1}}
    for text in ("", "null"):
        with pytest.raises(ToolArgumentsInvalid):
            tool(free).parse(text)


@pytest.mark.parametrize("text", ['{"n": 7//2\n}', '{"n": 7#2\n}', '{"n": 7 // 2\n}', '{"n": 7 // (2)\n}', '{"n":1}</think>'])
def test_what_may_be_more_than_a_comment_or_a_token_is_refused(text: str) -> None:
    def take(n: int = 0) -> None: ...

    with pytest.raises(ToolArgumentsInvalid):
        tool(take).parse(text)
    for fine in (
        '{"n": 7 // the number\n}',
        '{"n": 7, // 2 of them\n}',
        '{"n": 7/* x */}',
        '</think>{"n":7}',
        '{"n": 7 # 1\n}',
    ):
        assert tool(take).parse(fine).values == {"n": 7}


# --- what no tool can have ----------------------------------------------------------------------------------------------


class Recursive(typing.TypedDict):
    kids: "list[Recursive]"


NO_TYPES = [
    Literal[Word.A, Other.X],
    Literal[Word.A, "a"],
    Annotated[str, Field(pattern="(")],
    Annotated[str, Field(min_length=-1)],
    Annotated[int, Field(ge="a")],
    Annotated[int, WithJsonSchema(True)],  # type: ignore[arg-type]
    Annotated[int, Field(json_schema_extra=lambda schema: 1 / 0)],  # type: ignore[arg-type]
    {"a": int},
    "1/0",
    "foo bar",
    "typing.nope",
    Nested,
    *([Recursive] if sys.version_info < (3, 12) else []),
]


@pytest.mark.parametrize("kind", NO_TYPES, ids=range(len(NO_TYPES)))
def test_what_cannot_be_described_is_an_error_or_left_out_with_a_warning(kind: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="parameter 'x'"):
        taking(kind)
    with pytest.warns(ToolDefinitionWarning, match="parameter 'x'.* it is left out and keeps its default"):
        made = taking(kind, None)
    assert made.parameters["properties"] == {}


def taken(a: Annotated[int, Field(alias="b")] = 1, b: int = 2) -> None: ...


def open_end(a: Annotated[int, Field(alias="b")] = 1, /, *args: int, **kw: int) -> None: ...


def choices(c: Annotated[int, Field(validation_alias=AliasChoices("d", "e"))] = 2) -> None: ...


@pytest.mark.parametrize("fn", [taken, open_end, choices])
def test_an_alias_that_means_two_parameters_is_refused(fn: Callable[..., Any]) -> None:
    with pytest.raises(ToolDefinitionError, match=r"its alias .* does not work here"):
        tool(fn)


def test_an_alias_is_the_name_for_the_model() -> None:
    def send(from_: Annotated[str, Field(alias="from")]) -> None: ...

    assert tool(send).parse('{"from": "ann"}').values == {"from_": "ann"}


def test_a_result_that_cannot_be_described_is_a_typed_error() -> None:
    def broken() -> "1/0": ...  # type: ignore[valid-type]

    with pytest.raises(ToolDefinitionError, match="its result cannot be described: division by zero"):
        tool(broken).result_schema()


def test_a_default_that_is_no_number_of_json_is_left_out() -> None:
    def take(a: float = float("inf"), b: float = float("nan"), c: list[float] = [float("inf")]) -> None: ...  # noqa: B006

    assert all("default" not in prop for prop in tool(take).parameters["properties"].values())


def test_the_schema_says_what_is_taken() -> None:
    assert taking(dict[Two, int]).parameters["properties"]["x"]["propertyNames"] == {"enum": ["1", "2"]}
    mapping = taking(Annotated[Title | Text, Field(discriminator="kind")]).parameters["properties"]["x"]["discriminator"][
        "mapping"
    ]
    assert list(mapping) == ["text", "title"]
    assert list(taking(Computed).parameters["$defs"]["Computed"]["properties"]) == ["a"]


DEFAULTS = """
import collections, json
from pydantic import BaseModel, Field, RootModel
from agentkit import tool

class A(BaseModel):
    s: set[str] = Field({"a", "b", "c", "d"}, alias="S")

class R(RootModel[set[str]]): ...

def take(
    a: A = A(), r: R = R({"a", "b", "c", "d"}), i: dict[int, set[str]] = {1: {"a", "b", "c", "d"}},
    q: collections.deque[set[str]] = collections.deque([{"a", "b", "c", "d"}]), n={"a", "b", "c", "d"},
) -> None: ...

print(json.dumps(tool(take).parameters))
"""


def test_sets_in_defaults_have_one_order_in_every_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", DEFAULTS], env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=Path(__file__).parent.parent, capture_output=True, check=True, timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(seen) == 1
    assert seen.pop().count(b'"a", "b", "c", "d"') == 6


class Inner(BaseModel):
    a: int
    b: list[str] = []


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["", "1", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["i", "s", "l", "q", "t", "zz"]), ANY_JSON, max_size=4))
def test_what_needs_no_second_look_gets_the_same_from_one(value: dict[str, Any]) -> None:
    def take(i: int = 0, s: str = "", l: list[list[int]] = [], q: float = 1.0, t: bool = False) -> None: ...  # noqa: B006, E741

    short = tool(take).signature.validator
    assert short.rules.is_plain and not taking(Inner | None).signature.validator.rules.is_plain
    long = dataclasses.replace(short, rules=dataclasses.replace(short.rules, is_plain=False))

    def parsed(validator: Any) -> str:
        try:
            return repr(validator.parse(json.dumps(value)))
        except ToolArgumentsInvalid:
            return "refused"

    assert parsed(short) == parsed(long)
