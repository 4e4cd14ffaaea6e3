"""A stored run as a test of today's agent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    KeepTurns,
    Limits,
    Message,
    Middleware,
    ModelReply,
    ModelSettings,
    RunContext,
    RunState,
    ScriptedModel,
    SettingsError,
    StopRun,
    System,
    Tool,
    ToolCall,
    Usage,
    User,
    tool,
)
from agentkit.events import ToolStarted
from agentkit.messages import Spending
from agentkit.policy import AskWrites
from agentkit.store import Store, open_store
from agentkit.testing import ReplayMismatch, call, replay

ENTERED: list[str] = []
STARTED: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def _nothing_entered() -> None:
    ENTERED.clear()


@tool
def find(number: str) -> dict[str, Any]:
    """Find an order."""
    ENTERED.append(number)
    if number == "?":
        raise ValueError("no such order")
    return {"number": number, "total": 12.5}


@tool(approval=True)
def refund(number: str, amount: float = 1.0) -> str:
    """Refund an order."""
    ENTERED.append(number)
    return f"refunded {amount}"


weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {"what": {"type": "string"}}})
SCRIPT: list[Any] = [
    [call("find", number="A-17"), call("find", number="?")],
    call("refund", number="A-17"),
    call("weigh", what="A-17"),
    call("nothing"),
    "Refunded.",
]


def agent(**parts: Any) -> Agent[str]:
    given = {"tools": [find, refund, weigh], "instructions": "Be brief.", **parts}
    return Agent(ScriptedModel(SCRIPT), **given)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs.db"))


@pytest.fixture
def run_id(store: Store) -> str:
    """A run with parallel calls, an error, an approval with other arguments, an outside call, and an unknown tool."""
    made = agent()
    result = made.run_sync("Refund A-17", store=store, run_id="r1")
    result = made.resume_sync("r1", store=store, approvals={result.pending[0].id: {"args": {"number": "A-17", "amount": 2}}})
    result = made.resume_sync("r1", store=store, results={result.pending[0].id: {"kg": 1}})
    assert result.output == "Refunded." and len(ENTERED) == 3
    ENTERED.clear()
    return "r1"


def test_the_same_agent_does_the_same_and_calls_nothing(store: Store, run_id: str, tmp_path: Path) -> None:
    result = replay(store, run_id, agent())
    assert result.output == "Refunded." and not ENTERED
    path = tmp_path / "run.json"
    store.state(run_id).save(path)
    assert replay(path, None, agent()).output == "Refunded."
    assert replay(store.state(run_id), None, agent()).steps == 5 and not ENTERED


@tool
async def never() -> str:
    """Wait for ever."""
    ENTERED.append("never")
    STARTED[0].set()
    await asyncio.Event().wait()
    return ""


@tool(name="find")
def find_by_id(order_id: int) -> str:
    """Find an order."""
    return str(order_id)


@tool(name="refund")
def free_refund(number: str, amount: float = 1.0) -> str:
    """Refund an order."""
    return ""


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"instructions": "Be long."}, ["-instructions: Be brief.", "+instructions: Be long."]),
        ({"tools": [find_by_id, refund, weigh]}, ["-result of find: {", "+result of find: error: "]),
        ({"tools": [find, weigh]}, ["-result of refund: ", "+result of refund: error: there is no tool 'refund'"]),
        ({"tools": [find, free_refund, weigh]}, ['-call refund({"number": "A-17", "amount": 2})', "+call refund("]),
        (
            {"tools": [find_by_id, refund, weigh]},
            ["other parts: tools (changed: find)", "--- stored: tool find\n", '-   "number": {', '+   "order_id": {'],
        ),
        ({"tools": [find, weigh]}, ["other parts: tools (removed: refund)", "--- stored: tool refund\n", '- "refund",']),
        ({"tools": [find, refund, weigh, never]}, ["tools (added: never)", "--- stored: tool never\n", '+ "never",']),
        ({"tools": [refund, find, weigh]}, ["tools (in another order)", "--- stored: tools\n", "-refund"]),
        (
            {"settings": ModelSettings(temperature=0.5)},
            ["other parts: settings\n--- stored: settings\n", '+ "temperature": 0.5'],
        ),
        ({"limits": Limits(steps=9, tool_calls=1)}, ["+result of find: error: not run: the run has reached its limit"]),
    ],
    ids=["instructions", "schema", "no tool", "no approval", "part", "removed", "added", "order", "settings", "limits"],
)
def test_the_first_difference_is_shown(store: Store, run_id: str, parts: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ReplayMismatch) as mismatch:
        replay(store, run_id, agent(**parts))
    assert all(word in str(mismatch.value) for word in words), str(mismatch.value)
    assert isinstance(mismatch.value, AssertionError) and not ENTERED


def test_a_run_that_broke_off_is_compared_as_far_as_it_came(store: Store) -> None:
    made = Agent(ScriptedModel([call("find", number="A-17")]), tools=[find], retry=None)
    with pytest.raises(Exception, match="the script has 1 replies"):
        made.run_sync("Find A-17", store=store, run_id="r2")
    assert replay(store, "r2", made).steps == 1
    with pytest.raises(ReplayMismatch, match="instructions: Other"):
        replay(store, "r2", made.copy(instructions="Other"))


def test_instructions_of_a_function_are_rendered_anew(store: Store) -> None:
    def instructions(ctx: RunContext[str]) -> str:
        return f"You help {ctx.deps}."

    made = Agent(ScriptedModel(["Hi."]), instructions=instructions)
    made.run_sync("Hi", deps="Ann", store=store, run_id="r3")
    replay(store, "r3", made, deps="Ann")
    with pytest.raises(ReplayMismatch, match="You help Bob"):
        replay(store, "r3", made, deps="Bob")


class Marked(Middleware):
    """Marks each result."""

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: Any) -> str:
        return f"[marked] {await next(call)}"


def test_middleware_and_history_did_their_work_when_the_run_was_made(store: Store) -> None:
    made = Agent(ScriptedModel([call("find", number="A"), "Found."]), tools=[find], middleware=[Marked()])
    made = made.copy(history=KeepTurns(1))
    earlier: list[Message] = [User("One?"), Assistant("One."), User("Two?"), Assistant("Two.")]
    made.run_sync("Find A", messages=earlier, store=store, run_id="r2")
    assert replay(store, "r2", made).messages == store.state("r2").messages


def test_tools_that_depend_on_the_run_are_compared_as_they_are_for_the_run(store: Store) -> None:
    def tools(ctx: RunContext[str]) -> list[Any]:
        return [find] if ctx.deps == "Ann" else [refund]

    made = Agent(ScriptedModel([call("find", number="A"), "Found."]), tools=tools, deps_type=str)
    made.run_sync("Find A", deps="Ann", store=store, run_id="r2")
    assert replay(store, "r2", made, deps="Ann").output == "Found."
    with pytest.raises(ReplayMismatch, match="other parts: tools"):
        replay(store, "r2", made)


def test_a_system_message_of_the_conversation_is_kept(store: Store) -> None:
    made = Agent(ScriptedModel(["Hello."]))
    made.run_sync("Hi", messages=[System("You are kind."), User("One?"), Assistant("One.")], store=store, run_id="r2")
    assert replay(store, "r2", made).new_messages == store.state("r2").messages[3:]
    with pytest.raises(ReplayMismatch, match=r"-instructions: You are kind.\n\+instructions: You are rude."):
        replay(store, "r2", made.copy(instructions="You are rude."))


def test_whether_a_call_needs_an_approval_is_compared(store: Store) -> None:
    made = Agent(ScriptedModel([call("refund", number="A"), "Refunded."]), tools=[refund])
    free = made.copy(tools=[free_refund])
    pending = made.run_sync("Refund A", store=store, run_id="r2").pending
    assert replay(store, "r2", made).stop_reason == "pending_approval"
    with pytest.raises(ReplayMismatch, match="-waits for an approval of refund"):
        replay(store, "r2", free)
    made.resume_sync("r2", approvals={pending[0].id: True}, store=store)
    assert replay(store, "r2", made).output == replay(store, "r2", made).output == "Refunded."
    with pytest.raises(ReplayMismatch, match="-approved: refund"):
        replay(store, "r2", free)
    made = Agent(ScriptedModel([call("find", number="A"), "Found."]), tools=[find])
    made.run_sync("Find A", store=store, run_id="r3")
    with pytest.raises(ReplayMismatch, match=r"\+waits for an approval of find"):
        replay(store, "r3", made.copy(policy=AskWrites()))
    assert ENTERED == ["A", "A"]


def test_a_call_that_is_a_run_of_another_agent_is_answered_from_its_result(store: Store) -> None:
    inner = Agent(ScriptedModel([call("refund", number="A"), "Refunded."]), tools=[refund], name="inner")
    made = Agent(ScriptedModel([call("inner", task="Refund A"), "Done."]), tools=[inner.as_tool(description="Refunds.")])
    pending = made.run_sync("Refund A", store=store, run_id="r2").pending
    assert replay(store, "r2", made).pending == pending
    made.resume_sync("r2", approvals={pending[0].id: True}, store=store)
    assert replay(store, "r2", made).output == "Done." and ENTERED == ["A"]


def _reply(usage: Usage, *calls: ToolCall, estimated: Usage = Usage()) -> ModelReply:  # noqa: B008  frozen
    return ModelReply(Assistant("Words.", tool_calls=calls), usage, "stop", cost=0.0, estimated=Spending(estimated))


@pytest.mark.parametrize("on_limit", ["stop", "answer"])
@pytest.mark.parametrize("tokens", [{"estimated": Usage(output_tokens=90)}, {}])
def test_a_limit_ends_a_replay_where_it_ended_the_run(tokens: dict[str, Usage], on_limit: Any) -> None:
    """Also if it was reached by what child runs spent, or by usage that the server did not count."""
    inner = Agent(ScriptedModel([_reply(Usage(1, 1, 1 if tokens else 90))] * 2), name="inner")
    ask = ToolCall("c", "inner", '{"task": "Look."}')
    script = [_reply(Usage(1, 1, 1), ask, **tokens), _reply(Usage(1, 1, 1))]
    limits = Limits(output_tokens=50, on_limit=on_limit)
    made = Agent(ScriptedModel(script), tools=[inner.as_tool(description="Looks.")], limits=limits)
    result = made.run_sync("Go")
    again = replay(result.state, None, made)
    assert again.stop_reason == result.stop_reason == "limit:output_tokens"
    assert again.state.spent.usage.output_tokens == result.state.spent.usage.output_tokens


def test_a_call_that_was_lost_after_its_arguments_were_edited_is_compared() -> None:
    made = Agent(ScriptedModel([call("refund", number="A"), "I must look first."]), tools=[refund])
    paused = made.run_sync("Refund A")
    done = made.resume_sync(paused.state, approvals={paused.pending[0].id: {"args": {"number": "B"}}})
    started = next(n for n, event in enumerate(done.events) if isinstance(event, ToolStarted))
    again = Agent(ScriptedModel(["I must look first."]), tools=[refund])
    result = again.resume_sync(RunState.replay(done.events[: started + 1]))
    assert len(result.uncertain) == 1
    assert replay(result.state, None, made).output == "I must look first."


def test_a_run_that_was_cancelled_while_it_waited_and_went_on_is_compared(store: Store) -> None:
    calls = [call("weigh", what="A"), call("refund", number="A"), call("find", number="A")]
    made = Agent(ScriptedModel([calls, "Weighed."]), tools=[weigh, refund, find])
    assert len(made.run_sync("Weigh it.", store=store, run_id="r2").pending) == 2
    store.cancel("r2")
    assert replay(store, "r2", made).stop_reason == "pending_approval"
    made.resume_sync("r2", store=store)
    assert replay(store, "r2", made).output == "Weighed."


@tool
def stop() -> str:
    """End the run."""
    raise StopRun("guardrail:enough")


def test_what_the_end_of_a_run_cut_off_is_not_compared(store: Store) -> None:
    asyncio.run(_cut_off(store))


async def _cut_off(store: Store) -> None:
    STARTED[:] = [started := asyncio.Event()]
    made = Agent(ScriptedModel([[call("find", number="A"), call("never")], "Done."]), tools=[find, never])
    running = asyncio.create_task(made.run("Go", store=store, run_id="r2"))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert replay(store, "r2", made).steps == 1
    await made.resume("r2", store=store)
    assert replay(store, "r2", made).output == "Done."
    stopped = Agent(ScriptedModel([call("stop")]), tools=[stop])
    await stopped.run("Go", store=store, run_id="r3")
    assert replay(store, "r3", stopped).steps == 1
    limited = Agent(ScriptedModel([call("find", number="A")]), tools=[find], limits=Limits(steps=1))
    await limited.run("Go", store=store, run_id="r4")
    assert replay(store, "r4", limited).stop_reason == "limit:steps"
    with pytest.raises(ReplayMismatch, match="end: replay: the model is asked for one more reply"):
        replay(store, "r4", limited.copy(limits=Limits(steps=2)))


def test_a_store_may_be_given_by_its_address(store: Store, run_id: str, tmp_path: Path) -> None:
    for address in (str(tmp_path / "runs.db"), tmp_path / "runs.db", f"sqlite://{tmp_path}/runs.db"):
        assert replay(address, run_id, agent()).output == "Refunded."


def test_a_file_has_one_run(store: Store, run_id: str, tmp_path: Path) -> None:
    store.state(run_id).save(tmp_path / "run.json")
    with pytest.raises(SettingsError, match="the run there is 'r1'"):
        replay(tmp_path / "run.json", "r2", agent())


def test_a_file_has_only_the_digests_of_parts(store: Store, run_id: str, tmp_path: Path) -> None:
    store.state(run_id).save(tmp_path / "run.json")
    with pytest.raises(ReplayMismatch) as mismatch:
        replay(tmp_path / "run.json", run_id, agent(settings=ModelSettings(temperature=0.5)))
    assert str(mismatch.value) == "the agent of run 'r1' had other parts: settings"


def test_parts_are_stored_once_and_without_extra_fields(store: Store) -> None:
    made = Agent(ScriptedModel(["One.", "Two."]), settings=ModelSettings(extra_body={"token": "confidential"}))
    for run_id in ("r2", "r3"):
        made.run_sync("Hi", store=store, run_id=run_id)
    assert store.part("settings", made.fingerprint["settings"])["extra_body"] == ["token"]
    assert store.part("tools", made.fingerprint["tools"]) == []
    assert store.part("tools", "unknown") is None
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM agentkit_agents").fetchone()[0] == 3


def test_parts_that_differ_from_run_to_run_are_not_stored(store: Store) -> None:
    Agent(ScriptedModel(["Hi."]), tools=lambda _ctx: [find]).run_sync("Hi", store=store)
    Agent(ScriptedModel(["Hi."])).run_sync("Hi", tools=[find], store=store)
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM agentkit_agents").fetchone()[0] == 0
