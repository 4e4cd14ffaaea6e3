"""The program as a process: signals, pipes, terminals, and a Python without the extra."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentkit.testing import DeepSeekSimulator, Late, SimRequest, call

from .helpers import COMMAND, environment, on_a_terminal, process, read_until, script, started, tools_file

termios = pytest.importorskip("termios")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses POSIX signals and pseudo-terminals")

MISSING = "import sys; sys.modules[{name!r}] = None\nfrom agentkit.cli import main\nsys.argv = ['agentkit', 'demo']\nmain()\n"
SECRET_TITLE = "\x1b]0;owned\x07[bold]x[/bold]"


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
        started("run", "Hi", "--base-url", simulator.base_url, *options, interrupted=True) as running,
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
        started("chat", "--base-url", simulator.base_url, interrupted=True) as running,
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
        on_a_terminal("run", "Hi", "--base-url", simulator.base_url, env={variable: "1"}) as (running, terminal),
    ):
        shown = read_until(terminal, "")
        assert running.wait() == 0
    assert shown.startswith("Hello.\r\n") and "\x1b" not in shown


QUESTION = "run this call? [y/N]"


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("y", "deleted old.log"),
        ("y\n", "deleted old.log"),
        ("\x04", "error: not run"),
        ("please summarise this mail:\ny\n", "error: not run"),
    ],
)
def test_only_the_key_y_approves(tmp_path: Path, answer: str, result: str) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (running, terminal),
    ):
        before = termios.tcgetattr(terminal)
        asked = read_until(terminal, QUESTION)
        os.write(terminal, answer.encode())
        read_until(terminal, "Done.")
        assert running.wait() == 0
        assert termios.tcgetattr(terminal) == before
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", asked).split("\r\n")
    keys = "  y runs this call, r refuses with a reason, any other key refuses"
    assert shown[-3:] == ['    name: "old.log"', keys, f"  {QUESTION} "] and shown[-4].endswith("? delete_file")
    assert simulator.requests[1].last["content"].startswith(result)


def test_a_refusal_may_have_a_reason_which_the_model_reads(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (running, terminal),
    ):
        read_until(terminal, QUESTION)
        os.write(terminal, b"r")
        read_until(terminal, "no, because: ")
        os.write(terminal, b"it is still needed\n")
        read_until(terminal, "Done.")
        assert running.wait() == 0
    assert simulator.requests[1].last["content"] == "error: not run: the call was not approved: it is still needed"


@pytest.mark.parametrize(("answer", "result"), [("y", "deleted "), ("w", "error: not run"), ("\n", "error: not run")])
def test_the_whole_call_can_be_shown_before_the_answer(tmp_path: Path, answer: str, result: str) -> None:
    name = "".join(f"{number}," for number in range(1000))
    with (
        DeepSeekSimulator(script(call("delete_file", name=name), "Done.")) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (running, terminal),
    ):
        cut = "".join(read_until(terminal, QUESTION).split("\r\n        "))
        assert "characters are left out here" in cut and ", w shows the whole of it, " in cut
        os.write(terminal, b"w")
        shown = read_until(terminal, QUESTION)
        os.write(terminal, answer.encode())
        read_until(terminal, "Done.")
        assert running.wait() == 0
    assert "w shows" not in shown
    assert f'"{name}"' in "".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).split("\r\n        "))
    assert simulator.requests[1].last["content"].startswith(result)


def test_what_was_typed_before_the_question_is_no_answer(tmp_path: Path) -> None:
    has_typed = threading.Event()

    def answer(request: SimRequest) -> Any:
        assert has_typed.wait(20)
        return "Done." if request.turn else call("delete_file", name="old.log")

    with (
        DeepSeekSimulator(answer) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (running, terminal),
    ):
        read_until(terminal, "waiting for the model")
        os.write(terminal, b"yy\ny\n")
        has_typed.set()
        read_until(terminal, QUESTION)
        os.write(terminal, b"n")
        read_until(terminal, "Done.")
        assert running.wait() == 0
    assert simulator.requests[1].last["content"].startswith("error: not run")


def test_the_rest_of_a_paste_into_a_chat_is_no_answer(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator,
        on_a_terminal("chat", "-t", tools_file(tmp_path), "--base-url", simulator.base_url) as (_, terminal),
    ):
        read_until(terminal, "you> ")
        os.write(terminal, b"please summarise this mail:\ny\ny\n")
        read_until(terminal, QUESTION)
        os.write(terminal, b"n")
        read_until(terminal, "you> ")
        os.write(terminal, b"\x04")
        read_until(terminal, "")
    assert simulator.requests[1].last["content"].startswith("error: not run")


@pytest.mark.parametrize(("stdin", "stdout"), [("piped", "piped"), ("piped", "a terminal"), ("closed", "a terminal")])
def test_input_that_is_no_terminal_approves_nothing(tmp_path: Path, stdin: str, stdout: str) -> None:
    closing = ("sh", "-c", 'exec "$@" <&-', "sh") if stdin == "closed" else ()
    ours, theirs = os.openpty()
    try:
        with DeepSeekSimulator(script(call("delete_file", name="old.log"))) as simulator:
            command = [*closing, *COMMAND, "run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url]
            done = subprocess.run(
                command,
                input=b"y\ny\n" if stdin == "piped" else b"",
                stdout=theirs if stdout == "a terminal" else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(TERM="xterm", COLUMNS="200"),
                timeout=30,
                check=False,
            )
        os.close(theirs)
        shown = read_until(ours, "") if stdout == "a terminal" else done.stdout.decode()
    finally:
        os.close(ours)
    assert (done.returncode, done.stderr) == (4, b"")
    assert "waits for an approval" in shown and QUESTION not in shown and len(simulator.requests) == 1


def test_a_chat_without_an_input_ends_at_once() -> None:
    command = ("sh", "-c", 'exec "$@" <&-', "sh", *COMMAND)
    result = process("chat", "--base-url", "http://127.0.0.1:9/v1", command=command)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_terminal_that_goes_away_at_the_question_approves_nothing(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    with DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator:
        ignoring = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")  # else the signal ends the program
        command = [*ignoring, *COMMAND, "run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm")) as running:
            os.close(theirs)
            read_until(ours, QUESTION)
            os.close(ours)
            assert running.wait(30) != 0
    assert [request.last["content"] for request in simulator.requests[1:]] in (
        [],
        ["error: not run: the call was not approved"],
    )


def test_a_program_that_ignores_ctrl_c_goes_on_asking(tmp_path: Path) -> None:
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND)
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url, command=ignoring) as (
            running,
            terminal,
        ),
    ):
        read_until(terminal, QUESTION)
        running.send_signal(signal.SIGINT)
        os.write(terminal, b"n")
        read_until(terminal, "Done.")
        assert running.wait() == 0
    assert simulator.requests[1].last["content"].startswith("error: not run")


def test_ctrl_c_at_the_question_ends_the_run_without_the_call(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Done.")) as simulator,
        on_a_terminal("run", "Hi", "-t", tools_file(tmp_path), "--base-url", simulator.base_url, interrupted=True) as (
            running,
            terminal,
        ),
    ):
        read_until(terminal, QUESTION)
        running.send_signal(signal.SIGINT)
        rest = read_until(terminal, "")
        assert running.wait() == 130
    assert "agentkit: interrupted" in rest and "Traceback" not in rest and len(simulator.requests) == 1
    assert rest.replace("^C", "").lstrip(" ").startswith("\r\n"), "the next line is not glued to the question"


def test_ctrl_c_at_the_question_of_a_chat_goes_back_to_the_prompt(tmp_path: Path) -> None:
    with (
        DeepSeekSimulator(script(call("delete_file", name="old.log"), "Never said.")) as simulator,
        on_a_terminal("chat", "-t", tools_file(tmp_path), "--base-url", simulator.base_url, interrupted=True) as (
            running,
            terminal,
        ),
    ):
        read_until(terminal, "you> ")
        os.write(terminal, b"Delete\n")
        read_until(terminal, QUESTION)
        running.send_signal(signal.SIGINT)
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
        if "you> " not in read_until(terminal, "Hello there.").partition("Hello there.")[2]:
            read_until(terminal, "you> ")  # not the prompt that is drawn again with the message
        os.write(terminal, b"\x04")
        read_until(terminal, "")
        assert running.wait() == 0
    assert [message["content"] for message in simulator.requests[0].messages] == ["Hi"]
