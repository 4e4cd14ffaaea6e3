"""Agents with agents: hand-offs, and several runs under one budget.

An agent that is a tool of another (`agent.as_tool`) answers a task. A hand-off gives the whole conversation away.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from ._agent_tool import answer_inside, scope_of
from ._sync import check_loop
from .agent import Agent
from .errors import AgentError, SettingsError, ToolDefinitionError
from .events import RunFinished, RunStarted
from .history import repaired_history
from .messages import Assistant, Message, System, ToolCall
from .model import ModelReply, ModelRequest
from .run.ledger import CallBudget
from .run.limits import Limits
from .run.result import RunResult
from .run.run import Attachments, Run, Scope
from .run.state import RunState
from .tools.context import RunContext
from .tools.tool import AnyTool, tool

__all__ = ["MessageFilter", "gather", "handoff"]

MessageFilter = Callable[[list[Message]], Sequence[Message]]
"""Which messages of a conversation the next agent gets. System messages are replaced by its own instructions."""


def handoff(
    agent: Agent[Any], when: str = "", *, filter: MessageFilter | None = None, name: str = "", **options: Any
) -> AnyTool:
    """A tool that gives the conversation to another agent, whose answer is then the answer of the run.

    `when` tells the model in which cases; without it, the agent's description does. The other agent sees the conversation so
    far, or what `filter` leaves of it, and works with its own instructions, tools and model. It runs as a child run: its events
    name it, what it spends counts in the run, and a pause inside pauses the run. If it ends without an answer, the model that
    gave the conversation away is told, and goes on. `options` are those of `@tool`. The output is the answer as JSON holds it.
    Raises `ToolDefinitionError` for an agent without a name.
    """
    if not agent.name and not name:
        raise ToolDefinitionError("handoff needs an agent with a name: Agent(name=...), or handoff(agent, name=...)")
    why = when or agent.description
    description = f"Hand the conversation over to {agent.name or name}" + (f": {why}" if why else ".")

    transfer = partial(_transfer, agent, filter)
    vars(transfer)["is_run"] = True
    made = {"name": name or f"transfer_to_{agent.name}", "description": description, "final": True, **options}
    return tool(transfer, **made)


async def _transfer(agent: Agent[Any], filter: MessageFilter | None, /, ctx: RunContext[Any]) -> Any:
    return await answer_inside(agent, ctx, None, _conversation(ctx, filter))


def _conversation(ctx: RunContext[Any], filter: MessageFilter | None) -> list[Message]:
    """The conversation of the run, without the reply that hands it over."""
    scope = scope_of(ctx)
    messages = list(scope.run.state.messages) if scope else []
    while messages and isinstance(messages[-1], Assistant) and messages[-1].tool_calls:
        messages.pop()
    chosen = filter(messages) if filter else messages
    kept = repaired_history([message for message in chosen if not isinstance(message, System)])
    if not kept:
        raise SettingsError("there is no conversation to hand over: the filter of a handoff left no message")
    return kept


async def gather(
    *runs: tuple[Agent[Any], Any],
    limits: Limits | None = None,
    on_error: Literal["keep", "raise"] = "raise",
    deps: Any = None,
) -> list[Any]:
    """The results of several concurrent runs under one budget: `await gather((poet, "Tea"), (critic, "Tea"))`.

    Each run is an agent and its prompt. The limits on tokens and cost hold for all of them together, beside those that each
    agent has. With `on_error="raise"` the first error cancels the other runs; with "keep" it stands in place of its result.
    """
    if on_error not in ("keep", "raise"):
        raise SettingsError(f"on_error is {on_error!r}; allowed: 'keep' or 'raise'")
    check_loop()
    parent = Run(Agent(_NoModel(), limits=limits, name="gather").spec, RunState(), os.urandom(16).hex(), Attachments(deps=deps))
    await parent.record(RunStarted(parent.observers.run.run_id, ()))
    budget = CallBudget("", parent.ledger, 0, parent.record)
    ctx = RunContext(deps, parent.state.run_id, ToolCall("", "gather"), 0, Scope(parent, budget))

    async def one(agent: Agent[Any], prompt: Any) -> RunResult[Any] | Exception:
        try:
            return await agent.run(prompt, deps=deps, within=ctx)
        except Exception as error:
            if on_error == "raise":
                raise
            return error

    try:
        async with asyncio.TaskGroup() as together:
            tasks = [together.create_task(one(agent, prompt)) for agent, prompt in runs]
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__
    finally:
        await parent.record(RunFinished("answer", None, None))
        parent.end()
    return [task.result() for task in tasks]


class _NoModel:
    """The run around those of `gather` asks no model itself."""

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        raise AgentError("gather asks no model itself")
