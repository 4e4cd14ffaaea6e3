"""What `reconcile` functions do to a run: their answers, errors and waits, and calls of every kind that are found started."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    Agent,
    ApprovalGiven,
    ChatModel,
    Done,
    Limits,
    Middleware,
    ModelRetry,
    NotDone,
    RunContext,
    RunResult,
    RunState,
    ScriptedModel,
    StopRun,
    ToolCall,
    ToolFinished,
    ToolReturn,
    ToolStarted,
    Unknown,
    tool,
)
from agentkit.events import CallReconciled, LastingEvent
from agentkit.run.ending import closing_answers
from agentkit.run.journal import MemoryLog
from agentkit.run.loop import AskModel, RunTools, decide
from agentkit.store import SQLiteStore
from agentkit.testing import DeepSeekSimulator, call
from tests.kit import reloaded, tool_texts

Answer = Done | NotDone | Unknown


def say(*script: Any) -> ScriptedModel:
    """A model whose n-th reply in a run is the n-th of the script, in whichever process it is asked for."""
    return ScriptedModel(lambda request: script[sum(message.role == "assistant" for message in request.messages)])


def stopped_in(whole: RunResult[Any], *, keep: Callable[[LastingEvent], bool] = lambda event: True) -> RunState:
    """The state of a program that stopped while all calls of the first reply ran."""
    last = max(n for n, event in enumerate(whole.events) if isinstance(event, ToolStarted))
    started = [event for event in whole.events[: last + 1] if not isinstance(event, ToolFinished) and keep(event)]
    return reloaded(RunState.replay(started))


def outcomes(result: RunResult[Any]) -> list[tuple[str, str]]:
    return [(event.outcome, event.reason) for event in result.events if isinstance(event, CallReconciled)]


class Shop:
    """Orders by key. `does` answers a question; by default it looks whether the order was made."""

    def __init__(self, does: Callable[[str, dict[str, Any]], Any] | None = None, **options: Any) -> None:
        self.orders: list[tuple[str, str]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.threads: set[int] = set()
        self._does = does or self.look
        self.tool = tool(self.order, **{"reconcile": self.ask, **options})

    def order(self, ctx: RunContext[Any], what: str, count: int = 1) -> Any:
        """Order."""
        self.orders.append((ctx.idempotency_key, what))
        return f"ordered {count} {what}"

    def ask(self, key: str, arguments: dict[str, Any]) -> Any:
        self.asked.append((key, arguments))
        self.threads.add(threading.get_ident())
        return self._does(key, arguments)

    def look(self, key: str, arguments: dict[str, Any]) -> Answer:
        found = (key, arguments["what"]) in self.orders
        return Done(f"ordered {arguments['count']} {arguments['what']}") if found else NotDone()

    def agent(self, *calls: ToolCall, **options: Any) -> Agent[str]:
        calls = calls or (call("order", what="tea"),)
        return Agent(say([*calls], "Done."), **{"tools": [self.tool], **options})


# --- answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "text",
        {"id": 7, "at": [1, None]},
        None,
        "long " * 100,
        ToolReturn("seen", artifact={"row": 1}),
        ["a", "b"],
    ],
)
@pytest.mark.parametrize("final", [False, True])
def test_a_result_is_what_the_tool_would_have_given(value: Any, final: bool) -> None:
    """The same message, whole output, artifact and answer as that of a tool that returns the value."""

    @tool(max_output=200, final=final, reconcile=lambda key, arguments: Done(value))
    def read() -> Any:
        """Read."""
        ran.append(1)
        return value

    ran: list[int] = []
    agent = Agent(say(call("read"), "Done."), tools=[read])
    whole = agent.run_sync("go")
    again = agent.resume_sync(stopped_in(whole))
    assert ran == [1]
    (told,) = [event for event in whole.events if isinstance(event, ToolFinished)]
    (found,) = [event for event in again.events if isinstance(event, ToolFinished)]
    for field in ("result", "output", "max_output", "is_json", "artifact", "outcome", "error", "refused"):
        assert getattr(found, field) == getattr(told, field), field
    assert (again.output, again.uncertain, again.usage.tool_calls) == (whole.output, (), 1)
    assert found.reconciled and not told.reconciled
    assert reloaded(again.state).events == again.state.events


def test_several_calls_are_each_asked_about_once_and_concurrently() -> None:
    answers: dict[str, Answer] = {"tea": Done("ordered tea"), "milk": NotDone(), "salt": Unknown("closed")}
    together = threading.Barrier(3, timeout=30)

    def does(key: str, arguments: dict[str, Any]) -> Answer:
        together.wait()  # each is asked while the others are
        return answers[arguments["what"]]

    shop = Shop(does)
    calls = [call("order", what=what) for what in answers]
    whole = shop.agent(*calls).run_sync("go", run_id="r")
    shop.orders.clear()
    result = shop.agent(*calls).resume_sync(stopped_in(whole))
    assert sorted(shop.asked, key=str) == [(f"r:{n}", {"what": w, "count": 1}) for n, w in enumerate(answers)]
    assert shop.orders == [("r:1", "milk")]
    told = tool_texts(result)
    assert told[:2] == ["ordered tea", "ordered 1 milk"] and told[2].endswith("Why it cannot: closed")
    assert [c.arguments for c in result.uncertain] == ['{"what": "salt"}']
    assert sorted(outcomes(result)) == [("not done", ""), ("unknown", "closed")]
    assert threading.get_ident() not in shop.threads and len(shop.threads) == 3


def test_no_more_tools_are_asked_at_a_time_than_calls_run() -> None:
    busy, most = [0], [0]

    async def ask(key: str, arguments: dict[str, Any]) -> Answer:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        await asyncio.sleep(0)
        busy[0] -= 1
        return Done("done")

    shop = Shop(reconcile=ask)
    calls = [call("order", what=str(n)) for n in range(9)]
    state = stopped_in(shop.agent(*calls).run_sync("go"))
    result = shop.agent(*calls, limits=Limits(concurrent_calls=2)).resume_sync(state)
    assert tool_texts(result) == ["done"] * 9 and most == [2]


def test_a_result_passes_through_the_middleware_of_tool_calls() -> None:
    class Masked(Middleware):
        async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: Any) -> Any:
            seen.append((ctx.idempotency_key, ctx.deps))
            return str(await next(call)).replace("tea", "***")

    seen: list[Any] = []
    shop = Shop()
    agent = shop.agent(middleware=[Masked()])
    whole = agent.run_sync("go", run_id="r", deps=7)
    result = agent.resume_sync(stopped_in(whole), deps=7)
    assert tool_texts(result) == tool_texts(whole) == ["ordered 1 ***"]
    assert seen == [("r:0", 7), ("r:0", 7)] and shop.orders == [("r:0", "tea")]


# --- no answers ----------------------------------------------------------------------------------------------------------


def raised(error: BaseException) -> Callable[[str, dict[str, Any]], Any]:
    def does(key: str, arguments: dict[str, Any]) -> Any:
        raise error

    return does


NO_ANSWERS = [
    (raised(ValueError("closed")), "ValueError: closed"),
    (raised(ModelRetry("closed")), "ModelRetry: closed"),
    (raised(asyncio.CancelledError()), "CancelledError"),
    (raised(GeneratorExit()), "GeneratorExit"),
    (raised(TimeoutError("bank")), "TimeoutError: bank"),
    (lambda key, arguments: None, "it returned None; allowed: Done(result), NotDone(), Unknown()"),
    (lambda key, arguments: True, "it returned True"),
    (lambda key, arguments: Done, "it returned <class"),
    (lambda key, arguments: NotDone, "it returned <class"),
    (lambda key, arguments: "done", "it returned 'done'"),
    (lambda key, arguments: Done(object()), "JSON cannot hold"),
]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("does", "why"), NO_ANSWERS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_answer_leaves_the_outcome_unknown(
    does: Callable[..., Any], why: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def does_async(key: str, arguments: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return does(key, arguments)

    shop = Shop(does_async if is_async else does)
    whole = shop.agent().run_sync("go", run_id="r")
    with caplog.at_level(logging.WARNING, "agentkit"):
        result = shop.agent().resume_sync(stopped_in(whole))
    ((outcome, reason),) = outcomes(result)
    assert outcome == "unknown" and why in reason
    assert tool_texts(result)[0].endswith(f"Find out before you do it again. Why it cannot: {reason}")
    assert (len(result.uncertain), shop.orders, result.stop_reason) == (1, [("r:0", "tea")], "answer")
    assert "the reconcile function of order gave no usable answer in run r" in caplog.text and "Traceback" in caplog.text


SECRET = "sk-proj-" + "a1B2" * 12


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the bank is closed", " Why it cannot: the bank is closed"),
        ("", ""),
        (ValueError("closed"), " Why it cannot: closed"),
        ("no \udce9 {} %s", " Why it cannot: no \ufffd {} %s"),
        (f"login {SECRET} refused", " Why it cannot: login [redacted] refused"),
        ("x" * 10_000, f" Why it cannot: {'x' * 500}... (10000 characters)"),
    ],
    ids=["text", "none", "error", "odd", "secret", "long"],
)
def test_the_model_is_told_why_the_outcome_is_unknown(reason: Any, told: str) -> None:
    shop = Shop(lambda key, arguments: Unknown(reason))
    result = shop.agent().resume_sync(stopped_in(shop.agent().run_sync("go")))
    (text,) = tool_texts(result)
    assert text == (
        "error: outcome unknown: the program stopped while this call was running, and the tool cannot tell whether it took "
        f"effect. Find out before you do it again.{told}"
    )
    assert SECRET not in result.state.dumps()
    assert reloaded(result.state).to_json() == result.state.to_json()


KEY = "canaryKEY0001112223334445"


@pytest.mark.parametrize(
    "does",
    [raised(ValueError(f"refused {KEY}")), lambda *_: Done({"key": KEY}), lambda *_: Unknown(f"with {KEY}"), lambda *_: KEY],
)
def test_the_models_own_key_is_told_to_nobody(does: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop(does)
    state = stopped_in(shop.agent().run_sync("go"))
    with DeepSeekSimulator(["Done."], api_key=KEY) as simulator, caplog.at_level(logging.DEBUG, "agentkit"):
        agent = Agent(ChatModel(base_url=simulator.base_url, api_key=KEY), tools=[shop.tool])
        result = agent.resume_sync(state)
        sent = repr(simulator.requests)
    assert result.output == "Done." and len(shop.asked) == 1
    assert KEY not in result.state.dumps() + caplog.text + sent


@pytest.mark.parametrize("kind", ["sync", "async", "deaf"])
def test_a_question_takes_no_longer_than_a_call(kind: str) -> None:
    released, gone = threading.Event(), asyncio.Event()

    def blocks(key: str, arguments: dict[str, Any]) -> Answer:
        released.wait(60)
        return NotDone()

    async def waits(key: str, arguments: dict[str, Any]) -> Answer:
        await asyncio.Event().wait()
        return NotDone()

    async def is_deaf(key: str, arguments: dict[str, Any]) -> Answer:
        while not gone.is_set():
            try:
                await gone.wait()
            except asyncio.CancelledError:
                continue
        return NotDone()

    functions: dict[str, Any] = {"sync": blocks, "async": waits, "deaf": is_deaf}
    shop = Shop(reconcile=functions[kind], timeout=0.05)
    state = stopped_in(shop.agent().run_sync("go", run_id="r"))

    async def main() -> RunResult[Any]:
        try:
            return await shop.agent().resume(state)
        finally:
            released.set()
            gone.set()
            await asyncio.sleep(0)

    if kind == "deaf":
        with pytest.warns(RuntimeWarning, match="goes on though it was cancelled"):
            result = asyncio.run(main())
    else:
        result = asyncio.run(main())
    ((outcome, reason),) = outcomes(result)
    assert outcome == "unknown" and "no result within 0.05 seconds" in reason
    assert len(result.uncertain) == 1 and shop.orders == [("r:0", "tea")]


def test_a_question_can_stop_the_run_and_then_what_is_known_stays_known() -> None:
    """The call that is known not to have run is told as such, the other as of unknown outcome."""
    told = asyncio.Event()

    async def ask(key: str, arguments: dict[str, Any]) -> Answer:
        if arguments["what"] == "tea":
            return NotDone()
        await told.wait()
        raise StopRun("guardrail:bank", why="the bank is closed")

    def watch(event: Any) -> None:
        if isinstance(event, CallReconciled):
            told.set()

    shop = Shop(reconcile=ask)
    calls = [call("order", what="tea"), call("order", what="milk")]
    state = stopped_in(shop.agent(*calls).run_sync("go"))
    orders = len(shop.orders)
    result = asyncio.run(shop.agent(*calls).resume(state, observers=[watch]))
    assert result.stop_reason == "guardrail:bank" and len(shop.orders) == orders
    texts = tool_texts(result)
    assert texts[0].startswith("error: not run") and texts[1].startswith("error: outcome unknown")
    assert [c.arguments for c in result.uncertain] == ['{"what": "milk"}']


def test_a_run_that_is_left_asks_no_further_tool_and_keeps_the_answers() -> None:
    leave = threading.Event()

    def does(key: str, arguments: dict[str, Any]) -> Answer:
        leave.set()
        return Done("ordered")

    shop, log = Shop(does), MemoryLog()
    calls = [call("order", what=what) for what in ("tea", "milk", "salt")]
    state = stopped_in(shop.agent(*calls).run_sync("go", run_id="r"))
    asyncio.run(log.append(0, state.events))
    agent = shop.agent(*calls, limits=Limits(concurrent_calls=1))
    assert agent.resume_sync(log=log, leave=leave).stop_reason == "left"
    assert [key for key, _ in shop.asked] == ["r:0"]
    result = agent.resume_sync(log=log)
    assert [key for key, _ in shop.asked] == ["r:0", "r:1", "r:2"]
    assert tool_texts(result) == ["ordered"] * 3 and result.uncertain == ()


# --- calls of every kind -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("was_made", [False, True])
@pytest.mark.parametrize("answer", [True, {"args": {"what": "milk", "count": 2}}])
def test_an_approved_call_needs_no_second_approval(was_made: bool, answer: Any) -> None:
    shop, asked = Shop(approval=True), []

    def approve(waiting: ToolCall) -> Any:
        asked.append(waiting.id)
        return answer

    agent = shop.agent(approve=approve)
    whole = agent.run_sync("go", run_id="r")
    orders = shop.orders.copy()
    if not was_made:
        shop.orders.clear()
    result = agent.resume_sync(stopped_in(whole))
    assert tool_texts(result) == tool_texts(whole), "with the note on other arguments, if there was one"
    assert (shop.orders, len(asked), len(shop.asked)) == (orders, 1, 1)


def test_the_key_is_the_one_that_the_tool_had_after_a_resume_and_with_repaired_arguments() -> None:
    shop = Shop()
    made = ToolCall("c1", "order", '{"what": "tea", "count": "3",}')
    agent = shop.agent(made)
    begun = RunState.replay(agent.run_sync("go", run_id="r").events[:1])
    shop.orders.clear()
    whole = agent.resume_sync(begun)
    (order,) = shop.orders
    assert order[0].startswith("r:0:"), "a key with a digest of the call"
    assert agent.resume_sync(stopped_in(whole)).uncertain == ()
    assert shop.asked == [(order[0], {"what": "tea", "count": 3})] and shop.orders == [order]
    shop.orders.clear()
    agent.resume_sync(stopped_in(whole))
    assert shop.orders == [order], "made again with the same key"


def test_a_call_of_an_agent_goes_on_in_its_log_and_is_not_asked_about() -> None:
    """Its own calls are, where their tools can be."""
    shop, outer_asked = Shop(), []

    def outer(key: str, arguments: dict[str, Any]) -> Answer:
        outer_asked.append(key)
        return NotDone()

    inner = shop.agent()
    top = Agent(say(call("clerk", task="tea"), "Done."), tools=[tool(inner.as_tool("clerk", "Orders."), reconcile=outer)])
    log = MemoryLog()
    assert top.run_sync("go", log=log, run_id="r").output == "Done."
    ((child_id, child),) = log.children.items()
    for branch in (log, child):
        cut = max(n for n, event in enumerate(branch.events) if isinstance(event, ToolStarted))
        branch.events = branch.events[: cut + (2 if branch is log else 1)]
    result = top.resume_sync(log=log)
    assert (result.output, outer_asked, result.uncertain) == ("Done.", [], ())
    assert [key for key, _ in shop.asked] == [f"{child_id}:0"] and len(shop.orders) == 1


@pytest.mark.parametrize(
    ("answer", "text", "uncertain", "refused"),
    [
        (Done("ordered"), "ordered", 0, ""),
        (NotDone(), "error: not run: the run has reached its limit", 0, "limit:tool_calls"),
        (Unknown(), "error: outcome unknown", 1, "lost"),
    ],
)
def test_at_a_limit_a_call_is_asked_about_and_not_run(answer: Answer, text: str, uncertain: int, refused: str) -> None:
    """The program stopped after the limit was written to one call of the reply, while another one ran."""
    shop = Shop(lambda key, arguments: answer)
    calls = [call("order", what="tea"), call("order", what="milk")]
    agent = shop.agent(*calls, limits=Limits(tool_calls=1))
    whole = agent.run_sync("go")
    assert whole.stop_reason == "limit:tool_calls" and len(shop.orders) == 1
    ran = next(event for event in whole.events if isinstance(event, ToolFinished) and not event.refused)
    state = RunState.replay([event for event in whole.events[:-1] if event is not ran])
    assert state.reached == "limit:tool_calls" and len(state.open_calls) == 1
    result = agent.resume_sync(reloaded(state))
    assert result.stop_reason == "limit:tool_calls" and len(shop.orders) == 1
    assert tool_texts(result)[0].startswith(text) and len(result.uncertain) == uncertain
    finished = [event for event in result.events if isinstance(event, ToolFinished)]
    assert finished[-1].refused == refused


@pytest.mark.parametrize("answer", [Done("ordered"), NotDone(), Unknown("closed")])
def test_every_prefix_of_a_reconciled_run_ends_as_it_did(answer: Answer) -> None:
    shop = Shop(lambda key, arguments: answer)
    started = stopped_in(shop.agent().run_sync("go", run_id="r"))
    whole = shop.agent().resume_sync(started)
    for cut in range(len(started.events), len(whole.events)):
        shop.asked.clear()
        prefix = reloaded(RunState.replay(whole.events[:cut]))
        assert prefix.to_json() == RunState.replay(whole.events[:cut]).to_json()
        result = shop.agent().resume_sync(prefix)
        assert (tool_texts(result), result.output) == (tool_texts(whole), whole.output)
        known = any(isinstance(event, CallReconciled | ToolFinished) for event in whole.events[:cut])
        again = isinstance(answer, NotDone) and isinstance(whole.events[cut - 1], ToolStarted)
        assert len(shop.asked) == (not known or (again and known)), cut


def test_a_tool_that_has_gone_or_lost_its_function_is_not_asked() -> None:
    shop = Shop()
    state = stopped_in(shop.agent().run_sync("go"))
    for tools in ([], [tool(shop.order)], [tool(shop.order, name="buy", reconcile=shop.ask)]):
        result = shop.agent(tools=tools).resume_sync(state)
        assert shop.asked == [] and len(result.uncertain) == 1


def test_a_tool_whose_arguments_have_changed_is_not_asked() -> None:
    def order(what: str, by: str) -> str:
        """Order."""
        return what

    shop = Shop()
    result = shop.agent(tools=[tool(order, reconcile=shop.ask)]).resume_sync(stopped_in(shop.agent().run_sync("go")))
    assert shop.asked == [] and outcomes(result) == [("unknown", "its arguments do not fit the tool any more")]


def test_the_tool_of_a_schema_gets_its_dict() -> None:
    asked: list[Any] = []

    def ask(key: str, arguments: dict[str, Any]) -> Answer:
        asked.append((key, arguments))
        return NotDone()

    from agentkit import Tool

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    made = Tool.from_schema("act", "Act.", schema, lambda arguments: f"did {arguments}", reconcile=ask)
    agent = Agent(say(call("act", n=3), "Done."), tools=[made])
    result = agent.resume_sync(stopped_in(agent.run_sync("go", run_id="r")))
    assert asked == [("r:0", {"n": 3})] and tool_texts(result) == ["did {'n': 3}"]


def test_the_decision_is_pure_and_the_event_needs_a_started_call() -> None:
    shop = Shop()
    agent = shop.agent()
    whole = agent.run_sync("go")
    state = stopped_in(whole)
    (open_call,) = state.open_calls
    for _ in range(2):
        assert type(decide(state, agent.spec)).__name__ == "Reconcile"
    assert shop.asked == []
    state.apply(CallReconciled(open_call.call.id, "not done"))
    assert isinstance(decide(state, agent.spec), RunTools) and decide(state, agent.spec).refusal is None  # type: ignore[union-attr]
    state.apply(CallReconciled(open_call.call.id, "unknown"))
    lost = decide(state, agent.spec)
    assert isinstance(lost, RunTools) and lost.refused == "lost"
    asked = RunState.replay(whole.events[:2])
    with pytest.raises(ValueError, match="is reconciled before it is started"):
        asked.apply(CallReconciled(open_call.call.id, "unknown"))
    assert isinstance(decide(RunState.replay(whole.events[:1]), agent.spec), AskModel)


def test_a_store_knows_which_calls_of_a_fork_its_original_started(tmp_path: Path) -> None:
    shop = Shop()
    with closing(SQLiteStore(tmp_path / "runs.db")) as store:
        whole = shop.agent().run_sync("go", store=store, run_id="r")
        cut = next(n for n, event in enumerate(whole.events) if isinstance(event, ToolStarted)) + 1
        fork = store.fork("r", at=cut)
        result = shop.agent().resume_sync(fork, store=store)
        assert shop.asked == [] and len(result.uncertain) == len(store.state(fork).uncertain) == 1
        assert shop.orders == [("r:0", "tea")]


def test_a_paused_run_that_is_cancelled_says_that_a_call_was_not_run(tmp_path: Path) -> None:
    """The other call of the reply waits for an approval, and the process ends before the first has run again."""
    shop, log = Shop(lambda key, arguments: NotDone()), MemoryLog()

    def pay() -> str:
        """Pay."""
        return "paid"

    calls = [call("order", what="tea"), call("pay")]
    first = shop.agent(*calls, tools=[shop.tool, tool(pay, approval=True)], approve=lambda _: True)
    whole = first.run_sync("go", run_id="r")
    started = stopped_in(whole, keep=lambda event: not (isinstance(event, ToolStarted) and event.call.name == "pay"))
    kept = [event for event in started.events if not isinstance(event, ApprovalGiven)]
    asyncio.run(log.append(0, kept))
    agent = shop.agent(*calls, tools=[shop.tool, tool(pay, approval=True)])
    paused = agent.resume_sync(log=log)
    assert [c.name for c in paused.pending] == ["pay"] and outcomes(paused) == [("not done", "")]
    asked = next(place for place, event in enumerate(paused.events) if isinstance(event, CallReconciled))
    answers = closing_answers(RunState.replay(paused.events[: asked + 1]), "ended")
    assert [(one.outcome, one.result.content[:14]) for one in answers] == [("not run", "error: not run")] * 2
    result = agent.resume_sync(approvals={paused.pending[0].id: True}, log=log)
    assert tool_texts(result) == ["ordered 1 tea", "paid"] and len(shop.asked) == 1
