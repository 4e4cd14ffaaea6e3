"""Runs inside runs that have logs of their own: a program that is killed at any append loses nothing and repeats nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agentkit import Agent, LogFailed, RunContext, RunState, ScriptedModel, SettingsError, tool
from agentkit.events import CallSuspended, LastingEvent, ModelReplied, ToolStarted
from agentkit.run.journal import JsonLinesLog, MemoryLog, TreeLog
from agentkit.testing import call
from tests.kit import tool_texts


class Tree:
    """The logs of a tree of runs, and the order of their appends. The append with number `dies_at` fails."""

    def __init__(self, appends: Sequence[tuple[str, tuple[LastingEvent, ...]]] = (), dies_at: int | None = None) -> None:
        self.appends, self.dies_at = [*appends], dies_at

    def log(self, run_id: str = "top") -> Branch:
        return Branch(self, run_id)


class Branch:
    def __init__(self, tree: Tree, run_id: str) -> None:
        self.tree, self.run_id = tree, run_id

    def child(self, run_id: str) -> Branch:
        return self.tree.log(run_id)

    async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
        assert seq == len(await self.load())
        if len(self.tree.appends) == self.tree.dies_at:
            raise OSError("disk full")
        self.tree.appends.append((self.run_id, tuple(events)))

    async def load(self) -> list[LastingEvent]:
        return [event for run_id, events in self.tree.appends if run_id == self.run_id for event in events]


RAN: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool
async def pay(to: str) -> str:
    """Pay."""
    RAN[to] += 1
    return f"paid {to}"


@tool(approval=True)
def order(what: str) -> str:
    """Order."""
    RAN[what] += 1
    return f"ordered {what}"


def agent(name: str, *script: Any, tools: Any = (pay,)) -> Agent[str]:
    """An agent whose n-th reply in a run is the n-th of the script, in whichever process it is asked for."""

    def say(request: Any) -> Any:
        return script[sum(message.role == "assistant" for message in request.messages)]

    return Agent(ScriptedModel(say), tools=list(tools), name=name)


def firm() -> Agent[str]:
    """Two clerks at once, each with a cashier who pays: three levels, two branches."""
    cashiers = [agent("cashier", call("pay", to=to), f"{to} has it.") for to in ("Ann", "Bob")]
    clerks = [
        agent(f"clerk{n}", call("cashier", task="pay"), "Done.", tools=[cashier.as_tool("cashier", "Pays.")])
        for n, cashier in enumerate(cashiers)
    ]
    tools = [clerk.as_tool(f"clerk{n}", "Has it paid.") for n, clerk in enumerate(clerks)]
    return agent("top", [call("clerk0", task="Ann"), call("clerk1", task="Bob")], "Both are paid.", tools=tools)


def test_a_tree_that_is_killed_at_any_append_goes_on_where_it_was() -> None:
    whole = Tree()
    result = firm().run_sync("pay", log=whole.log())
    assert (result.output, RAN) == ("Both are paid.", {"Ann": 1, "Bob": 1})
    assert len(whole.appends) > 25 and len({run_id for run_id, _ in whole.appends}) == 5
    for dies_at in range(1, len(whole.appends)):
        RAN.clear()
        tree = Tree(dies_at=dies_at)
        with pytest.raises(LogFailed) as caught:
            firm().run_sync("pay", log=tree.log())
        assert caught.value.state.events == asyncio.run(tree.log().load()), dies_at
        unknown = RAN.copy()
        again = firm().resume_sync(log=Tree(tree.appends).log())
        assert again.output == "Both are paid.", dies_at
        assert {waits.name for waits in again.uncertain} <= {"pay"}, f"{dies_at}: a call of an agent is driven on, not given up"
        told = {json.loads(waits.arguments)["to"] for waits in again.uncertain}  # started, and then the other branch died
        assert set(RAN) | set(unknown) | told == {"Ann", "Bob"} and max(RAN.values(), default=0) <= 1, (dies_at, RAN)


class Watched(list[LastingEvent]):
    """Events that note in which threads somebody goes through them."""

    threads: ClassVar[set[int]] = set()

    def __iter__(self) -> Iterator[LastingEvent]:
        self.threads.add(threading.get_ident())
        return super().__iter__()


def test_long_logs_are_folded_outside_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(dies_at=9)
    with pytest.raises(LogFailed):
        firm().run_sync("pay", log=tree.log())
    load = Branch.load

    async def watched(self: Branch) -> list[LastingEvent]:
        return Watched(await load(self))

    monkeypatch.setattr(Branch, "load", watched)

    async def resumed() -> int:
        assert (await firm().resume(log=Tree(tree.appends).log())).output == "Both are paid."
        return threading.get_ident()

    assert asyncio.run(resumed()) not in Watched.threads and Watched.threads


def test_a_tree_that_is_killed_at_any_append_counts_each_stored_reply_once() -> None:
    whole = Tree()
    firm().run_sync("pay", log=whole.log())
    for dies_at in range(1, len(whole.appends)):
        first = Tree(dies_at=dies_at)
        with pytest.raises(LogFailed):
            firm().run_sync("pay", log=first.log())
        second = Tree(first.appends)
        result = firm().resume_sync(log=second.log())
        stored = sum(isinstance(event, ModelReplied) for _, events in second.appends for event in events)
        assert result.usage.requests == stored, dies_at


def test_a_tree_that_is_killed_twice_goes_on_where_it_was() -> None:
    first = Tree(dies_at=17)
    with pytest.raises(LogFailed):
        firm().run_sync("pay", log=first.log())
    for more in range(1, 12):
        RAN.clear()
        second = Tree(first.appends, dies_at=17 + more)
        with pytest.raises(LogFailed):
            firm().resume_sync(log=second.log())
        result = firm().resume_sync(log=Tree(second.appends).log())
        assert (result.output, {waits.name for waits in result.uncertain} - {"pay"}) == ("Both are paid.", set())
        assert max(RAN.values(), default=0) <= 1


def test_a_call_under_way_inside_is_unknown_in_each_run_around_it_and_no_other_is() -> None:
    whole = Tree()
    firm().run_sync("pay", log=whole.log())
    at = next(n for n, (_, events) in enumerate(whole.appends) if any(_starts_pay(event) for event in events))
    tree = Tree(whole.appends[: at + 1])
    RAN.clear()
    result = firm().resume_sync(log=tree.log())
    inside = [RunState.replay(asyncio.run(tree.log(run_id).load())) for run_id in {run_id for run_id, _ in tree.appends}]
    found = sorted((waits.id.count("/"), waits.name) for state in inside for waits in state.uncertain)
    assert found == [(0, "pay"), (1, "pay"), (2, "pay")]
    assert (result.output, [waits.name for waits in result.uncertain], sum(RAN.values())) == ("Both are paid.", ["pay"], 1)


def _starts_pay(event: LastingEvent) -> bool:
    return isinstance(event, ToolStarted) and event.call.name == "pay"


@pytest.mark.parametrize("with_files", [False, True])
def test_a_child_that_pauses_keeps_its_events_in_its_own_log(with_files: bool, tmp_path: Path) -> None:
    def buyers(*script: Any) -> Agent[str]:
        inner = agent("buyer", call("order", what="tea"), "Ordered.", tools=[order])
        return agent("top", call("buyer", task="tea"), "Done.", tools=[inner.as_tool("buyer", "Buys.")])

    log: Any = JsonLinesLog(tmp_path / "run.jsonl") if with_files else MemoryLog()
    assert isinstance(log, TreeLog)
    paused = buyers().run_sync("go", log=log)
    (waiting,) = paused.pending
    assert json.loads(waiting.arguments) == {"what": "tea"}
    suspended = [event for event in asyncio.run(log.load()) if isinstance(event, CallSuspended)]
    assert [(event.events, len(event.pending)) for event in suspended] == [((), 0), ((), 1)]
    if with_files:
        assert len(list(tmp_path.iterdir())) == 2
        log = JsonLinesLog(tmp_path / "run.jsonl")
    with pytest.raises(SettingsError, match="goes on in the log of its run"):
        buyers().resume_sync(paused.state, {waiting.id: True})
    result = buyers().resume_sync(approvals={waiting.id: True}, log=log)
    assert (result.output, tool_texts(result), RAN) == ("Done.", ["Ordered."], {"tea": 1})


def test_a_log_without_children_is_enough() -> None:
    class Plain:
        def __init__(self) -> None:
            self.events: list[LastingEvent] = []

        async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
            self.events += events

        async def load(self) -> list[LastingEvent]:
            return self.events

    log = Plain()
    assert not isinstance(log, TreeLog)
    assert firm().run_sync("pay", log=log).output == "Both are paid."
    assert not any(isinstance(event, CallSuspended) for event in log.events)


def test_an_agent_as_a_tool_that_a_tool_calls_itself_makes_ordinary_runs() -> None:
    """They are no runs that the call could go on with: its own code would be entered in the middle."""
    inner = agent("cashier", call("pay", to="Ann"), "Ann has it.").as_tool("cashier", "Pays.")

    @tool
    async def office(ctx: RunContext[None]) -> str:
        """Pay twice."""
        return f"{await inner(ctx, 'pay')} {await inner(ctx, 'pay')}"

    log = MemoryLog()
    result = agent("top", call("office"), "Done.", tools=[office]).run_sync("go", log=log)
    assert tool_texts(result) == ["Ann has it. Ann has it."] and RAN == {"Ann": 2}
    assert not log.children
