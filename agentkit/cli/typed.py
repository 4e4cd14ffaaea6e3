"""What the user of a chat types: lines from a terminal, a pipe or a file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from .screen import Screen
from .session import is_terminal

__all__ = ["typed_messages"]


def typed_messages(screen: Screen) -> Iterator[str]:
    """Messages from the terminal, with a prompt and editing, or the lines of a pipe or file."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        yield from sys.stdin or ()
        return
    with contextlib.suppress(ImportError):  # not on Windows, where the console edits lines itself
        import readline  # noqa: F401
    while True:
        screen.line()
        try:
            yield input("you> ")
        except EOFError:
            screen.line()
            return
