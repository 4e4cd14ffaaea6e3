"""An agent as a tool of another: its child runs, and how they are started and continued."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from ._agent_parts import RunOptions
from .errors import LogFailed, ModelRetry, Suspended, ToolDefinitionError
from .events import LastingEvent, ModelReplied, UsageAdded
from .messages import Assistant, Message, ToolResult
from .run.fingerprint import digest
from .run.result import RunResult
from .run.run import Scope
from .run.state import RunState
from .tools.context import RunContext
from .tools.tool import AnyTool, tool

__all__ = ["agent_of", "answer_inside", "run_id_of", "scope_of", "tool_of"]


def tool_of(agent: Any, name: str, description: str, options: dict[str, Any]) -> AnyTool:
    """The tool `name`, whose calls are child runs of the agent (an `Agent`, whose module imports this one)."""
    if not name:
        raise ToolDefinitionError("as_tool needs an agent with a name: Agent(name=...), or agent.as_tool(name=...)")
    run_agent = partial(_run_agent, agent)  # a partial of a function of a module can be pickled
    vars(run_agent)["is_run"] = True
    return tool(run_agent, name=name, description=description, **options)


def agent_of(made: AnyTool | None) -> Any:
    """The agent whose runs are the calls of a tool, or None: the first argument of the function of each such tool."""
    return cast("partial[Any]", made.function).args[0] if made is not None and made.is_run else None


async def _run_agent(agent: Any, /, ctx: RunContext[Any], task: str) -> Any:
    return await answer_inside(agent, ctx, task)


async def answer_inside(agent: Any, ctx: RunContext[Any], prompt: str | None, messages: Sequence[Message] = ()) -> Any:
    """The output of the child run of the call. A child run that ends without an answer is an error for the model."""
    result = await _run_inside(agent, ctx, prompt, messages)
    if result.stop_reason == "answer" or _is_last_answer(result):
        return result.output
    text = f"; its last words: {result.output}" if isinstance(result.output, str) and result.output else ""
    raise ModelRetry(f"the agent {agent.name or ctx.call.name} gave no answer: {result.stop_reason}{text}")


async def _run_inside(agent: Any, ctx: RunContext[Any], prompt: str | None, messages: Sequence[Message]) -> RunResult[Any]:
    """Start the child run of the call, or continue it. Raises `Suspended` if the child run pauses or is left."""
    scope = scope_of(ctx)
    inner = scope.inner if scope else None
    options = RunOptions(deps=ctx.deps, within=ctx, log=inner.log if inner else None)
    try:
        known = await inner.state() if inner else RunState()
        if messages and not known.events:
            options["messages"] = messages
        conversation = agent._conversation(prompt, options) if not known.events else None
        options["run_id"] = known.run_id or (inner.run_id if inner else run_id_of(agent.name, prompt or "", options))
        agent = await agent._for_run(options, known if known.events else None)
        if scope and inner and known.events:
            await _count_unrecorded(scope, known)
            first: list[LastingEvent] = [agent._resumed(known), *inner.answers]
        else:
            first = [agent._begin(conversation, options)]
        result: RunResult[Any] = await agent._drive(known, first, options, leaves_with_parent=True)
    except LogFailed as error:
        if scope:
            await scope.run.journal.fail_with(error)
        raise
    if result.pending or result.stop_reason == "left":
        events = () if inner and inner.log else tuple(result.state.to_json()["events"])
        outside = tuple(call.id for call in result.state.outside)
        raise Suspended(result.run_id, result.pending, events, outside)
    return result


async def _count_unrecorded(scope: Scope, known: RunState) -> None:
    """Record in the parent what the child run has spent, as far as the program stopped before the parent's log had it."""
    of_call = (e for e in scope.run.state.events if isinstance(e, UsageAdded) and e.call_id == scope.budget.call_id)
    recorded = Counter((e.usage, e.cost, e.estimated) for e in of_call)
    spent = (e for e in known.events if isinstance(e, ModelReplied | UsageAdded))
    missing = Counter((e.usage, e.cost, isinstance(e, UsageAdded) and e.estimated) for e in spent) - recorded
    for usage, cost, estimated in missing.elements():
        await scope.budget.add_earlier(usage, cost, estimated=estimated)


def run_id_of(agent: str, prompt: str, options: RunOptions) -> str:
    """The id of a new run: the given one, else a new one.

    A run `within` a call is named after the call, its agent and its prompt, which gives the same id after a crash.
    """
    within, given = options.get("within"), options.get("run_id")
    if given or within is None or not within.run_id:
        return given or os.urandom(16).hex()
    key = f"{within.idempotency_key}.{digest(agent + chr(0) + prompt)[:8]}"
    scope = scope_of(within)
    before = scope.budget.next_run(key) if scope else 0
    return f"{key}.{before}" if before else key


def scope_of(ctx: RunContext[Any] | None) -> Scope | None:
    """The scope of a tool call's context."""
    return cast("Scope | None", getattr(ctx, "scope", None))


def _is_last_answer(result: RunResult[Any]) -> bool:
    """Whether the output is the model's answer to the request for its last answer, and not an earlier text."""
    state, last = result.state, result.state.messages[-1]
    answered = isinstance(last, Assistant) or (isinstance(last, ToolResult) and not isinstance(result.output, str))
    return answered and bool(result.output) and result.stop_reason == state.limit and state.finish_reason != "length"
