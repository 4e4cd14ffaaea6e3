"""Whatever a command started ends with the call: after its time, when it is cancelled, and when this process is killed."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit_tools import shell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux adopts processes that leave their group")


def python(tmp_path: Path, code: str, **options: Any) -> str:
    """What the tool says of a Python program; `python` is allowed by its whole path."""
    (tmp_path / "program.py").write_text(code)
    made = shell([sys.executable], cwd=tmp_path, **options)
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
