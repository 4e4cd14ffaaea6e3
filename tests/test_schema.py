"""From a signature and a docstring to a JSON Schema, and from a model's JSON to the function's own types."""

import functools
import json
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from agentkit.errors import ToolArgumentsInvalid, ToolDefinitionWarning
from agentkit.schema import Signature, describe

# no `from __future__ import annotations` here: this module's annotations are values, LATE's are texts
LATE = types.ModuleType("late_annotations")
sys.modules[LATE.__name__] = LATE  # a dataclass looks its module up
exec(
    """
from __future__ import annotations
import functools
from typing import TYPE_CHECKING
from dataclasses import dataclass
if TYPE_CHECKING:
    from nowhere import Hidden

@dataclass
class Box:
    size: int

def boxed(box: Box, count: int = 1, *, tags: list[str] = []) -> Hidden:
    "Boxes."

def wrapped(fn):
    @functools.wraps(fn)
    def inner(*args, **kwargs):
        return fn(*args, **kwargs)
    return inner

class Caller:
    def __call__(self, box: Box) -> int:
        "Calls."
        return box.size
""",
    LATE.__dict__,
)


class Point(BaseModel):
    x: int
    title: str = "origin"


class Node(BaseModel):
    value: int
    children: list["Node"] = []


@dataclass
class Size:
    width: int
    height: int = 1


class Options(TypedDict, total=False):
    deep: bool


class Color(Enum):
    RED = "red"
    BLUE = "blue"


def call(signature: Signature, fn: Callable[..., Any], arguments: Any) -> Any:
    positional, keyword = signature.bind(signature.parse(json.dumps(arguments)))
    return fn(*positional, **keyword)


def takes(annotation: Any) -> Signature:
    def fn(value: Any) -> None: ...

    fn.__annotations__["value"] = annotation
    return describe(fn)


@pytest.mark.parametrize(
    ("annotation", "schema", "sent", "value"),
    [
        (int, {"type": "integer"}, 3, 3),
        (float, {"type": "number"}, 3, 3.0),
        (str, {"type": "string"}, "3", "3"),
        (bool, {"type": "boolean"}, True, True),
        (list[int], {"type": "array", "items": {"type": "integer"}}, [1], [1]),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),
        (Literal["c", "f"], {"type": "string", "enum": ["c", "f"]}, "c", "c"),
        (Color, {"$ref": "#/$defs/Color"}, "red", Color.RED),
        (date, {"type": "string", "format": "date"}, "2026-01-31", date(2026, 1, 31)),
        (Path, {"type": "string", "format": "path"}, "a/b", Path("a/b")),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
        (Point, {"$ref": "#/$defs/Point"}, {"x": 1}, Point(x=1)),
        (list[Point], {"type": "array", "items": {"$ref": "#/$defs/Point"}}, [{"x": 1}], [Point(x=1)]),
        (Size, {"$ref": "#/$defs/Size"}, {"width": 2}, Size(2)),
        (Options, {"$ref": "#/$defs/Options"}, {"deep": True}, {"deep": True}),
        (Node, {"$ref": "#/$defs/Node"}, {"value": 1, "children": [{"value": 2}]}, Node(value=1, children=[Node(value=2)])),
        (Annotated[int, Field(ge=1, le=9)], {"type": "integer", "minimum": 1, "maximum": 9}, 9, 9),
        (Annotated[str, Field(description="why")], {"type": "string", "description": "why"}, "x", "x"),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}, 1, 1),
        (Any, {}, [1], [1]),
        (tuple[int, str], None, [1, "a"], (1, "a")),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [1], {1}),
    ],
    ids=str,
)
def test_a_type_has_a_schema_and_a_value_of_it_arrives(annotation: Any, schema: Any, sent: Any, value: Any) -> None:
    signature = takes(annotation)
    jsonschema.Draft202012Validator.check_schema(signature.parameters)
    jsonschema.validate({"value": sent}, signature.parameters)
    if schema is not None:
        assert signature.parameters["properties"]["value"] == schema
    got = signature.parse(json.dumps({"value": sent})).values["value"]
    assert got == value and type(got) is type(value)


def positional_only(a: int, b: int = 2, /, c: int = 3) -> Any:
    return a, b, c


def keyword_only(*, a: int, b: int = 2) -> Any:
    return a, b


def starred(a: int, b: int = 2, *rest: int, c: str = "c", **more: float) -> Any:
    return a, b, rest, c, more


def only_rest(*rest: Point) -> Any:
    return rest


def not_annotated(a, b="x", c=None):  # type: ignore[no-untyped-def]
    return a, b, c


def odd_names(_a: int, model_config: int = 1, schema: int = 2, json: int = 3, values: int = 4) -> Any:
    return _a, model_config, schema, json, values


SENTINEL: Any = object()


def sentinel(a: int = SENTINEL) -> Any:
    return a is SENTINEL


def nothing() -> Any:
    return "called"


class Holder:
    def method(self, a: int) -> Any:
        return a

    @classmethod
    def of_class(cls, a: int) -> Any:
        return cls.__name__, a

    @staticmethod
    def static(a: int) -> Any:
        return a

    def __call__(self, a: Point) -> Any:
        return a


@functools.cache
def cached(a: int) -> int:
    return a


def outer(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return "through", fn(*args, **kwargs)

    return inner


@pytest.mark.parametrize(
    ("fn", "sent", "came"),
    [
        (positional_only, {"a": 1}, (1, 2, 3)),
        (positional_only, {"c": 9, "b": 8, "a": 7}, (7, 8, 9)),
        (keyword_only, {"a": 1}, (1, 2)),
        (starred, {"a": 1}, (1, 2, (), "c", {})),
        (starred, {"a": 1, "rest": [5, 6], "c": "z", "extra": 1}, (1, 2, (5, 6), "z", {"extra": 1.0})),
        (only_rest, {"rest": [{"x": 1}, {"x": 2}]}, (Point(x=1), Point(x=2))),
        (not_annotated, {"a": [1]}, ([1], "x", None)),
        (odd_names, {"_a": 0}, (0, 1, 2, 3, 4)),
        (sentinel, {}, True),
        (sentinel, {"a": 1}, False),
        (nothing, {}, "called"),
        (Holder().method, {"a": 1}, 1),
        (Holder.of_class, {"a": 1}, ("Holder", 1)),
        (Holder.static, {"a": 1}, 1),
        (Holder(), {"a": {"x": 1}}, Point(x=1)),
        (cached, {"a": 1}, 1),
        (outer(positional_only), {"a": 1}, ("through", (1, 2, 3))),
        (functools.partial(positional_only, 5), {"b": 1}, (5, 1, 3)),
        (functools.partial(positional_only, 5, c=6), {}, (5, 2, 6)),
        (functools.partial(Holder(), Point(x=9)), {}, Point(x=9)),
        (functools.partial(functools.partial(keyword_only, b=4), a=3), {}, (3, 4)),
        (lambda a, b=2: (a, b), {"a": 1}, (1, 2)),
        (LATE.Caller(), {"box": {"size": 4}}, 4),
        (Size, {"width": 3}, Size(3)),
        (Point, {"x": 3}, Point(x=3)),
    ],
)
def test_every_kind_of_callable_gets_its_arguments(fn: Any, sent: Any, came: Any) -> None:
    assert call(describe(fn), fn, sent) == came


@pytest.mark.parametrize("fn", [cached, Holder().method, Holder.static, functools.partial(cached), outer(cached)])
def test_the_annotations_of_wrapped_functions_are_found(fn: Any) -> None:
    assert describe(fn).parameters["properties"]["a"] == {"type": "integer"}


def test_an_object_of_arguments_is_closed_and_lists_what_is_required() -> None:
    parameters = describe(positional_only).parameters
    assert parameters["additionalProperties"] is False
    assert parameters["required"] == ["a"]
    assert list(parameters["properties"]) == ["a", "b", "c"]
    assert parameters["properties"]["b"] == {"type": "integer", "default": 2}
    assert describe(starred).parameters["additionalProperties"] == {"type": "number"}


def test_a_default_that_json_cannot_hold_is_not_shown() -> None:
    assert describe(sentinel).parameters == {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "additionalProperties": False,
    }


def test_types_are_inferred_from_defaults() -> None:
    assert describe(not_annotated).parameters["properties"] == {
        "a": {},
        "b": {"default": "x", "type": "string"},
        "c": {"default": None},
    }


def test_annotations_that_are_texts_are_read_and_that_of_the_result_is_not() -> None:
    for fn in (LATE.boxed, LATE.wrapped(LATE.boxed), functools.partial(LATE.boxed)):
        signature = describe(fn)
        assert signature.parameters["properties"]["box"] == {"$ref": "#/$defs/Box"}
        assert signature.parse('{"box": {"size": 3}}').values == {"box": LATE.Box(3), "count": 1, "tags": []}


# ---- docstrings

GOOGLE = """Weather of a city.

More about it.

Args:
    city: Name of the city,
        in English.
    rest (int): Others.
    unit: Temperature unit.

Returns:
    The weather.
"""
NUMPY = """Weather of a city.

More about it.

Parameters
----------
city : str
    Name of the city,
    in English.
rest : int
    Others.
unit : str
    Temperature unit.

Returns
-------
str
    The weather.
"""
REST = """Weather of a city.

More about it.

:param city: Name of the city,
    in English.
:param rest: Others.
:param unit: Temperature unit.
:returns: The weather.
"""
EPYDOC = """Weather of a city.

More about it.

@param city: Name of the city,
    in English.
@param rest: Others.
@param unit: Temperature unit.
@return: The weather.
"""


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, REST, EPYDOC], ids=["google", "numpy", "rest", "epydoc"])
def test_descriptions_come_from_the_docstring(doc: str) -> None:
    def weather(city: str, *rest: int, unit: Literal["c", "f"] = "c") -> str:
        return ""

    weather.__doc__ = doc
    signature = describe(weather)
    assert signature.description == "Weather of a city.\n\nMore about it."
    assert {name: prop["description"] for name, prop in signature.parameters["properties"].items()} == {
        "city": "Name of the city, in English.",
        "rest": "Others.",
        "unit": "Temperature unit.",
    }


def test_a_field_wins_over_a_note_and_a_note_over_the_docstring() -> None:
    def fn(a: Annotated[int, Field(description="field"), "note"], b: Annotated[int, "note"], c: int, d: int) -> None:
        """Text.

        Args:
            a: docstring
            b: docstring
            c: docstring
            unknown: of no parameter
        """

    with pytest.warns(ToolDefinitionWarning, match="its docstring describes unknown, which it does not take"):
        properties = describe(fn).parameters["properties"]
    assert [properties[name].get("description") for name in "abcd"] == ["field", "note", "docstring", None]
    assert describe(nothing).description == ""


def test_titles_are_left_out_but_not_properties_called_title() -> None:
    parameters = takes(Point).parameters
    assert parameters["$defs"]["Point"] == {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "title": {"type": "string", "default": "origin"}},
        "required": ["x"],
        "additionalProperties": False,
    }


def test_arguments_are_read_from_bytes() -> None:
    assert describe(keyword_only).parse(b'{"a": 1, "a": 1}').values == {"a": 1, "b": 2}
    with pytest.raises(ToolArgumentsInvalid, match="not UTF-8"):
        describe(keyword_only).parse(b"\xff")


# ---- any signature

KINDS: list[tuple[Any, Any]] = [(int, 3), (str, "x"), (list[int], [1]), (float, 0.5), (bool, True), (dict[str, int], {"k": 1})]


@st.composite
def functions(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """The source of a function with any mix of parameter kinds, and arguments that fit it."""
    names = iter("abcdefghij")
    parts: list[str] = []
    sent: dict[str, Any] = {}
    groups: list[tuple[str, int]] = [("pos", draw(st.integers(0, 2))), ("any", draw(st.integers(0, 2)))]
    groups += [("var", draw(st.integers(0, 1))), ("kw", draw(st.integers(0, 2)))]
    optional = False
    for group, count in groups:
        if group == "kw" and count and not any(part.startswith("*") for part in parts):
            parts.append("*")
        for _ in range(count):
            name, place = next(names), draw(st.integers(0, len(KINDS) - 1))
            if group == "var":
                parts.append(f"*{name}: KINDS[{place}][0]")
                sent[name] = [KINDS[place][1]] * draw(st.integers(0, 2))
                continue
            optional = draw(st.booleans()) or (optional and group != "kw")
            parts.append(f"{name}: KINDS[{place}][0]" + (f" = KINDS[{place}][1]" if optional else ""))
            if not optional or draw(st.booleans()):
                sent[name] = KINDS[place][1]
        if group == "pos" and count:
            parts.append("/")
    return f"def fn({', '.join(parts)}): return locals()", sent


@settings(derandomize=True, max_examples=150, deadline=None)
@given(functions())
def test_any_signature_gets_what_was_sent_and_its_defaults(made: tuple[str, dict[str, Any]]) -> None:
    source, sent = made
    namespace: dict[str, Any] = {"KINDS": KINDS}
    exec(source, namespace)
    signature = describe(namespace["fn"])
    jsonschema.validate(sent, signature.parameters)
    came = call(signature, namespace["fn"], sent)
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in came.items() if name in sent} == sent


def test_unpacked_keywords_are_described() -> None:
    def fn(**options: typing.Unpack[Options]) -> Any:
        return options

    assert call(describe(fn), fn, {"deep": True}) == {"deep": True}
