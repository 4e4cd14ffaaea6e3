"""The loop: what comes next is a pure function of the state, and `drive` does it."""

from __future__ import annotations

import asyncio
from typing import Any, assert_never

from .decisions import AskModel, Decision, Finish, Pause, RunTools
from .errors import OutputInvalid
from .messages import User
from .output import Answer, Wrong
from .run import Run, RunResult
from .spec import AgentSpec
from .state import RunState

__all__ = ["AskModel", "Decision", "Finish", "Pause", "RunTools", "decide", "drive"]

LAST_ANSWER = "You have reached the limit of this run. Do not call tools any more; answer now with what you have."
CUT_CALL = "not run: your reply was cut off at max_tokens, so the arguments may be incomplete; make the call again, shorter"
REFUSED_CALL = "not run: the call was not approved"
LOST_CALL = (
    "outcome unknown: the program stopped while this call was running, and the tool is not marked as safe to repeat; "
    "it may or may not have taken effect. Find out before you do it again."
)


def decide(state: RunState, spec: AgentSpec) -> Decision:
    """The next thing to do. Pure: the same state and spec give the same decision, in any process."""
    if state.open_calls:
        return _decide_calls(state, spec)
    match spec.output.read(state):
        case Answer(value) if not _choice_unmet(state, spec):
            return Finish(state.limit or ("limit:max_tokens" if state.finish_reason == "length" else "answer"), value)
        case Wrong(feedback):
            return _correct(state, spec, feedback)
        case Answer():
            return AskModel(spec.tool_choice, User(f"Call {_named(spec.tool_choice)} now."), "tool_choice")
    if state.limit:
        return Finish(state.limit)
    limit = spec.limits.before_model_call(state)
    if limit:
        return _at_limit(limit, state, spec)
    return AskModel("auto" if state.calls_made else spec.tool_choice)


def _decide_calls(state: RunState, spec: AgentSpec) -> Decision:
    calls = state.open_calls
    if state.finish_reason == "length":
        return RunTools(calls, CUT_CALL)
    lost = [c for c in calls if c.started and not spec.may_repeat(c.call)]
    if lost:
        return RunTools(lost, LOST_CALL)
    waiting = tuple(c.call for c in calls if c.approved is None and spec.needs_approval(c.call))
    if waiting:
        return Pause(waiting)
    refused = [c for c in calls if c.approved is False]
    if refused:
        return RunTools(refused, REFUSED_CALL)
    left = spec.limits.tool_calls_left(state)
    if left is None or len(calls) <= left:
        return RunTools(calls)
    answering = spec.output.tool.name if spec.output.tool else None
    ready = [c for c in calls if c.call.name == answering] or calls[:left]
    return RunTools(ready) if ready else _at_limit("limit:tool_calls", state, spec)


def _at_limit(limit: str, state: RunState, spec: AgentSpec) -> Decision:
    if spec.limits.on_limit != "answer" or state.limit or not state.steps:
        return Finish(limit)
    return AskModel(spec.output.tool.name if spec.output.tool else "none", User(LAST_ANSWER), limit)


def _correct(state: RunState, spec: AgentSpec, feedback: str) -> Decision:
    if state.limit:
        return Finish(state.limit)
    if state.finish_reason == "length":
        return Finish("limit:max_tokens")
    if state.corrections.get("output", 0) < spec.output_retries:
        limit = spec.limits.before_model_call(state)
        return _at_limit(limit, state, spec) if limit else AskModel("auto", User(feedback), "output")
    text = state.last_reply.text if state.last_reply else ""
    return Finish("error", error=OutputInvalid(f"the answer does not fit output_type: {feedback}", text))


def _choice_unmet(state: RunState, spec: AgentSpec) -> bool:
    """A forced choice that the server did not enforce; the model is told once."""
    forced = spec.tool_choice not in ("auto", "none")
    return forced and not state.calls_made and not state.limit and "tool_choice" not in state.corrections


def _named(tool_choice: str) -> str:
    return "one of the tools" if tool_choice == "required" else f"the tool {tool_choice}"


async def drive(run: Run) -> RunResult[Any]:
    """Do what `decide` says until the run finishes or pauses. Cancelled or failed, the state is left whole."""
    try:
        async with asyncio.timeout(run.spec.limits.seconds) as clock:
            while True:
                match decide(run.state, run.spec):
                    case AskModel() as ask:
                        await run.ask_model(ask)
                    case RunTools() as todo:
                        await run.run_tools(todo)
                    case Pause(calls):
                        if not await run.ask_approval(calls):
                            return await run.pause(calls)
                    case Finish() as finish:
                        return await run.finish(finish)
                    case other:
                        assert_never(other)
    except TimeoutError:
        if clock.expired():
            return await run.finish(Finish("limit:seconds"))
        await run.abandon("error")
        raise
    except BaseException as error:
        await run.abandon("cancelled" if isinstance(error, asyncio.CancelledError) else "error", error)
        raise
