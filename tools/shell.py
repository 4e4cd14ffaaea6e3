"""Programs from an allow-list, run without a shell.

What this does not protect from: an allowed program may read, write and connect to whatever the user of this process
may; `cwd` is where it starts and no wall. Some programs run others when told so (`find -exec`, `git -c core.pager=...`,
`env`, `xargs`, `ssh`, every interpreter, build tools): allowing them allows everything. A prefix such as "git status"
narrows the subcommand, not the options after it, and a repository's own `.git/config` may name programs that git runs.
Where that matters, run the agent in a container or a virtual machine.

The environment of this process is not passed on. Can a program still read it in another way?
- On Linux with Landlock (5.19 and later, in most distributions), and for root on any Linux: no. `/proc/<pid>/environ`
  and `mem` of the processes outside the call are closed to it. Their command lines are not.
- Elsewhere: yes, with `/proc` or `ps -E`, if it runs as the same user. The process between this one and the program has
  a clean environment, but the program can find this one. Keep keys out of the environment, or use a container.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shlex
import shutil
import signal
from asyncio import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from agentkit import ModelRetry, Tool, tool

from ._child import child_command, child_environment
from ._supervise import remove_folder
from ._text import count, decode
from ._threads import in_thread
from ._words import split_command

__all__ = ["shell"]

_RESERVED = 16
"""How much more address space than memory a process may have."""
_REMOVAL = 30.0
"""Max seconds that a call waits for the removal of its HOME."""


def shell(
    allow: Collection[str],
    *,
    cwd: str | os.PathLike[str] = ".",
    timeout: float = 30.0,
    max_output: int = 30_000,
    max_file_bytes: int = 1_000_000_000,
    max_memory_bytes: int | None = 4_000_000_000,
    max_processes: int | None = 1000,
    env: Mapping[str, str] | None = None,
) -> Tool[[str], Any]:
    """A tool `run_command` that runs one program of `allow`, and returns its exit code and output.

    `allow`: names of programs ("ls") or the words that a command starts with ("git status"). A name with a slash
    ("./run.sh") is a path from `cwd`; whoever can write that file chooses what runs. No shell reads the command: pipes,
    redirections, variables and the like are refused, wildcards are not expanded.

    The program gets no input, the folder `cwd`, and an environment of PATH, LANG, HOME and `env`. HOME is a new, empty,
    private folder for each call, so no settings of a user or of the folder `cwd` are read from it. Where `env` names
    another HOME, git still reads no settings from it and Python no packages, because GIT_CONFIG_GLOBAL and
    PYTHONNOUSERSITE are set; `env` may set them otherwise.

    After `timeout` seconds, and when the run is cancelled, the program is killed. Whatever it has started ends with it: on
    Linux all of it but processes that fork faster than they can be found, on other POSIX systems what stays in its process
    group, on Windows nothing but the program.

    `max_output`: bytes of output that are shown, half from its start and half from its end. On POSIX systems each process
    may use `timeout` seconds of processor time (rounded up) and write files of `max_file_bytes`, and new files are for
    this user alone. On Linux each process may have `max_memory_bytes` of private memory, and 16 times as much address
    space, which node, java and go reserve without using it. Shared memory (anonymous shared mappings, /dev/shm) does not
    count as private memory, and the limit is for each process, not for their sum. To bound all memory, use a container.

    This user may have `max_processes` more processes and threads than when the call began. The kernel counts those in
    other containers, too, and does not count root's. On Linux no program gains privileges: sudo does not work. None
    switches a limit off.

    Raises ValueError when `allow` has an empty entry, `cwd` is not a folder, or a limit or `env` cannot be used. The module
    says what an allow-list does not protect from.
    """
    prefixes = tuple(tuple(shlex.split(entry)) for entry in ([allow] if isinstance(allow, str) else allow))
    folder = Path(os.path.realpath(cwd))
    if not all(prefixes) or not folder.is_dir():
        raise ValueError(f"shell: an empty entry in allow={list(allow)!r}, or cwd={os.fspath(cwd)!r} is no folder")
    numbers = {"max_file_bytes": max_file_bytes, "max_memory_bytes": max_memory_bytes, "max_processes": max_processes}
    limits = _limits(timeout, max_output, **numbers)
    runner = _Runner(prefixes, folder, timeout, max_output, limits, _environment(env or {}))
    description = f"{_DESCRIPTION} Allowed: {', '.join(' '.join(prefix) for prefix in prefixes)}."
    labels: Any = {"destructive": True, "open_world": True, "sensitive": ("command",), "output": "untrusted"}
    made: Tool[[str], Any] = tool(runner.run_command, description=description, **labels)
    return made


def _limits(timeout: float, max_output: int, **given: int | None) -> dict[str, int | None]:
    """The limits of each process. Raises ValueError for a number with which every call would fail."""
    if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ValueError(f"shell: timeout is {timeout!r}; give seconds: a finite number above 0")
    for name, number in {"max_output": max_output, **given}.items():
        is_off = number is None and name in given
        if not is_off and (not isinstance(number, int) or number < 0):
            raise ValueError(f"shell: {name} is {number!r}; give a whole number from 0")
    memory = given["max_memory_bytes"]
    return {
        "RLIMIT_CPU": int(timeout) + 1,
        "RLIMIT_FSIZE": given["max_file_bytes"],
        "RLIMIT_DATA": memory,
        "RLIMIT_AS": memory and _RESERVED * memory,
        "RLIMIT_NPROC": given["max_processes"],
    }


def _check_env(env: Mapping[str, str]) -> None:
    """Raise ValueError for a variable that cannot be passed to a program. Its value may be a secret and is not shown."""
    for name, value in env.items():
        if not isinstance(name, str) or not name or "=" in name or not _can_be_passed(name):
            raise ValueError(f"shell: env has the name {name!r}; give a text without '=' and NUL")
        if not isinstance(value, str) or not _can_be_passed(value):
            raise ValueError(f"shell: env[{name!r}] cannot be passed to a program; give a text without NUL")


def _can_be_passed(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        return b"\0" not in os.fsencode(text)
    return False


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """The variables that a program gets: the `given` ones, and defaults for the others."""
    _check_env(given)
    windows = ("SYSTEMROOT", "PATHEXT", "TEMP") if os.name == "nt" else ()
    defaults = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    passed_on = {name: os.environ.get(name, defaults.get(name, "")) for name in (*defaults, *windows)}
    return {**passed_on, **(_NO_SETTINGS if "HOME" in given else {}), **given}


_NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "PYTHONNOUSERSITE": "1"}
"""A HOME that is not empty may hold a .gitconfig or a usercustomize.py, which name programs to run."""


_DESCRIPTION = (
    "Run one program and return its exit code and output. There is no shell: no pipes, redirections, variables, "
    "wildcards or several commands in one call."
)


@dataclass(frozen=True, slots=True)
class _Runner:
    allow: tuple[tuple[str, ...], ...]
    cwd: Path
    timeout: float
    max_output: int
    limits: Mapping[str, int | None]
    env: Mapping[str, str] = field(repr=False)

    async def run_command(self, command: str) -> str:
        """Run one program and return its exit code and output.

        Args:
            command: The program and its arguments; quote an argument that has blanks or special characters.
        """
        home, job = await in_thread(lambda: self._job(self._checked(command)))
        output = _Output(self.max_output)
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: output,
            *child_command("_supervise"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            start_new_session=True,
        )
        lifeline = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        try:
            lifeline.write(job)
            ended = await _within(self.timeout, output.exited)
        finally:
            lifeline.close()  # the supervisor ends all that it has started, and itself
            try:
                await _within(2.0, output.exited)
                await _within(0.5, output.closed)  # a process that could not be killed may hold the pipe open
            finally:
                with suppress(ProcessLookupError):
                    transport.kill()
                transport.close()
                if home:
                    await _remove(home, output.exited)
        status = _status(transport.get_returncode()) if ended else f"killed: still running after {self.timeout:g} seconds"
        return f"[{status}; {count(output.total, 'byte')} of output]\n{output.text()}".rstrip("\n")

    def _checked(self, command: str) -> list[str]:
        """The words of an allowed command, its program as a whole path; raises ModelRetry for any other."""
        words = split_command(command)
        if not any(tuple(words[: len(prefix)]) == prefix for prefix in self.allow):
            names = ", ".join(" ".join(prefix) for prefix in self.allow)
            raise ModelRetry(f"{command[:200]!r} is not allowed; a command starts with one of: {names or 'nothing'}")
        named = str(self.cwd / words[0]) if Path(words[0]).name != words[0] else words[0]
        program = shutil.which(named, path=self.env["PATH"])
        if not program or not Path(program).is_absolute():
            raise ModelRetry(f"{words[0]!r} is allowed but not installed here; use another program")
        return [program, *words[1:]]

    def _job(self, words: list[str]) -> tuple[str, bytes]:
        """The HOME folder of the call (empty if `env` names one), and the job for the supervisor.

        The supervisor creates and removes the folder, so that it is removed even if this process is killed. The job goes
        through a pipe, since other users can read a command line.
        """
        import tempfile

        home = "" if "HOME" in self.env else str(Path(tempfile.gettempdir(), f"agentkit-home-{os.urandom(8).hex()}"))
        env = {**self.env, "HOME": home} if home else {**self.env}
        job = {"words": words, "cwd": str(self.cwd), "env": env, "limits": {**self.limits}, "home": home}
        return home, json.dumps(job).encode() + b"\n"


class _Output(asyncio.SubprocessProtocol):
    """Keeps the start and the end of what a process writes, and counts the rest."""

    def __init__(self, most: int) -> None:
        loop = asyncio.get_running_loop()
        self.exited, self.closed = loop.create_future(), loop.create_future()
        self.total = 0
        self._head, self._tail = bytearray(), bytearray()
        self._head_most, self._tail_most = most - most // 2, most // 2

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.total += len(data)
        room = self._head_most - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._tail_most + 65536:
            del self._tail[: len(self._tail) - self._tail_most]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        _settle(self.closed)

    def process_exited(self) -> None:
        _settle(self.exited)

    def text(self) -> str:
        """What is kept, as text, with a note where something is missing."""
        end = self._tail[max(0, len(self._tail) - self._tail_most) :]
        missing = self.total - len(self._head) - len(end)
        if not missing:
            return _printable(bytes(self._head + end))
        note = f"[cut: {count(missing, 'byte')} of {self.total:,} left out here; ask for less output]"
        return f"{_printable(bytes(self._head))}\n{note}\n{_printable(bytes(end))}"


def _printable(data: bytes) -> str:
    text, note = decode(data)
    return "\n".join(filter(None, [note, text.replace("\0", "�")]))


async def _remove(home: str, exited: asyncio.Future[None]) -> None:
    """Remove the folder, in case the supervisor was killed before it could."""
    await _within(1.0, exited)
    with suppress(TimeoutError):  # the thread continues
        await asyncio.wait_for(in_thread(lambda: remove_folder(home)), _REMOVAL)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _within(seconds: float, future: asyncio.Future[None]) -> bool:
    done, _ = await asyncio.wait([future], timeout=seconds)
    return bool(done)


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
