"""The program as a process: signals, pipes, terminals, and a Python without the extra."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentkit.testing import DeepSeekSimulator, Late, call

from .helpers import COMMAND, environment, process, read_until, script, tools_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and pseudo-terminals")

MISSING = "import sys; sys.modules[{name!r}] = None\nfrom agentkit.cli import main\nsys.argv = ['agentkit', 'demo']\nmain()\n"
SECRET_TITLE = "\x1b]0;owned\x07[bold]x[/bold]"


@contextmanager
def started(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, *args]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def on_a_terminal(*args: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a pseudo-terminal, and our end of it."""
    ours, theirs = os.openpty()
    given = environment(TERM="xterm", COLUMNS="120", LINES="40", **env)
    try:
        running = subprocess.Popen([*COMMAND, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=given)
        os.close(theirs)
        with running:
            try:
                yield running, ours
            finally:
                running.kill()
    finally:
        os.close(ours)


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(name: str) -> None:
    result = process("-c", MISSING.format(name=name), command=(sys.executable,))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert 'pip install -e ".[cli]"' in result.stderr and "pip install agentkit" not in result.stderr


def test_importing_the_package_imports_neither_typer_nor_rich() -> None:
    code = "import sys, agentkit.cli; print(sorted({'typer', 'rich', 'httpx'} & {*sys.modules}))"
    assert process("-c", code, command=(sys.executable,)).stdout == "[]\n"


def test_a_missing_key_is_exit_code_2() -> None:
    result = process("run", "Hi")
    assert (result.returncode, result.stdout) == (2, "")
    assert "AGENTKIT_API_KEY" in result.stderr and "agentkit demo" in result.stderr


def test_the_demo_as_a_process_is_plain_and_quick() -> None:
    result = process("demo")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout and "After the discount 15,281 EUR are left." in result.stdout
    took, unit = next(line for line in result.stdout.splitlines() if line.startswith("6 steps")).split()[-2:]
    assert unit == "ms" or float(took) < 3, "without a terminal nobody watches, so nothing is slowed down"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_ctrl_c_ends_the_run_cleanly(options: tuple[str, ...]) -> None:
    with (
        DeepSeekSimulator(script(Late("It never comes to an end.", 60, after=4))) as simulator,
        started("run", "Hi", "--base-url", simulator.base_url, *options) as running,
    ):
        assert running.stdout and running.stderr
        read_until(running.stdout, "It never")
        running.send_signal(signal.SIGINT)
        rest, errors = read_until(running.stdout, ""), read_until(running.stderr, "")
        assert (running.wait(), errors) == (130, "agentkit: interrupted\n")
    assert ("cancelled" in rest) if options else ("0 steps" in rest)


def test_ctrl_c_in_a_chat_stops_the_answer_and_keeps_the_conversation() -> None:
    replies = script(Late("It never comes to an end.", 60, after=4), "Yes?")
    with (
        DeepSeekSimulator(replies) as simulator,
        started("chat", "--base-url", simulator.base_url) as running,
    ):
        assert running.stdin and running.stdout
        running.stdin.write(b"one\n")
        running.stdin.flush()
        read_until(running.stdout, "It never")
        running.send_signal(signal.SIGINT)
        running.stdin.write(b"two\n")
        running.stdin.close()
        read_until(running.stdout, "Yes?")
        assert running.wait() == 0
    assert [message["content"] for message in simulator.requests[-1].messages] == ["one", "two"]


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with (
        DeepSeekSimulator(script(Late("The beginning of it, and then a good deal more.", 0.2, after=4))) as simulator,
        started("run", "Hi", "--base-url", simulator.base_url) as running,
    ):
        assert running.stdout and running.stderr
        read_until(running.stdout, "The")
        running.stdout.close()
        assert read_until(running.stderr, "") == ""
        assert running.wait() == 1


def test_a_terminal_has_a_spinner_and_styles_and_no_code_of_the_model() -> None:
    with (
        DeepSeekSimulator(script(Late(f"A {SECRET_TITLE} b.", 0.2))) as simulator,
        on_a_terminal("run", "Hi", "--base-url", simulator.base_url) as (running, terminal),
    ):
        shown = read_until(terminal, "")
        assert running.wait() == 0
    assert "waiting for the model" in shown and "\x1b[2m1 step · " in shown
    assert "\\x1b]0;owned\\x07[bold]x[/bold]" in "".join(shown.split("\x1b[0m")) and "\x1b]0;" not in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0, "the cursor comes back"


@pytest.mark.parametrize("variable", ["NO_COLOR", "CI"])
def test_a_terminal_without_colours_has_no_control_codes(variable: str) -> None:
    with (
        DeepSeekSimulator(script(Late("Hello.", 0.2))) as simulator,
        on_a_terminal("run", "Hi", "--base-url", simulator.base_url, **{variable: "1"}) as (running, terminal),
    ):
        shown = read_until(terminal, "")
        assert running.wait() == 0
    assert shown.startswith("Hello.\r\n") and "\x1b" not in shown


@pytest.mark.parametrize(("answer", "result"), [("y", "deleted old.log"), ("n", "error: not run"), ("", "error: not run")])
def test_somebody_at_the_terminal_is_asked_for_an_approval(tmp_path: Path, answer: str, result: str) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (running, terminal),
    ):
        asked = read_until(terminal, "run this call? [y/N]")
        os.write(terminal, f"{answer}\n".encode())
        read_until(terminal, "Done.")
        assert running.wait() == 0
    assert 'delete_file {"name": "old.log"}' in asked
    assert simulator.requests[1].last["content"].startswith(result)


def press_ctrl_c(running: subprocess.Popen[bytes], terminal: int) -> None:
    """As a person does: again, if nothing is seen to happen. A signal just before a read begins waits for the next one."""
    for _ in range(5):
        running.send_signal(signal.SIGINT)
        if select.select([terminal], [], [], 3.0)[0]:
            return


def test_ctrl_c_at_the_question_ends_the_run_without_the_call(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (running, terminal),
    ):
        read_until(terminal, "run this call? [y/N]")
        press_ctrl_c(running, terminal)
        rest = read_until(terminal, "")
        assert running.wait() == 130
    assert "agentkit: interrupted" in rest and "Traceback" not in rest and len(simulator.requests) == 1


def test_ctrl_c_at_the_question_of_a_chat_goes_back_to_the_prompt(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Never said.")) as simulator,
        on_a_terminal("chat", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (running, terminal),
    ):
        read_until(terminal, "you> ")
        os.write(terminal, b"Delete\n")
        read_until(terminal, "run this call? [y/N]")
        press_ctrl_c(running, terminal)
        assert "deleted" not in read_until(terminal, "you> ")
        os.write(terminal, b"\x04")
        read_until(terminal, "")
        assert running.wait() == 130
    assert len(simulator.requests) == 1


def test_a_chat_at_a_terminal_has_a_prompt_and_ends_with_ctrl_d() -> None:
    with (
        DeepSeekSimulator(script("Hello there.")) as simulator,
        on_a_terminal("chat", "--base-url", simulator.base_url) as (running, terminal),
    ):
        assert "/reset forgets the conversation" in read_until(terminal, "you> ")
        os.write(terminal, b"Hi\n")
        read_until(terminal, "you> ")
        os.write(terminal, b"\x04")
        read_until(terminal, "")
        assert running.wait() == 0
    assert [message["content"] for message in simulator.requests[0].messages] == ["Hi"]
