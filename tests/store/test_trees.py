"""Stored runs with child runs: what the store says of them, whose they are, and whether their agents have changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit import Agent, AgentChanged, LogFailed, ScriptedModel, StoreError, tool
from agentkit.store import Store
from agentkit.testing import call


@tool(approval=True)
def pay(to: str) -> str:
    """Pay."""
    return f"paid {to}"


@tool
def look() -> str:
    """Look."""
    return "seen"


@tool(timeout=0.01)
async def wire() -> str:
    """Wire money."""
    await asyncio.Event().wait()
    return "never"


def tree(*, inner: list[Any], outer: list[Any], **parts: Any) -> Agent[str]:
    child = Agent(ScriptedModel(inner), name="child", **{"tools": [pay, wire], **parts})
    return Agent(ScriptedModel(outer), tools=[child.as_tool("child", "Does it.")])


CALLED = call("child", task="go")


async def test_a_run_lists_the_uncertain_calls_of_its_child_runs(store: Store) -> None:
    result = await tree(inner=[call("wire"), "?"], outer=[CALLED, "Done."]).run("Go", store=store, run_id="r1")
    (found,) = result.uncertain
    assert store.get("r1").uncertain == ({"call_id": found.id, "tool": "wire"},)
    assert store.state("r1").uncertain == result.uncertain


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_child_run_does_not_go_on_with_another_agent(store: Store, depth: int) -> None:
    def made(inner: list[Any], outer: list[Any], **parts: Any) -> Agent[str]:
        agent = tree(inner=inner, outer=outer, **parts)
        return agent if depth == 1 else Agent(ScriptedModel(outer), tools=[agent.as_tool("child", "Asks.")])

    paused = await made([call("pay", to="Bob")], [CALLED]).run("Go", store=store, run_id="r1")
    given = {paused.pending[0].id: True}
    changed = made(["Paid."], ["Done."], tools=[pay, wire, look], instructions="Be bold.")
    before = store.events("r1")
    with pytest.raises(AgentChanged, match=f"run 'r1{':0' * depth}.*changed: instructions, tools .added: look.") as error:
        await changed.resume("r1", store=store, approvals=given)
    assert error.value.changed == ("instructions", "tools") and store.events("r1") == before
    assert (await made(["Paid."], ["Done."]).resume("r1", store=store, approvals=given)).output == "Done."


async def test_a_changed_child_goes_on_if_that_is_allowed(store: Store) -> None:
    paused = await tree(inner=[call("pay", to="Bob")], outer=[CALLED]).run("Go", store=store, run_id="r1")
    changed = tree(inner=["Paid."], outer=["Done."], instructions="Be bold.")
    result = await changed.resume("r1", store=store, approvals={paused.pending[0].id: True}, allow_changed=True)
    assert result.output == "Done."


async def test_another_run_is_not_taken_for_a_child_run(store: Store) -> None:
    await Agent(ScriptedModel(["Mine."])).run("Hi", store=store, run_id="r1:0")
    with pytest.raises(LogFailed, match="a run 'r1:0' already, which is not a child run of 'r1'"):
        await tree(inner=["Theirs."], outer=[CALLED, "Done."]).run("Go", store=store, run_id="r1")
    assert store.get("r1:0").output == "Mine." and store.get("r1:0").parent is None
    log = store.reopen("r1").log.child("r1:0")
    with pytest.raises(StoreError, match="not a child run of 'r1'"):  # also if it came after the log was read
        await log.append(0, store.events("r1:0"))  # type: ignore[misc]
    assert len(store.events("r1:0")) == 3
