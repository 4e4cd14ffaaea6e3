"""What a program's log has of a run: failures with their traceback, retries and waits, requests; no secrets and no prompts."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest

from agentkit import Agent, ChatModel, Fallback, Limiter, ModelRetry, Overloaded, Retry, ScriptedModel, tool
from agentkit.policy import JudgeContext, JudgedCall, Policy, Verdict
from agentkit.testing import DeepSeekSimulator, Failure, call

NO_WAIT = Retry(first=0, longest=0)


@tool
def fails(note: str) -> str:
    """Fail."""
    raise ConnectionError(f"no connection with password=hunter2 for {note}")


@tool
def mends(note: str) -> str:
    """Ask for another try."""
    raise ModelRetry("try another note")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "agentkit")
    return caplog


def of_level(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level and record.name == "agentkit"]


def test_a_crashing_tool_is_seen_with_its_traceback(log: pytest.LogCaptureFixture) -> None:
    agent = Agent(ScriptedModel([[call("fails", note="prompt-words"), call("mends", note="x"), call("gone")], "Done."]),
                  tools=[fails, mends])  # fmt: skip
    result = agent.run_sync("prompt-words", run_id="r1")
    (warning,) = of_level(log, logging.WARNING)
    assert warning.startswith("the tool fails failed in run r1 (call call_01_0)\nTraceback")
    assert 'raise ConnectionError(f"no connection' in warning
    assert repr(result) == "RunResult('Done.', 'answer', 2 steps, 3 of 3 tool calls failed)"


def test_a_result_without_failures_says_nothing_of_them() -> None:
    assert repr(Agent(ScriptedModel(["Done."])).run_sync("go")) == "RunResult('Done.', 'answer', 1 steps)"


def test_retries_and_requests(log: pytest.LogCaptureFixture) -> None:
    with DeepSeekSimulator([Failure(503), "Done."], api_key="key-0123456789") as sim:
        agent = Agent(ChatModel(base_url=sim.base_url, api_key="key-0123456789"), retry=NO_WAIT)
        agent.run_sync("prompt-words")
        posts = [text for text in of_level(log, logging.DEBUG) if text.startswith("POST")]
        assert posts[0].startswith(f"POST {sim.base_url}/chat/completions: model deepseek-v4-flash, ")
    (retry,) = of_level(log, logging.INFO)
    assert retry.startswith("attempt 1 failed, the next one is in 0.0 s: Overloaded (HTTP 503)")
    assert len(posts) == 2
    assert "prompt-words" not in log.text
    assert "key-0123456789" not in log.text


def test_the_next_model_of_a_fallback(log: pytest.LogCaptureFixture) -> None:
    models = Fallback(ScriptedModel([Overloaded("down")]), ScriptedModel(["Done."]), retry=None)
    assert Agent(models).run_sync("go").output == "Done."
    assert of_level(log, logging.INFO) == ["the next model is asked: ScriptedModel(1 requests answered) failed with Overloaded"]


def test_a_long_wait_for_a_turn(log: pytest.LogCaptureFixture) -> None:
    async def main(base_url: str) -> None:
        agent = Agent(ChatModel(base_url=base_url, limiter=Limiter(requests_per_minute=60)))
        await asyncio.gather(*(agent.run("go") for _ in range(62)))
        await agent.aclose()

    with DeepSeekSimulator("echo") as sim:
        asyncio.run(main(sim.base_url))
    assert any(" a request waited " in text for text in of_level(log, logging.INFO))


def test_without_a_handler_nothing_is_printed() -> None:
    code = """
from agentkit import Agent, ScriptedModel, tool
from agentkit.testing import call

@tool
def fails() -> str:
    raise ValueError("seen by the program only")

print(Agent(ScriptedModel([call("fails"), "Done."]), tools=[fails]).run_sync("go").output)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("Done.\n", "")


def test_the_levels_are_those_of_the_docs(log: pytest.LogCaptureFixture) -> None:
    def levels(*script: Any) -> set[int]:
        log.clear()
        Agent(ScriptedModel([*script, "Done."]), tools=[fails, mends]).run_sync("go")
        return {record.levelno for record in log.records if record.name == "agentkit"}

    assert levels(call("fails", note="x")) == {logging.WARNING}
    assert levels(call("mends", note="x")) == set()


@tool
async def gives_up() -> str:
    """Raise what a closed pool raises."""
    raise asyncio.CancelledError("of a closed pool")


class Refusing(Policy):
    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        raise ConnectionError("api_key=0123456789abcdef0123 is refused")


def test_failures_of_the_programs_own_code_are_seen_without_keys(log: pytest.LogCaptureFixture) -> None:
    def watch(_event: Any) -> None:
        raise ConnectionError("password=hunter2hunter2 is refused")

    script: list[Any] = [[call("gives_up"), call("fails", note="x")], "Done."]
    Agent(ScriptedModel(script), tools=[gives_up, fails]).run_sync("go", observers=[watch], run_id="r1")
    Agent(ScriptedModel(script), tools=[gives_up, fails], policy=[Refusing()]).run_sync("go")
    warnings = of_level(log, logging.WARNING)
    for begins in ("the observer", "the tool gives_up failed in run r1", "the tool fails failed", "the policy"):
        assert any(text.startswith(begins) and "Traceback" in text for text in warnings), begins
    assert "hunter2" not in log.text and "0123456789abcdef" not in log.text
