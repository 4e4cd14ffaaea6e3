"""Broken calls: the corpus, every prefix of a valid call, and values of every shape against the schema."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import functools
import json
import threading
import time
import typing
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
import typing_extensions as te
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from agentkit import Agent, Assistant, RunContext, ScriptedModel, Tool, ToolArgumentsInvalid, ToolCall, ToolResult, tool
from agentkit.model import ModelReply
from agentkit.schema.parse import LONG_TEXT
from agentkit.schema.repair import NotJson, read_json
from tests.corpus import CASES, Case, outcome, tools


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.text[:40]!a}")
def test_a_broken_call_is_right_or_refused(case: Case) -> None:
    result = outcome(case)
    assert result in ("right", "mended", "refused")
    assert result == "right" or case.kind != "valid" or "2.0" in case.text, "a valid call needs no mending"


def test_the_corpus_is_large_and_names_its_tools() -> None:
    assert len(CASES) >= 250
    assert {case.tool for case in CASES} <= {item.name for item in tools}
    assert len({(case.tool, case.text) for case in CASES}) == len(CASES)


VALID = [case for case in CASES if case.kind == "valid"]


@pytest.mark.parametrize("case", VALID, ids=lambda case: f"{case.text[:40]!a}")
def test_every_proper_prefix_of_a_valid_call_is_refused(case: Case) -> None:
    text = case.text.rstrip()
    for end in range(len(text)):
        if case.tool == "clock" and not text[:end].strip():
            continue  # a tool without parameters has one call only
        with pytest.raises(ToolArgumentsInvalid):
            tools[case.tool].parse(text[:end])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_standard_json_is_read_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    assert read_json(text) == (value, ())


def same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@given(st.dictionaries(st.text(max_size=5), json_values, min_size=1, max_size=4), st.data())
def test_a_part_of_broken_json_never_passes_for_the_whole(value: dict[str, Any], data: st.DataObject) -> None:
    """Cut, and then with one character taken out: it is refused, or it is the value that a strict reader finds."""
    text = json.dumps(value, ensure_ascii=False)
    end = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(NotJson):
        read_json(text[:end])
    broken = text[:end] + text[end + 1 :]
    try:
        found, repairs = read_json(broken)
    except NotJson:
        return
    if not repairs:
        assert same(found, json.loads(broken))


def a_tool(kind: Any) -> Tool[..., Any]:
    def take(x: Any) -> None: ...

    take.__annotations__ = {"x": kind}
    return tool(take)


@pytest.mark.parametrize("kind", [int, float, bool, str, list[int], dict[str, int], int | None, int | str, bool | None])
@given(value=json_values)
def test_what_the_schema_admits_arrives_and_nothing_turns_into_another_kind(kind: Any, value: Any) -> None:
    import jsonschema

    made = a_tool(kind)
    admitted = jsonschema.Draft202012Validator(made.parameters).is_valid({"x": value})
    try:
        found = made.parse(json.dumps({"x": value}))
    except ToolArgumentsInvalid:
        assert not admitted
        return
    assert admitted or found.repairs, "what the schema does not admit is refused or mended, and then it says so"
    jsonschema.Draft202012Validator(made.parameters).validate({"x": found.values["x"]})
    if isinstance(value, bool):
        assert found.values["x"] is value or found.values["x"] == [value]


@pytest.mark.parametrize("text", ["[" * 3000 + "]" * 3000, "[" * 100_000 + "]" * 100_000, "[" * 200 + "1," + "]" * 200])
def test_depth_is_bounded(text: str) -> None:
    with pytest.raises(ToolArgumentsInvalid):
        tools["matrix"].parse(f'{{"rows": {text}}}')
    with pytest.raises(ToolArgumentsInvalid):
        tools["anything"].parse(f'{{"value": {text[:-5]}}}')


def test_what_was_mended_is_named_with_its_place() -> None:
    found = tools["search"].parse("{'query': 'a', 'tags': '[\"x\",]', 'Limit': '5',}")
    assert found.values == {"query": "a", "tags": ["x"], "limit": 5}
    assert found.repairs == (
        "single quotes",
        "trailing comma",
        "tags: trailing comma",
        "tags: string taken as array",
        "limit: key 'Limit' taken as 'limit'",
        "limit: string taken as integer",
    )


def test_an_unknown_key_deep_inside_is_refused_with_its_path_and_the_known_ones() -> None:
    text = '{"event": {"title": "x", "day": "2026-01-02", "people": [], "place": {"name": "a", "dry_run": true}}}'
    with pytest.raises(ToolArgumentsInvalid, match=r"event\.place\.dry_run: unknown key; known: name"):
        tools["meet"].parse(text)


def test_a_model_that_says_what_happens_to_other_keys_is_obeyed() -> None:
    class Free(BaseModel):
        model_config = ConfigDict(extra="allow")

    class Deaf(BaseModel):
        model_config = ConfigDict(extra="ignore")

    assert a_tool(Free).parse('{"x": {"a": 1}}').values["x"].a == 1
    assert a_tool(Deaf).parse('{"x": {"a": 1}}').values["x"] == Deaf()


class Node(BaseModel):
    v: int
    kids: list[Node] = []


def test_a_deep_value_that_does_not_fit_is_refused() -> None:
    @tool
    def f(node: Node) -> None:
        """Take it."""

    text = '{"v": 1, "kids": [' * 180 + '{"v": "x"}' + "]}" * 180
    with pytest.raises(ToolArgumentsInvalid):
        f.parse(f'{{"node": {text}}}')


class Pay(BaseModel):
    amount: int
    dry_run: bool = False


class Note(BaseModel):
    amount: int
    note: str = ""


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = ""


class Level(enum.IntEnum):
    ONE = 1


class Keys(te.TypedDict):
    a: int
    dry_run: te.NotRequired[bool]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Pay | Note, '{"amount": 5, "note": 1}'),
        (Pay | Note, '{"amount": 5, "dryrun": true, "note": "x"}'),
        (Cat | Dog, '{"kind": "cat", "name": "x"}'),
        (Annotated[Cat | Dog, Field(discriminator="kind")], '{"kind": "cat", "name": "x"}'),
        (Literal[1, 2, 3], "true"),
        (list[Literal[0, 1]], "[true]"),
        (Literal[True, "auto"], "1"),
        (Level, "true"),
        (dt.datetime, '"2026"'),
        (dt.datetime, '"20260102"'),
        (dt.date, '"-86400"'),
        (list[dt.date], '["0"]'),
    ],
)  # fmt: skip
def test_what_the_schema_does_not_admit_is_refused_where_a_library_takes_it(kind: Any, text: str) -> None:
    def f(x: Any) -> None: ...

    f.__annotations__["x"] = kind
    with pytest.raises(ToolArgumentsInvalid):
        tool(f).parse(f'{{"x": {text}}}')


def test_a_key_that_one_of_two_models_knows_is_mended_for_that_one() -> None:
    @tool
    def f(x: Pay | Note) -> None:
        """Take it."""

    assert f.parse('{"x": {"amount": 5, "dry_run": "true"}}').values == {"x": Pay(amount=5, dry_run=True)}


@dataclasses.dataclass
class Size:
    amount: int
    width: float = 1.0


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    amount: int


keys = st.sampled_from(["amount", "dry_run", "dryRun", "note", "a", "width", "1", "01", "2", "true", "yes"])
near = st.dictionaries(keys, st.integers(0, 9) | st.booleans() | st.floats(0, 9) | st.text(max_size=2), max_size=4)


def is_held(value: Any, made: Any) -> bool:
    """Whether everything that a JSON value has is in another one, which may have more keys."""
    match value:
        case dict():
            return isinstance(made, dict) and all(key in made and is_held(item, made[key]) for key, item in value.items())
        case list():
            return isinstance(made, list) and len(made) == len(value) and all(map(is_held, value, made))
        case bool() | None | str():
            return made is value or (made == value and type(made) is type(value))
    return not isinstance(made, bool) and Decimal(repr(value)) == Decimal(str(made))


@pytest.mark.parametrize(
    "kind",
    [
        Pay | dict[str, Any],
        Size | dict[str, Any],
        Keys | dict[str, Any],
        Pay | Note,
        Pay | Size | Keys,
        Pay | Open,
        dict[str, Any] | Open | Pay,
        dict[int, Any],
        dict[bool, Any],
        dict[str, Pay | dict[str, Any]],
        list[Pay | dict[str, int]],
        dict[str, Decimal],
        dict[str, Literal[0, 1] | bool | str],
        dict[str, Literal[True, "a"] | float | str],
        Pay | list[Pay],
    ],
    ids=str,
)
@given(value=near | st.dictionaries(keys, near, max_size=3) | st.lists(near, max_size=3))
def test_nothing_of_a_value_is_lost_on_the_way(kind: Any, value: Any) -> None:
    """What the tool gets is written as JSON again: every key, item and number of the model's value is there."""
    try:
        found = a_tool(kind).parse(json.dumps({"x": value}))
    except ToolArgumentsInvalid:
        return
    if not found.repairs:
        assert is_held(value, TypeAdapter(Any).dump_python(found.values["x"], mode="json"))


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (Decimal, "1.2345678901234567890123", "x: the number 1.2345678901234567890123 has more digits than a JSON number"),
        (list[Decimal], "[0.30000000000000000001]", r"x\[0\]: the number"),
        (set[Decimal], "[0.30000000000000000001]", r"x\[0\]: the number"),
        (dict[str, Decimal], '{"a": 0.30000000000000000001}', r"x\.a: the number"),
        (dict[int, Decimal], '{"1": 0.30000000000000000001}', r"x\.1: the number"),
        (Pay | Open, '{"amount": 1, "b": 2}', "x.b: unknown key of Pay"),
        (Size | Open, '{"amount": 1, "b": 2}', "x.b: unknown key of Size"),
        (dict[int, int], '{"1": 1, "01": 2}', r'x: several of its keys mean the same: \["1", "01"\]'),
        (dict[int, int], '{"01": 2}', "x.01: the key is not written as int"),
        (dict[dt.date, int], '{"86400": 2}', "x.86400: the key is not written as date"),
        (dict[str, dict[bool, int]], '{"a": {"on": 2}}', "x.a.on: the key is not written as bool"),
        (Size, '{"amount": 1, "b": 2}', "x.b: unknown key; known: amount, width"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_named(kind: Any, text: str, says: str) -> None:
    with pytest.raises(ToolArgumentsInvalid, match=says):
        a_tool(kind).parse(f'{{"x": {text}}}')


@pytest.mark.parametrize(
    ("kind", "text", "came"),
    [
        (Decimal, '"1.2345678901234567890123"', Decimal("1.2345678901234567890123")),
        (float, "1.2345678901234567890123", 1.2345678901234567),
        (Any, "1.2345678901234567890123", 1.2345678901234567),
        (int, "9007199254740993.0", 9007199254740993),
        (int, "1e23", 10**23),
        (dict[Level, int], '{"1": 2}', {Level.ONE: 2}),
        (dict[Decimal, int], '{"1.5": 2}', {Decimal("1.5"): 2}),
        (dict[dt.date, int], '{"2026-01-02": 2}', {dt.date(2026, 1, 2): 2}),
        (int | list[int], '"1"', 1),
        (Pay | list[Pay], '{"Amount": 1}', Pay(amount=1)),
        (Literal[1, "a"], '"1"', 1),
        (Literal[1, "a"], "a", "a"),
    ],
)  # fmt: skip
def test_what_has_one_meaning_arrives(kind: Any, text: str, came: Any) -> None:
    made = a_tool(kind).parse(f'{{"x": {text}}}').values["x"]
    assert made == came and type(made) is type(came)


Nest = te.TypeAliasType("Nest", "dict[str, Nest] | list[Nest] | int")


def test_a_type_that_holds_itself_is_mended_without_end() -> None:
    made = a_tool(Nest)
    assert made.parse('{"x": [[["5"]], {"a": "6"}]}').values["x"] == [[[5]], {"a": 6}]
    assert made.parse('{"x": "5"}').values["x"] == 5
    with pytest.raises(ToolArgumentsInvalid):
        made.parse('{"x": "five"}')


@pytest.mark.parametrize("given", [None, 5, [1], memoryview(b"{}"), {"x": object()}, {"x": float("nan")}, {"x": "\ud800"}])
def test_what_is_no_json_is_refused(given: Any) -> None:
    with pytest.raises(ToolArgumentsInvalid):
        a_tool(Any).parse(given)


def test_what_a_partial_or_the_framework_gives_is_not_the_models_to_give() -> None:
    def send(to: str, dry_run: bool = False, **more: Any) -> None: ...

    def look(ctx: RunContext[None], **more: Any) -> None: ...

    bound = tool(functools.partial(send, dry_run=True))
    assert list(bound.parameters["properties"]) == ["to"]
    with pytest.raises(ToolArgumentsInvalid, match="dry_run: not a parameter that can be given; known: to"):
        bound.parse('{"to": "a", "dry_run": false}')
    with pytest.raises(ToolArgumentsInvalid, match="ctx: not a parameter that can be given; known: none"):
        tool(look).parse('{"ctx": 1}')


@pytest.mark.parametrize("text", ["[]", '"[]"', '{"arguments": "[]"}', '{"name": "f", "arguments": []}'])
def test_a_list_is_not_no_arguments(text: str) -> None:
    @tool
    def f(dry_run: bool = False) -> None:
        """Take it."""

    with pytest.raises(ToolArgumentsInvalid):
        f.parse(text)


@pytest.mark.parametrize("text", [r"{'text': '\ud83d'}", r"{'text': 'a\ud800b'}", r'{"text": "\ud83d"}'])
def test_half_a_character_is_refused_also_where_quotes_are_mended(text: str) -> None:
    @tool
    def f(text: str) -> None:
        """Take it."""

    with pytest.raises(ToolArgumentsInvalid):
        f.parse(text)


def test_keys_that_are_unpacked_from_either_library_are_keys_of_the_call() -> None:
    def f(x: Keys | None = None, **kwargs: Any) -> None: ...

    for unpack in (typing.Unpack, te.Unpack):
        f.__annotations__["kwargs"] = unpack[Keys]
        made = tool(f)
        assert made.parameters["required"] == ["a"] and set(made.parameters["properties"]) == {"x", "a", "dry_run"}
        Draft202012Validator(made.parameters).validate({"a": 1, "x": {"a": 2}})
        assert made.parse('{"a": 1, "x": {"a": "2"}}').values == {"a": 1, "x": {"a": 2}}
        for wrong in ('{"a": 1, "dryRun": true, "dry_run": false}', '{"a": 1, "x": {"a": 2, "q": 5}}'):
            with pytest.raises(ToolArgumentsInvalid):
                made.parse(wrong)


class All(BaseModel):
    op: Literal["all"]
    of: list[All | Some]


class Some(BaseModel):
    op: Literal["some"]
    of: list[All | Some]


Tagged = Annotated["AllTagged | SomeTagged", Field(discriminator="op")]


class AllTagged(BaseModel):
    op: Literal["all"]
    of: list[Tagged]


class SomeTagged(BaseModel):
    op: Literal["some"]
    of: list[Tagged]


def nested(levels: int, inmost: str = "") -> str:
    return '{"x": ' + '{"op": "some", "of": [' * levels + inmost + "]}" * levels + "}"


def test_a_union_that_holds_itself_is_refused_before_the_library_tries_all_paths() -> None:
    made = a_tool(All | Some)
    assert made.parse(nested(6)).values["x"].of[0].op == "some"
    with pytest.raises(ToolArgumentsInvalid, match=r"x\.All\.op: Input should be 'all'"):
        made.parse('{"x": {"op": "none", "of": []}}')
    inner = nested(40)[6:-1]
    for text in (nested(40), nested(40, "5"), json.dumps({"x": inner}), f"{{'x': {inner}}}", f"{{x: {json.dumps(inner)}}}"):
        begun = time.process_time()
        with pytest.raises(ToolArgumentsInvalid, match="nested too deeply for a type that can be read in several ways"):
            made.parse(text)
        assert time.process_time() - begun < 1, "the library would take hours"


def test_a_discriminator_leaves_one_path() -> None:
    made = a_tool(Tagged)
    assert made.parse(nested(40)).values["x"].op == "some"
    with pytest.raises(ToolArgumentsInvalid):
        made.parse(nested(40, "5"))
    mended = made.parse('{"x": {"op": "all", "of": "[]"}}')
    assert mended.values["x"] == AllTagged(op="all", of=[]) and mended.repairs == ("x.of: string taken as array",)


def test_a_long_text_is_read_in_a_thread_and_told_alike() -> None:
    home = threading.get_ident()
    seen: list[int] = []

    def note(value: list[int]) -> list[int]:
        seen.append(threading.get_ident())
        return value

    @tool
    async def total(x: Annotated[list[int], AfterValidator(note)]) -> int:
        return sum(x)

    short, long = '{"x": [1, 2]}', json.dumps({"x": [1] * LONG_TEXT})
    for text in (short, long):
        model = ScriptedModel([ModelReply(Assistant("", "", (ToolCall("a", "total", text),))), "ok"])
        told = asyncio.run(Agent(model, tools=[total]).run("hi")).messages[-2]
        assert isinstance(told, ToolResult) and told.content == str(sum(json.loads(text)["x"]))
    assert (seen[0] == home, seen[-1] == home) == (True, False)


def test_more_values_than_a_model_writes_are_refused_unread() -> None:
    with pytest.raises(ToolArgumentsInvalid, match=r"hold 300,00\d values; at most 200,000 are read"):
        a_tool(list[int]).parse('{"x": [' + "1," * 299_999 + "1]}")
    prose = "a, b: c, " * 200_000
    assert a_tool(str).parse(json.dumps({"x": prose})).values["x"] == prose
    with pytest.raises(ToolArgumentsInvalid, match="too large: 2,100,011 of at most 2,097,152 characters"):
        a_tool(str).parse(json.dumps({"x": "a" * 2_100_002}))


def test_what_was_mended_is_named_up_to_a_bound() -> None:
    found = a_tool(list[int]).parse(json.dumps({"x": ["5"] * 200}))
    assert found.values["x"] == [5] * 200
    assert len(found.repairs) == 51 and found.repairs[-1] == "and others"


def test_a_message_shows_the_beginning_of_a_value_and_of_a_key() -> None:
    with pytest.raises(ToolArgumentsInvalid) as caught:
        a_tool(dict[str, int]).parse(json.dumps({"x": {"k" * 50_000: ["y" * 50_000] * 20}}))
    assert len(str(caught.value)) < 1000 and "k" * 80 + "...:" in str(caught.value)


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^(a|aa)+$"])
def test_a_pattern_for_keys_takes_no_longer_than_the_key(pattern: str) -> None:
    made = a_tool(dict[Annotated[str, Field(pattern=pattern)], int])
    begun = time.process_time()
    with pytest.raises(ToolArgumentsInvalid):
        made.parse(json.dumps({"x": {"a" * 5_000 + "!": 1}}))
    assert time.process_time() - begun < 1
    assert made.parse('{"x": {"aaa": "5"}}').values["x"] == {"aaa": 5}


def test_an_envelope_and_markup_may_name_the_tool_as_servers_know_it() -> None:
    def look(city: str) -> None: ...

    made = tool(look, name="look up")
    known = made.schema()["function"]["name"]
    assert known != "look up"
    for text in (
        json.dumps({"name": known, "arguments": {"city": "Rome"}}),
        f'<｜DSML｜invoke name="{known}">{{"city": "Rome"}}</｜DSML｜invoke>',
    ):
        assert made.parse(text).values == {"city": "Rome"}


def test_words_before_an_object_are_its_key_where_any_key_may_be_given() -> None:
    def any_key(**more: Any) -> None: ...

    with pytest.raises(ToolArgumentsInvalid):
        tool(any_key).parse('city: {"a": 1}')
    assert tool(any_key).parse('Here it is: {"a": 1}').values == {"a": 1}


def test_words_before_an_object_may_be_a_key_of_several_words() -> None:
    def take(tool_input: dict[str, Any] | None = None, s: str = "") -> None: ...

    made = tool(take)
    for words in ("tool input:", "The tool-input:", "Tool_Input:", "Here is the tool input:\n"):
        with pytest.raises(ToolArgumentsInvalid):
            made.parse(f'{words} {{"s": "x"}}')
    assert made.parse('Here are the arguments: {"s": "x"}').values["s"] == "x"


@pytest.mark.parametrize("name", ["fs.read", "look up", "2nd", "read-all"])
def test_words_before_an_object_may_name_the_tool_as_it_is_or_as_servers_know_it(name: str) -> None:
    def take(path: str) -> None: ...

    made = tool(take, name=name)
    for said in (name, made.schema()["function"]["name"]):
        assert made.parse(f'Calling `{said}` with: {{"path": "a"}}').values == {"path": "a"}
        assert made.parse(f'Here are the arguments for {said}:\n{{"path": "a"}}').values == {"path": "a"}
    for other in ("write", f"{name}_x", f"x.{name}", f"not {name}"):
        with pytest.raises(ToolArgumentsInvalid):
            made.parse(f'Calling {other} with: {{"path": "a"}}')
