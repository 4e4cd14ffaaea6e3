"""A call that was started when the program was killed: its tool says what became of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    Agent,
    Done,
    NotDone,
    RunContext,
    RunState,
    ScriptedModel,
    ToolDefinitionError,
    ToolFinished,
    ToolStarted,
    Unknown,
    tool,
)
from agentkit.events import CallReconciled
from agentkit.run.journal import JsonLinesLog, MemoryLog
from agentkit.testing import call
from tests.kit import reloaded, tool_texts

RESUMES = textwrap.dedent(
    """
    import os, pathlib, signal, sys
    from agentkit import Agent, Done, NotDone, RunContext, ScriptedModel, tool
    from agentkit.run.journal import JsonLinesLog

    dies = sys.argv[2]

    def look(key: str, arguments: dict):
        with open("asked", "a") as file:
            file.write(key + chr(10))
        if dies == "sync question":
            os.kill(os.getpid(), signal.SIGKILL)
        paid = pathlib.Path("paid")
        return Done("paid bob") if paid.exists() and key in paid.read_text().split() else NotDone()

    async def look_async(key: str, arguments: dict):
        answer = look(key, arguments)
        if dies == "async question":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    @tool(reconcile=look if dies == "sync question" else look_async)
    def pay(ctx: RunContext, to: str, amount: int = 1) -> str:
        "Pay."
        with open("paid", "a") as file:
            file.write(ctx.idempotency_key + chr(10))
        os.kill(os.getpid(), signal.SIGKILL)

    class Watch:
        def __call__(self, event):
            if type(event).__name__ == "CallReconciled" and dies == "answer":
                os.kill(os.getpid(), signal.SIGKILL)

    Agent(ScriptedModel([]), tools=[pay], observers=[Watch()]).resume_sync(log=JsonLinesLog(sys.argv[1]))
    """
)
"""Goes on with the run of `PROGRAM`, and is killed in the question, right after its answer, or in the call that runs again."""

PROGRAM = textwrap.dedent(
    """
    import os, signal, sys
    from agentkit import Agent, RunContext, ScriptedModel, tool
    from agentkit.run.journal import JsonLinesLog
    from agentkit.testing import call

    @tool
    def pay(ctx: RunContext, to: str, amount: int = 1) -> str:
        "Pay."
        if sys.argv[2] == "after":
            with open("paid", "a") as file:
                file.write(ctx.idempotency_key + chr(10))
        os.kill(os.getpid(), signal.SIGKILL)

    agent = Agent(ScriptedModel([call("pay", to="bob"), "done"]), tools=[pay])
    agent.run_sync("Pay bob", log=JsonLinesLog(sys.argv[1]), run_id="r1")
    """
)


def killed(folder: Path, when: str) -> JsonLinesLog:
    """The log of a run whose process was killed inside its call, before or after the payment."""
    return killed_in(folder, PROGRAM, when)


def killed_in(folder: Path, program: str, when: str) -> JsonLinesLog:
    command = [sys.executable, "-c", program, "log.jsonl", when]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=60)
    assert done.returncode == -9, done.stderr
    return JsonLinesLog(folder / "log.jsonl")


class Bank:
    """A receiver that keeps payments by their key."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "paid"
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def payments(self) -> list[str]:
        return self._file.read_text().split() if self._file.exists() else []

    def pay(self, ctx: RunContext[Any], to: str, amount: int = 1) -> str:
        """Pay."""
        with self._file.open("a") as file:
            file.write(ctx.idempotency_key + "\n")
        return f"paid {to}"

    async def look(self, key: str, arguments: dict[str, Any]) -> Done | NotDone:
        self.asked.append((key, arguments))
        return Done(f"paid {arguments['to']}") if key in self.payments else NotDone()


def agent(bank: Bank, reconcile: Any) -> Agent[str]:
    def say(request: Any) -> Any:
        return "done" if len(request.messages) > 1 else call("pay", to="bob")

    return Agent(ScriptedModel(say), tools=[tool(bank.pay, reconcile=reconcile)])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("when", ["before", "after"])
def test_exactly_one_payment_is_made(tmp_path: Path, when: str) -> None:
    log, bank = killed(tmp_path, when), Bank(tmp_path)
    result = agent(bank, bank.look).resume_sync(log=log)
    assert result.output == "done" and tool_texts(result) == ["paid bob"] and result.uncertain == ()
    assert bank.payments == ["r1:0"] and bank.asked == [("r1:0", {"to": "bob", "amount": 1})]
    assert reloaded(result.state).to_json() == result.state.to_json()
    reconciled = [event.outcome for event in result.events if isinstance(event, CallReconciled)]
    assert reconciled == (["not done"] if when == "before" else [])
    (finished,) = [event for event in result.events if isinstance(event, ToolFinished)]
    assert (finished.reconciled, finished.outcome) == (when == "after", "known")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("when", "dies", "asked"),
    [
        ("before", ["sync question"], 2),
        ("after", ["sync question"], 2),
        ("before", ["async question", "async question"], 3),
        ("after", ["async question", "sync question"], 3),
        ("before", ["answer"], 1),  # it is kept
        ("before", ["call"], 2),
        ("before", ["sync question", "answer", "call"], 3),
    ],
)
def test_programs_that_are_killed_again_make_exactly_one_payment(
    tmp_path: Path, when: str, dies: list[str], asked: int
) -> None:
    log = killed(tmp_path, when)
    for death in dies:
        log = killed_in(tmp_path, RESUMES, death)
    bank = Bank(tmp_path)
    result = agent(bank, bank.look).resume_sync(log=log)
    assert bank.payments == ["r1:0"], "one effect with the one key"
    assert tool_texts(result) == ["paid bob"] and result.uncertain == () and result.usage.tool_calls == 1
    assert (tmp_path / "asked").read_text().split() + [key for key, _ in bank.asked] == ["r1:0"] * asked


def unknown(key: str, arguments: dict[str, Any]) -> Unknown:
    return Unknown("the bank does not say")


def failing(key: str, arguments: dict[str, Any]) -> Done:
    raise ConnectionError("the bank is closed")


def wrong(key: str, arguments: dict[str, Any]) -> Any:
    return True


def unprintable(key: str, arguments: dict[str, Any]) -> Done:
    return Done(object())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("function", [unknown, failing, wrong, unprintable])
def test_what_cannot_be_found_out_is_told(tmp_path: Path, function: Callable[..., Any]) -> None:
    log, bank = killed(tmp_path, "after"), Bank(tmp_path)
    result = agent(bank, function).resume_sync(log=log)
    assert "outcome unknown" in tool_texts(result)[0] and [c.name for c in result.uncertain] == ["pay"]
    assert bank.payments == ["r1:0"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_an_answer_is_kept_when_the_program_stops_again(tmp_path: Path) -> None:
    log, bank = killed(tmp_path, "before"), Bank(tmp_path)
    agent(bank, bank.look).resume_sync(log=log)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if json.loads(line)["type"] == "CallReconciled")
    (tmp_path / "paid").unlink()
    (tmp_path / "log.jsonl").write_text("\n".join(lines[: at + 1]) + "\n")  # it was stopped right after the answer
    again = Bank(tmp_path)
    result = agent(again, again.look).resume_sync(log=JsonLinesLog(tmp_path / "log.jsonl"))
    assert again.asked == [] and again.payments == ["r1:0"] and result.uncertain == ()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fork_asks_nobody_about_a_call_that_its_original_started(tmp_path: Path, when: str) -> None:
    """With its own key the answer would be "not done", although the original has paid, or may be about to."""
    log, bank = killed(tmp_path, when), Bank(tmp_path)
    original = RunState.replay(asyncio.run(log.load()))
    for fork in (original.fork(run_id="r2"), reloaded(original.fork()), original.fork().fork()):
        result = agent(bank, bank.look).resume_sync(fork)
        assert bank.asked == [] and bank.payments == (["r1:0"] if when == "after" else [])
        assert "outcome unknown" in tool_texts(result)[0] and [c.name for c in result.uncertain] == ["pay"]
    assert agent(bank, bank.look).resume_sync(log=log).uncertain == ()
    assert bank.payments == ["r1:0"], "the original still asks, with the key that the tool had"


def test_a_fork_asks_about_a_call_that_it_started_itself(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    whole = agent(bank, bank.look).run_sync("Pay bob", run_id="r1")
    fork = RunState.replay(whole.events[:2]).fork(run_id="r2")
    result = agent(bank, bank.look).resume_sync(fork)
    cut = next(n for n, event in enumerate(result.events) if isinstance(event, ToolStarted)) + 1
    again = agent(bank, bank.look).resume_sync(RunState.replay(result.events[:cut]))
    assert [key for key, _ in bank.asked] == ["r2:0"] and bank.payments == ["r1:0", "r2:0"] and again.uncertain == ()


def test_calls_that_may_be_repeated_are_not_asked_about(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    made = agent(bank, bank.look)
    result = made.run_sync("Pay bob", log=MemoryLog(), run_id="r1")
    started = [*result.events[:3]]
    again = made.copy(tools=[tool(bank.pay, idempotent=True, reconcile=bank.look)])
    assert again.resume_sync(RunState.replay(started)).output == "done"
    assert bank.asked == [] and bank.payments == ["r1:0", "r1:0"]


def test_a_value_that_is_no_function() -> None:
    no_function: list[Any] = ["yes", lambda key: NotDone(), lambda key, arguments, more: NotDone(), Bank]
    for value in no_function:
        with pytest.raises(ToolDefinitionError, match="allowed: None, or a function of the idempotency key and the arguments"):
            tool(Bank(Path()).pay, reconcile=value)

    def with_more(key: str, arguments: dict[str, Any], more: int = 1) -> NotDone:
        return NotDone()

    assert tool(Bank(Path()).pay, reconcile=with_more).reconcile is with_more
