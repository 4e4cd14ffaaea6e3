"""Programs from an allow-list, run without a shell.

What this does not protect from: an allowed program may read, write and connect to whatever the user of this process
may; `cwd` is where it starts and no wall. Some programs run others when told so (`find -exec`, `git -c core.pager=...`,
`env`, `xargs`, `ssh`, every interpreter, build tools): allowing them allows everything. A prefix such as "git status"
narrows the subcommand, not the options after it. Where that matters, run the agent in a container or a virtual machine.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
from asyncio import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit import ModelRetry, Tool, tool

from ._text import count, decode

__all__ = ["shell"]

_MARK = "AGENTKIT_SHELL_CALL"
_SYNTAX = frozenset(";|&<>()`$\n")
_SYNTAX_IN_QUOTES = frozenset("`$")
# Set before the program starts, without Python code between fork and exec. The program and its words are parameters.
_LIMITED = 'ulimit -c 0; ulimit -t "$1"; ulimit -f "$2"; shift 2; exec "$@"'
_BLOCK = 512


def shell(
    allow: Collection[str],
    *,
    cwd: str | os.PathLike[str] = ".",
    timeout: float = 30.0,
    max_output: int = 30_000,
    max_file_bytes: int = 1_000_000_000,
    env: Mapping[str, str] | None = None,
) -> Tool[[str], Any]:
    """A tool `run_command` that runs one program of `allow`, and gives back its exit code and output.

    `allow`: names of programs ("ls") or the words that a command starts with ("git status"). No shell reads the
    command: pipes, redirections, variables and the like are refused, wildcards are not expanded. The program gets no
    input, the folder `cwd`, and an environment of PATH, HOME (which is `cwd`), LANG and `env`, nothing else of this
    process's.

    After `timeout` seconds, and when the run is cancelled, its whole process group is killed; so is what it left
    running. Programs that leave the group are found by a mark in their environment, on Linux. `max_output`: bytes of
    output that are shown, half from its start and half from its end. On POSIX systems a process may use `timeout`
    seconds of processor time (rounded up), and write files of `max_file_bytes`; new files are for this user alone.

    Raises ValueError when `allow` has an entry that is no command, or `cwd` is no folder. The module says what an
    allow-list does not protect from.
    """
    prefixes = tuple(tuple(shlex.split(entry)) for entry in ([allow] if isinstance(allow, str) else allow))
    folder = Path(os.path.realpath(cwd))
    if not all(prefixes) or not folder.is_dir():
        raise ValueError(f"shell: an empty entry in allow={list(allow)!r}, or cwd={os.fspath(cwd)!r} is no folder")
    base = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LANG": os.environ.get("LANG", "C.UTF-8")}
    windows = {name: os.environ[name] for name in ("SYSTEMROOT", "PATHEXT", "TEMP") if os.name == "nt" and name in os.environ}
    runner = _Runner(prefixes, folder, timeout, max_output, max_file_bytes, {**base, **windows, **(env or {})})
    names = ", ".join(" ".join(prefix) for prefix in prefixes)
    return tool(
        runner.run_command,
        description=f"{_DESCRIPTION} Allowed: {names}.",
        destructive=True,
        open_world=True,
        output="untrusted",
    )


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
    max_file_bytes: int
    env: Mapping[str, str] = field(repr=False)

    async def run_command(self, command: str) -> str:
        """Run one program and return its exit code and output.

        Args:
            command: The program and its arguments; quote an argument that has blanks or special characters.
        """
        words = self._checked(command)
        mark = os.urandom(16).hex()
        output = _Output(self.max_output)
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: output,
            *self._limited(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.cwd,
            env={**self.env, _MARK: mark},
            start_new_session=True,
            umask=0o077,
        )
        try:
            ended = await _within(self.timeout, output.exited)
        finally:
            _kill(transport, mark)
            try:
                await _within(2.0, output.exited)
                await _within(0.5, output.closed)  # a process that could not be killed may hold the pipe open
            finally:
                transport.close()
        status = _status(transport.get_returncode()) if ended else f"killed: still running after {self.timeout:g} seconds"
        return f"[{status}; {count(output.total, 'byte')} of output]\n{output.text()}".rstrip("\n")

    def _checked(self, command: str) -> list[str]:
        """The words of an allowed command, its program as a whole path; raises ModelRetry for any other."""
        if "\0" in command:
            raise ModelRetry("the command has a NUL character, which no program can be given; leave it out")
        if syntax := _shell_syntax(command):
            raise ModelRetry(
                f"{syntax!r} is shell syntax, and there is no shell; run one program, or put the text in single quotes"
            )
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ModelRetry(f"the command cannot be split into words: {error}") from None
        if not any(tuple(words[: len(prefix)]) == prefix for prefix in self.allow):
            names = ", ".join(" ".join(prefix) for prefix in self.allow)
            raise ModelRetry(f"{command[:200]!r} is not allowed; a command starts with one of: {names or 'nothing'}")
        program = shutil.which(words[0], path=self.env["PATH"])
        if not program or not Path(program).is_absolute():
            raise ModelRetry(f"{words[0]!r} is allowed but not installed here; use another program")
        return [program, *words[1:]]

    def _limited(self, words: list[str]) -> list[str]:
        if os.name != "posix":
            return words
        limits = [str(int(self.timeout) + 1), str(-(-self.max_file_bytes // _BLOCK))]
        return ["/bin/sh", "-c", _LIMITED, "sh", *limits, *words]


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


def _shell_syntax(command: str) -> str:
    """The first character that a shell would act on, outside of quotes that take it literally; or nothing."""
    quote = ""
    escaped = False
    for char in command:
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif (not quote and char in _SYNTAX) or (quote == '"' and char in _SYNTAX_IN_QUOTES):
            return char
    return ""


def _kill(transport: asyncio.SubprocessTransport, mark: str) -> None:
    """Kill the process, its group, and whatever carries the mark."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
    with suppress(ProcessLookupError):
        transport.kill()
    for _ in range(3):  # a process may be forking while the list is read
        for pid in (marked := [*_marked(mark)]):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not marked:
            break


def _marked(mark: str) -> Iterator[int]:
    """Processes that were started with the mark in their environment; none where there is no /proc."""
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
