"""The command line as tests use it: inside this process, and as a process of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from typer.testing import CliRunner

from agentkit.cli.app import app
from agentkit.testing.simulator.replies import AnyReply
from tests.kit import unmeasured

ROOT = Path(__file__).parent.parent.parent
SETTINGS = (
    "AGENTKIT_API_KEY", "AGENTKIT_BASE_URL", "AGENTKIT_MODEL", "DEEPSEEK_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL",
    "NO_COLOR", "CI", "FORCE_COLOR", "TTY_COMPATIBLE", "PYTHONUNBUFFERED",
)  # fmt: skip
COMMAND = (sys.executable, "-W", "error", "-m", "agentkit.cli")

TOOLS = '''
from typing import Literal

from agentkit import ModelRetry, ToolRegistry, tool


@tool(read_only=True, timeout=5)
def get_weather(city: str, unit: Literal["c", "f"] = "c") -> str:
    """Current weather in a city.

    Args:
        city: Name of the city.
    """
    if city == "Atlantis":
        raise ModelRetry("there is no weather under water")
    return f"18 degrees in {city}"


registry = ToolRegistry()


@registry.tool(approval=True)
def delete_file(name: str) -> str:
    """Delete a file."""
    return f"deleted {name}"


def helper() -> None: ...
'''


def script(*replies: AnyReply) -> list[AnyReply]:
    """Replies for the simulator, used in turn."""
    return [*replies]


def cli(*args: str, input: str | None = None) -> Any:
    """The result of the command: `exit_code`, `stdout`, `stderr`."""
    return CliRunner().invoke(app, args, input=input)


def tools_file(folder: Path, source: str = TOOLS, name: str = "my_tools.py") -> str:
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return str(path)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without what tells agentkit, or rich, what to do."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "PYTHONIOENCODING": "utf-8",
        "PYTEST_ADDOPTS": "",
        **extra,
    }


def process(*args: str, command: tuple[str, ...] = COMMAND, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as a process, run to its end."""
    options.setdefault("env", environment())
    return subprocess.run([*command, *args], capture_output=True, encoding="utf-8", timeout=30, check=False, **options)


def read_until(source: IO[bytes] | int, wanted: str, seconds: float = 20.0) -> str:
    """What `source` gives until `wanted` is in it, or, if that is empty, until it ends."""
    fd = source if isinstance(source, int) else source.fileno()
    got, end = b"", time.monotonic() + seconds
    while not wanted or wanted.encode() not in got:
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"no {wanted!r} within {seconds} seconds in {got!r}"
        try:
            piece = os.read(fd, 65_536)
        except OSError:  # how a pseudo-terminal ends on Linux
            piece = b""
        if not piece:
            assert not wanted, f"the output ended without {wanted!r}: {got!r}"
            break
        got += piece
    return got.decode()


@contextmanager
def started(*args: str, interrupted: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """The command with pipes. `interrupted`: it gets a SIGINT."""
    env = unmeasured(environment()) if interrupted else environment()
    with subprocess.Popen(
        [*COMMAND, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def on_a_terminal(
    *args: str, command: tuple[str, ...] = COMMAND, env: Mapping[str, str] | None = None, interrupted: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a pseudo-terminal, and our end of it. `interrupted`: it gets a SIGINT."""
    ours, theirs = os.openpty()
    shown = {"TERM": "xterm", "COLUMNS": "120", "LINES": "40", "PYTHONFAULTHANDLER": "1"}
    measured = environment(**{**shown, **(env or {})})
    given = unmeasured(measured) if interrupted else measured
    try:
        running = subprocess.Popen([*command, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=given)
        os.close(theirs)
        with running:
            try:
                yield running, ours
            except AssertionError as failed:
                running.send_signal(signal.SIGABRT)  # it says where it was
                with contextlib.suppress(AssertionError):
                    failed.add_note(f"the process was here: {read_until(ours, '', 5.0)}")
                raise
            finally:
                running.kill()
    finally:
        os.close(ours)
