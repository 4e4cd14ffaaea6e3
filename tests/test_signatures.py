"""Every kind of signature: a right call arrives, and the schema is the same in every process."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agentkit import ToolArgumentsInvalid, tool
from tests.signatures import KINDS, Kind, outcome


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
