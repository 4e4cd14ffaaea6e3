"""The exit codes of commands, and one clear message for an error."""

from __future__ import annotations

import shutil
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
from .wrap import wrapped

__all__ = ["Exit", "UsageError", "complain", "exit_for", "options_named", "reported"]


class Exit(IntEnum):
    """The exit codes of the program."""

    ANSWER = 0
    FAILED = 1
    """The run failed: a model error, an invalid answer, or a crash."""
    USAGE = 2
    """Wrong usage, a missing key, or an invalid setting."""
    LIMIT = 3
    """The run ended at a limit."""
    APPROVAL = 4
    """A call waits for an approval, and there is no terminal to ask at."""
    INTERRUPTED = 130
    """Ctrl-C."""


class UsageError(AgentError):
    """The command got an unusable argument. The message says what is allowed."""


def exit_for(result: RunResult[Any]) -> Exit:
    """The exit code for a result."""
    reason = result.stop_reason
    if reason.startswith("limit:"):
        return Exit.LIMIT
    return {
        "answer": Exit.ANSWER,
        "pending_approval": Exit.APPROVAL,
        "pending_result": Exit.APPROVAL,
        "cancelled": Exit.INTERRUPTED,
    }.get(reason, Exit.FAILED)


def complain(error: BaseException) -> Exit:
    """Print one message about the error to stderr, and return its exit code."""
    match error:
        case KeyboardInterrupt():
            text, code = "interrupted", Exit.INTERRUPTED
        case UsageError() | MissingKey() | SettingsError() | ToolDefinitionError():
            text, code = str(error), Exit.USAGE
        case AgentError():
            notes = [f" ({note})" for note in getattr(error, "__notes__", ()) if "\n" not in note and note not in str(error)]
            text, code = f"{type(error).__name__}: {error}{''.join(notes)}", Exit.FAILED
        case _:
            text, code = f"{type(error).__name__}: {error} (--debug shows where)", Exit.FAILED
    message = f"agentkit: {clean(text)}"
    is_at_terminal = sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()
    typer.echo(wrapped(message, shutil.get_terminal_size().columns) if is_at_terminal else message, err=True)
    return code


@contextmanager
def options_named(*names: str, **options: str) -> Iterator[None]:
    """Let an error about one of these arguments of Python name the option of the command: `new_id is` becomes `--new-id is`."""
    known = {**{name: f"--{name.replace('_', '-')}" for name in names}, **options}
    try:
        yield
    except SettingsError as error:
        name, verb, rest = str(error).partition(" is ")
        if name not in known:
            raise
        raise UsageError(f"{known[name]}{verb}{rest}") from error


@contextmanager
def reported(*, debug: bool = False) -> Iterator[None]:
    """Turn errors of a command into a message and an exit code. With `debug`, print the traceback first."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):  # typer exits quietly if the reader of its output is gone
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the border of the program
        if debug:
            traceback.print_exception(error, file=sys.stderr)
        raise typer.Exit(complain(error)) from None
