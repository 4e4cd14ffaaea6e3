"""Weak models with small context windows: `run` and `chat` end with an answer. Cancelled answers are counted."""

from __future__ import annotations

import json
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentkit.testing import DeepSeekSimulator, Late, SimRequest, call

from .helpers import cli, read_until, script, started, tools_file

WINDOW = 8192
READ = """
from agentkit import tool

@tool(read_only=True)
def read(path: str, start: int = 0) -> str:
    "Read a part of a file."
    return f"{path} from {start}: " + "word " * {words}
"""


def reader(folder: Path, words: int = 2400) -> str:
    return tools_file(folder, READ.replace("{words}", str(words)))


def same_call_for_ever(request: SimRequest) -> Any:
    """A weak model: it reads the same file as long as it may call tools."""
    if request.tools and request.body.get("tool_choice") != "none":
        return call("read", path="a.txt")
    return "It is a file of words."


def test_the_same_call_three_times_over_ends_in_an_answer(tmp_path: Path) -> None:
    with DeepSeekSimulator(same_call_for_ever, context_length=WINDOW) as simulator:
        result = cli("run", "What is in a.txt?", "-t", reader(tmp_path), "--base-url", simulator.base_url)
    assert (result.exit_code, result.stderr) == (3, "")
    assert "It is a file of words." in result.stdout and "stopped at the limit of repeats" in result.stdout
    assert result.stdout.count("✓") == 3


def test_the_request_for_a_last_answer_is_not_a_message_of_the_user(tmp_path: Path) -> None:
    with DeepSeekSimulator(same_call_for_ever) as simulator:
        options = ("-t", reader(tmp_path), "--base-url", simulator.base_url)
        result = cli("chat", *options, input="What is in a.txt?\n/usage\n/retry\n")
    assert "conversation: 1 turn · " in result.stdout and "again: What is in a.txt?" in result.stdout


@pytest.mark.parametrize("words", [2400, 30_000])
def test_old_results_are_dropped_when_the_prompt_does_not_fit(tmp_path: Path, words: int) -> None:
    numbers = count()

    def six_parts(request: SimRequest) -> Any:
        number = next(numbers) if request.last["role"] != "tool" or "error" not in request.last["content"] else 0
        return call("read", path="a.txt", start=number) if number < 6 else "Words, six times."

    with DeepSeekSimulator(six_parts, context_length=WINDOW) as simulator:
        result = cli("run", "What is in a.txt?", "-t", reader(tmp_path, words), "--base-url", simulator.base_url)
    assert (result.exit_code, result.stderr) == (0, "") and "Words, six times." in result.stdout
    told = "! the prompt was too long for the model, so old tool results were dropped and long ones shortened; asking again\n"
    assert told in result.stdout
    assert "a middleware" not in result.stdout and " tokens from the cache: " not in result.stdout
    refused = [error for error in simulator.errors if "maximum context length" in error.message]
    assert refused == simulator.errors and 0 < len(refused) <= 8
    last = simulator.requests[-1].messages
    assert "is not shown any more" in json.dumps(last) and "a.txt from 5" in last[-1]["content"]


def test_a_long_chat_drops_its_oldest_turns() -> None:
    with DeepSeekSimulator(lambda request: f"{len(request.messages)} messages", context_length=WINDOW) as simulator:
        lines = "".join(f"{number} {'word ' * 1500}\n" for number in range(12))
        result = cli("chat", "--base-url", simulator.base_url, input=lines)
    assert (result.exit_code, result.stderr) == (0, "")
    assert simulator.requests[-1].last["content"].startswith("11 ")


def test_a_message_that_never_fits_is_one_error() -> None:
    with DeepSeekSimulator(context_length=WINDOW) as simulator:
        result = cli("run", "word " * 20_000, "--base-url", simulator.base_url)
    assert result.exit_code == 1 and "ContextTooLong" in result.stderr and len(simulator.requests) == 1


def test_the_limits_of_your_own_agent_stay_its_own(tmp_path: Path) -> None:
    agent = "from agentkit import Agent\nagent = Agent(tools=[read])\n"
    file = tools_file(tmp_path, READ.replace("{words}", "3") + agent)
    replies = script(*[call("read", path="a.txt")] * 5, "Done.")
    with DeepSeekSimulator(replies) as simulator:
        result = cli("run", "Hi", "--agent", f"{file}:agent", "--base-url", simulator.base_url, "-q")
    assert (result.exit_code, result.stdout) == (0, "Done.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_tokens_of_a_cancelled_answer_are_shown(options: tuple[str, ...]) -> None:
    with (
        DeepSeekSimulator(script(Late("It never comes to an end.", 60, after=4))) as simulator,
        started("run", "Hi", "--base-url", simulator.base_url, *options, interrupted=True) as running,
    ):
        assert running.stdout
        read_until(running.stdout, "It never")
        running.send_signal(signal.SIGINT)
        shown = read_until(running.stdout, "")
    if options:
        last = json.loads(shown.splitlines()[-1])
        assert last["uncounted"]["input_tokens"] > 0 and last["uncounted"]["output_tokens"] > 0
    else:
        line = next(line for line in shown.splitlines() if line.startswith("and about "))
        assert "tokens in" in line and line.endswith("which the server did not count")


@pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals")
def test_a_chat_adds_up_the_tokens_of_cancelled_answers() -> None:
    with (
        DeepSeekSimulator(script(Late("It never comes to an end.", 60, after=4), "Yes?")) as simulator,
        started("chat", "--base-url", simulator.base_url, interrupted=True) as running,
    ):
        assert running.stdin and running.stdout
        running.stdin.write(b"one\n")
        running.stdin.flush()
        read_until(running.stdout, "It never")
        running.send_signal(signal.SIGINT)
        running.stdin.write(b"two\n")
        running.stdin.close()
        assert " not counted by the server" in read_until(running.stdout, "")
