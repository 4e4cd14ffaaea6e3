"""Walks a root folder, matches names, searches lines: all of it bounded in time and amount."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentkit import ModelRetry

from ._child import run_child
from ._paths import DEEPEST, Entry, Parts, Root, kind_of
from ._text import count

__all__ = ["Budget", "Hit", "checked_glob", "matches", "search", "walk"]

_LONGEST_GLOB = 1000
_LONGEST_HIT = 300
_CHILD_MEMORY = 150_000_000


class Hit(NamedTuple):
    """A line that matches: the index of its text, its number from 0, and the line, or the part of it round the match."""

    text: int
    line: int
    shown: str


@dataclass(slots=True)
class Budget:
    """What one walk may cost. `spent` says what ran out; it is empty until then."""

    seconds: float
    entries: int
    started: float = 0.0
    seen: int = 0
    spent: str = ""

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def left(self) -> float:
        """The seconds left, at least 0.1."""
        return max(0.1, self.started + self.seconds - time.monotonic())

    def take(self) -> bool:
        """Count one more entry; False when the budget is spent."""
        self.seen += 1
        if self.seen > self.entries:
            self.spent = f"after {count(self.entries, 'name')}"
        elif time.monotonic() - self.started > self.seconds:
            self.spent = f"after {self.seconds:g} seconds"
        return not self.spent

    @property
    def note(self) -> str:
        """A note for the model when the walk was cut short, else nothing."""
        return f"[cut: stopped {self.spent}; there may be more; name a smaller folder as path]" if self.spent else ""


def walk(root: Root, start: Parts, budget: Budget, *, deep: bool = True) -> Iterator[Entry]:
    """Everything below a folder, sorted by name, a folder before its contents, until the budget is spent.

    Links are reported and not followed. The walk goes as deep as a path may, 64 levels. Raises OSError when `start` cannot
    be opened; folders below it that cannot be opened are skipped.
    """
    stack = _children(root, start, budget)
    while stack:
        entry = stack.pop()
        yield entry
        if deep and entry.kind == "folder" and len(entry.parts) < DEEPEST and not budget.spent:
            try:
                stack += _children(root, entry.parts, budget)
            except OSError:
                continue


def _children(root: Root, parts: Parts, budget: Budget) -> list[Entry]:
    found = []
    with root.enter(parts) as folder:
        for name, status in folder.scan():
            if name.startswith(".") and not root.hidden:
                continue
            if not budget.take():
                break
            found.append(Entry((*parts, name), kind_of(status.st_mode), status.st_size))
    return sorted(found, key=lambda entry: entry.parts, reverse=True)


def checked_glob(pattern: str) -> str:
    """The pattern for `matches`; raises ModelRetry if it is too long.

    A bracket without its partner stands for itself. It is put into brackets, since `fnmatch` looks for the partner of
    each one up to the end of the pattern.
    """
    if len(pattern) > _LONGEST_GLOB:
        raise ModelRetry(f"the file pattern has {len(pattern):,} characters; allowed: {_LONGEST_GLOB:,}; write a shorter one")
    head, closing, tail = pattern.rpartition("]")
    return f"{head}{closing}{tail.replace('[', '[[]')}"


def matches(parts: Sequence[str], pattern: str) -> bool:
    """Whether a path fits a glob: `*`, `?`, `[a-z]` within a name, `**` for any number of folders.

    A pattern without a slash is matched with the last name alone. The number of steps is at most the product of the
    numbers of parts, and a path of `walk` has at most 64.
    """
    globs = [part for part in pattern.split("/") if part not in ("", ".")]
    if "/" not in pattern and pattern != "**":
        return fnmatch.fnmatchcase(parts[-1], pattern)
    at = glob = 0
    retry: tuple[int, int] | None = None
    while at < len(parts):
        if glob < len(globs) and globs[glob] == "**":
            glob += 1
            retry = (at, glob)
        elif glob < len(globs) and fnmatch.fnmatchcase(parts[at], globs[glob]):
            at, glob = at + 1, glob + 1
        elif retry:
            retry = (retry[0] + 1, retry[1])
            at, glob = retry
        else:
            return False
    return all(part == "**" for part in globs[glob:])


def search(
    texts: Sequence[bytes], pattern: str, *, regex: bool, ignore_case: bool, most: int, seconds: float
) -> tuple[list[Hit], int]:
    """The first `most` lines that match, and how many match in all.

    A child process searches. It is killed after `seconds`, and its memory is limited; ModelRetry says so, or what is
    wrong with a regular expression.
    """
    job = {"pattern": pattern, "regex": regex, "ignore_case": ignore_case, "most": most, "line": _LONGEST_HIT}
    sizes = [len(text) for text in texts]
    shown = f"the {'regular expression' if regex else 'search for'} {pattern[:200]!r}"
    advice = "avoid nested repeats such as (a+)+, search fewer files, or use regex=false" if regex else "search fewer files"
    memory = _CHILD_MEMORY + 8 * sum(sizes)
    try:
        answer = run_child("_grep", {**job, "sizes": sizes}, texts, seconds=seconds, memory=memory)
    except TimeoutError:
        raise ModelRetry(f"{shown} took more than {seconds:.1f} seconds; {advice}") from None
    except ChildProcessError as error:
        raise ModelRetry(f"{shown} failed here; {advice}") from error
    if answer.get("error") == "memory":
        raise ModelRetry(f"{shown} needs more memory than it may have; {advice}")
    if "error" in answer:
        problem = answer["error"][:200]
        raise ModelRetry(f"{pattern[:200]!r} is not a regular expression: {problem}; correct it or use regex=false")
    return [Hit(*hit) for hit in answer["hits"]], answer["total"]
