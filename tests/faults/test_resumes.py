"""What is resumed is not what was left: another agent, other answers, another version, another time, another process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import Agent, AgentChanged, RunState, ScriptedModel, SettingsError, StoreError, tool
from agentkit.events import ApprovalGiven
from agentkit.store import Store, open_store
from agentkit.testing import call
from tests.kit import tool_texts
from tests.store.conftest import address

from .conftest import Fault

__all__ = ["address"]

pytestmark = pytest.mark.faults


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = open_store(address)
    yield opened
    opened.close()


def paying(paid: list[str], **parts: Any) -> Agent[str]:
    """An agent whose only tool needs an approval, and notes whom it pays."""

    @tool(approval=True)
    def pay(to: str) -> str:
        """Pay."""
        paid.append(to)
        return f"paid {to}"

    model = ScriptedModel(lambda request: call("pay", to="bob") if request.messages[-1].role == "user" else "done")
    return Agent(model, **{"tools": [pay], "name": "payer", **parts})


def paused(store: Store, agent: Agent[str]) -> str:
    """A run that waits for an approval: the id of its call."""
    return agent.run_sync("Pay bob", store=store, run_id="r").pending[0].id


@tool(approval=True)
def pay_all(to: str) -> str:
    """Pay."""
    return f"paid {to}"


@tool(name="pay", approval=True)
def pay_in(to: str, currency: str) -> str:
    """Pay."""
    return f"paid {to} in {currency}"


@pytest.mark.parametrize("tools", [[], [pay_all], [pay_in]], ids=["removed", "renamed", "other parameters"])
def test_resume_after_code_change(fault: Fault, store: Store, tools: list[Any]) -> None:
    fault("durability resume_after_code_change")
    paid: list[str] = []
    call_id = paused(store, paying(paid))
    changed = paying(paid, tools=tools)
    with pytest.raises(AgentChanged, match="changed: tools"):
        changed.resume_sync("r", store=store, approvals={call_id: True})
    assert store.get("r").status == "paused"
    try:
        result = changed.resume_sync("r", store=store, approvals={call_id: True}, allow_changed=True)
    except SettingsError as error:
        assert "do not fit the tool pay as it is now" in str(error)
    else:
        assert tool_texts(result)[0].startswith("error: ")
    assert paid == []


def test_a_stored_approval_that_the_changed_tool_cannot_take(fault: Fault, store: Store) -> None:
    """It is forgotten, so that the call can be refused."""
    fault("durability resume_after_code_change")
    paid: list[str] = []
    call_id = paused(store, paying(paid))
    store.approve("r", call_id)
    changed = paying(paid, tools=[pay_in])
    with pytest.raises(SettingsError, match=r"(?s)do not fit the tool pay as it is now.*has forgotten this answer"):
        changed.resume_sync("r", store=store, allow_changed=True)
    assert store.approve("r", call_id, {"deny": "name the currency"}) == "done"
    result = changed.resume_sync("r", store=store, allow_changed=True)
    assert "name the currency" in tool_texts(result)[0] and paid == []


def test_approve_twice(fault: Fault, store: Store) -> None:
    fault("durability approve_twice")
    paid: list[str] = []
    agent = paying(paid)
    call_id = paused(store, agent)
    assert [store.approve("r", call_id), store.approve("r", call_id)] == ["done", "same"]
    with pytest.raises(StoreError, match="was answered before"):
        store.approve("r", call_id, False)
    assert agent.resume_sync("r", store=store).output == "done"
    with pytest.raises(StoreError, match="was answered before"):
        store.approve("r", call_id, False)
    with pytest.raises(SettingsError):
        agent.resume_sync("r", store=store, approvals={call_id: True})
    assert paid == ["bob"]


def test_approve_after_a_refusal(fault: Fault, store: Store) -> None:
    fault("durability approve_twice")
    paid: list[str] = []
    agent = paying(paid)
    call_id = paused(store, agent)
    assert store.approve("r", call_id, False) == "done"
    with pytest.raises(StoreError, match="was answered before"):
        store.approve("r", call_id, True)
    agent.resume_sync("r", store=store)
    assert paid == []


def test_approve_after_the_end(fault: Fault, store: Store) -> None:
    fault("durability approve_twice")
    paid: list[str] = []
    call_id = paused(store, paying(paid))
    assert store.cancel("r") == "done"
    with pytest.raises(StoreError, match="too late: run 'r' has ended"):
        store.approve("r", call_id, True)
    assert paid == []


def test_approve_edited_args(fault: Fault, store: Store) -> None:
    fault("durability approve_edited_args")
    paid: list[str] = []
    agent = paying(paid)
    call_id = paused(store, agent)
    with pytest.raises(SettingsError, match="to"):
        agent.resume_sync("r", store=store, approvals={call_id: {"args": {"to": 5}}})
    assert paid == [] and store.get("r").status == "paused"
    result = agent.resume_sync("r", store=store, approvals={call_id: {"args": {"to": "eve"}}})
    assert paid == ["eve"] and "eve" in tool_texts(result)[0]
    (given,) = [event for event in store.events("r") if isinstance(event, ApprovalGiven)]
    assert "eve" in repr(given)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.replace('"ModelReplied"', '"os.system"'), "unknown event type 'os.system'"),
        (lambda d: d.replace('"v":2', '"v":99'), "version 99"),
        (lambda d: d[: len(d) // 2], "event 1 of run 'r' cannot be read"),
        (lambda d: "gASVCgAAAAAAAAA=", "event 1 of run 'r' cannot be read"),
    ],
    ids=["type", "version", "cut", "pickle"],
)
def test_state_tampered(fault: Fault, store: Store, change: Any, error: str) -> None:
    """Whoever writes to the store is trusted, but what cannot be an event is refused, and nothing of it is run."""
    fault("durability state_tampered")
    paid: list[str] = []
    call_id = paused(store, paying(paid))
    with store.transaction() as db:
        (data,) = db.execute("SELECT data FROM agentkit_events WHERE run_id = 'r' AND seq = 1").fetchone()
        db.execute("UPDATE agentkit_events SET data = ? WHERE run_id = 'r' AND seq = 1", (change(data),))
    with pytest.raises(ValueError, match=error):
        paying(paid).resume_sync("r", store=store, approvals={call_id: True})
    assert paid == []


def test_state_from_newer_version(fault: Fault, store: Store, address: str) -> None:
    fault("durability state_from_newer_version")
    with store.transaction() as db:
        if address.startswith("postgresql"):
            db.execute("UPDATE agentkit_meta SET value = '99' WHERE name = 'version'")
        else:
            db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"of version 99; this agentkit knows up to (version )?1"):
        open_store(address)
    state = RunState.replay(Agent(ScriptedModel(["hello"])).run_sync("go").events).to_json()
    with pytest.raises(ValueError, match="version 99"):
        RunState.from_json({**state, "version": 99})


JUMP = """
import sys, time, asyncio
from agentkit import Agent, Retry, ScriptedModel
from agentkit.errors import Overloaded
from agentkit.store import open_store

real, back = time.time, [0.0]
time.time = lambda: real() - back[0]
asked = []

def model(request):
    asked.append(1)
    back[0] = 3600.0 * len(asked)
    if len(asked) < 3:
        raise Overloaded("busy", status=503)
    return "hello"

agent = Agent(ScriptedModel(model), retry=Retry(attempts=3, first=0.01))
result = agent.run_sync("go", store=open_store(sys.argv[1]), run_id="r")
print(result.output, len(asked))
"""


def test_clock_jump(fault: Fault, address: str) -> None:
    """The wall clock of the process goes back an hour at each model call. Waits and leases do not look at it."""
    fault("durability clock_jump")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", JUMP, address], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "hello 3\n", ended.stderr
    store = open_store(address)
    assert store.get("r").status == "finished"
    store.close()


FORKED = """
import os, sys
from agentkit import Agent, ScriptedModel, tool
from agentkit.store import open_store
from agentkit.testing import call

@tool
def add(a: int, b: int) -> int:
    "Add."
    return a + b

store = open_store(sys.argv[1])
model = ScriptedModel(lambda request: call("add", a=1, b=2) if request.messages[-1].role == "user" else "done")
agent = Agent(model, tools=[add])
agent.run_sync("go", store=store, run_id="before")
children = []
for n in range(3):
    pid = os.fork()
    if not pid:
        agent.run_sync("go", store=store, run_id=f"child {n}")
        os._exit(0)
    children.append(pid)
agent.run_sync("go", store=store, run_id="parent")
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_client(fault: Fault, address: str) -> None:
    fault("durability fork_after_client")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", FORKED, address], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "[0, 0, 0]\n", ended.stderr
    store = open_store(address)
    assert {run.status for run in store.runs()} == {"finished"} and len(store.runs()) == 5
    store.close()


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def adding() -> Agent[str]:
    model = ScriptedModel(lambda request: call("add", a=1, b=2) if request.messages[-1].role == "user" else "done")
    return Agent(model, tools=[add])


def test_many_loops(fault: Fault, store: Store) -> None:
    fault("durability many_loops")
    agent, failed = adding(), list[BaseException]()
    for _ in range(2):
        assert asyncio.run(agent.run("go", store=store)).output == "done"

    def go() -> None:
        try:
            assert agent.run_sync("go", store=store).output == "done"
        except BaseException as error:  # noqa: BLE001  shown below
            failed.append(error)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failed == [] and [run.status for run in store.runs()] == ["finished"] * 6


def test_nested_loop(fault: Fault, store: Store) -> None:
    """`run_sync` inside a running event loop works, and names the method that does not block the loop."""
    fault("durability nested_loop")
    agent = adding()

    async def cell() -> str:
        with pytest.warns(RuntimeWarning, match="use the async method and await it"):
            return str(agent.run_sync("go", store=store, run_id="r").output)

    assert asyncio.run(cell()) == "done"
    assert store.get("r").status == "finished"
