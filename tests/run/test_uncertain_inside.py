"""Calls of child runs that may or may not have taken effect are in the account of the parent."""

from __future__ import annotations

import asyncio
from typing import Any

from agentkit import Agent, RunContext, RunState, ScriptedModel, ToolFinished, tool
from agentkit.run.journal import MemoryLog
from agentkit.testing import call


@tool(timeout=0.01)
async def wire(to: str) -> str:
    """Wire money."""
    await asyncio.Event().wait()
    return "never"


def wiring(*script: Any) -> Agent[str]:
    return Agent(ScriptedModel([*script] or [call("wire", to="Bob"), "I do not know."]), tools=[wire], name="inner")


def outer(inner: Agent[Any], *script: Any, name: str = "outer") -> Agent[str]:
    told = [*script] or [call("inner", task="go"), "Done."]
    return Agent(ScriptedModel(told), tools=[inner.as_tool("inner", "Does it.")], name=name)


def test_the_parent_lists_them_with_both_ids() -> None:
    result = outer(outer(wiring())).run_sync("go")
    (found,) = result.uncertain
    assert (found.name, found.arguments) == ("wire", '{"to": "Bob"}')
    assert found.id.count("/") == 2
    assert RunState.loads(result.state.dumps()).uncertain == result.uncertain


def test_those_of_a_run_within_a_call_too() -> None:
    @tool
    async def ask(ctx: RunContext[Any]) -> str:
        """Ask."""
        return (await wiring().run("go", within=ctx)).output

    result = Agent(ScriptedModel([call("ask"), "Done."]), tools=[ask]).run_sync("go")
    assert [found.name for found in result.uncertain] == ["wire"]


def test_a_child_that_ended_before_a_crash_still_tells() -> None:
    log = MemoryLog()
    asyncio.run(outer(wiring()).run("go", log=log))
    del log.events[next(n for n, event in enumerate(log.events) if isinstance(event, ToolFinished)) :]
    result = asyncio.run(outer(wiring("never"), "Done.").resume(log=log))
    assert (result.output, [found.name for found in result.uncertain]) == ("Done.", ["wire"])
