"""How a command ends: its exit code, and one clear message when something went wrong."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import typer

from ..errors import AgentError, MissingKey, SettingsError, ToolDefinitionError
from ..run.result import RunResult
from .text import clean

__all__ = ["Exit", "UsageError", "complain", "exit_for", "reported"]


class Exit(IntEnum):
    """The exit codes."""

    ANSWER = 0
    FAILED = 1
    """The run failed: a model error, an answer of the wrong form, a crash."""
    USAGE = 2
    """Wrong usage, a missing key or a setting that cannot work."""
    LIMIT = 3
    """The run ended at a limit."""
    APPROVAL = 4
    """A call waits for an approval, and nobody is there to ask."""
    INTERRUPTED = 130
    """Ctrl-C."""


class UsageError(AgentError):
    """The command was given something that it cannot use; the message says what would do."""


def exit_for(result: RunResult[Any]) -> Exit:
    """The exit code of a run that ended."""
    reason = result.stop_reason
    if reason.startswith("limit:"):
        return Exit.LIMIT
    return {"answer": Exit.ANSWER, "pending_approval": Exit.APPROVAL, "cancelled": Exit.INTERRUPTED}.get(reason, Exit.FAILED)


def complain(error: BaseException) -> Exit:
    """Tell stderr in one message what went wrong; the exit code for it."""
    match error:
        case KeyboardInterrupt():
            text, code = "interrupted", Exit.INTERRUPTED
        case UsageError() | MissingKey() | SettingsError() | ToolDefinitionError():
            text, code = str(error), Exit.USAGE
        case AgentError():
            text, code = f"{type(error).__name__}: {error}", Exit.FAILED
        case _:
            text, code = f"{type(error).__name__}: {error} (--debug shows where)", Exit.FAILED
    typer.echo(f"agentkit: {clean(text)}", err=True)
    return code


@contextmanager
def reported(*, debug: bool = False) -> Iterator[None]:
    """Turn what a command raises into a message and an exit code; with `debug` the traceback comes first."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):  # typer ends the process quietly when whoever read its output has gone
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the border of the program
        if debug:
            traceback.print_exception(error, file=sys.stderr)
        raise typer.Exit(complain(error)) from None
