"""A command as words, for running a program without a shell."""

from __future__ import annotations

import re

from agentkit import ModelRetry

__all__ = ["split_command"]

_LONGEST = 30_000
"""Characters of a command; Windows takes 32,767, and Linux 131,071 bytes in one word."""
_QUOTED = r"""[^"\\$`]*(?:\\.[^"\\$`]*)*"""
"""What a double-quoted text has in it, as far as a shell takes it literally."""
_TOKEN = re.compile(
    rf"""(?P<joined>\\\n)|(?P<blank>[ \t\r]+)|'(?P<single>[^']*)'|"(?P<double>{_QUOTED})"|"""
    r"""\\(?P<escaped>.)|(?P<plain>[^ \t\r\n'"\\;|&<>()`$]+)""",
    re.DOTALL,
)
_OPEN = re.compile(f'"{_QUOTED}', re.DOTALL)
_IMPOSSIBLE = re.compile("[\\0\\ud800-\\udfff]")
_ESCAPED_IN_QUOTES = re.compile(r"""\\([\\"$`])|\\\n""")


def split_command(command: str) -> list[str]:
    """The words of a command, with the quotes and backslashes of a POSIX shell taken off.

    Raises ModelRetry where a shell would do more than split: at an operator, a variable, a substitution, a line break.
    """
    if len(command) > _LONGEST:
        raise ModelRetry(f"the command has {len(command):,} characters; allowed: {_LONGEST:,}; put large texts into a file")
    if _IMPOSSIBLE.search(command):
        raise ModelRetry("the command has a NUL character or half of a surrogate pair, which no program can be given")
    words: list[str] = []
    parts: list[str] | None = None
    at = 0
    while at < len(command):
        found = _TOKEN.match(command, at)
        if not found:
            raise ModelRetry(_problem(command, at))
        at = found.end()
        kind = found.lastgroup or ""
        if kind == "blank":
            words += [] if parts is None else ["".join(parts)]
            parts = None
        elif kind != "joined":
            parts = [] if parts is None else parts
            parts.append(_ESCAPED_IN_QUOTES.sub(r"\1", found[kind]) if kind == "double" else found[kind])
    return words if parts is None else [*words, "".join(parts)]


def _problem(command: str, at: int) -> str:
    """Why the command cannot be split at that place."""
    if opened := _OPEN.match(command, at):
        at = opened.end()
    if at == len(command) or command[at] in "'\\":
        return "the command cannot be split into words: a quote is not closed, or a backslash stands at the end"
    return f"{command[at]!r} is shell syntax, and there is no shell; run one program, or put the text in single quotes"
