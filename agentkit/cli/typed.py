"""What the user of a chat types: messages at a terminal, or the lines of a pipe or file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from .screen import Screen
from .session import is_terminal

__all__ = ["Typed"]

_AGAIN = "Ctrl-C again ends the chat"


class _Reader(Protocol):
    interrupted: bool

    def read(self) -> str:
        """The next message. Raises EOFError at its end, and KeyboardInterrupt at Ctrl-C."""


class Typed:
    """Iterates over messages. `commands` are completed, and `history` is the file of what was typed before, if any."""

    def __init__(self, screen: Screen, commands: Mapping[str, str], history: Path | None = None) -> None:
        self._screen = screen
        is_at_terminal = is_terminal(sys.stdin) and is_terminal(sys.stdout)
        self._reader = _reader(commands, history) if is_at_terminal else None

    def interrupted(self) -> None:
        """Ctrl-C stopped an answer, so the next one may end the chat."""
        if self._reader is not None:
            self._reader.interrupted = True

    def __iter__(self) -> Iterator[str]:
        if self._reader is None:
            yield from sys.stdin or ()
            return
        while True:
            self._screen.line()
            try:
                message = self._reader.read()
            except EOFError:
                self._screen.line()
                return
            except KeyboardInterrupt:
                self._screen.line()
                if self._reader.interrupted:
                    return
                self._reader.interrupted = True
                self._screen.line(_AGAIN, "dim")
                continue
            self._reader.interrupted = False
            yield message


class _PlainReader:
    """The input line without prompt_toolkit."""

    interrupted = False

    def __init__(self) -> None:
        with contextlib.suppress(ImportError):  # not on Windows, where the console edits lines itself
            import readline  # noqa: F401

    def read(self) -> str:
        return input("you> ")


def _reader(commands: Mapping[str, str], history: Path | None) -> _Reader:
    """The best input line that there is: a dumb terminal cannot move the cursor, and prompt_toolkit may be missing."""
    if os.environ.get("TERM") == "dumb":
        return _PlainReader()
    try:
        from .editor import Editor
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("prompt_toolkit", "wcwidth"):
            raise
        return _PlainReader()
    return Editor(commands, history)
