"""Runs the tool calls of a reply, concurrently if possible, and records the start and end of each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from .._threads import Threads
from ..errors import LogFailed
from ..events import CallSuspended, ResultGiven, ToolFinished, ToolProgress, ToolStarted
from ..messages import ToolCall, ToolResult, shorten
from ..names import wire_name
from ..schema import Arguments
from ..tools.progress import Progress
from ..tools.tool import AnyTool, RunContext
from .decisions import RunTools
from .execute import Outcome, arguments_of, execute, own_chain, plan
from .judging import denied_edit
from .ledger import CallBudget
from .run import ChildRun, Run, Scope
from .state import OpenCall

__all__ = ["answer_of", "end_call", "run_together", "run_tools"]

log = logging.getLogger("agentkit")

USED = "not run: the approval of this call was used already"
RUN_WITH = "[run with other arguments, given with the approval: {}]\n"
"""In the history, the model sees its own arguments, not these."""


async def run_tools(run: Run, todo: RunTools) -> None:
    """Answer the calls, as concurrently as `plan` allows. If the run is to be left, no further call starts."""
    if todo.refusal is not None:
        await run.record(*(answer_of(call.call, todo.refusal, todo.refused) for call in todo.calls))
        return
    for stage in plan(todo.calls, run.spec.tools):
        if len(stage) == 1:
            await _run_chain(run, stage[0], run.own_thread)
            continue
        own = own_chain(stage, run.spec.tools)
        slots = asyncio.Semaphore(run.spec.limits.concurrent_calls or len(stage))
        threads = [run.own_thread if chain is own else run.threads for chain in stage]
        await run_together(_run_chain(run, *each, slots) for each in zip(stage, threads, strict=True))


async def run_together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run these concurrently. The first error cancels the others, and is raised without a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        raise first from first.__cause__


async def _run_chain(run: Run, chain: list[OpenCall], threads: Threads, slots: asyncio.Semaphore | None = None) -> None:
    for call in chain:
        async with slots or contextlib.nullcontext():
            if run.is_leaving:
                return
            await _run_tool(run, call, threads)


async def _run_tool(run: Run, open_call: OpenCall, threads: Threads) -> None:
    """One tool call: started, executed, and finished or suspended."""
    call, tool = open_call.call, run.spec.tools.get(open_call.call.name)
    if open_call.given is not None:
        await run.record(_given(open_call.given, call, tool))
        return
    refusal = _refusal(run, open_call) or await denied_edit(run, open_call)
    if refusal is not None:
        await run.record(answer_of(call, *refusal))
        return
    arguments = run.parsed.pop(call.id, None) or (await arguments_of(call, tool, threads) if tool else None)
    repaired = tool is not None and isinstance(arguments, Arguments) and bool(arguments.repairs)
    if repaired and tool and isinstance(arguments, Arguments):
        call = replace(call, arguments=tool.completed_arguments(arguments))
    if tool is not None and tool.is_outside and isinstance(arguments, Arguments):
        await run.record(ToolStarted(call, open_call.position, repaired), CallSuspended(call.id, ""))
        return
    child = _child_run(run, open_call)  # before `ToolStarted` clears it
    suspension = (CallSuspended(call.id, child.run_id),) if child and child.log else ()
    await _record_start(run, tool, ToolStarted(call, open_call.position, repaired), *suspension)
    if run.has_failed:
        return
    budget = CallBudget(call.id, run.ledger, run.depth, run.record, run.parent_budget)
    progress = Progress(partial(_report, run, call)) if run.observers else None
    scope = Scope(run, budget, progress, child)
    ctx = RunContext(run.deps, run.state.run_id, call, open_call.position, scope, open_call.attempt)
    started = time.perf_counter()
    try:
        outcome = await execute(call, ctx, run.spec, threads=threads, arguments=arguments, veil=run.veil)
    except BaseException:
        if progress:
            progress.drop()
        raise
    try:
        if progress:
            await progress.end()
    finally:  # the call has taken effect, even if the run fails
        await end_call(run, open_call, call, outcome, time.perf_counter() - started, uncertain=budget.uncertain)
    budget.check()


async def _record_start(run: Run, tool: AnyTool | None, started: ToolStarted, *more: CallSuspended) -> None:
    try:
        await run.record(started, *more)
    except LogFailed:  # it may run when the run goes on
        if tool is not None:
            tool.claims.give_back((run.state.lineage, started.call.id))
        raise


def _refusal(run: Run, open_call: OpenCall) -> tuple[str, str] | None:
    """Why a call is refused just before it would run: the message for the model, and a short name."""
    call, state = open_call.call, run.state
    tool = run.spec.tools.get(call.name)
    if tool is None or open_call.started:
        return None
    if tool.retries is not None and state.failures.get(call.name, 0) > tool.retries:
        return f"not run: {wire_name(call.name)} failed {state.failures[call.name]} times in a row; go on without it", "failed"
    if open_call.approved and not tool.may_repeat and not tool.claims.take((state.lineage, call.id)):
        return USED, "denied"
    return None


def _child_run(run: Run, open_call: OpenCall) -> ChildRun | None:
    """The child run of the call, if it can continue after a crash or a pause."""
    tool, suspended = run.spec.tools.get(open_call.call.name), open_call.suspended
    answers = tuple(open_call.answers.values())
    if suspended and suspended.events:
        return ChildRun(suspended.run_id, None, suspended.events, answers)
    if tool is None or not tool.is_run:
        return None
    ctx = RunContext(None, run.state.run_id, open_call.call, open_call.position, None, open_call.attempt)
    run_id = suspended.run_id if suspended else ctx.idempotency_key
    log = run.journal.child(run_id)
    return ChildRun(run_id, log, (), answers) if log else None


async def _report(run: Run, call: ToolCall, data: Any, replaced: int) -> None:
    await run.emit(ToolProgress(call, data, replaced))


async def end_call(
    run: Run,
    open_call: OpenCall,
    call: ToolCall,
    outcome: Outcome,
    seconds: float = 0.0,
    *,
    reconciled: bool = False,
    uncertain: tuple[ToolCall, ...] = (),
) -> None:
    """Record what came of a call."""
    suspended = outcome.suspended
    if suspended is not None:
        await run.record(CallSuspended(call.id, suspended.run_id, suspended.pending, suspended.events, suspended.outside))
        return
    if outcome.crashed:
        log.warning("the tool %s failed in run %s (call %s)\n%s", call.name, run.state.run_id, call.id, outcome.error)
    result, tool, whole = outcome.result, run.spec.tools.get(call.name), outcome.whole
    if open_call.edited:
        whole = result.content if whole is None else whole  # without the note for the model
        result = replace(result, content=RUN_WITH.format(call.arguments) + result.content)
    await run.record(
        ToolFinished(
            call,
            result,
            seconds,
            outcome.error,
            outcome.repairs,
            whole,
            max_output=tool.max_output if tool and whole is not None and not open_call.edited else None,
            is_json=outcome.is_json,
            outcome="unknown" if outcome.is_unknown else "known",
            artifact=outcome.artifact,
            reconciled=reconciled,
            uncertain=tuple(replace(call, opaque="") for call in uncertain),
        )
    )


def _given(given: ResultGiven, call: ToolCall, tool: AnyTool | None) -> ToolFinished:
    """The answer to a call of an outside tool, from the result that was given."""
    max_output = tool.max_output if tool else None
    content = shorten(given.content, max_output)
    is_cut = content is not given.content
    result = ToolResult(call.id, call.name, content, is_error=given.is_error)
    return ToolFinished(
        call,
        result,
        error=given.content if given.is_error else None,
        output=given.content if is_cut else None,
        max_output=max_output if is_cut else None,
        is_json=given.is_json,
    )


def answer_of(call: ToolCall, text: str, refused: str, *, unknown: bool = False) -> ToolFinished:
    """The answer to a call that is not run, or that the run no longer waits for."""
    result = ToolResult(call.id, call.name, f"error: {text}", is_error=True)
    outcome: Literal["unknown", "not run"] = "unknown" if unknown or refused == "lost" else "not run"
    return ToolFinished(call, result, error=text, refused=refused, outcome=outcome)
