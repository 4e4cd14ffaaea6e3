"""What a schema cannot be made of, and what the model is told of a wrong call."""

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field

from agentkit import ToolArgumentsInvalid, ToolDefinitionError, ToolDefinitionWarning, ToolRegistry, tool
from agentkit.schema import describe


class Point(BaseModel):
    x: int


def even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


# ---- what is refused at definition


class Odd: ...


def opaque(fine: int, thing: Odd) -> None: ...


def inferred_opaque(fine: int, thing=Odd()) -> None: ...  # type: ignore[no-untyped-def]  # noqa: B008


class Pair(Enum):
    ONE = (1, 2)


def pairs(pair: Pair) -> None: ...


def raw(data: Literal[b"a"]) -> None: ...


def cells(grid: dict[tuple[int, int], str]) -> None: ...


def late_name(fine: int, thing: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821


class WithMethod:
    def method(self, a: int) -> None: ...


def test_an_optional_parameter_that_cannot_be_described_is_left_out_with_a_warning() -> None:
    with pytest.warns(ToolDefinitionWarning, match="parameter 'thing' of type Odd cannot .* keeps its default"):
        made = tool(inferred_opaque)
    assert list(made.parameters["properties"]) == ["fine"]
    assert asyncio.run(made.call('{"fine": 1}')) is None
    with pytest.raises(ToolArgumentsInvalid, match="thing: unknown parameter; known: fine"):
        made.parse('{"fine": 1, "thing": 2}')


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (opaque, "opaque: parameter 'thing' of type Odd cannot be described to a model; use a type that JSON can hold"),
        (pairs, "pairs: parameter 'pair' of type Pair cannot be described to a model"),
        (raw, "raw: parameter 'data' of type typing.Literal[b'a'] cannot be described to a model"),
        (cells, "cells: parameter 'grid' of type dict[tuple[int, int], str] cannot be described to a model"),
        (late_name, "late_name: parameter 'thing': name 'Missing' is not defined; define or import it at run time"),
        (WithMethod.method, "WithMethod.method: parameter 'self': a method has no object yet; use tool(object.method)"),
        (max, "max: its signature cannot be read: no signature found for builtin <built-in function max>; wrap it"),
    ],
)
def test_what_cannot_be_described_is_refused_with_function_parameter_and_remedy(fn: Any, says: str) -> None:
    with pytest.raises(ToolDefinitionError, match=re.escape(says)) as caught:
        describe(fn)
    assert isinstance(caught.value, TypeError)
    assert "pydantic.dev" not in str(caught.value)


def test_a_callable_parameter_is_refused() -> None:
    def fn(value: Callable[[int], int]) -> None: ...

    with pytest.raises(ToolDefinitionError, match=r"parameter 'value' of type .*Callable\[\[int\], int\] cannot be described"):
        describe(fn)


# ---- what a wrong call is told


def told(fn: Callable[..., Any], arguments: str) -> str:
    with pytest.raises(ToolArgumentsInvalid) as caught:
        describe(fn).parse(arguments)
    return str(caught.value)


def many(
    count: int,
    point: Point | None = None,
    level: Annotated[int, Field(ge=1)] = 1,
    size: Annotated[int, AfterValidator(even)] | str = 2,
    both: Annotated[int, AfterValidator(even)] = 2,
) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "the text of the arguments is empty; send one JSON object"),
        ("{}", "count: required, but missing\nschema: "),
        ('{"count": "x"}', 'count: Input should be a valid integer (got "x")'),
        ('{"count": 1.5}', "count: Input should be a valid integer"),
        ('{"count": 1, "cuont": 2}', "cuont: unknown parameter; known: count, point, level, size, both"),
        ('{"count": 1, "point": {}}', "point.x: required, but missing"),
        ('{"count": 1, "point": {"x": "y"}}', "point.x: Input should be a valid integer"),
        ('{"count": 1, "level": 0}', "level: Input should be greater than or equal to 1 (got 0)"),
        ('{"count": 1, "both": 3}', "both: must be even (got 3)"),
        ('{"count": 1, "size": 3}', "size: must be even (got 3); size.str: Input should be a valid string"),
        ('{"count": 1', "the text of the arguments is not valid JSON: Expecting ',' delimiter: line 1 column 12"),
        ('{"count": 1} and more', "the text of the arguments is not valid JSON: Extra data: line 1 column 14"),
        ('{"count": NaN}', "the text of the arguments is not valid JSON: NaN is no JSON number"),
        ("[1]", "the arguments must be one JSON object with these keys: count, point, level, size, both"),
        ('"count"', "the arguments must be one JSON object with these keys"),
        ("null", "the arguments must be one JSON object with these keys"),
        ("\x00", "the text of the arguments is not valid JSON"),
    ],
)
def test_a_wrong_call_is_explained(arguments: str, says: str) -> None:
    text = told(many, arguments)
    assert text.startswith(says)
    for leak in ("pydantic", "Value error", "function-", "validation error", "keyword_only"):
        assert leak not in text


def test_an_explanation_has_the_schema_of_the_wrong_parameter_only_and_stays_short() -> None:
    text = told(many, json.dumps({"count": "x" * 500, "level": 0}))
    shown, _, schema = text.partition("\nschema: ")
    assert json.loads(schema) == {"count": {"type": "integer"}, "level": {"default": 1, "minimum": 1, "type": "integer"}}
    assert len(shown) < 300 and "x..." in shown
    wrong = {f"unknown_{number}": 1 for number in range(50)}
    assert told(many, json.dumps({"count": 1, **wrong})).count("unknown parameter") == 5


def test_deep_nesting_is_an_error_for_the_model() -> None:
    def fn(a: Any) -> None: ...

    assert "JSON" in told(fn, '{"a": ' + "[" * 100_000) or "deep" in told(fn, '{"a": ' + "[" * 100_000)


def test_an_optional_parameter_of_an_unknown_type_is_left_out_with_a_warning_at_the_function() -> None:
    def search(text: str, session: "Session | None" = None) -> str:  # type: ignore[name-defined]  # noqa: F821
        return f"{text} {session}"

    with pytest.warns(ToolDefinitionWarning, match=r"parameter 'session' of type unknown \(name 'Session' is not") as seen:
        made = tool(search)
    assert (seen[0].filename, seen[0].lineno) == (__file__, search.__code__.co_firstlineno)
    assert list(made.parameters["properties"]) == ["text"]
    assert asyncio.run(made.call({"text": "a"})) == "a None"


def test_a_local_class_with_an_unknown_name_is_refused_by_that_name() -> None:
    @dataclasses.dataclass
    class Local:
        other: "Missing"  # type: ignore[name-defined]  # noqa: F821

    def take(x: Local) -> None: ...

    with pytest.raises(ToolDefinitionError, match=r"parameter 'x' of type Local .* \(name 'Missing' is not defined\)"):
        describe(take)


def test_a_warning_names_the_line_of_the_function_however_it_became_a_tool() -> None:
    def look(key: str) -> str:
        """Look up.

        Args:
            name: Of no parameter.
        """
        return key

    for make in (ToolRegistry().tool, lambda fn: ToolRegistry([fn])):
        with pytest.warns(ToolDefinitionWarning, match="describes name") as seen:
            make(look)
        assert (seen[0].filename, seen[0].lineno) == (__file__, look.__code__.co_firstlineno)
