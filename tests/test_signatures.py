"""Every kind of signature: a right call arrives, and the schema is the same in every process."""

from __future__ import annotations

import enum
import functools
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator

from agentkit import ToolArgumentsInvalid, tool
from tests.signatures import KINDS, Kind, Mood, Permission, outcome


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_right_call_arrives(kind: Kind) -> None:
    assert outcome(kind) == "right"


def test_the_kinds_have_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 160


def test_schemas_are_the_same_bytes_in_every_process() -> None:
    program = """
        import json, warnings
        from tests.signatures import KINDS
        from agentkit import tool
        warnings.simplefilter("ignore", UserWarning)
        print(json.dumps([tool(kind.fn).parameters for kind in KINDS]))
    """
    root = Path(__file__).parent.parent
    outputs = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=root, env={"PYTHONHASHSEED": seed, "PATH": ""}, capture_output=True, check=True, timeout=60,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1
    text = outputs.pop().decode()
    assert "title" not in {key for schema in json.loads(text) for key in schema}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax of PEP 695 needs Python 3.12")
def test_generics_in_the_syntax_of_pep_695() -> None:
    scope: dict[str, object] = {}
    exec(
        textwrap.dedent(
            """
            from pydantic import BaseModel
            from agentkit import tool

            class Box[T](BaseModel):
                item: T

            type Numbers = list[int]
            type Json = int | str | list[Json] | dict[str, Json]

            @tool
            def take[N: int](x: Box[int], y: Numbers, z: Json, n: N = 1):
                return x.item, y, z, n

            found = take.parse('{"x": {"item": 1}, "y": [2], "z": {"a": ["b"]}}').values
            assert (found["x"].item, found["y"], found["z"]) == (1, [2], {"a": ["b"]})
            """
        ),
        scope,
    )


def test_iterables_are_checked_before_the_function_runs() -> None:
    from collections.abc import Iterable

    @tool
    def total(numbers: Iterable[int]) -> int:
        return sum(numbers)

    assert total.parameters["properties"]["numbers"] == {"items": {"type": "integer"}, "type": "array"}
    with pytest.raises(ToolArgumentsInvalid, match=r"numbers\[1\]: Input should be a valid integer"):
        total.parse('{"numbers": [1, "x"]}')
    assert total.parse('{"numbers": [1, 2]}').values == {"numbers": [1, 2]}


MOODS = [
    {"kind": "Good", "tags": ["a", "b"]},
    {"kind": "good", "tags": "a;b"},
    {"mood": "GOOD", "tags": "a;b"},
]


@pytest.mark.parametrize("given", MOODS)
def test_a_validator_of_the_program_may_take_more_than_the_schema_says(given: dict[str, Any]) -> None:
    def one(x: Mood) -> None: ...
    def many(x: list[Mood] | None = None) -> None: ...

    wanted = Mood(kind="good", tags=["a", "b"])
    assert tool(one).parse({"x": given}).values == {"x": wanted}
    assert tool(many).parse({"x": [given]}).values == {"x": [wanted]}


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return {"xl": cls.LARGE, 1: cls.SMALL}.get(value)


@pytest.mark.parametrize(("given", "found"), [("large", Size.LARGE), ("xl", Size.LARGE), (1, Size.SMALL)])
def test_an_enum_may_find_its_members_by_other_values(given: Any, found: Size) -> None:
    def take(x: Size, more: list[Size | None] = []) -> None: ...  # noqa: B006

    assert tool(take).parse({"x": given, "more": [given]}).values == {"x": found, "more": [found]}
    with pytest.raises(ToolArgumentsInvalid, match="x: Input should be 'small' or 'large'"):
        tool(take).parse({"x": "medium"})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "fair", "tags": []}, "x.kind: Input should be 'good' or 'bad'"),
        ({"kind": "good", "tags": 3}, "x.tags: Input should be a valid array"),
        ({"kind": "good", "tags": [], "size": 3}, "x.size: Extra inputs are not permitted"),
    ],
)
def test_what_such_a_validator_does_not_take_is_refused(given: dict[str, Any], says: str) -> None:
    def take(x: Mood) -> None: ...

    with pytest.raises(ToolArgumentsInvalid, match=re.escape(says)):
        tool(take).parse({"x": given})


def test_a_validator_that_says_what_it_reads_is_described_by_that() -> None:
    def take(x: Annotated[int, BeforeValidator(len, json_schema_input_type=str)]) -> None: ...

    assert tool(take).parameters["properties"]["x"] == {"type": "string"}
    assert tool(take).parse({"x": "abc"}).values == {"x": 3}


def test_flags_say_what_their_numbers_mean() -> None:
    def take(x: Permission) -> None: ...

    found = tool(take).parameters["$defs"]["Permission"]
    assert found == {"type": "integer", "enum": [*range(8)], "description": "The sum of any of: 4 = R, 2 = W, 1 = X"}
    with pytest.raises(ToolArgumentsInvalid, match=r"x: 8 is not one of"):
        tool(take).parse({"x": 8})
    many: Any = enum.IntFlag("many", "a b c d e f g")
    take.__annotations__["x"] = many
    assert tool(take).parameters["$defs"]["many"]["enum"] == [2**number for number in range(7)]


def test_a_partial_may_have_a_name_and_a_docstring_of_its_own() -> None:
    def add(x: int, y: int) -> int:
        """Add two numbers."""
        return x + y

    made = functools.partial(add, 10)
    assert (tool(made).name, tool(made).description) == ("add", "Add two numbers.")
    functools.update_wrapper(made, add)
    vars(made).update(__name__="add_ten", __doc__="Add ten.")
    assert (tool(made).name, tool(made).description) == ("add_ten", "Add ten.")
    assert list(tool(made).parameters["properties"]) == ["y"]
