"""Crashes and resumes: a worker process ends at one point, another one goes on with its run. In both stores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit import Agent, RunBusy, ScriptedModel, tool
from agentkit.testing import call as model_call
from tests.chaos.conftest import endpoint, nursery
from tests.chaos.endpoint import Endpoint
from tests.chaos.nursery import Nursery
from tests.chaos.scene import Scene
from tests.kit import unmeasured
from tests.store.conftest import address

from .conftest import Fault
from .rows import history_is_valid

__all__ = ["address", "endpoint", "nursery"]

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork and no SIGKILL on this system"),
]


@pytest.fixture
def scene(address: str, tmp_path: Path, endpoint: Endpoint, nursery: Nursery) -> Iterator[Scene]:
    made = Scene(address, tmp_path, endpoint, nursery)
    yield made
    made.store.close()


@pytest.mark.parametrize(
    ("row", "at", "uncertain"),
    [
        ("kill9_before_model_request", "model", []),
        ("kill9_after_model_request", "replied", []),
        ("kill9_after_model_stored", "written ModelReplied+ToolStarted", []),
        ("kill9_inside_tool", "did plain", ["plain-1.0"]),
        ("kill9_inside_tool", "did keyed", []),
        ("kill9_inside_tool", "tool plain", ["plain-1.0"]),
        ("kill9_between_parallel_tools", "tool plain", ["plain-1.0"]),
        ("kill9_after_tools", "written ModelReplied+RunFinished", []),
        ("kill9_inside_store_write", "write ToolFinished", ["plain-1.0"]),
        ("kill9_inside_store_write", "inside RunStarted", []),
        ("kill9_inside_store_write", "inside RunFinished", []),
        ("kill9_inside_store_write", "written ToolFinished", []),
    ],
)
def test_kill9(fault: Fault, scene: Scene, row: str, at: str, uncertain: list[str]) -> None:
    fault(f"durability {row}")
    parallel = row == "kill9_between_parallel_tools"
    scene.submit("r", "keyed plain+keyed+keyed" if parallel else "keyed plain")
    assert scene.run(at=at, skip=1 if at == "write ToolFinished" else 0) == -signal.SIGKILL
    scene.finish()
    assert scene.check(kills=1) == uncertain
    keyed = [effect["key"] for effect in scene.effects if effect["tool"] == "keyed"]
    assert len({*keyed}) == (3 if parallel else 1)
    assert len(keyed) == len({*keyed}) + (at == "did keyed")


def test_kill9_while_waiting_approval(fault: Fault, scene: Scene) -> None:
    fault("durability kill9_while_waiting_approval")
    scene.submit("r", "keyed pay plain")
    assert scene.run(at="written RunPaused") == -signal.SIGKILL
    scene.finish()
    assert scene.check(kills=1) == []
    assert [effect["tool"] for effect in scene.effects] == ["keyed", "pay", "plain"]


def test_sigterm(fault: Fault, scene: Scene) -> None:
    """A worker that is told to stop ends in time; its runs go on elsewhere."""
    fault("durability sigterm")
    scene.submit("r", "keyed plain note")
    began = time.monotonic()
    assert scene.run(at="tool plain", signal="SIGTERM") == 0
    assert time.monotonic() - began < 30
    assert scene.store.get("r").status == "queued"
    assert scene.run() == 0
    assert scene.check(kills=1) == []
    assert len(scene.effects) == 3


INTERRUPTED = """
import sys
from agentkit import Agent, ScriptedModel, tool
from agentkit.store import open_store
from agentkit.testing import call
import threading

@tool
def blocks() -> str:
    "Block."
    print("begun", flush=True)
    threading.Event().wait()
    return "late"

model = ScriptedModel(lambda request: call("blocks") if request.messages[-1].role == "user" else "hello")
Agent(model, tools=[blocks], name="a").run_sync("go", store=open_store(sys.argv[1]), run_id="r")
"""


def test_sigint_sync_api(fault: Fault, scene: Scene) -> None:
    fault("durability sigint_sync_api")
    env = unmeasured({**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    command = [sys.executable, "-c", INTERRUPTED, scene.address]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "begun\n"
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        errors = running.communicate(timeout=60)[1]
    assert time.monotonic() - began < 10, "a second, and room for a busy machine"
    assert "KeyboardInterrupt" in errors and running.returncode in (1, -2, 130)
    scene.end_leases()
    state = scene.store.state("r")
    history_is_valid(state.messages)

    @tool
    def blocks() -> str:
        """Block."""
        raise AssertionError("it had begun, and runs only once")

    result = Agent(ScriptedModel(["hello"]), tools=[blocks], name="a").resume_sync("r", store=scene.store)
    assert result.output == "hello" and [made.name for made in result.uncertain] == ["blocks"]
    history_is_valid(result.messages)


def test_two_resumers(fault: Fault, scene: Scene) -> None:
    """Two processes: one drives the run, the other finds nothing to do. A direct resume is told who has it."""
    fault("durability two_resumers")
    scene.submit("r", "keyed plain")
    holder = scene.start(at="tool plain", signal="SIGSTOP", until_idle=True)
    assert scene.nursery.wait(holder) == -signal.SIGSTOP
    other = Agent(ScriptedModel([model_call("plain")]), name="chaos")
    with pytest.raises(RunBusy, match=r"'r' is driven by .*, whose lease ends in"):
        other.resume_sync("r", store=scene.store)
    rival = scene.start(until_idle=True)
    os.kill(holder, signal.SIGCONT)
    assert [scene.nursery.wait(holder), scene.nursery.wait(rival)] == [0, 0]
    assert scene.check(kills=0) == []
    assert [effect["tool"] for effect in scene.effects] == ["keyed", "plain"]


FULL = """
import resource, sys
from pathlib import Path
from agentkit import Agent, LogFailed, ScriptedModel, tool
from agentkit.store import open_store
from agentkit.testing import call

@tool
def grow() -> str:
    "Give much."
    return "x" * 100_000

store = open_store(sys.argv[1])
size = Path(sys.argv[1] + "-wal").stat().st_size if Path(sys.argv[1] + "-wal").exists() else 0
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 80_000,) * 2)
model = ScriptedModel(lambda request: call("grow") if request.messages[-1].role == "user" else "hello")
try:
    Agent(model, tools=[grow], name="a", limits=None).run_sync("go", store=store, run_id="r")
except LogFailed as failed:
    print(failed, len(failed.state.events), sep="\\n")
"""


def test_disk_full(fault: Fault, tmp_path: Path) -> None:
    """The system refuses to make the file larger. The step that did not fit is not reported as done."""
    fault("durability disk_full")
    from agentkit.store import open_store

    path = str(tmp_path / "runs.db")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", FULL, path], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    message, count = ended.stdout.splitlines()
    assert "was not stored" in message and "nothing of this step was stored" in message
    store = open_store(path)
    assert len(store.events("r")) == int(count) == 3

    @tool
    def grow() -> str:
        """Give much."""
        raise AssertionError("it had begun, and runs only once")

    result = Agent(ScriptedModel(["hello"]), tools=[grow], name="a", limits=None).resume_sync("r", store=store)
    assert result.output == "hello" and [made.name for made in result.uncertain] == ["grow"]
    store.close()
