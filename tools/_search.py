"""Walking a root folder, matching names, and searching lines: all of it bounded in time and amount."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentkit import ModelRetry

from ._paths import Entry, Parts, Root, kind_of
from ._text import count

__all__ = ["Budget", "Hit", "matches", "search", "walk"]

_DEEPEST = 64

# Python's regular expressions can take exponential time and hold the interpreter meanwhile. A process can be killed.
_WORKER = """
import json, re, sys
job = json.load(sys.stdin)
try:
    found = re.compile(job["pattern"], re.IGNORECASE if job["ignore_case"] else 0).search
except (re.error, OverflowError, RecursionError, MemoryError) as error:
    sys.exit(json.dump({"error": str(error) or type(error).__name__}, sys.stdout))
hits, total = [], 0
for index, text in enumerate(job["texts"]):
    for number, line in enumerate(text.split("\\n")):
        match = found(line)
        if match:
            total += 1
            if total <= job["most"]:
                hits.append([index, number, match.start()])
json.dump({"hits": hits, "total": total}, sys.stdout)
"""


class Hit(NamedTuple):
    """A line that matches: the index of its text, its number from 0, and the column from 0."""

    text: int
    line: int
    column: int


@dataclass(slots=True)
class Budget:
    """What one walk may cost. `spent` says, when it is over, what ran out; empty before that."""

    seconds: float
    entries: int
    started: float = 0.0
    seen: int = 0
    spent: str = ""

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds that are left, never below a tenth."""
        return max(0.1, self.started + self.seconds - time.monotonic())

    def take(self) -> bool:
        """Account for one more entry; False when the budget is spent."""
        self.seen += 1
        if self.seen > self.entries:
            self.spent = f"after {count(self.entries, 'name')}"
        elif time.monotonic() - self.started > self.seconds:
            self.spent = f"after {self.seconds:g} seconds"
        return not self.spent

    @property
    def note(self) -> str:
        """The note for the model when the walk was cut short, else nothing."""
        return f"[cut: stopped {self.spent}; there may be more; name a smaller folder as path]" if self.spent else ""


def walk(root: Root, start: Parts, budget: Budget, *, deep: bool = True) -> Iterator[Entry]:
    """Everything below a folder in the order of the names, a folder before what is in it, until the budget is spent.

    Links are reported and not followed; below 64 levels nothing is looked at. Raises OSError when `start` cannot be
    opened; folders below it that cannot be opened are passed over.
    """
    stack = _children(root, start, budget)
    while stack:
        entry = stack.pop()
        yield entry
        if deep and entry.kind == "folder" and len(entry.parts) - len(start) < _DEEPEST and not budget.spent:
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


def matches(parts: Sequence[str], pattern: str) -> bool:
    """Whether a path fits a glob: `*`, `?`, `[a-z]` within a name, `**` for any number of folders.

    A pattern without a slash is tried on the last name alone. Takes at most the product of both lengths in steps.
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
    texts: Sequence[str], pattern: str, *, regex: bool, ignore_case: bool, most: int, seconds: float
) -> tuple[list[Hit], int]:
    """The first `most` lines that contain the pattern, and how many there are in all.

    A regular expression runs in a process of its own that is killed after `seconds`; ModelRetry says so, or what is
    wrong with the expression.
    """
    if regex:
        return _search_regex(texts, pattern, ignore_case=ignore_case, most=most, seconds=seconds)
    find = re.compile(re.escape(pattern), re.IGNORECASE if ignore_case else 0).search  # a literal takes linear time
    hits: list[Hit] = []
    total = 0
    for index, text in enumerate(texts):
        for number, line in enumerate(text.split("\n")):
            if match := find(line):
                total += 1
                if total <= most:
                    hits.append(Hit(index, number, match.start()))
    return hits, total


def _search_regex(texts: Sequence[str], pattern: str, **options: Any) -> tuple[list[Hit], int]:
    seconds = options["seconds"]
    job = json.dumps({"texts": texts, "pattern": pattern, **options})
    env = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    command = [sys.executable, "-I", "-S", "-c", _WORKER]
    try:
        done = subprocess.run(command, input=job.encode(), capture_output=True, timeout=seconds, env=env, check=True)
    except subprocess.TimeoutExpired:
        raise ModelRetry(
            f"the regular expression {pattern!r} took more than {seconds:.1f} seconds; avoid nested repeats, (a+)+, "
            "search fewer files, or use regex=false"
        ) from None
    except (OSError, subprocess.CalledProcessError):
        raise ModelRetry(f"the regular expression {pattern!r} cannot be run here; use regex=false") from None
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise ModelRetry(f"{pattern!r} is not a regular expression: {answer['error']}; mend it or use regex=false")
    return [Hit(*hit) for hit in answer["hits"]], answer["total"]
