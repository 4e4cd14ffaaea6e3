"""A job in a child process, which can be killed and has limits whatever it is made to do.

Regular expressions and SQL may run for hours or take all memory inside one call into C, where no thread can be stopped.
The child is this Python without site packages and without the environment (`-I -S`), and does one job. Where
`sys.executable` is not Python, as inside uWSGI, the Python of `sys.prefix` is taken. An application that is frozen into
one file has none.

Limits of memory and file size hold where the system enforces them: on Linux. macOS ignores the limit of memory, Windows
has none of them. The time holds everywhere.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["AT_ONCE", "child_command", "child_environment", "python_of", "run_child", "serve", "set_limits"]

AT_ONCE = 4
"""How many children the tools of one factory run at once: a model may ask for many in one reply, and each takes memory."""
_START = """
import importlib, sys, types
package = types.ModuleType("agentkit_child")
package.__path__ = [sys.argv[1]]
sys.modules["agentkit_child"] = package
importlib.import_module("agentkit_child." + sys.argv[2]).main()
"""
"""Imports one module of this folder without the package round it, which would load all tools and agentkit."""
_NEEDED = ("LD_LIBRARY_PATH", "SYSTEMROOT")
"""Variables without which some Python builds do not start."""


def python_of(executable: str, prefix: str) -> str:
    """The Python to start a child with; raises RuntimeError if there is none."""
    if re.search("python|pypy", Path(executable).name, re.IGNORECASE):
        return executable
    for path in (Path(prefix, "bin", "python3"), Path(prefix, "python.exe"), Path(prefix, "Scripts", "python.exe")):
        if path.is_file():
            return str(path)
    raise RuntimeError(f"this tool starts a Python process, but {executable!r} is not Python, and there is none in {prefix!r}")


def child_command(module: str) -> list[str]:
    """The command that runs `main()` of a module of this folder."""
    return [python_of(sys.executable, sys.prefix), "-I", "-S", "-c", _START, str(Path(__file__).parent), module]


def child_environment() -> dict[str, str]:
    """What a child of ours gets of the environment: no secret of this process."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}


def run_child(
    module: str,
    job: Mapping[str, Any],
    data: Sequence[bytes] = (),
    *,
    seconds: float,
    memory: int,
    file_bytes: int = 0,
) -> dict[str, Any]:
    """The answer of a module's `main` to a job; `data` follows the job on its standard input.

    `memory` and `file_bytes` are limits in bytes; {"error": "memory"} says that the first was reached. Raises
    TimeoutError when the child was killed after `seconds`, and ChildProcessError when it did not answer.
    """
    limits = {"RLIMIT_AS": memory, "RLIMIT_FSIZE": file_bytes, "RLIMIT_CPU": math.ceil(seconds) + 1, "RLIMIT_CORE": 0}
    head = json.dumps({**job, "limits": limits}).encode() + b"\n"
    try:
        done = subprocess.run(
            child_command(module),
            input=b"".join([head, *data]),
            capture_output=True,
            timeout=seconds,
            env=child_environment(),
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    except subprocess.CalledProcessError as error:
        raise ChildProcessError(f"{module} ended with {error.returncode}: {error.stderr[-2000:]!r}") from None
    except (OSError, ValueError) as error:
        raise ChildProcessError(f"{module} did not answer: {error}") from error
    return answer


def serve(work: Callable[[dict[str, Any], BinaryIO], dict[str, Any]]) -> None:
    """Do one job, in the child: read it, set its limits, answer on the standard output."""
    job = json.loads(sys.stdin.buffer.readline())
    set_limits(**job.pop("limits"))
    try:
        answer = work(job, sys.stdin.buffer)
    except MemoryError:
        answer = {"error": "memory"}
    json.dump(answer, sys.stdout)


def set_limits(**limits: int | None) -> None:
    """Lower these limits of this process for good, as far as the system has them. None leaves a limit as it is."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, value in limits.items():
        with suppress(AttributeError, ValueError, OSError, OverflowError):  # a value too large for the system sets no limit
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            if value is not None:
                lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(kind, (lowest, lowest))
