"""`agentkit simulator` as a process of its own, and the other commands against it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from agentkit.cli.simulate import _try_out
from agentkit.testing import DeepSeekSimulator

from .helpers import TOOLS, cli, process, read_until, started, tools_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals")


@contextmanager
def serving(*options: str, interrupted: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The simulator as a process, and its base URL."""
    with started("simulator", "--port", "0", *options, interrupted=interrupted) as running:
        assert running.stdout
        found = re.search(r"simulator on (http://127\.0\.0\.1:\d+/v1)", read_until(running.stdout, "try: agentkit run"))
        assert found
        yield running, found[1]


def test_run_needs_no_key_with_it_and_ctrl_c_ends_it_well() -> None:
    with serving(interrupted=True) as (running, base_url):
        result = process("run", "Say this.", "--base-url", base_url, "--quiet")
        assert (result.returncode, result.stdout, result.stderr) == (0, "Say this.\n", "")
        running.send_signal(signal.SIGINT)
        assert running.stdout and running.stderr
        assert "200 POST /v1/chat/completions\n" in read_until(running.stdout, "")
        assert (running.wait(), read_until(running.stderr, "")) == (0, "")


def test_with_tools_it_calls_one(tmp_path: Path) -> None:
    only_weather = TOOLS.partition("registry = ")[0]
    with serving() as (_, base_url):
        result = process("run", "Weather?", "-t", tools_file(tmp_path, only_weather), "--base-url", base_url, "--quiet")
    assert (result.returncode, result.stdout) == (0, "The answer is: 18 degrees in Paris\n")


@pytest.mark.parametrize(
    ("said", "called"),
    [("Book a flight to Rome.", "book_flight"), ("Is it sunny in Rome?", "weather"), ("What is it?", "add_note")],
)
def test_with_several_tools_it_calls_the_one_whose_words_were_said(said: str, called: str) -> None:
    tools = {"add_note": "Add a line to the notes.", "book_flight": "Buy a seat.", "weather": "Whether it is sunny in a city."}
    functions = [{"name": name, "description": text, "parameters": {"type": "object"}} for name, text in tools.items()]
    simulator = DeepSeekSimulator(_try_out)
    body = {"model": "deepseek-v4-flash", "messages": [{"role": "user", "content": said}],
            "tools": [{"type": "function", "function": function} for function in functions]}  # fmt: skip
    with simulator:
        answer = httpx.post(f"{simulator.base_url}/chat/completions", json=body, headers={"authorization": "Bearer k"}).json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == called


def test_the_line_of_a_refused_request_says_why() -> None:
    with serving() as (running, base_url):
        result = process("run", "Hi", "--model", "gpt-9", "--base-url", base_url)
        assert result.returncode == 1 and running.stdout
        line = next(line for line in read_until(running.stdout, "gpt-9.").splitlines() if line.startswith("400 POST"))
    assert "/v1/chat/completions: The supported API model names are " in line


def test_a_scenario_and_a_small_context_can_be_chosen() -> None:
    with serving("--scenario", "no_balance") as (_, base_url):
        assert "Insufficient Balance" in process("run", "Hi", "--base-url", base_url).stderr
    with serving("--context-length", "100") as (_, base_url):
        assert "ContextTooLong" in process("run", "word " * 500, "--base-url", base_url).stderr


def test_a_wrong_scenario_lists_those_that_there_are() -> None:
    result = cli("simulator", "--scenario", "nonsense")
    assert result.exit_code == 2 and "'nonsense'; there are: busy, " in result.stderr


def test_a_port_that_is_taken_is_one_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("simulator", "--port", str(port))
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"cannot listen on port {port}: " in result.stderr and "--port 0 takes a free one" in result.stderr
