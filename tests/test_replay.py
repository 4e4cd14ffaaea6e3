"""A stored run as a test of today's agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, ModelSettings, RunContext, ScriptedModel, Tool, tool
from agentkit.store import Store, open_store
from agentkit.testing import ReplayMismatch, call, replay

ENTERED: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_entered() -> None:
    ENTERED.clear()


@tool
def find(number: str) -> dict[str, Any]:
    """Find an order."""
    ENTERED.append(number)
    if number == "?":
        raise ValueError("no such order")
    return {"number": number, "total": 12.5}


@tool(approval=True)
def refund(number: str, amount: float = 1.0) -> str:
    """Refund an order."""
    ENTERED.append(number)
    return f"refunded {amount}"


weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {"what": {"type": "string"}}})
SCRIPT: list[Any] = [
    [call("find", number="A-17"), call("find", number="?")],
    call("refund", number="A-17"),
    call("weigh", what="A-17"),
    call("nothing"),
    "Refunded.",
]


def agent(**parts: Any) -> Agent[str]:
    given = {"tools": [find, refund, weigh], "instructions": "Be brief.", **parts}
    return Agent(ScriptedModel(SCRIPT), **given)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs.db"))


@pytest.fixture
def run_id(store: Store) -> str:
    """A run with parallel calls, an error, an approval with other arguments, an outside call, and an unknown tool."""
    made = agent()
    result = made.run_sync("Refund A-17", store=store, run_id="r1")
    result = made.resume_sync("r1", store=store, approvals={result.pending[0].id: {"args": {"number": "A-17", "amount": 2}}})
    result = made.resume_sync("r1", store=store, results={result.pending[0].id: {"kg": 1}})
    assert result.output == "Refunded." and len(ENTERED) == 3
    ENTERED.clear()
    return "r1"


def test_the_same_agent_does_the_same_and_calls_nothing(store: Store, run_id: str, tmp_path: Path) -> None:
    result = replay(store, run_id, agent())
    assert result.output == "Refunded." and not ENTERED
    path = tmp_path / "run.json"
    store.state(run_id).save(path)
    assert replay(path, None, agent()).output == "Refunded."
    assert replay(store.state(run_id), None, agent()).steps == 5 and not ENTERED


@tool(name="find")
def find_by_id(order_id: int) -> str:
    """Find an order."""
    return str(order_id)


@tool(name="refund")
def free_refund(number: str, amount: float = 1.0) -> str:
    """Refund an order."""
    return ""


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"instructions": "Be long."}, ["-instructions: Be brief.", "+instructions: Be long."]),
        ({"tools": [find_by_id, refund, weigh]}, ["-result of find: {", "+result of find: error: "]),
        ({"tools": [find, weigh]}, ["-result of refund: ", "+result of refund: error: there is no tool 'refund'"]),
        ({"tools": [find, free_refund, weigh]}, ['-call refund({"number": "A-17", "amount": 2})', "+call refund("]),
        ({"settings": ModelSettings(temperature=0.5)}, ["other parts: settings"]),
    ],
    ids=["instructions", "schema", "no tool", "no approval", "settings"],
)
def test_the_first_difference_is_shown(store: Store, run_id: str, parts: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ReplayMismatch) as mismatch:
        replay(store, run_id, agent(**parts))
    assert all(word in str(mismatch.value) for word in words), str(mismatch.value)
    assert isinstance(mismatch.value, AssertionError) and not ENTERED


def test_a_run_that_broke_off_is_compared_as_far_as_it_came(store: Store) -> None:
    made = Agent(ScriptedModel([call("find", number="A-17")]), tools=[find], retry=None)
    with pytest.raises(Exception, match="the script has 1 replies"):
        made.run_sync("Find A-17", store=store, run_id="r2")
    assert replay(store, "r2", made).steps == 1
    with pytest.raises(ReplayMismatch, match="instructions: Other"):
        replay(store, "r2", made.copy(instructions="Other"))


def test_instructions_of_a_function_are_rendered_anew(store: Store) -> None:
    def instructions(ctx: RunContext[str]) -> str:
        return f"You help {ctx.deps}."

    made = Agent(ScriptedModel(["Hi."]), instructions=instructions)
    made.run_sync("Hi", deps="Ann", store=store, run_id="r3")
    replay(store, "r3", made, deps="Ann")
    with pytest.raises(ReplayMismatch, match="You help Bob"):
        replay(store, "r3", made, deps="Bob")
