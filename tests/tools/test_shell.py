from __future__ import annotations

import asyncio
import os
import select
import sys
import time
from pathlib import Path

import pytest

from agentkit import ModelRetry
from agentkit_tools import shell

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the programs of these tests are POSIX")


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="processes that leave their group are found on Linux")


def python(tmp_path: Path, code: str, **options: float) -> str:
    """What the tool says of a Python program; `python` is allowed by its whole path."""
    (tmp_path / "program.py").write_text(code)
    made = shell([sys.executable], cwd=tmp_path, **options)  # type: ignore[arg-type]
    return str(asyncio.run(made(f"{sys.executable} program.py")))


def gone(pid: int) -> bool:
    """Whether the process has ended, or ends now that it has been killed."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([fd], [], [], 10)  # a loaded machine takes its time to end a process
    os.close(fd)
    return bool(ended)


def test_exit_code_and_output(tmp_path: Path) -> None:
    shown = python(tmp_path, "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)")
    assert shown == "[exit code 3; 8 bytes of output]\nout\nerr"
    assert python(tmp_path, "pass") == "[exit code 0; 0 bytes of output]"
    assert python(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)").startswith("[killed by SIGTERM;")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rm -rf .", "'rm -rf .' is not allowed; a command starts with one of: echo, git status"),
        ("", "is not allowed"),
        ("git push", "is not allowed"),
        ("git -c core.pager=x status", "is not allowed"),
        ("/bin/echo x", "is not allowed"),
        ("./echo x", "is not allowed"),
        ("echo2 x", "is not allowed"),
        ("X=1 echo x", "is not allowed"),
        ("'echo x'", "is not allowed"),
        ("echo x; rm y", "';' is shell syntax"),
        ("echo x && rm y", "'&' is shell syntax"),
        ("echo x | sh", "'.' is shell syntax"),
        ("echo x > f", "'>' is shell syntax"),
        ("echo < f", "'<' is shell syntax"),
        ("echo $(id)", "'\\$' is shell syntax"),
        ("echo `id`", "'`' is shell syntax"),
        ('echo "`id`"', "'`' is shell syntax"),
        ('echo "$HOME"', "'\\$' is shell syntax"),
        ("echo$IFS-x", "'\\$' is shell syntax"),
        ("echo x\nrm y", "is shell syntax"),
        ("echo 'a\0b'", "NUL character"),
        ("echo 'x", "cannot be split"),
        ("echo x\\", "cannot be split"),
    ],
)
def test_what_is_not_allowed_is_not_run(tmp_path: Path, command: str, words: str) -> None:
    made = shell(["echo", "git status"], cwd=tmp_path)
    with pytest.raises(ModelRetry, match=words):
        asyncio.run(made(command))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("echo '; rm -rf $(id) `id` && x > y'", "; rm -rf $(id) `id` && x > y"),
        ('echo "a; b" \\$HOME \\;', "a; b $HOME ;"),
        ("echo * ~ --output=/etc/x", "* ~ --output=/etc/x"),
        ("echo 'a\nb'", "a\nb"),
        ("echo '' \"it's\"", " it's"),
    ],
)
def test_words_reach_the_program_as_they_are(tmp_path: Path, command: str, shown: str) -> None:
    assert asyncio.run(shell(["echo"], cwd=tmp_path)(command)).split("\n", 1)[1] == shown


def test_the_environment_has_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", "canary")
    made = shell(["env"], cwd=tmp_path, env={"EXTRA": "1"})
    lines = asyncio.run(made("env")).split("\n")[1:]
    names = {line.partition("=")[0] for line in lines}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD", "AGENTKIT_SHELL_CALL"} == {"PATH", "HOME", "LANG", "EXTRA"}
    assert f"HOME={tmp_path.resolve()}" in lines
    assert "canary" not in "".join(lines)
    assert "EXTRA" not in repr(made)


def test_it_starts_in_its_folder_with_no_input_and_private_files(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd()); print(repr(sys.stdin.read())); open('made', 'w')"
    assert python(tmp_path, code).split("\n")[1:] == [str(tmp_path.resolve()), "''"]
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


def test_processes_are_limited(tmp_path: Path) -> None:
    code = "import resource as r; print([r.getrlimit(x)[0] for x in (r.RLIMIT_CORE, r.RLIMIT_CPU, r.RLIMIT_FSIZE)])"
    assert python(tmp_path, code, timeout=7.5, max_file_bytes=1024).endswith("[0, 8, 1024]")


def test_output_is_cut_in_the_middle(tmp_path: Path) -> None:
    code = "import sys\nfor n in range(30_000): print(f'{n:09}')"
    shown = python(tmp_path, code, max_output=40)
    assert shown == (
        "[exit code 0; 300,000 bytes of output]\n000000000\n000000001\n\n"
        "[cut: 299,960 bytes of 300,000 left out here; ask for less output]\n000029998\n000029999"
    )
    assert python(tmp_path, "print('x' * 39)", max_output=40).endswith("]\n" + "x" * 39)


def test_binary_output_is_shown_as_text(tmp_path: Path) -> None:
    shown = python(tmp_path, "import os; os.write(1, b'a\\0\\xffb')")
    assert shown.split("\n")[1:] == ["[not valid utf-8: 1 unreadable character shown as �]", "a��b"]


def test_a_flood_is_drained_and_killed() -> None:
    started = time.monotonic()
    shown = asyncio.run(shell(["yes"], timeout=0.3, max_output=100)("yes"))
    assert time.monotonic() - started < 1.5
    assert shown.startswith("[killed: still running after 0.3 seconds;")
    assert len(shown) < 300
    assert "[cut: " in shown


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
children = [
    subprocess.Popen(["sleep", "60"]),
    subprocess.Popen(["sleep", "60"], start_new_session=True),
]
print("ready", flush=True)
with open("pids", "w") as file:
    file.write(" ".join(str(pid) for pid in [os.getpid(), *(child.pid for child in children)]))
{end}
"""


@linux_only
@pytest.mark.parametrize("end", ["time.sleep(60)", "os._exit(0)"])
def test_nothing_outlives_the_call(tmp_path: Path, end: str) -> None:
    started = time.monotonic()
    shown = python(tmp_path, STUBBORN.format(end=end), timeout=0.5)
    assert time.monotonic() - started < 1.8
    assert "ready" in shown
    assert shown.startswith("[exit code 0" if "exit" in end else "[killed: still running after 0.5 seconds")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert all(map(gone, pids))


@linux_only
def test_cancelling_kills(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(STUBBORN.format(end="time.sleep(60)"))
    os.mkfifo(tmp_path / "pids")
    made = shell([sys.executable], cwd=tmp_path)

    async def go() -> list[int]:
        call = asyncio.ensure_future(made(f"{sys.executable} program.py"))
        pids = await asyncio.to_thread((tmp_path / "pids").read_text)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return [int(pid) for pid in pids.split()]

    pids = asyncio.run(go())
    assert len(pids) == 3
    assert all(map(gone, pids))


def test_many_calls_leave_no_descriptor(tmp_path: Path) -> None:
    made = shell(["echo"], cwd=tmp_path)

    def descriptors() -> int:
        return len([*Path("/dev/fd").iterdir()])

    async def go() -> tuple[int, int]:
        await made("echo warm")
        before = descriptors()
        shown = await asyncio.gather(*(made(f"echo {number}") for number in range(20)))
        assert [text.split("\n")[1] for text in shown] == [str(number) for number in range(20)]
        return before, descriptors()

    before, after = asyncio.run(go())
    assert after == before


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelRetry, match="'no-such-program' is allowed but not installed"):
        asyncio.run(shell(["no-such-program"])("no-such-program"))
    with pytest.raises(ValueError, match="empty entry"):
        shell([""])
    with pytest.raises(ValueError, match="is no folder"):
        shell(["ls"], cwd=tmp_path / "missing")


def test_a_program_beside_the_agent_does_not_shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo").write_text("#!/bin/sh\necho evil\n")
    (tmp_path / "echo").chmod(0o755)
    assert asyncio.run(shell(["echo"], cwd=tmp_path)("echo good")).endswith("\ngood")
    with pytest.raises(ModelRetry, match="not installed"):
        asyncio.run(shell(["echo"], cwd=tmp_path, env={"PATH": "."})("echo good"))


def test_through_the_tool(tmp_path: Path) -> None:
    made = shell(["echo", "git status"], cwd=tmp_path)
    assert asyncio.run(made.call({"command": "echo hi"})) == "[exit code 0; 3 bytes of output]\nhi"
    assert made.description.endswith("Allowed: echo, git status.")
    assert (made.name, made.read_only, made.destructive, made.output) == ("run_command", False, True, "untrusted")
