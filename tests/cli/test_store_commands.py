"""The commands on stored runs. Workers, and what loads an agent, are processes of their own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentkit import Agent, ScriptedModel, SettingsError, Tool, tool
from agentkit.cli.app import app
from agentkit.messages import Assistant, ToolCall
from agentkit.store import open_store
from agentkit.testing import call

AGENT = '''
import os, time
from pathlib import Path
from agentkit import Agent, RunContext, ScriptedModel, Tool, tool
from agentkit.testing import call


@tool(approval=True)
def pay(to: str) -> str:
    """Pay."""
    return f"paid {to}"


@tool
def who(ctx: RunContext) -> str:
    """Who asks."""
    return str(ctx.deps)


@tool(read_only=True)
def wait() -> str:
    """Wait until there is a file `go`."""
    Path("waiting").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return "waited"


weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {"what": {"type": "string"}}})
CALLS = {"pay": call("pay", to="bob"), "who": call("who"), "wait": call("wait"), "weigh": call("weigh", what="a stone")}


def say(request):
    last = request.messages[-1]
    return CALLS.get(last.content, "hello") if last.role == "user" else f"done: {last.content}"


agent = Agent(ScriptedModel(say), tools=[pay, who, wait, weigh], name="clerk")
asks = ScriptedModel(lambda request: call("clerk", task="hi") if request.messages[-1].role == "user" else "done")
outer = Agent(asks, tools=[agent.as_tool(description="Answers.")])
asker = Agent(ScriptedModel(say), tools=[who], instructions=lambda ctx: f"You serve {ctx.deps.partition(':')[2]}.")


def deps(run_id, submitted):
    return f"{run_id}:{submitted}"
'''


@tool(approval=True)
def pay(to: str) -> str:
    """Pay."""
    return f"paid {to}"


class Place:
    """A folder with an agent and a store, and the program run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.db = folder, "runs.db"
        (folder / "my_agents.py").write_text(AGENT)
        self.store = open_store(str(folder / "runs.db"))
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "AGENTKIT_DB": self.db}
        command = [sys.executable, "-m", "agentkit", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        return process

    def call(self, *arguments: str, code: int = 0) -> str:
        """What a command prints. Those that load no agent run in this process."""
        if arguments[0] not in ("worker", "replay"):
            done = CliRunner().invoke(app, arguments, env={"AGENTKIT_DB": self.db})
            assert done.exit_code == code, f"{arguments}: {done.stdout}{done.stderr}"
            return str(done.stderr if code else done.stdout)
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, f"{arguments}: {out}{err}"
        return out if not code else err

    def json(self, *arguments: str) -> Any:
        return json.loads(self.call(*arguments, "--json"))

    def wait_until(self, status: str) -> None:
        until = time.monotonic() + 30
        while self.store.get("r1").status != status:
            assert time.monotonic() < until, f"r1 is {self.store.get('r1').status}"
            time.sleep(0.01)

    def wait_for(self, name: str) -> None:
        until = time.monotonic() + 30
        while not (self.folder / name).exists():
            assert time.monotonic() < until, f"there is no {name}"
            time.sleep(0.01)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()
    made.store.close()


def test_a_run_from_its_submission_to_its_end(place: Place) -> None:
    assert place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "pay") == "r1\n"
    assert place.json("submit", "--agent", "my_agents:agent", "--run-id", "r1", "pay") == {"run_id": "r1"}
    assert "with another task" in place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "who", code=1)
    place.call("worker", "--exit-when-idle")
    shown = place.json("show", "r1")
    call_id = shown["pending"][0]["id"]
    assert shown["status"] == "paused" and shown["events"] == place.store.state("r1").to_json()["events"]
    assert f"agentkit approve r1 {call_id}" in place.call("show", "r1")
    assert f"waiting: {call_id}" in place.call("approve", "r1", "nonsense", code=1)
    assert place.call("approve", "r1", call_id, "--edit", '{"to": "eve"}', "--by", "ann") == "approved\n"
    assert place.call("approve", "r1", call_id, "--edit", '{"to": "eve"}', "--by", "ann") == "approved before\n"
    assert "was answered before" in place.call("approve", "r1", call_id, "--deny", "no", code=1)
    place.call("worker", "--exit-when-idle")
    (line,) = place.call("runs", "--json").splitlines()
    run = json.loads(line)
    assert {"run_id", "status", "stop_reason", "steps", "output", "usage", "cost", "uncertain", "created", "updated"} <= {*run}
    assert run["status"] == "finished" and run["output"].endswith("paid eve") and run["steps"] == 2
    assert "too late" in place.call("cancel", "r1", code=1)


def test_outside_calls_deps_and_forks(place: Place) -> None:
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "weigh")
    place.call("submit", "--agent", "my_agents.py:asker", "--run-id", "r2", "--deps-json", '"x"', "who")
    place.call("worker", "--exit-when-idle", "--deps", "my_agents:deps")
    assert place.store.get("r2").output == "done: r2:x"
    assert "no difference" in place.call("replay", "r2", "--against", "my_agents:asker", "--deps", "my_agents:deps")
    call_id = place.store.get("r1").pending[0]["id"]
    assert "is not JSON" in place.call("answer", "r1", call_id, "3 kg", code=2)
    assert place.call("answer", "r1", call_id, '"3 kg"') == "answered\n"
    place.call("worker", "--exit-when-idle")
    assert place.store.get("r1").output == "done: 3 kg"
    fork = place.call("fork", "r2", "--at", "2").strip()
    assert [event["type"] for event in place.json("show", fork)["events"]] == ["RunStarted", "ModelReplied"]
    place.call("worker", "--exit-when-idle", "--deps", "my_agents:deps")
    assert place.store.get(fork).output == f"done: {fork}:null" or place.store.get(fork).output == f"done: {fork}:x"


def test_events_export_and_prune(place: Place) -> None:
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "hello")
    following = place.start("events", "r1", "--follow", "--json")
    place.call("worker", "--exit-when-idle")
    out, _ = following.communicate(timeout=60)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["seq"] for event in events] == [0, 1, 2] and events[-1]["type"] == "RunFinished"
    assert [json.loads(line)["seq"] for line in place.call("events", "r1", "--after", "1", "--json").splitlines()] == [2]
    exported = place.json("export", "r1", "--to", "r1.json")
    assert exported == {"run_id": "r1", "file": "r1.json", "event_count": 3}
    assert json.loads((place.folder / "r1.json").read_text())["events"] == place.store.state("r1").to_json()["events"]
    for command in (("replay", "r1"), ("show", "r1"), ("worker",)):
        assert "the file is a saved run, as `agentkit export` writes it" in place.call(*command, "--db", "r1.json", code=1)
    assert "allowed: a number with" in place.call("prune", "--older-than", "soon", code=2)
    assert place.json("prune", "--older-than", "30d") == {"pruned": 0}
    assert place.json("prune", "--older-than", "0s") == {"pruned": 1}
    assert place.call("runs") == ""
    assert "no run 'r1'" in place.call("show", "r1", code=1)


def test_a_paused_run_goes_on_in_a_worker_that_runs_when_another_process_approves(place: Place) -> None:
    place.start("worker", "--lease", "1")
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "pay")
    place.wait_until("paused")
    assert place.json("show", "r1")["usage"]["requests"] == 1
    place.call("approve", "r1", place.store.get("r1").pending[0]["id"], "--deny", "too much")
    place.wait_until("finished")
    assert place.store.get("r1").output.endswith("not approved: too much")


def test_a_run_of_no_queue_is_answered_and_says_how_it_goes_on(place: Place) -> None:
    refund = Agent(ScriptedModel([call("pay", to="eve"), "Paid."]), tools=[pay])
    refund.run_sync("Pay", store=place.store, run_id="r1")
    said = place.call("approve", "r1", place.store.get("r1").pending[0]["id"])
    assert said == "approved; it is a run of no queue: go on with agent.resume('r1', store=...)\n"
    assert refund.resume_sync("r1", store=place.store).output == "Paid."


def test_a_waiting_call_is_shown_as_it_is(place: Place) -> None:
    """A person approves what `show` shows: nothing of it is hidden, and no text looks like a line of its own."""

    @tool(approval=True)
    def run(command: str, note: str = "") -> str:
        """Run a command."""
        return command

    forged = "c1\nwaits for  run\n           agentkit approve r0 c0"
    arguments = {"command": "ls\u200b\u3164 " + "a" * 5000 + "; rm -rf x", "note": "\n" * 60}
    reply = Assistant("", tool_calls=(ToolCall(forged, "run", json.dumps(arguments, ensure_ascii=False)),))
    Agent(ScriptedModel([reply]), tools=[run]).run_sync("go", store=place.store, run_id="r9")
    shown = place.call("show", "r9")
    assert 'command: "ls\\u200b\\u3164 ' in shown and '; rm -rf x"' in shown and "characters are left out here" in shown
    assert shown.count("\nwaits for") == 1 and "agentkit approve r9 'c1\\nwaits for" in shown


weigh = Tool.outside("weigh", "Weigh.", {"type": "object", "properties": {}})


def both(request: Any) -> Any:
    """A reply with an approval and an outside call, then the answer."""
    return [call("pay", to="eve"), call("weigh")] if len(request.messages) == 1 else "Done."


def commands(shown: str) -> list[list[str]]:
    """The commands that `show` prints, without the name of the program."""
    return [shlex.split(line)[1:] for line in shown.splitlines() if line.startswith("           agentkit ")]


def test_each_command_of_show_answers_when_it_is_copied(place: Place) -> None:
    """Also with `--db` as an option; what was answered is not shown any more."""
    made = Agent(ScriptedModel(both), tools=[pay, weigh])
    made.run_sync("Go", store=place.store, run_id="r1")
    db = place.db
    place.db = ""
    approve, answer = commands(place.call("show", "r1", "--db", db))
    assert approve[:3] == ["approve", "--db", db] and answer[:3] == ["answer", "--db", db] and answer[-1] == "JSON"
    assert "a text is written with quotes" in place.call(*answer, code=2)
    assert place.call(*approve).startswith("approved;")
    shown = place.call("show", "r1", "--db", db)
    assert commands(shown) == [answer] and "write the result, such as 3 or '\"a text\"'" in shown
    assert [waits["name"] for waits in place.json("runs", "--db", db)["pending"]] == ["weigh"]
    assert place.call(*answer[:-1], '"3 kg"').startswith("answered;")
    shown = place.call("show", "r1", "--db", db)
    assert commands(shown) == [] and "\nanswered   go on with agent.resume('r1', store=...)\n" in shown
    assert place.call("runs", "--db", db).endswith("answered; go on with agent.resume('r1', store=...)\n")
    assert place.json("show", "r1", "--db", db)["pending"] == [] and made.resume_sync("r1", store=place.store).output == "Done."


def test_a_password_in_the_address_is_not_shown(place: Place, postgres_address: Callable[[], str]) -> None:
    address = f"{postgres_address()}?password=opensesame"
    Agent(ScriptedModel(both), tools=[pay, weigh]).run_sync("Go", store=open_store(address), run_id="r1")
    shown = place.call("show", "r1", "--db", address)
    assert len(commands(shown)) == 2 and "opensesame" not in shown


@pytest.mark.parametrize("depth", [1, 2])
def test_the_calls_of_a_child_run_are_answered_at_the_top(place: Place, depth: int) -> None:
    made = Agent(ScriptedModel(both), tools=[pay, weigh])

    def asks(request: Any) -> Any:
        return call("inner", task="go") if len(request.messages) == 1 else "Done."

    for _ in range(depth):
        made = Agent(ScriptedModel(asks), tools=[made.as_tool("inner", "Pays.")])
    made.run_sync("Go", store=place.store, run_id="r1")
    child = "r1" + ":0" * depth
    approve, answer = commands(place.call("show", child))
    assert commands(place.call("show", "r1")) == [approve, answer] and approve[1] == answer[1] == "r1"
    assert approve[2] in place.call("approve", child, place.store.get(child).pending[0]["id"], code=1)
    assert place.call(*approve).startswith("approved") and place.call(*answer[:-1], "3").startswith("answered")
    assert "\nanswered   its parent goes on with it\n" in place.call("show", child)
    assert made.resume_sync("r1", store=place.store).output == "Done."


def test_priority_and_time_are_shown_where_they_are_set(place: Place) -> None:
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "--at", "2030-01-31T08:00", "--priority", "-7", "pay")
    assert "\npriority   -7\nat         2030-01-31 08:00:00\n" in place.call("show", "r1")
    for run in (place.json("show", "r1"), place.json("runs")):
        assert (run["priority"], run["at"]) == (-7, datetime(2030, 1, 31, 8).timestamp())  # noqa: DTZ001  of this machine
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r2", "pay")
    assert "priority" not in (shown := place.call("show", "r2")) and "\nat " not in shown
    assert (place.json("show", "r2")["priority"], place.json("show", "r2")["at"]) == (0, None)


def test_a_fork_that_cannot_be_says_where_it_can(place: Place) -> None:
    inner = Agent(ScriptedModel(["Seen."]), tools=[pay], name="inner")
    made = Agent(ScriptedModel([call("inner", task="go"), "Done."]), tools=[inner.as_tool("inner", "Looks.")])
    made.run_sync("Go", store=place.store, run_id="w1")
    said = place.call("fork", "w1", "--at", "4", code=2)
    assert said.startswith("agentkit: --at is 4; of run 'w1', its call call_") and "goes on in a child run there" in said
    allowed = said.rpartition("allowed: ")[2].strip()
    for at in range(-1, len(place.store.events("w1")) + 3):
        parts = [[int(end) for end in part.split(" to ")] for part in allowed.split(", ")]
        if any(part[0] <= at <= part[-1] for part in parts):
            place.call("fork", "w1", f"--at={at}")
        else:
            said = place.call("fork", "w1", f"--at={at}", code=2)
            assert f"--at is {at}; " in said and said.endswith(f"allowed: {allowed}\n")
    with pytest.raises(SettingsError, match=r"^at is 4; of run 'w1', its call .*; allowed: "):
        place.store.fork("w1", at=4)
    assert "cannot have the id of its run" in place.call("fork", "w1", "--at", "1", "--new-id", "w1", code=2)
    assert "--new-id is ''" in place.call("fork", "w1", "--at", "1", "--new-id", "", code=2)


def test_arguments_that_are_no_object_are_refused_in_the_words_of_the_shell(place: Place) -> None:
    Agent(ScriptedModel(both), tools=[pay, weigh]).run_sync("Go", store=place.store, run_id="r1")
    call_id = place.store.get("r1").pending[0]["id"]
    for given in ("[1]", "to=eve", '"eve"', "[" * 100_000):
        assert "allowed: a JSON object with all arguments" in place.call("approve", "r1", call_id, "--edit", given, code=2)


def test_the_lines_of_an_output_are_not_lines_of_the_run(place: Place) -> None:
    Agent(ScriptedModel(["Done.\nwaits for  run"])).run_sync("go", store=place.store, run_id="r9")
    assert place.call("show", "r9").endswith("output     Done.\n           waits for  run\n")


def test_ids_and_texts_from_a_shell(place: Place) -> None:
    for run_id in ("an id; of words", "-r"):
        place.call("submit", "--agent", "my_agents:agent", f"--run-id={run_id}", "pay")
    place.call("worker", "--exit-when-idle")
    for run_id in ("an id; of words", "-r"):
        command = place.call("show", "--", run_id).splitlines()[-1]
        assert place.call(*shlex.split(command)[1:]) == "approved\n"
    for text in ("bytes \udcff", "nul \0"):
        assert "allowed: a text in UTF-8" in place.call("submit", "--agent", "my_agents:agent", text, code=2)
    assert "--run-id is" in place.call("submit", "--agent", "my_agents:agent", "--run-id", "\udcff", "pay", code=2)
    for to in (".", ""):
        assert f"--to {to}: allowed: the name of a file" in place.call("export", "--to", to, "--", "-r", code=2)
    assert "cannot be written" in place.call("export", "--to", "none/r.json", "--", "-r", code=2)


def test_a_worker_that_cannot_load_an_agent_says_so_and_fails(place: Place) -> None:
    (place.folder / "broken.py").write_text("x = 1\nx / 0\n")
    (place.folder / "leaving.py").write_text("def make():\n    raise SystemExit(3)\n")
    sources = {
        "r1": ("none:agent", "agent none:agent: there is no module none;"),
        "r2": ("my_agents:nope", "agent my_agents:nope: my_agents has no nope; its agents: agent, outer, asker"),
        "r3": (
            "broken:agent",
            "agent broken:agent: broken cannot be loaded: ZeroDivisionError: division by zero (broken.py, line 2)",
        ),
        "r4": ("leaving:make", "agent leaving:make: its function exits with 3"),
    }
    for run_id, (source, _) in sources.items():
        place.call("submit", "--agent", source, "--run-id", run_id, "hello")
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r5", "hello")
    left = "agentkit worker: 4 runs could not be driven, and will be tried again; `agentkit show` says why: r1, r2, r3, r4"
    assert place.call("worker", "--exit-when-idle", code=1).splitlines()[-2:] == ["agentkit worker: ended after 5 drives", left]
    for run_id, (_, error) in sources.items():
        run = place.store.get(run_id)
        assert run.status == "queued" and str(run.error).startswith(error)
    assert place.store.get("r5").status == "finished"
    assert left in place.call("worker", "--exit-when-idle", code=1), "they are not due yet, and still not driven"
    place.call("worker", "--exit-when-idle", "--queue", "other")


def test_the_option_is_named_that_was_given(place: Place) -> None:
    Agent(ScriptedModel(["Done."])).run_sync("Go", store=place.store, run_id="r1")
    against = ("replay", "r1", "--against")
    for source, words in {
        "m:nope": "agentkit: --against m:nope: there is no module m;",
        "my_agents:nope": "agentkit: --against my_agents:nope: my_agents has no nope; its agents: agent, outer, asker\n",
        "my_agents:os": "agentkit: --against my_agents:os: os in my_agents is a module, not an Agent;",
        "nope": "agentkit: --against nope: write it as module:name",
    }.items():
        assert place.call(*against, source, code=2).startswith(words)
    for source, words in {
        "my_agents:nope": "agentkit: --deps my_agents:nope: my_agents has no nope\n",
        "m:nope": "agentkit: --deps m:nope: there is no module m;",
        "my_agents:CALLS": "agentkit: --deps my_agents:CALLS: CALLS in my_agents is a dict, not a function\n",
    }.items():
        assert place.call(*against, "my_agents:agent", "--deps", source, code=2).startswith(words)
        assert place.call("worker", "--exit-when-idle", "--deps", source, code=2).startswith(words)
    assert place.call("worker", "--queue", "", code=2).startswith("agentkit: --queue is ''; allowed")


def test_the_commands_on_postgres(place: Place, postgres_address: Callable[[], str]) -> None:
    place.db = postgres_address()
    place.store = open_store(place.db)
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "pay")
    place.call("worker", "--exit-when-idle")
    assert place.call("approve", "r1", place.json("show", "r1")["pending"][0]["id"]) == "approved\n"
    place.call("worker", "--exit-when-idle")
    assert [json.loads(line)["output"] for line in place.call("runs", "--json").splitlines()] == ["done: paid bob"]
    assert "no difference in 2 steps and 1 call" in place.call("replay", "r1", "--against", "my_agents:agent")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a process can handle")
def test_a_worker_that_is_told_to_end_hands_its_runs_back(place: Place) -> None:
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "wait")
    worker = place.start("worker", "--grace", "0.2")
    place.wait_for("waiting")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    assert place.store.get("r1").status == "queued"
    (place.folder / "go").touch()
    place.call("worker", "--exit-when-idle")
    assert place.store.get("r1").output == "done: waited"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a process can handle")
def test_a_worker_that_is_told_to_end_does_so_though_a_tool_blocks_it(place: Place) -> None:
    blocking = AGENT.replace("def wait()", "async def wait()")
    (place.folder / "my_agents.py").write_text(blocking)
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "wait")
    worker = place.start("worker", "--grace", "0")
    place.wait_for("waiting")
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=30)
    assert worker.returncode == 1 and "ended by force, since calls went on 3 s after" in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_workers_run_is_taken_over(place: Place) -> None:
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "wait")
    worker = place.start("worker", "--lease", "0.5")
    place.wait_for("waiting")
    worker.kill()
    worker.wait(timeout=30)
    (place.folder / "go").touch()
    place.call("worker", "--exit-when-idle", "--lease", "0.5")
    assert place.store.get("r1").output == "done: waited"


def test_wrong_usage_says_what_is_allowed(place: Place) -> None:
    assert "module:name" in place.call("submit", "--agent", "my_agents", "x", code=2)
    assert "ISO" not in place.call("submit", "--agent", "my_agents:agent", "--at", "2100-01-01T00:00", "x")
    assert "allowed: a time such as" in place.call("submit", "--agent", "my_agents:agent", "--at", "soon", "x", code=2)
    assert "allowed: own, dbos" in place.call("worker", "--engine", "celery", code=2)
    submit = ("submit", "--agent", "my_agents:agent", "x")
    assert "--priority is 2147483648; allowed" in place.call(*submit, "--priority", "2147483648", code=2)
    for name in ("run-id", "session", "queue"):
        assert f"--{name} is ''; allowed" in place.call(*submit, f"--{name}", "", code=2)
    assert "only with --engine dbos" in place.call("worker", "--starts-per-minute", "6", code=2)
    for at in ("nan", "inf", "-1", "1e999", "20300131", "203001310800", "1900000000000", "99999999999999999", "0"):
        assert "allowed: a time such as" in place.call("submit", "--agent", "my_agents:agent", f"--at={at}", "x", code=2)
    past = place.call("submit", "--agent", "my_agents:agent", "--queue", "past", "--at", "1999-12-31", "x").strip()
    assert json.loads(place.call("show", past, "--json"))["at"] < 1e9, "a time that is over is one, too"
    for db in ("none.db", "sqlite:///none/runs.db"):
        assert "there is no such file" in place.call("runs", "--db", db, code=2)
    assert not (place.folder / "none.db").exists()
    assert "allowed: queued, running" in place.call("runs", "--status", "done", code=2)
    place.call("worker", "--exit-when-idle")  # the run of the next century is not waited for


def test_a_replay_names_what_changed(place: Place) -> None:
    place.call("submit", "--agent", "my_agents:agent", "--run-id", "r1", "who")
    place.call("submit", "--agent", "my_agents:outer", "--run-id", "r2", "go")
    place.call("worker", "--exit-when-idle")
    assert place.call("replay", "r1").splitlines() == [
        "user: who", "call who({})", "result of who: None", "assistant: done: None", 'output: "done: None"', "end: answer",
    ]  # fmt: skip
    assert place.json("replay", "r1")["transcript"][0] == "user: who"
    assert place.json("replay", "r1", "--against", "my_agents:agent") == {"run_id": "r1", "steps": 2, "calls": 1, "same": True}
    assert "no difference in 2 steps and 1 call" in place.call("replay", "r1", "--against", "my_agents:agent")
    changed = AGENT.replace('name="clerk"', 'name="clerk", instructions="Be brief."')
    (place.folder / "my_agents.py").write_text(changed)
    process = place.start("replay", "r1", "--against", "my_agents:agent")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "+instructions: Be brief." in out
    process = place.start("replay", "r1", "--against", "my_agents:agent", "--json")
    found = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 1 and not found["same"] and "+instructions: Be brief." in found["diff"]
    process = place.start("replay", "r2", "--against", "my_agents:outer")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "does not do what it did in run 'r2:0':" in out and "+instructions: Be brief." in out
