"""The process between `run_command` and the program. It sets limits, and ends together with all that was started.

It reads one job as a line of JSON from its standard input, and holds that input open: the input ends when the call is
over, or when the process that made the call is gone. Either way nothing of the program is left.

On Linux this process adopts what its descendants leave behind, so that a program cannot escape by a session of its own.
Where Landlock is available (Linux 5.19), or for root on any Linux, the program cannot look into processes outside:
neither their environment nor their memory. From Linux 6.12 on it cannot send them signals either.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ._child import set_limits

__all__ = ["main", "remove_folder"]

_DEATH_SIGNAL, _DROP_CAPABILITY, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 24, 36, 38  # prctl(2)
_CAPABILITIES = (16, 17, 19, 21, 27, 38, 39)
"""SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, MKNOD, PERFMON, BPF: with these root sees into other processes all the
same. A process that lacks a capability of another one cannot look into it, which holds without Landlock, too."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the numbers of these system calls on all architectures
_VERSION, _PATH_BENEATH, _REFER, _SCOPE_SIGNAL = 1, 1, 1 << 13, 1 << 1  # linux/landlock.h
_CANNOT_RUN = 126


def main() -> None:
    """Run the program of one job, and end as it ended."""
    job = json.loads(sys.stdin.buffer.readline())
    kernel = _kernel()
    if kernel:
        kernel.prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        code = _run(job, kernel)
    finally:
        if job["home"]:
            remove_folder(job["home"])
    if code < 0:
        set_limits(RLIMIT_CORE=0)
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _run(job: dict[str, Any], kernel: Any) -> int:
    posix: dict[str, Any] = {}
    if os.name == "posix":
        posix = {"start_new_session": True, "umask": 0o077, "preexec_fn": _restriction(job, kernel)}
    try:
        if job["home"]:
            Path(job["home"]).mkdir(0o700)
        program = subprocess.Popen(job["words"], stdin=subprocess.DEVNULL, cwd=job["cwd"], env=job["env"], **posix)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        os.write(1, f"the program cannot be run: {getattr(error, 'strerror', None) or type(error).__name__}\n".encode())
        return _CANNOT_RUN
    threading.Thread(target=_end_with_input, args=(program,), daemon=True).start()
    if os.name != "posix":
        return program.wait()
    code = _wait_for(program.pid)
    _kill_group(program.pid)
    _end_adopted()
    return code


def _end_with_input(program: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    if os.name == "posix":
        _kill_group(program.pid)
    else:
        program.kill()


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _wait_for(pid: int) -> int:
    """The exit code of that child, or minus its signal. Adopted children that end meanwhile are reaped."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _end_adopted() -> None:
    """Kill all children, and theirs, which become children of this process in turn."""
    with suppress(OSError):
        while True:
            os.waitpid(-1, os.WNOHANG)  # raises when there is none
            found = [*_children()]
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for _ in found:
                os.wait()


def _children() -> Iterator[int]:
    parent = os.getpid()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1]) == parent:
                yield int(folder.name)


def remove_folder(path: str) -> None:
    """Remove the folder and its content, including read-only folders, or the file or link that the program put in its place."""
    folder = Path(path)
    with suppress(OSError):
        folder.rmdir()
        return
    import shutil

    with suppress(OSError):
        folder.unlink()  # the program has made it a file or a link
    with suppress(RecursionError):  # about a thousand nested folders are left
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _make_writable(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _make_writable(folder: Path) -> None:
    """Let this user change the folder and all folders in it. Links are not followed."""
    with suppress(OSError):
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for path in inner:
            _make_writable(Path(path))


def _kernel() -> Any:
    """The C library on Linux, for what Python has no function for; elsewhere None."""
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _restriction(job: dict[str, Any], kernel: Any) -> Callable[[], None]:
    """What the program's process does to itself before it becomes the program."""
    limits: dict[str, int | None] = {**job["limits"], "RLIMIT_CORE": 0}
    if limits["RLIMIT_NPROC"] is not None:
        limits["RLIMIT_NPROC"] = _tasks_of_user() + limits["RLIMIT_NPROC"] if kernel else None

    def restrict() -> None:
        set_limits(**limits)
        if kernel:
            kernel.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            for capability in _CAPABILITIES:  # only root has them
                kernel.prctl(_DROP_CAPABILITY, capability, 0, 0, 0)
            kernel.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
            _enter_landlock(kernel)

    return restrict


def _tasks_of_user() -> int:
    """How many threads this user has. The limit of processes is one of all the user's threads together."""
    total = 0
    for threads in Path("/proc").glob("[0-9]*/task"):
        with suppress(OSError):
            status = threads.stat()
            total += (status.st_nlink - 2) * (status.st_uid == os.getuid())
    return total


def _enter_landlock(kernel: Any) -> None:
    """Put this process into a Landlock domain, which cannot look into processes outside of it.

    The domain forbids nothing else: the one right that it handles, to move files between folders, is granted below "/".
    """
    from ctypes import c_long

    version = kernel.syscall(c_long(_CREATE_RULESET), None, c_long(0), c_long(_VERSION))
    if version < 2:
        return
    attributes = struct.pack("=QQQ", _REFER, 0, _SCOPE_SIGNAL if version >= 6 else 0)
    ruleset = kernel.syscall(c_long(_CREATE_RULESET), attributes, c_long(len(attributes)), c_long(0))
    if ruleset < 0:
        return
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    rule = struct.pack("=Qi", _REFER, root)
    if kernel.syscall(c_long(_ADD_RULE), c_long(ruleset), c_long(_PATH_BENEATH), rule, c_long(0)) == 0:
        kernel.syscall(c_long(_RESTRICT_SELF), c_long(ruleset), c_long(0))
    os.close(root)
    os.close(ruleset)
