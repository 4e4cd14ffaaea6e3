"""The input line of a chat, on a real pseudo-terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentkit.testing import DeepSeekSimulator, Late, SimRequest

from .helpers import on_a_terminal, process, read_until, script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")

PROMPT = "you> "
END = "\x04"


def number_of(request: SimRequest) -> str:
    return f"answer {sum(message['role'] == 'user' for message in request.messages)}"


@contextmanager
def chat(*options: str, **env: str) -> Iterator[tuple[DeepSeekSimulator, subprocess.Popen[bytes], int]]:
    """A chat at its first prompt."""
    with (
        DeepSeekSimulator(number_of) as simulator,
        on_a_terminal("chat", "--base-url", simulator.base_url, *options, env=env) as (running, terminal),
    ):
        read_until(terminal, PROMPT)
        yield simulator, running, terminal


def typed(terminal: int, keys: str, until: str = PROMPT) -> str:
    os.write(terminal, keys.encode())
    return read_until(terminal, until)


def prompted(terminal: int, keys: str, shown: str) -> str:
    """Type, and wait until this is shown and, after it, the next prompt. Returns all that was shown."""
    got = typed(terminal, keys, until=shown)
    return got if PROMPT in got.partition(shown)[2] else got + read_until(terminal, PROMPT)


def left(running: subprocess.Popen[bytes], terminal: int, keys: str = END) -> int:
    typed(terminal, keys, until="")
    return running.wait()


def messages(simulator: DeepSeekSimulator) -> list[str]:
    return [request.last["content"] for request in simulator.requests]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("Hi\r", "Hi"),
        ("one\x1b\rtwo\r", "one\ntwo"),
        ("\x1b[200~def f():\n\n    return 1\n\x1b[201~\r", "def f():\n\n    return 1"),
        ("\x1b[200~/exit\nis a command?\x1b[201~\r", "/exit\nis a command?"),
        ("a paste\nthat nothing marks\nas one\n", "a paste\nthat nothing marks\nas one"),
        ("你好，世界 👋\r", "你好，世界 👋"),
        ("Hxi\x1b[D\x7f\r", "Hi"),
    ],
)
def test_a_message_has_the_lines_that_were_typed_or_pasted(keys: str, message: str) -> None:
    with chat() as (simulator, running, terminal):
        prompted(terminal, keys, "answer 1")
        assert left(running, terminal) == 0
    assert messages(simulator) == [message]


def test_what_was_typed_in_an_earlier_chat_comes_back_with_the_arrow_key(tmp_path: Path) -> None:
    with chat() as (_, running, terminal):
        prompted(terminal, "remember me\r", "answer 1")
        left(running, terminal)
    with chat() as (simulator, running, terminal):
        typed(terminal, "\x1b[A", until="remember me")
        prompted(terminal, "\r", "answer 1")
        left(running, terminal)
    assert messages(simulator) == ["remember me"]
    file = tmp_path / "state" / "agentkit" / "history"
    assert "remember me" in file.read_text(encoding="utf-8") and file.stat().st_mode & 0o077 == 0


def test_no_keep_writes_no_history(tmp_path: Path) -> None:
    with chat("--no-keep") as (_, running, terminal):
        prompted(terminal, "a secret\r", "answer 1")
        left(running, terminal)
    assert not (tmp_path / "state").exists()


def test_tab_completes_commands_and_files(tmp_path: Path) -> None:
    with chat() as (simulator, running, terminal):
        typed(terminal, "/us\t", until="age")
        prompted(terminal, "\r", "conversation: 0 turns")
        prompted(terminal, f"/save {tmp_path}/chat.json\r", "saved in")
        typed(terminal, f"/load {tmp_path}/ch\t", until="son")  # the terminal may break the line before it
        prompted(terminal, "\r", "0 messages of yours")
        left(running, terminal)
    assert simulator.requests == []


def test_ctrl_c_clears_the_line_and_twice_ends_the_chat() -> None:
    with chat() as (simulator, running, terminal):
        typed(terminal, "not this", until="not this")
        typed(terminal, "\x03", until="\x1b[K")
        prompted(terminal, "but this\r", "answer 1")
        prompted(terminal, "\x03", "Ctrl-C again ends the chat")
        assert left(running, terminal, "\x03") == 0
    assert messages(simulator) == ["but this"]


def test_a_key_between_two_ctrl_c_keeps_the_chat_open() -> None:
    with chat() as (simulator, running, terminal):
        prompted(terminal, "\x03", "Ctrl-C again ends the chat")
        typed(terminal, "x", until="x")
        typed(terminal, "\x03", until="\x1b[K")
        prompted(terminal, "still here\r", "answer 1")
        left(running, terminal)
    assert messages(simulator) == ["still here"]


def test_ctrl_c_stops_an_answer_and_a_second_one_ends_the_chat() -> None:
    with (
        DeepSeekSimulator(script(Late("It never comes to an end.", 60, after=4))) as simulator,
        on_a_terminal("chat", "--base-url", simulator.base_url, interrupted=True) as (running, terminal),
    ):
        read_until(terminal, PROMPT)
        typed(terminal, "Hi\r", until="It never")
        running.send_signal(signal.SIGINT)
        assert "agentkit: interrupted" in read_until(terminal, PROMPT)
        assert left(running, terminal, "\x03") == 130


def test_what_is_typed_during_an_answer_waits_in_the_next_line() -> None:
    typed_ahead = threading.Event()

    def slow(request: SimRequest) -> str:
        assert typed_ahead.wait(20)
        return number_of(request)

    with (
        DeepSeekSimulator(slow) as simulator,
        on_a_terminal("chat", "--base-url", simulator.base_url) as (running, terminal),
    ):
        read_until(terminal, PROMPT)
        typed(terminal, "Hi\r", until="waiting for the model")
        typed(terminal, "two\x1b[A\rthree\r", until="three")  # the terminal shows them
        typed_ahead.set()
        read_until(terminal, "answer 1")
        shown = read_until(terminal, "three")
        assert "two" in shown and len(simulator.requests) == 1
        prompted(terminal, " words\r", "answer 2")
        left(running, terminal)
    assert messages(simulator) == ["Hi", "two\nthree words"]


def test_a_dumb_terminal_has_a_plain_line() -> None:
    with chat(TERM="dumb") as (simulator, running, terminal):
        assert "\x1b" not in prompted(terminal, "Hi\n", "answer 1")
        left(running, terminal)
    assert messages(simulator) == ["Hi"]


def test_without_prompt_toolkit_the_line_is_plain() -> None:
    code = "import sys; sys.modules['prompt_toolkit'] = None\nfrom agentkit.cli import main\nmain()\n"
    with (
        DeepSeekSimulator(number_of) as simulator,
        on_a_terminal("chat", "--base-url", simulator.base_url, command=(sys.executable, "-c", code)) as (running, terminal),
    ):
        read_until(terminal, PROMPT)
        prompted(terminal, "Hi\n", "answer 1")
        assert left(running, terminal) == 0
    assert messages(simulator) == ["Hi"]


def test_a_chat_through_a_pipe_does_not_load_prompt_toolkit() -> None:
    code = "import sys; from agentkit.cli.app import app; app(standalone_mode=False); print('prompt_toolkit' in sys.modules)"
    with DeepSeekSimulator(number_of) as simulator:
        result = process("-c", code, "chat", "--base-url", simulator.base_url, command=(sys.executable,), input="Hi\n")
    assert "answer 1" in result.stdout and "True" not in result.stdout


def test_a_message_about_an_error_breaks_between_words() -> None:
    with chat(COLUMNS="60") as (_, running, terminal):
        shown = prompted(terminal, "/load a-conversation-that-was-never-saved.json\r", "file or directory")
        left(running, terminal)
    message = shown[shown.index("agentkit: ") :].replace("\r\n", "\n")
    assert (
        message.partition("\n\n")[0]
        == "agentkit: a-conversation-that-was-never-saved.json cannot be\nread: No such file or directory"
    )
