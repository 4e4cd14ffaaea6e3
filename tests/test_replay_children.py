"""A replay of a stored run drives today's agents through its child runs too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Limits, RunContext, ScriptedModel, Tool, tool
from agentkit.messages import Assistant, Usage
from agentkit.model import ModelReply
from agentkit.policy import AskWrites
from agentkit.store import Store, open_store
from agentkit.team import handoff
from agentkit.testing import ReplayMismatch, call, replay


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(str(tmp_path / "runs.db"))
    yield opened
    opened.close()


@tool
def find(number: str) -> str:
    """Find an order."""
    return f"order {number}"


@tool(approval=True)
def refund(number: str) -> str:
    """Refund an order."""
    return f"refunded {number}"


weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {}})
SCRIPT: list[Any] = [call("find", number="A"), [call("refund", number="A"), call("weigh")], "Refunded."]


def clerk(**parts: Any) -> Agent[str]:
    given = {"tools": [find, refund, weigh], "instructions": "Be brief.", "name": "clerk", **parts}
    return Agent(ScriptedModel(SCRIPT), **given)


def over(*inner: Agent[Any], **parts: Any) -> Agent[str]:
    """An agent that asks each of these once, all in one reply."""
    tools = [agent.as_tool(f"clerk{n}" if n else "clerk", "Refunds.") for n, agent in enumerate(inner)]
    script: list[Any] = [[call(tool.name, task="Refund A") for tool in tools], "Done."]
    return Agent(ScriptedModel(script), **{"tools": tools, **parts})


def driven(made: Agent[Any], store: Store, run_id: str = "r1") -> None:
    """Drive a run to its end, with an answer to each call that waits."""
    result = made.run_sync("Go", store=store, run_id=run_id)
    while result.pending:
        outside = {waiting.id for waiting in result.state.outside}
        approvals = {waiting.id: True for waiting in result.pending if waiting.id not in outside}
        result = made.resume_sync(run_id, store=store, approvals=approvals, results=dict.fromkeys(outside, "1 kg"))
    assert result.stop_reason == "answer"


@tool(name="find")
def find_any(number: str, limit: int = 3) -> str:
    """Find an order."""
    return number


@tool(name="refund")
def free_refund(number: str) -> str:
    """Refund an order."""
    return ""


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"instructions": "Be long."}, "-instructions: Be brief.\n+instructions: Be long."),
        ({"tools": [find_any, refund, weigh]}, "had other parts: tools (changed: find)\n"),
        ({"tools": [find, free_refund, weigh]}, "-approved: refund"),
    ],
    ids=["instructions", "schema", "no approval"],
)
def test_a_changed_agent_of_a_tool_is_a_difference(store: Store, depth: int, parts: dict[str, Any], words: str) -> None:
    def made(**parts: Any) -> Agent[str]:
        return over(clerk(**parts)) if depth == 1 else over(over(clerk(**parts), name="middle"))

    driven(made(), store)
    assert replay(store, "r1", made()).output == "Done."
    with pytest.raises(ReplayMismatch) as mismatch:
        replay(store, "r1", made(**parts))
    assert f"of run 'r1{':0' * depth}' had" in str(mismatch.value) or f"in run 'r1{':0' * depth}':" in str(mismatch.value)
    assert words in str(mismatch.value)


def test_of_several_child_runs_the_one_that_differs_is_named(store: Store) -> None:
    driven(over(clerk(), clerk()), store)
    assert replay(store, "r1", over(clerk(), clerk())).output == "Done."
    with pytest.raises(ReplayMismatch, match="in run 'r1:1':"):
        replay(store, "r1", over(clerk(), clerk(instructions="Be long.")))


def test_a_child_run_that_waits_or_was_cancelled_is_compared_as_far_as_it_came(store: Store) -> None:
    made, changed = over(clerk()), over(clerk(instructions="Be long."))
    made.run_sync("Go", store=store, run_id="r1")
    for _ in range(2):
        replay(store, "r1", made)
        with pytest.raises(ReplayMismatch, match="in run 'r1:0':"):
            replay(store, "r1", changed)
        store.cancel("r1")


def test_the_policies_of_the_parent_bind_the_child_run(store: Store) -> None:
    made = over(clerk(tools=[find, free_refund, weigh]), policy=AskWrites())
    driven(made, store)
    assert sum(type(event).__name__ == "ApprovalGiven" for event in store.events("r1:0")) == 3
    assert replay(store, "r1", made).output == "Done."
    with pytest.raises(ReplayMismatch):
        replay(store, "r1", made.copy(policy=()))


@pytest.mark.parametrize("own", [None, 1000])
def test_a_limit_of_the_parent_that_ended_the_child_run_is_no_difference(store: Store, own: int | None) -> None:
    replies = [ModelReply(Assistant("", tool_calls=(call("find", number="A"),)), Usage(1, 1, 60), "tool_calls")] * 9
    inner = Agent(ScriptedModel(replies), tools=[find], name="inner", limits=Limits(output_tokens=own))
    model = ScriptedModel([call("inner", task="Find A"), "Done."])
    made = Agent(model, tools=[inner.as_tool(description="Finds.")], limits=Limits(output_tokens=100))
    made.run_sync("Go", store=store, run_id="r1")
    assert store.state("r1:0").stop_reason == store.state("r1").stop_reason == "limit:output_tokens"
    assert replay(store, "r1", made).stop_reason == "limit:output_tokens"
    with pytest.raises(ReplayMismatch, match="in run 'r1:0':"):
        replay(store, "r1", made.copy(tools=[inner.copy(instructions="Be quick.").as_tool(description="Finds.")]))


def test_an_agent_that_gets_the_conversation_is_compared(store: Store) -> None:
    def made(**parts: Any) -> Agent[str]:
        inner = Agent(ScriptedModel(["Refunded."]), name="clerk", **parts)
        return Agent(ScriptedModel([call("transfer_to_clerk")]), tools=[handoff(inner, "for refunds")], instructions="Sort.")

    driven(made(instructions="Be brief."), store)
    assert replay(store, "r1", made(instructions="Be brief.")).output == "Refunded."
    with pytest.raises(ReplayMismatch, match=r"in run 'r1:0':(.|\n)*\+instructions: Be long."):
        replay(store, "r1", made(instructions="Be long."))


def test_the_deps_are_those_of_the_run(store: Store) -> None:
    def instructions(ctx: RunContext[str]) -> str:
        return f"You help {ctx.deps} in {ctx.run_id}."

    made = over(Agent(ScriptedModel(["Refunded."]), instructions=instructions, name="clerk"))
    made.run_sync("Go", store=store, run_id="r1", deps="Ann")
    replay(store, "r1", made, deps="Ann")
    with pytest.raises(ReplayMismatch, match="You help Bob in r1:0"):
        replay(store, "r1", made, deps="Bob")


def test_a_file_has_no_child_runs_that_have_ended(store: Store, tmp_path: Path) -> None:
    driven(over(clerk()), store)
    path = tmp_path / "run.json"
    store.state("r1").save(path)
    changed = clerk(instructions="Be long.")
    assert replay(path, None, over(changed)).output == "Done."
    store.state("r1:0").save(path)
    with pytest.raises(ReplayMismatch, match="in run 'r1:0':"):
        replay(path, None, changed)
    paused = over(clerk()).run_sync("Go", run_id="r2")  # without a log, it has what its child run did before the pause
    with pytest.raises(ReplayMismatch, match=r"in run 'r2:0[^']*':"):
        replay(paused.state, None, over(changed))


def test_a_tool_that_is_no_agent_any_more_has_no_child_runs_to_compare(store: Store) -> None:
    @tool(name="clerk", description="Refunds.")
    def plain(task: str) -> str:
        return ""

    driven(over(clerk()), store)
    assert replay(store, "r1", over().copy(tools=[plain])).output == "Done."


def test_a_fork_has_the_child_runs_that_it_made_itself(store: Store) -> None:
    driven(over(clerk()), store)
    fork = store.fork("r1", at=len(store.events("r1")) - 1)
    over(clerk()).copy(model=ScriptedModel(["Done."])).resume_sync(fork, store=store)
    assert store.events(f"{fork}:0") == []
    assert replay(store, fork, over(clerk(instructions="Be long."))).output == "Done."
