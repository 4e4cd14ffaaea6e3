"""Starts worker processes by fork, since an import of everything takes longer than most of the tests.

`python -m tests.chaos.nursery` reads one request a line: `{"start": OPTIONS}` answers with the process id, `{"wait": PID}` with
its exit status once it has ended or stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.kit import unmeasured

__all__ = ["Nursery"]

ROOT = Path(__file__).parents[2]


class Nursery:
    """The client of that process."""

    def __enter__(self) -> Nursery:
        command = [sys.executable, "-m", "tests.chaos.nursery"]
        # what is killed has no coverage to keep, and would leave broken files of it
        env = unmeasured(os.environ)
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._alive: set[int] = set()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pid in [*self._alive]:
            self.kill(pid)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def _ask(self, request: Any) -> int:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, **options: Any) -> int:
        """The id of a new worker process."""
        pid = self._ask({"start": options})
        self._alive.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """Wait for the process: its exit code, or the number of the signal that ended or stopped it, as a negative number."""
        status = self._ask({"wait": pid})
        if os.WIFSTOPPED(status):
            return -os.WSTOPSIG(status)
        self._alive.discard(pid)
        return os.waitstatus_to_exitcode(status)

    def kill(self, pid: int) -> int:
        """Kill the process."""
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def run(self, **options: Any) -> int:
        """Start a worker that ends when nothing is due, and wait for it."""
        return self.wait(self.start(until_idle=True, **options))


def _serve() -> None:
    import httpx  # noqa: F401
    import psycopg  # noqa: F401
    import psycopg_pool  # noqa: F401

    from . import worker

    worker.agent("http://127.0.0.1:1/v1", "").fingerprint  # noqa: B018  it loads what makes the schemas
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitpid(request["wait"], os.WUNTRACED)[1]
        elif not (answer := os.fork()):
            _be_worker(worker.main, request["start"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _be_worker(main: Any, options: dict[str, Any]) -> None:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        main(options)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve()
