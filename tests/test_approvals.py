"""Approvals: what is shown is what runs, only True approves, and an approval counts once."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from agentkit import (
    Agent,
    ApprovalGiven,
    ApprovalRequired,
    Assistant,
    CallJudged,
    Limits,
    Middleware,
    RunContext,
    RunPaused,
    RunState,
    ScriptedModel,
    SettingsError,
    Tool,
    ToolCall,
    ToolStarted,
    tool,
)
from agentkit.policy import Allow, JudgeContext, JudgedCall, Policy, Verdict
from agentkit.testing import call
from agentkit.tools.tool import AnyTool
from tests.kit import How, reloaded, tool_texts


class Payments:
    """A tool that needs approvals, and what it was run with."""

    def __init__(self, **options: Any) -> None:
        self.paid: list[Any] = []
        numbers = itertools.count(1)

        def pay(to: str, amount: int = 1, token: str = Field(default_factory=lambda: f"t{next(numbers)}")) -> str:
            """Pay."""
            self.paid.append((to, amount, token))
            return f"paid {to}"

        def plain(to: str, amount: int = 1) -> str:
            """Pay."""
            self.paid.append((to, amount))
            return f"paid {to}"

        fn = pay if options.pop("factory", False) else plain
        self.tool: AnyTool = tool(fn, **{"name": "pay", "approval": True, **options})

    def agent(self, *script: Any, **options: Any) -> Agent[str]:
        return Agent(ScriptedModel([*(script or (call("pay", to="ann"),)), "Done."]), tools=[self.tool], **options)


def noting(seen: list[str]) -> Callable[[ToolCall], bool]:
    """An `approve` that lets all calls run, and notes the arguments that it was shown."""

    def approve(wanted: ToolCall) -> bool:
        seen.append(wanted.arguments)
        return True

    return approve


# --- answers -------------------------------------------------------------------------------------------------------------

WRONG = ["no", "yes", "True", 1, 0, 1.0, "", None, {"approved": True}, {"approved": False}, (True, "why"), [True], object(), {},
         {"deny": 5}, {"args": "x"}, {"deny": "x", "args": {}}, {True: 1}]  # fmt: skip


@pytest.mark.parametrize("answer", WRONG, ids=lambda answer: repr(answer)[:12])
def test_an_answer_of_another_form_is_an_error_and_nothing_runs(answer: Any) -> None:
    payments = Payments()
    with pytest.raises(SettingsError, match=r"the approval of pay \(call_01_0\) is .*; allowed: True, False, "):
        payments.agent(approve=lambda _: answer).run_sync("go")
    paused = payments.agent().run_sync("go")
    with pytest.raises(SettingsError, match="allowed: True, False"):
        payments.agent("Done.").resume_sync(paused.state, {paused.pending[0].id: answer})
    assert payments.paid == []


@pytest.mark.parametrize(
    ("answer", "paid", "says"),
    [
        (True, [("ann", 1)], "paid ann"),
        (False, [], "error: not run: the call was not approved"),
        ({"deny": "ann is on holiday"}, [], "error: not run: the call was not approved: ann is on holiday"),
        ({"args": {"to": "bob"}}, [("bob", 1)], '[run with other arguments, given with the approval: {"to": "bob"}]\npaid bob'),
    ],
)
def test_answers_mean_the_same_from_approve_and_from_resume(answer: Any, paid: list[Any], says: str) -> None:
    asked, resumed = Payments(), Payments()
    assert tool_texts(asked.agent(approve=lambda _: answer).run_sync("go")) == [says]
    paused = resumed.agent().run_sync("go")
    assert tool_texts(resumed.agent("Done.").resume_sync(paused.state.to_json(), {paused.pending[0].id: answer})) == [says]
    assert asked.paid == resumed.paid == paid


def test_approve_may_take_the_reason(how: How) -> None:
    seen: list[tuple[str, str]] = []

    async def approve(wanted: ToolCall, reason: str) -> bool:
        seen.append((wanted.name, reason))
        return True

    how(Payments().agent(approve=approve), "go")
    assert seen == [("pay", "pay needs an approval")]
    default = Payments()
    default.agent(approve=lambda wanted, allowed=True: allowed).run_sync("go")
    assert default.paid, "a parameter with a default is the program's own"


def test_a_refusal_may_carry_a_reason_in_the_events_too() -> None:
    result = Payments().agent(approve=lambda _: {"deny": "too dear"}).run_sync("go")
    (given,) = [event for event in result.events if isinstance(event, ApprovalGiven)]
    assert (given.approved, given.reason) == (False, "too dear")
    assert reloaded(result.state).events == result.events


# --- what is shown is what runs ------------------------------------------------------------------------------------------

TEXTS = {
    "plain": '{"to": "ann"}',
    "with white space": '{\n\n"to"  :\t"ann" }',
    "escaped": '{"t\\u006f": "\\u0061nn"}',
    "a number as text": '{"to": "ann", "amount": "7"}',
    "an envelope": '{"arguments": {"to": "ann"}}',
    "a list of one": '[{"to": "ann"}]',
    "single quotes": "{'to': 'ann',}",
    "in a text": '"{\\"to\\": \\"ann\\"}"',
    "in a fence": '```json\n{"to": "ann"}\n```',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("way", ["asked", "resumed", "resumed from JSON"])
def test_what_is_shown_is_what_runs(text: str, way: str) -> None:
    payments, shown, events = Payments(factory=True), list[str](), list[Any]()
    script = [Assistant(tool_calls=(ToolCall("c", "pay", text),))]
    if way == "asked":
        payments.agent(*script, approve=noting(shown)).run_sync("go", observers=[events.append])
    else:
        paused = payments.agent(*script).run_sync("go", observers=[events.append])
        shown.append(paused.pending[0].arguments)
        state = json.loads(json.dumps(paused.state.to_json())) if "JSON" in way else paused.state
        payments.agent("Done.").resume_sync(state, {"c": True}, observers=[events.append])
    (paid,) = payments.paid
    assert json.loads(shown[0]) == {"to": paid[0], "amount": paid[1], "token": paid[2]}
    started = next(event.call for event in events if isinstance(event, ToolStarted))
    required = next(event.call for event in events if isinstance(event, ApprovalRequired))
    judged = next(event for event in events if isinstance(event, CallJudged))
    assert started.arguments == required.arguments == judged.arguments == shown[0]


def test_the_model_reads_its_own_arguments_in_the_history() -> None:
    payments = Payments()
    agent = payments.agent(Assistant(tool_calls=(ToolCall("c", "pay", "{'to': 'ann'}"),)), approve=lambda _: True)
    result = agent.run_sync("go")
    assert result.messages[1].tool_calls[0].arguments == "{'to': 'ann'}"  # type: ignore[union-attr]
    assert tool_texts(result) == ["paid ann"]


def test_arguments_are_parsed_once_for_the_predicate_the_approver_and_the_function() -> None:
    parsed: list[str] = []

    class Order(BaseModel):
        number: int

        def model_post_init(self, _context: Any) -> None:
            parsed.append("parsed")

    seen: list[Any] = []

    def ask(order: Order) -> bool:
        seen.append(order)
        return True

    @tool(approval=ask)
    def send(order: Order) -> str:
        """Send."""
        seen.append(order)
        return "sent"

    Agent(ScriptedModel([call("send", order={"number": 1}), "Done."]), tools=[send], approve=lambda _: True).run_sync("go")
    assert seen[0] == seen[1] and type(seen[0]) is Order


@pytest.mark.parametrize(
    ("fn", "arguments", "shown"),
    [
        (lambda day: str(day), {"day": "2026-11-28"}, '{"day": "2026-11-28"}'),
        (lambda key: key.get_secret_value(), {}, "{}"),
        (lambda x: str(x), {}, '{"x": null}'),
    ],
    ids=["a date", "a secret default", "an optional"],
)
def test_defaults_that_json_cannot_say_are_left_out(fn: Any, arguments: dict[str, Any], shown: str) -> None:
    kinds = {"day": date, "key": SecretStr, "x": int | None}
    name = fn.__code__.co_varnames[0]
    fn.__annotations__, fn.__name__ = {name: kinds[name]}, "show"
    fn.__defaults__ = {"key": (SecretStr("hush"),), "x": (None,)}.get(name)
    made = tool(fn, approval=True, description="Show.")
    paused = Agent(ScriptedModel([call("show", **arguments)]), tools=[made]).run_sync("go")
    assert paused.pending[0].arguments == shown
    done = Agent(ScriptedModel(["Done."]), tools=[made]).resume_sync(paused.state.to_json(), {paused.pending[0].id: True})
    assert tool_texts(done) == [arguments.get("day") or {"key": "hush", "x": "None"}[name]], "the tool got its own default"


@pytest.mark.parametrize("text", ["{'to': 'ann',}", '{"arguments": {"to": "ann"}}', '{"to": "ann", "amount": "1"}'])
def test_the_event_of_a_call_that_nobody_approves_has_what_runs_too(text: str) -> None:
    payments = Payments(approval=False)
    result = payments.agent(Assistant(tool_calls=(ToolCall("c", "pay", text),))).run_sync("go")
    (started,) = [event for event in result.events if isinstance(event, ToolStarted)]
    assert json.loads(started.call.arguments) == {"to": "ann", "amount": 1}
    assert payments.paid == [("ann", 1)]
    plain = Payments(approval=False).agent(call("pay", to="ann")).run_sync("go")
    assert [event.call.arguments for event in plain.events if isinstance(event, ToolStarted)] == ['{"to": "ann"}']


def test_arguments_that_do_not_fit_are_told_to_the_model_and_nobody_is_asked() -> None:
    payments, asked = Payments(), list[str]()
    agent = payments.agent(call("pay", amount="many"), approve=noting(asked))
    assert "to: required, but missing" in tool_texts(agent.run_sync("go"))[0]
    assert (asked, payments.paid) == ([], [])


@pytest.mark.parametrize("outcome", [None, 0, "", [], "no", 1])
def test_a_predicate_lets_a_call_through_with_false_only(outcome: Any) -> None:
    payments = Payments(approval=lambda to, amount: outcome)
    assert payments.agent().run_sync("go").stop_reason == "pending_approval"
    free = Payments(approval=lambda to, amount: False)
    assert free.agent().run_sync("go").stop_reason == "answer"
    assert (payments.paid, free.paid) == ([], [("ann", 1)])


# --- once, and only what is pending --------------------------------------------------------------------------------------


def paused_payment(payments: Payments) -> tuple[dict[str, Any], str]:
    result = payments.agent().run_sync("go")
    stored: dict[str, Any] = json.loads(json.dumps(result.state.to_json()))
    return stored, result.pending[0].id


def test_a_state_that_is_resumed_twice_runs_its_call_once() -> None:
    payments = Payments()
    stored, call_id = paused_payment(payments)
    payments.agent("Done.").resume_sync(stored, {call_id: True})
    with pytest.raises(SettingsError, match="has run: this state was resumed before, and an approval counts once"):
        payments.agent("Done.").resume_sync(stored, {call_id: True})
    assert payments.paid == [("ann", 1)]
    assert payments.agent("Done.").resume_sync(stored, {call_id: False}).stop_reason == "answer", "refusing it is no harm"


def test_two_resumes_at_the_same_time_run_the_call_once() -> None:
    payments = Payments()
    stored, call_id = paused_payment(payments)

    async def main() -> list[Any]:
        resumes = (payments.agent("Done.").resume(stored, {call_id: True}) for _ in range(8))
        return await asyncio.gather(*resumes, return_exceptions=True)

    ends = asyncio.run(main())
    assert payments.paid == [("ann", 1)]
    used = ["error: not run: the approval of this call was used already"]
    assert sum(isinstance(end, SettingsError) or tool_texts(end) == used for end in ends) == 7


def test_a_call_that_may_be_repeated_is_not_counted() -> None:
    payments = Payments(idempotent=True)
    stored, call_id = paused_payment(payments)
    for _ in range(2):
        payments.agent("Done.").resume_sync(stored, {call_id: True})
    assert payments.paid == [("ann", 1)] * 2


def test_a_fork_has_an_approval_of_its_own() -> None:
    payments = Payments()
    stored, call_id = paused_payment(payments)
    payments.agent("Done.").resume_sync(stored, {call_id: True})
    fork = RunState.from_json(stored).fork()
    payments.agent("Done.").resume_sync(fork, {call_id: True})
    assert payments.paid == [("ann", 1)] * 2


def test_what_does_not_wait_cannot_be_approved() -> None:
    payments = Payments()
    stored, call_id = paused_payment(payments)
    with pytest.raises(SettingsError, match="no call other waits for an approval; waiting: call_01_0"):
        payments.agent("Done.").resume_sync(stored, {"other": True})
    done = payments.agent("Done.").resume_sync(stored, {call_id: True})
    with pytest.raises(SettingsError, match="waiting: none"):
        payments.agent("Done.").resume_sync(done.state, {call_id: True})
    with pytest.raises(SettingsError, match="approvals is "):
        payments.agent("Done.").resume_sync(stored, [call_id])  # type: ignore[arg-type]


def changed(stored: dict[str, Any], kind: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(stored))
    for event in copied["events"]:
        if event["type"] == kind:
            change(event)
    return copied


def tampered(stored: dict[str, Any], call_id: str) -> Iterator[dict[str, Any]]:
    """States that somebody changed so that another call would run, or one that nobody approved."""
    evil = '{"to": "evil"}'
    yield changed(stored, "ModelReplied", lambda e: e["message"]["tool_calls"][0].update(arguments=evil))
    yield changed(stored, "ModelReplied", lambda e: e["message"]["tool_calls"][0].update(name="other"))
    yield changed(stored, "CallJudged", lambda e: e.update(arguments=evil))
    yield changed(stored, "RunPaused", lambda e: e["pending"][0].update(arguments=evil))
    yield changed(changed(stored, "CallJudged", lambda e: e.update(arguments=evil)), "RunPaused",
                  lambda e: e["pending"][0].update(arguments=evil))  # fmt: skip


def test_another_run_with_the_same_id_has_approvals_of_its_own() -> None:
    payments = Payments()
    for _ in range(2):
        paused = payments.agent(ToolCall("call_0", "pay", '{"to": "ann"}')).run_sync("go", run_id="nightly")
        payments.agent("Done.").resume_sync(paused.state, {paused.pending[0].id: True})
    assert len(payments.paid) == 2


def test_a_state_whose_call_was_changed_is_refused() -> None:
    payments = Payments()
    stored, call_id = paused_payment(payments)
    for state in tampered(stored, call_id):
        with pytest.raises(ValueError, match="is not the one"):
            payments.agent("Done.").resume_sync(state, {call_id: True})
    assert payments.paid == []


@pytest.mark.parametrize("before", [[], [{"type": "RunResumed"}]], ids=["while paused", "after a resume"])
def test_an_approval_that_was_written_into_a_state_does_not_count(before: list[Any]) -> None:
    payments = Payments()
    stored, call_id = paused_payment(payments)
    stored["events"] += [*before, {"type": "ApprovalGiven", "call_id": call_id, "approved": True}]
    if before:
        assert payments.agent("Done.").resume_sync(stored).stop_reason == "pending_approval"
    else:
        with pytest.raises(ValueError, match="ApprovalGiven while the run is paused"):
            payments.agent("Done.").resume_sync(stored)
    assert payments.paid == []


def test_an_approved_call_runs_while_another_one_waits() -> None:
    payments = Payments()
    agent = payments.agent([call("pay", to="ann"), call("pay", to="bob")])
    paused = agent.run_sync("go")
    first, second = paused.pending
    again = agent.resume_sync(paused.state.to_json(), {first.id: {"args": {"to": "cid"}}})
    assert (again.pending, payments.paid) == ((second,), [("cid", 1)])
    agent.resume_sync(again.state.to_json(), {second.id: True})
    assert payments.paid == [("cid", 1), ("bob", 1)]


def test_the_same_call_denied_again_and_again_ends_the_run() -> None:
    payments = Payments()
    result = payments.agent(*[call("pay", to="ann")] * 20, approve=lambda _: False).run_sync("go")
    assert (result.stop_reason, len(tool_texts(result))) == ("limit:refusals", 5)
    others = [call("pay", to=f"ann {n}") for n in range(8)]
    assert payments.agent(*others, approve=lambda _: False).run_sync("go").stop_reason == "answer"
    agent = payments.agent(*[call("pay", to="ann")] * 20, approve=lambda _: False, limits=Limits(refusals=None, steps=12))
    assert agent.run_sync("go").stop_reason == "limit:steps"


def test_a_pause_is_seen_by_watchers_with_what_will_run(how: How) -> None:
    events: list[Any] = []
    paused = how(Payments(factory=True).agent(), "go", observers=[events.append])
    (pause,) = [event for event in events if isinstance(event, RunPaused)]
    assert pause.pending == paused.pending
    assert json.loads(pause.pending[0].arguments) == {"to": "ann", "amount": 1, "token": "t1"}


def test_a_context_is_not_shown(how: How) -> None:
    @tool(approval=True)
    def send(ctx: RunContext[str], to: str) -> str:
        """Send."""
        return f"{ctx.deps} to {to}"

    shown: list[str] = []
    agent = Agent(ScriptedModel([call("send", to="ann"), "Done."]), tools=[send], approve=noting(shown))
    assert tool_texts(how(agent, "go", deps="hello")) == ["hello to ann"]
    assert shown == ['{"to": "ann"}']


# --- what decides changes nothing, and parses nothing again -----------------------------------------------------------------


class Always(Policy):
    """Allows, and sees the arguments."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        self.seen.append(dict(call.args))
        return Allow()


def test_a_validator_that_may_run_once_runs_once_with_a_policy() -> None:
    used: set[str] = set()

    def once(token: str) -> str:
        if token in used:
            raise ValueError("the token is used")
        used.add(token)
        return f"{token}-{len(used)}"

    @tool
    def redeem(token: Annotated[str, AfterValidator(once)]) -> str:
        """Redeem."""
        return f"redeemed {token}"

    policy = Always()
    script: list[Any] = [call("redeem", token="a"), "Done."]
    result = Agent(ScriptedModel(script), tools=[redeem], policy=[policy]).run_sync("go")
    assert tool_texts(result) == ["redeemed a-1"] and policy.seen == [{"token": "a-1"}]


def test_a_predicate_that_changes_its_arguments_changes_nothing_of_the_call() -> None:
    @tool(approval=lambda to: "boss" in [to.pop(0)])
    def send(to: list[str]) -> str:
        """Send."""
        return f"sent to {to}"

    result = Agent(ScriptedModel([call("send", to=["ann", "bob"]), "Done."]), tools=[send]).run_sync("go")
    assert tool_texts(result) == ["sent to ['ann', 'bob']"]


def test_an_argument_that_cannot_be_copied_is_judged_as_it_is() -> None:
    class Handle(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        name: str

        def __deepcopy__(self, memo: Any = None) -> Handle:
            raise TypeError("it has a lock")

    @tool(approval=lambda handle: handle.name != "a")
    def use(handle: Handle) -> str:
        """Use."""
        return handle.name

    result = Agent(ScriptedModel([call("use", handle={"name": "a"}), "Done."]), tools=[use], policy=[Always()]).run_sync("go")
    assert tool_texts(result) == ["a"]


def test_a_predicate_that_raises_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    @tool(approval=lambda amont: amont > 1)
    def pay_in(amount: int) -> str:
        """Pay."""
        return "paid"

    result = Agent(ScriptedModel([call("pay_in", amount=1), "Done."]), tools=[pay_in]).run_sync("go")
    assert result.stop_reason == "pending_approval"
    assert "the approval predicate of pay_in failed" in caplog.text and "unexpected keyword argument 'amount'" in caplog.text


def test_a_middleware_that_calls_again_gives_the_arguments_anew() -> None:
    class Again(Middleware):
        async def tool_call(self, call: ToolCall, ctx: Any, next: Any) -> Any:
            try:
                return await next(call)
            except ValueError:
                return await next(call)

    seen: list[Any] = []

    @tool
    def add(items: list[int]) -> str:
        """Add."""
        seen.append([*items])
        items.append(9)
        if len(seen) == 1:
            raise ValueError("once")
        return "added"

    Agent(ScriptedModel([call("add", items=[1]), "Done."]), tools=[add], middleware=[Again()]).run_sync("go")
    assert seen == [[1], [1]]


class Parcel(BaseModel):
    weight: int
    express: bool = True


def test_an_approval_shows_the_defaults_inside_models() -> None:
    ran: list[Any] = []

    @tool(approval=True)
    def ship(parcels: list[Parcel], to: Parcel | None = None) -> str:
        """Ship."""
        ran.append(parcels)
        return "shipped"

    script: list[Any] = [call("ship", parcels=[{"weight": 1}, {"weight": 2, "express": False}])]
    paused = Agent(ScriptedModel(script), tools=[ship]).run_sync("go")
    shown = json.loads(paused.pending[0].arguments)
    assert shown == {"parcels": [{"weight": 1, "express": True}, {"weight": 2, "express": False}], "to": None}
    Agent(ScriptedModel(["Done."]), tools=[ship]).resume_sync(paused.state, {paused.pending[0].id: True})
    assert ran == [[Parcel(weight=1), Parcel(weight=2, express=False)]]
    changed = paused.state.to_json()
    for event in changed["events"]:
        event.pop("digests", None)
        if event["type"] == "CallJudged":
            event["arguments"] = event["arguments"].replace('"weight": 1', '"weight": 9')
    with pytest.raises(SettingsError, match="is not the one that the model made"):
        Agent(ScriptedModel(["Done."]), tools=[ship]).resume_sync(changed, {paused.pending[0].id: True})


@pytest.mark.parametrize("shown", ["{'amount': 3}", '{"amount": 4}', "[3]", "null", "3"])
def test_a_call_whose_shown_arguments_were_changed_is_refused(shown: str) -> None:
    @tool(approval=True)
    def pay(amount: int) -> str:
        """Pay."""
        raise AssertionError("it is not run")

    paused = Agent(ScriptedModel([call("pay", amount=3)]), tools=[pay]).run_sync("go")
    data = paused.state.to_json()
    for event in data["events"]:
        if event["type"] == "CallJudged":
            event["arguments"] = shown
        event.pop("digests", None)
    changed = RunState.from_json(data)
    with pytest.raises(SettingsError, match=r"cannot be approved|not the one that the model made"):
        Agent(ScriptedModel(["Done."]), tools=[pay]).resume_sync(changed, {changed.pending[0].id: True})


def test_an_approval_of_a_call_whose_tool_has_changed_says_so() -> None:
    ran: list[Any] = []

    def made(kind: type, to: Any) -> Agent[str]:
        def ship(to: Any, count: int = 1) -> str:
            ran.append((to, count))
            return "shipped"

        ship.__annotations__["to"] = kind
        model = ScriptedModel(lambda request: "Done." if len(request.messages) > 1 else call("ship", to=to))
        return Agent(model, tools=[tool(ship, approval=True)])

    paused = made(str, "Bob").run_sync("go")
    (waiting,) = paused.pending
    fit = r"cannot be approved: its arguments do not fit the tool ship as it is now.*to: Input should be a valid integer"
    with pytest.raises(SettingsError, match=fit):
        made(int, "Bob").resume_sync(paused.state, {waiting.id: True})
    refused = made(int, "Bob").resume_sync(paused.state, {waiting.id: {"deny": "to is a number now"}})
    assert "to is a number now" in tool_texts(refused)[0] and ran == []
    paused = made(str, "7").run_sync("go")
    made(int, "7").resume_sync(paused.state, {paused.pending[0].id: True})
    assert ran == [(7, 1)]


def test_the_other_calls_of_a_reply_run_before_it_pauses(how: How) -> None:
    looked: list[str] = []

    @tool
    def look(where: str) -> str:
        """Look."""
        looked.append(where)
        return "sunny"

    weigh = Tool.outside("weigh", "Weigh a thing.", {"type": "object", "properties": {}})
    payments = Payments()
    reply = [call("pay", to="ann"), call("weigh"), call("look", where="Rome")]
    agent = Agent(ScriptedModel([reply, "Done."]), tools=[payments.tool, weigh, look])
    paused = how(agent, "go")
    assert ([waiting.name for waiting in paused.pending], looked, payments.paid) == (["pay", "weigh"], ["Rome"], [])
    first, second = paused.pending
    done = agent.resume_sync(paused.state, {first.id: True}, {second.id: "5 kg"})
    assert (done.output, looked, payments.paid) == ("Done.", ["Rome"], [("ann", 1)])
