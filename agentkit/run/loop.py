"""The loop: `decide` is a pure function of the state that says what comes next, and `drive` does it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, assert_never

from ..errors import ModelRetry, OutputInvalid, StopRun
from ..events import LastingEvent, ModelReplied, ToolFinished
from ..messages import ToolResult, User
from ..schema.parse import LONG_TEXT
from ..tools.values import is_async
from .decisions import AskModel, Decision, Finish, Judge, Pause, ReadAnswer, Reconcile, RunTools
from .ending import abandon, finish, left, limit_text, pause
from .judging import ask_approval, judge
from .ledger import OverBudget
from .model_step import Leaving, ModelSteps
from .observers import required_arguments
from .output import Answer, JsonOutput, TextOutput, ToolOutput, Wrong
from .reconciling import reconcile
from .result import RunResult
from .run import Run
from .spec import AgentSpec, OutputValidator
from .state import OpenCall, RunState
from .tool_step import run_tools

__all__ = ["AskModel", "Decision", "Finish", "Judge", "Pause", "ReadAnswer", "RunTools", "decide", "drive"]

LAST_ANSWER = "You have reached the limit of this run. Do not call tools any more; answer now with what you have."
CUT_CALL = "not run: your reply was cut off at max_tokens, so the arguments may be incomplete; make the call again, shorter"
EXCESS_CALL = "not run: one reply may make at most {} calls; make the others in the next reply"
FORBIDDEN_CALL = "not run: no tool may be called here; answer in words"
SECOND_ANSWER = "not run: the answer can be given once"
REFUSED_CALL = "not run: the call was not approved"
DENIED_CALL = "not run: the call is not allowed"
LOST_CALL = (
    "outcome unknown: the program stopped while this call was running, and the tool is not marked as safe to repeat; "
    "it may or may not have taken effect. Find out before you do it again."
)
UNKNOWN_CALL = (
    "outcome unknown: the program stopped while this call was running, and the tool cannot tell whether it took effect. "
    "Find out before you do it again."
)


def decide(state: RunState, spec: AgentSpec, answer: Answer | Wrong | None = None) -> Decision:
    """The next thing to do. Pure: it runs no code of the program, and equal arguments give equal decisions in any process.

    `answer` is the answer in the state as it was read; the decision `ReadAnswer` asks for it.
    """
    if state.open_calls:
        return _decide_calls(state, spec)
    if answer is None and (_final_result(state, spec) is not None or spec.output.is_due(state)):
        return ReadAnswer()
    match answer:
        case Answer(value) if not _choice_unmet(state, spec):
            return Finish(state.limit or ("limit:max_tokens" if state.finish_reason == "length" else "answer"), value)
        case Wrong():
            return _correct(state, spec, answer)
        case Answer():
            return _ask(state, spec, User(f"Call {_named(spec.tool_choice)} now."), "tool_choice")
    answering = spec.output.tool
    if answering and state.failures.get(answering.name, 0) > spec.output_retries:
        return _invalid(state)
    if state.limit:
        unanswered = isinstance(state.messages[-1], User)
        return AskModel(_last_choice(spec)) if unanswered else Finish(state.limit)
    return _at_limit(state.reached, state, spec) if state.reached else _ask(state, spec)


def _final_result(state: RunState, spec: AgentSpec) -> Answer | None:
    """The result of a `final` tool, if one of the last reply's calls has succeeded: of several, the first in call order."""
    if not spec.has_final_tools or not isinstance(state.messages[-1], ToolResult):
        return None
    found: dict[str, ToolFinished] = {}
    for event in reversed(state.events):
        if isinstance(event, ModelReplied):
            called = [found[call.id] for call in event.message.tool_calls if call.id in found]
            return _value_of(called[0]) if called else None
        if isinstance(event, ToolFinished) and not event.result.is_error:
            tool = spec.tools.get(event.call.name)
            if tool is not None and tool.final:
                found[event.call.id] = event
    return None


def _value_of(final: ToolFinished) -> Answer:
    text = final.output if final.output is not None else final.result.content
    return Answer(json.loads(text) if final.is_json else text)


def _decide_calls(state: RunState, spec: AgentSpec) -> Decision:
    calls = state.open_calls
    asked = [c for c in calls if spec.is_reconciled(c)]
    if asked:
        return Reconcile(asked)
    for refused_calls, message, refused in _refused_calls(calls, state, spec):
        if refused_calls:
            return RunTools(refused_calls, message, refused)
    ready = _within_limit(calls, state, spec)
    if not ready:
        reached = state.limit or "limit:tool_calls"
        return RunTools(calls, limit_text(reached), reached)
    unjudged = [c for c in ready if not c.verdict and not c.started and spec.is_judged(c.call)]
    if unjudged:
        return Judge(unjudged)
    denied = [c for c in calls if c.approved is False or c.verdict == "deny"]
    if denied:
        first = denied[0]
        same = [c for c in denied if (c.verdict, c.why) == (first.verdict, first.why)]
        text = DENIED_CALL if first.verdict == "deny" else REFUSED_CALL
        return RunTools(same, f"{text}: {first.why}" if first.why else text, "denied")
    runnable = [c for c in ready if not c.approvals_wanted and not c.results_wanted]
    if runnable:
        return RunTools(runnable)
    return Pause(
        tuple(call for c in ready for call in c.approvals_wanted), tuple(call for c in ready for call in c.results_wanted)
    )


def _refused_calls(calls: list[OpenCall], state: RunState, spec: AgentSpec) -> Iterator[tuple[list[OpenCall], str, str]]:
    """Calls that are answered without being run, the message for the model, and the short name of the reason."""
    max_calls = spec.limits.calls_per_reply
    yield calls if state.finish_reason == "length" else [], CUT_CALL, "cut"
    ending = None if state.limit else state.reached  # the calls of the last answer are made after the limit was reached
    lost = [c for c in calls if c.may_have_run and (ending or not _may_resume(c, spec))]
    yield [c for c in lost if not c.reconciled], LOST_CALL, "lost"
    for call in [c for c in lost if c.reconciled]:
        yield [call], f"{UNKNOWN_CALL} Why it cannot: {call.why}" if call.why else UNKNOWN_CALL, "lost"
    yield [c for c in calls[max_calls:] if not c.started] if max_calls else [], EXCESS_CALL.format(max_calls), "excess"
    if ending:  # after a crash while the run was ending
        yield calls, limit_text(ending), ending
    yield [c for c in calls if not c.started] if spec.tool_choice == "none" else [], FORBIDDEN_CALL, "forbidden"
    answers = [c for c in calls if c.call.name == spec.answering]
    yield answers[1:] if spec.output.tool and not spec.output.tool.read_only else [], SECOND_ANSWER, "excess"


def _may_resume(call: OpenCall, spec: AgentSpec) -> bool:
    """Whether a call that was started may be entered again."""
    return spec.may_repeat(call.call) or (call.suspended is not None and call.call.name in spec.tools)


def _within_limit(calls: list[OpenCall], state: RunState, spec: AgentSpec) -> list[OpenCall]:
    """The calls that the limit allows to run. The call that gives the answer is always allowed.

    A call that is run again after a crash is counted already.
    """
    left = 0 if state.limit else spec.limits.tool_calls_left(state)
    if left is None:
        return calls
    excess = {c.call.id for c in [c for c in calls if not c.started][left:]}
    if not excess:
        return calls
    return [c for c in calls if c.call.name == spec.answering] or [c for c in calls if c.call.id not in excess]


def _ask(state: RunState, spec: AgentSpec, prompt: User | None = None, reason: str = "") -> Decision:
    """The next model call, if the limits allow it. A forced tool choice becomes "auto" after the first tool call."""
    limit = spec.limits.before_model_call(state, spec.price, spec.offered, whole=spec.history is None)
    if limit:
        return _at_limit(limit, state, spec, is_refused=prompt is not None)
    forced_before = state.calls_made and spec.tool_choice != "none"
    return AskModel("auto" if forced_before else spec.tool_choice, prompt, reason)


def _at_limit(limit: str, state: RunState, spec: AgentSpec, *, is_refused: bool = False) -> Decision:
    if limit == "limit:seconds" or spec.limits.on_limit != "answer" or state.limit or not state.steps:
        return Finish(limit, is_refused=is_refused)
    return AskModel(_last_choice(spec), User(LAST_ANSWER), limit)


def _last_choice(spec: AgentSpec) -> str:
    return spec.output.tool.name if spec.output.tool else "none"


def _correct(state: RunState, spec: AgentSpec, wrong: Wrong) -> Decision:
    if state.limit or state.finish_reason == "length":
        return Finish(state.limit or "limit:max_tokens", is_refused=True)
    if state.reached:
        return _at_limit(state.reached, state, spec, is_refused=True)
    if state.corrections.get("output", 0) < spec.output_retries:
        return _ask(state, spec, User(wrong.feedback), "output")
    return _invalid(state, wrong.why)


def _invalid(state: RunState, why: str = "") -> Finish:
    """The end of a run whose answer was invalid too often. Without a `why`, it is in the result of the call that answers."""
    last, reply = state.messages[-1], state.last_reply
    if not why and isinstance(last, ToolResult):
        why = last.content.removeprefix("error: ")
    text = reply.text or "".join(call.arguments for call in reply.tool_calls) if reply else ""
    wrote = f"\nThe model wrote: {text[:1000]}" if text else ""
    error = OutputInvalid(f"the answer does not fit output_type: {why}{wrote}", text)
    return Finish("error", error=error, is_refused=True)


def _choice_unmet(state: RunState, spec: AgentSpec) -> bool:
    """Whether the server did not enforce a forced tool choice. The model is told once."""
    forced = spec.tool_choice not in ("auto", "none")
    return forced and not state.calls_made and not state.limit and "tool_choice" not in state.corrections


def _named(tool_choice: str) -> str:
    return "one of the tools" if tool_choice == "required" else f"the tool {tool_choice}"


async def drive(run: Run, first: Iterable[LastingEvent] = ()) -> RunResult[Any]:
    """Record these events, then do what `decide` says until the run finishes, pauses, or is left.

    If the run is cancelled or its model fails, its open calls are answered and its end is recorded. If it is left, nothing is
    recorded: another process can go on with it, as after a kill.
    """
    try:
        await run.record(*first)
        match await _until_end(run):
            case Pause(calls, outside):
                result = await pause(run, (*calls, *outside))
            case Finish() as end:
                result = await finish(run, end)
            case None:
                await run.journal.catch_up()
                result = left(run)
        if run.observers.raised is not None:
            raise run.observers.raised
        return result
    except BaseException as error:
        await abandon(run, "cancelled" if isinstance(error, asyncio.CancelledError) else "error", error)
        raise
    finally:
        run.end()


async def _until_end(run: Run) -> Pause | Finish | None:
    """The decision that stops the run, or None if the run is to be left."""
    clock, steps = asyncio.timeout(run.spec.limits.seconds), ModelSteps(run)
    try:
        async with clock:
            if run.spec.stop is not None:
                raise run.spec.stop
            while not run.is_leaving:
                decision = await _next(run)
                if isinstance(decision, Finish) or (
                    isinstance(decision, Pause) and not (decision.calls and await ask_approval(run, decision.calls))
                ):
                    return _noted(decision, steps.asked)
                await _do(run, steps, decision)
    except Leaving:
        return None
    except OverBudget as error:
        return Finish(error.stop_reason)
    except StopRun as stop:
        return Finish(stop.stop_reason, stop.output, why=stop.why)
    except TimeoutError:
        if not clock.expired():
            raise
        return Finish("limit:seconds")
    return None


async def _next(run: Run) -> Decision:
    """The next decision. What it depends on is stored, unless it begins with an event, which is stored with that."""
    decision = decide(run.state, run.spec)
    if isinstance(decision, ReadAnswer):
        if run.validators or not isinstance(run.spec.output, TextOutput):  # code of the program
            await run.journal.catch_up()
        decision = decide(run.state, run.spec, await _read_answer(run))
    if not isinstance(decision, RunTools | Finish):
        await run.journal.catch_up()
    return decision


def _noted(decision: Pause | Finish, asked: str) -> Pause | Finish:
    """The decision. Its error, if any, gets a note of what the model was asked."""
    if isinstance(decision, Finish) and decision.error is not None and asked:
        decision.error.add_note(f"asked: {asked}")
    return decision


async def _do(run: Run, steps: ModelSteps, decision: Decision) -> None:
    match decision:
        case AskModel():
            await _ask_model(run, steps, decision)
        case Judge(calls):
            await judge(run, calls)
        case Reconcile(calls):
            await reconcile(run, calls)
        case RunTools():
            await run_tools(run, decision)
        case Pause() | ReadAnswer() | Finish():
            pass  # approvals were given; the other two never come here
        case _:
            assert_never(decision)


async def _ask_model(run: Run, steps: ModelSteps, ask: AskModel) -> None:
    try:
        await steps.ask(ask)
    except OverBudget as error:
        last = _at_limit(error.stop_reason, run.state, run.spec) if error.of_own else None
        if not isinstance(last, AskModel):
            raise
        await steps.ask(last)


async def _read_answer(run: Run) -> Answer | Wrong | None:
    """The answer in the state, read, and checked by the program's validators."""
    answer = await _parse_answer(run)
    if not isinstance(answer, Answer):
        return answer
    value = answer.value
    for validator in run.validators:
        try:
            value = await _validated(run, validator, value)
        except ModelRetry as error:
            return Wrong(str(error), f"a validator refused it: {error}")
    return Answer(value)


async def _validated(run: Run, validator: OutputValidator, value: Any) -> Any:
    arguments = (run.context(), value) if required_arguments(validator) > 1 else (value,)
    if is_async(validator):
        return await validator(*arguments)
    return await run.threads.run(partial(validator, *arguments))


async def _parse_answer(run: Run) -> Answer | Wrong | None:
    """The answer in the state, read. A long answer is read in a worker thread."""
    reply, output = run.state.last_reply, run.spec.output
    if (final := _final_result(run.state, run.spec)) is not None:
        return output.fitting(final) if isinstance(output, ToolOutput | JsonOutput) else final
    size = len(reply.text) + sum(len(call.arguments) for call in reply.tool_calls) if reply else 0
    if size <= LONG_TEXT or isinstance(output, TextOutput):
        return output.read(run.state)
    return await run.threads.run(partial(output.read, run.state))
