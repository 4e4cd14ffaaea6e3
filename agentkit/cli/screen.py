"""The output of the live view: a terminal with colours and a spinner, or plain lines. Both accept untrusted text."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Protocol, TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

from .text import clean
from .wrap import Wrapper, rows_of_parts

__all__ = ["PlainScreen", "Screen", "TerminalScreen", "console_for", "is_plain", "open_screen"]


class Screen(Protocol):
    """Takes untrusted text: control characters are shown as escapes, and markup has no meaning."""

    @property
    def fancy(self) -> bool:
        """Whether it has colours and a spinner."""

    @property
    def width(self) -> int:
        """About how long a line may be, in characters."""

    def write(self, text: str, style: str = "") -> None:
        """Write text that continues the current line."""

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line of its own."""

    def status(self, text: str) -> None:
        """Write a line of parts, which stand between middle dots. At a terminal, it breaks only between parts."""

    def end_line(self) -> None:
        """Go to a new line, unless one has just begun."""

    def wait(self, message: str) -> None:
        """Show that the program waits, if the message can be removed again."""

    def stop_waiting(self) -> None:
        """Remove the message of `wait`."""


class PlainScreen:
    """Plain lines, no control codes: for files, pipes, CI and NO_COLOR."""

    fancy = False
    width = 160

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._in_line = False

    def write(self, text: str, style: str = "") -> None:
        """Write and flush immediately, so that a stream is shown as it comes."""
        shown = clean(text)
        if shown:
            self._file.write(shown)
            self._file.flush()
            self._in_line = not shown.endswith("\n")

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line of its own."""
        self.end_line()
        self.write(f"{text}\n", style)

    def status(self, text: str) -> None:
        """Write a line."""
        self.line(text)

    def end_line(self) -> None:
        """Go to a new line, unless one has just begun."""
        if self._in_line:
            self.write("\n")

    def wait(self, message: str) -> None:
        """Do nothing: the message could not be removed."""

    def stop_waiting(self) -> None:
        """Do nothing."""


class TerminalScreen:
    """A terminal, written by rich."""

    fancy = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_line = False
        self._status: Status | None = None
        self._wrapper, self._style = Wrapper(), ""

    @property
    def width(self) -> int:
        """The columns of the terminal."""
        return self._console.width

    def write(self, text: str, style: str = "") -> None:
        """Write text. Lines break between words, and a word is shown when it is whole."""
        self.stop_waiting()
        if style != self._style:
            self._print(self._wrapper.rest(self.width))
            self._style = style
        shown = clean(text)
        if shown:
            self._print(self._wrapper.add(shown, self.width))
            self._in_line = not shown.endswith("\n")

    def _print(self, shown: str) -> None:
        if shown:
            self._console.print(Text(shown, self._style), end="", soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line of its own."""
        self.end_line()
        self.write(f"{text}\n", style)

    def status(self, text: str) -> None:
        """Write a dim line, which breaks only between its parts."""
        self.line(rows_of_parts(text, self.width), "dim")

    def end_line(self) -> None:
        """Go to a new line, unless one has just begun."""
        if self._in_line:
            self.write("\n", self._style)

    def wait(self, message: str) -> None:
        """Show a spinner on a line of its own."""
        self.end_line()
        shown = Text(clean(message), "dim")
        shown.truncate(max(self.width - 4, 10), overflow="ellipsis")
        if self._status is None:
            self._status = self._console.status(shown)
            self._status.start()
        else:
            self._status.update(shown)

    def stop_waiting(self) -> None:
        """Remove the spinner."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def is_plain(file: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """Whether to write plain lines: without a terminal, with a dumb one, in CI, or if NO_COLOR is set and not empty."""
    return not file.isatty() or bool(env.get("NO_COLOR")) or bool(env.get("CI")) or env.get("TERM") == "dumb"


def console_for(file: TextIO) -> Console:
    """A rich console that interprets no markup. For plain lines, it writes no control codes."""
    if is_plain(file):
        return Console(
            file=file, force_terminal=False, color_system=None, markup=False, emoji=False, highlight=False, width=120
        )
    return Console(file=file, markup=False, emoji=False, highlight=False)


def open_screen() -> Screen:
    """The screen for the standard output."""
    return PlainScreen(sys.stdout) if is_plain(sys.stdout) else TerminalScreen(console_for(sys.stdout))
