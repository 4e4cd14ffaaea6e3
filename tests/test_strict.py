"""Strict function schemas: what the strict endpoint takes, what stops one, and that null means the default."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentkit import Agent, ChatModel, EndpointWarning, ScriptedModel, tool
from agentkit.models.profiles import DEEPSEEK
from agentkit.schema.strict import NotStrict, strict_schema
from agentkit.testing import DeepSeekSimulator, call
from agentkit.testing.simulator.strict_schema import schema_errors
from tests.signatures import KINDS, Kind


class Place(BaseModel):
    """Where."""

    city: str = Field(min_length=1, max_length=50)
    zip: str | None = None


class Tree(BaseModel):
    children: list[Tree] = []


@tool(strict=True)
def meet(place: Place, days: list[int], unit: Literal["c", "f"] = "c", size: int = Field(default=2, ge=1)) -> str:
    """Meet there.

    Args:
        unit: The unit.
    """
    return f"{place.city} {days} {unit} {size}"


def parameters() -> dict[str, Any]:
    return strict_schema(meet.parameters)


def test_everything_is_inline_required_and_nullable_where_it_may_be_left_out() -> None:
    made = parameters()
    assert made["required"] == ["place", "days", "unit", "size"] and "$defs" not in json.dumps(made)
    assert made["properties"]["unit"] == {
        "anyOf": [{"type": "string", "enum": ["c", "f"]}, {"type": "null"}],
        "description": "The unit.",
    }
    assert made["properties"]["size"] == {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
    place = made["properties"]["place"]
    assert place["properties"]["city"] == {"type": "string"}, "lengths are checked here, the mode does not know them"
    assert place["additionalProperties"] is False and place["required"] == ["city", "zip"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_signature_is_taken_by_the_strict_endpoint_or_says_why_not(kind: Kind) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made = tool(kind.fn)
    try:
        schema = strict_schema(made.parameters)
    except NotStrict as reason:
        assert ": " in str(reason)
        return
    assert list(schema_errors(schema)) == []
    nulls = {name: kind.arguments.get(name) for name in schema["properties"]}
    assert asyncio.run(made.call(json.dumps(nulls))) == kind.wanted


def test_a_reference_to_itself_and_open_keys_stop_it() -> None:
    def trees(x: Tree) -> None: ...
    def words(x: dict[str, int]) -> None: ...
    def anything(x: Any) -> None: ...
    def nothing() -> None: ...

    told: dict[Callable[..., None], str] = {
        trees: "Tree holds itself",
        words: "x: keys of any name are allowed",
        anything: "x: any value is allowed",
        nothing: "there is no key",
    }
    for fn, text in told.items():
        with pytest.raises(NotStrict, match=text):
            strict_schema(tool(fn).parameters)


def test_a_run_in_strict_mode() -> None:
    arguments = {"place": {"city": "Rome", "zip": None}, "days": [1], "unit": None, "size": None}
    with DeepSeekSimulator([call("meet", **arguments), "Done."]) as sim:
        model = ChatModel(
            "deepseek-v4-flash", base_url=sim.base_url.replace("/v1", "/beta"), profile=replace(DEEPSEEK, strict=True)
        )
        result = Agent(model, tools=[meet]).run_sync("Meet.")
        assert (result.output, result.messages[2].content) == ("Done.", "Rome [1] c 2")  # type: ignore[union-attr]
        assert sim.requests[0].tools[0]["strict"] is True and sim.errors == []


@tool
def plain(x: int) -> str:
    """Not strict."""
    return str(x)


@pytest.mark.parametrize(
    ("tools", "beta", "says"),
    [
        ([meet], False, "the profile deepseek has no strict functions"),
        ([meet, plain], True, "the tool plain is not marked strict, and all must be"),
        ([tool(lambda x: x, name="odd", strict=True)], True, "the tool odd cannot be: x: any value is allowed"),
    ],
)
def test_what_stops_the_mode_is_said_and_the_request_is_sent_without_it(tools: list[Any], beta: bool, says: str) -> None:
    with DeepSeekSimulator(["Done."]) as sim:
        model = ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile=replace(DEEPSEEK, strict=beta))
        with pytest.warns(EndpointWarning, match=says):
            assert Agent(model, tools=tools).run_sync("Meet.").output == "Done."
        assert '"strict"' not in json.dumps(sim.requests[0].body["tools"])


def test_the_tool_of_a_typed_answer_is_strict_with_the_others() -> None:
    @tool(strict=True)
    def look(city: str) -> str:
        """Look."""
        return city

    agent = Agent(ScriptedModel([]), tools=[look], output_type=Weather)
    assert [offered.strict for offered in agent.spec.offered] == [True, True]
    agent = Agent(ScriptedModel([]), tools=[tool(look, strict=False)], output_type=Weather)
    assert [offered.strict for offered in agent.spec.offered] == [False, False]


class Weather(BaseModel):
    degrees: int
