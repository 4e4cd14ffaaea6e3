"""`agentkit demo --crash`: a process that drives a run is killed, and this one goes on with the run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..errors import AgentError, RunBusy
from ..events import LastingEvent, ModelReplied, RunStarted, ToolFinished, ToolStarted
from ..run.result import RunResult
from ..run.state import RunState
from ..store import Store, open_store
from .demo_crash_child import IN_TOOL, LEASE, ON_REPLY, TASK, made_agent, sent
from .exits import Exit
from .screen import Screen
from .text import shown_call

__all__ = ["TITLES", "run_crash_demo"]

TITLES = {
    ON_REPLY: "1. Killed right after the model's reply is stored, before its tool call starts",
    IN_TOOL: "2. Killed inside the tool, right after the mail is sent",
}
_MAX_WAIT = 60.0


def run_crash_demo(screen: Screen) -> Exit:
    """Show both crashes. The exit code is 0 if each mail was sent once."""
    screen.line("A script answers here, not a language model. The store, the processes, the file and the kill are real.")
    screen.line(f"The task: {TASK} A mail is a line in outbox.txt; the tool is not marked as safe to repeat.")
    is_fine = True
    for crash, title in TITLES.items():
        screen.line()
        screen.line(title, "bold")
        with tempfile.TemporaryDirectory(prefix="agentkit-demo-", ignore_cleanup_errors=True) as folder:
            is_fine = _show(screen, Path(folder), crash) and is_fine
    screen.line()
    screen.line("A run in a store goes on where its log ends: agent.run(..., store=, run_id=), agent.resume(run_id, store=).")
    return Exit.ANSWER if is_fine else Exit.FAILED


def _show(screen: Screen, folder: Path, crash: str) -> bool:
    """One crash, and how the run goes on. Returns whether each mail was sent once."""
    _fact(screen, "killed", _killed(folder, crash))
    store = open_store(str(folder / "runs.db"), lease=LEASE)
    before = store.state(crash)
    _fact(screen, "stored", ", ".join(_words(event) for event in before.events))
    _fact(screen, "outbox", ", ".join(sent(folder)))
    _fact(screen, "wait", f"nobody may go on with the run until the dead process's lease of {LEASE:g} s is over")
    result = _go_on(store, folder, crash)
    for name, text in _told(before, result):
        _fact(screen, name, text)
    mails = sent(folder)
    once = mails == ["ann", "bob"]
    _fact(screen, "outbox", f"{', '.join(mails)}: {'each mail was sent once' if once else 'NOT each mail was sent once'}")
    store.close()
    return once and result.stop_reason == "answer"


def _killed(folder: Path, crash: str) -> str:
    """Start the process that kills itself, and say how it ended."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", "agentkit.cli.demo_crash_child", str(folder), crash]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode == 0 or done.stderr:
        raise AgentError(f"the process of the demo was not killed; it ended with {done.returncode}: {done.stderr[-500:]}")
    return f"a process drove the run {crash!r}, and was killed at the second mail (its exit code is {done.returncode})"


def _go_on(store: Store, folder: Path, crash: str) -> RunResult[Any]:
    agent, until = made_agent(folder), time.monotonic() + _MAX_WAIT
    while True:
        try:
            return agent.resume_sync(crash, store=store)
        except RunBusy:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


def _words(event: LastingEvent) -> str:
    match event:
        case RunStarted():
            return "the task"
        case ModelReplied():
            return "a reply of the model"
        case ToolStarted():
            return f"the start of {shown_call(event.call)}"
        case ToolFinished():
            return f"its result {event.result.content!r}"
    return type(event).__name__


def _told(before: RunState, result: RunResult[Any]) -> list[tuple[str, str]]:
    """What was not done again, what is uncertain, and what was done after the crash."""
    after = result.state.events[len(before.events) :]
    kept = sum(isinstance(event, ModelReplied) for event in before.events)
    ran = [shown_call(event.call) for event in before.events if isinstance(event, ToolFinished)]
    asked = sum(isinstance(event, ModelReplied) for event in after)
    facts = [("not again", f"{kept} replies of the model, which were paid for; {', '.join(ran)}")]
    for call in result.state.uncertain:
        facts.append(("uncertain", f"{shown_call(call)} was started, and its end is not stored. It is not run again:"))
        facts.append(("", "the model is told that the outcome is unknown, and finds out"))
    if not result.state.uncertain:
        facts.append(("uncertain", "nothing: the second call had not started"))
    calls = ", ".join(shown_call(event.call) for event in after if isinstance(event, ToolStarted))
    times = "once" if asked == 1 else f"{asked} times"
    return [*facts, ("then", f"{calls}; the model was asked {times}"), ("answer", str(result.output))]


def _fact(screen: Screen, name: str, text: str) -> None:
    screen.write(f"  {name:10}", "dim")
    screen.write(f"{text}\n")
