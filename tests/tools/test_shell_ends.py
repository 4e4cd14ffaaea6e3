"""Whatever a command started ends with the call: after its time, when it is cancelled, and when this process is killed."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from agentkit_tools import shell
from agentkit_tools._child import child_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux adopts processes that leave their group")


def python(tmp_path: Path, code: str, **options: Any) -> str:
    """What the tool says of a Python program; `python` is allowed by its whole path."""
    (tmp_path / "program.py").write_text(code)
    made = shell([sys.executable], cwd=tmp_path, **options)
    return str(asyncio.run(made(f"{sys.executable} program.py")))


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which is empty."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def gone(pid: int) -> bool:
    """Whether the process has ended, or ends now that it has been killed."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([fd], [], [], 10)  # a loaded machine takes its time to end a process
    os.close(fd)
    return bool(ended)


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
children = [
    subprocess.Popen(["sleep", "60"]),
    subprocess.Popen(["sleep", "60"], start_new_session=True),
    subprocess.Popen(["sleep", "60"], start_new_session=True, env={}),
]
print("ready", flush=True)
with open("pids", "w") as file:
    file.write(" ".join(str(pid) for pid in [os.getpid(), *(child.pid for child in children)]))
END
"""


def stubborn(end: str) -> str:
    """A program that ignores SIGTERM and starts others, two of which leave its process group; then `end`."""
    return STUBBORN.replace("END", end)


@pytest.mark.parametrize(("end", "seconds"), [("time.sleep(60)", 3.0), ("os._exit(0)", 30.0)])
def test_nothing_outlives_the_call(tmp_path: Path, end: str, seconds: float) -> None:
    shown = python(tmp_path, stubborn(end=end), timeout=seconds)
    assert "ready" in shown
    assert shown.startswith("[exit code 0" if "exit" in end else "[killed: still running after 3 seconds")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 4
    assert all(map(gone, pids))


def test_nothing_outlives_this_process(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(stubborn(end="time.sleep(60)"))
    os.mkfifo(tmp_path / "pids")
    code = (
        "import asyncio, sys; from agentkit_tools import shell; asyncio.run(shell([sys.argv[1]])(f'{sys.argv[1]} program.py'))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen([sys.executable, "-c", code, sys.executable], cwd=tmp_path, env=env) as agent:
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        agent.kill()
    assert len(pids) == 4
    assert all(map(gone, pids))


def test_cancelling_kills(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(stubborn(end="time.sleep(60)"))
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
    assert len(pids) == 4
    assert all(map(gone, pids))


WAITING = """
import os, time
os.makedirs(f"{os.environ['HOME']}/left/behind")
with open("pids", "w") as file: file.write(f"{os.getpid()} {os.getppid()}")
time.sleep(60)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_home_does_not_stay_where_its_supervisor_cannot_remove_it(tmp_path: Path, temp: Path, sent: signal.Signals) -> None:
    """As when removing it takes the supervisor longer than a call waits for it."""
    (tmp_path / "program.py").write_text(WAITING)
    os.mkfifo(tmp_path / "pids")

    async def go() -> list[int]:
        call = asyncio.ensure_future(shell([sys.executable], cwd=tmp_path)(f"{sys.executable} program.py"))
        program, supervisor = map(int, (await asyncio.to_thread((tmp_path / "pids").read_text)).split())
        os.kill(supervisor, sent)
        if sent == signal.SIGSTOP:
            call.cancel()
        await asyncio.wait([call])
        return [program, supervisor]

    assert all(map(gone, asyncio.run(go())))
    assert [*temp.iterdir()] == []


@pytest.mark.parametrize(
    "code",
    [
        "os.makedirs(f'{home}/a/b'); os.chmod(f'{home}/a/b', 0o500); os.chmod(f'{home}/a', 0); os.chmod(home, 0o500)",
        "os.symlink('/', f'{home}/a'); os.symlink(os.getcwd(), f'{home}/b')",
        "os.rmdir(home); open(home, 'w')",
        "os.rmdir(home); os.symlink(os.getcwd(), home)",
        "os.rmdir(home)",
        "os.mkfifo(f'{home}/a')",
    ],
    ids=["closed folders", "links", "a file", "a link", "nothing", "a named pipe"],
)
def test_home_does_not_stay_whatever_is_made_of_it(tmp_path: Path, temp: Path, code: str) -> None:
    assert python(tmp_path, f"import os; home = os.environ['HOME']; {code}").startswith("[exit code 0;")
    assert [*temp.iterdir()] == []
    assert (tmp_path / "program.py").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"words": ["no\0program"]}, b"ValueError"),
        ({"limits": {"RLIMIT_NPROC": None, "RLIMIT_FSIZE": 1.5}}, b"SubprocessError"),
    ],
)
def test_home_does_not_stay_where_the_program_cannot_be_started(tmp_path: Path, change: dict[str, Any], words: bytes) -> None:
    """What the tool refuses beforehand; the process in between does not rely on that."""
    home = tmp_path / "home"
    job = {"words": ["/bin/ls"], "cwd": "/", "env": {}, "limits": {"RLIMIT_NPROC": None}, "home": str(home), **change}
    done = subprocess.run(child_command("_supervise"), input=json.dumps(job).encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (126, b"the program cannot be run: " + words + b"\n", b"")
    assert not home.exists()
