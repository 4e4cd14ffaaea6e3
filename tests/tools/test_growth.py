"""Every parser of text from outside takes time in proportion to the text: ten times as much takes at most 15 times as long.

Time is the processor time of this thread, the least of several attempts; what takes time with the square of its input
takes 100 times as long, on any machine.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from agentkit import ModelRetry
from agentkit_tools import calculator, clock, file_tools
from agentkit_tools._address import host_problem
from agentkit_tools._grep import lines_of, matcher
from agentkit_tools._search import checked_glob, matches
from agentkit_tools._sql import _cut_text
from agentkit_tools._text import clip, decode, line_start, nearest, visible
from agentkit_tools._words import split_command

Work = Callable[[], object]

LEAST = 0.002
"""Seconds of work that are long enough to be measured."""
FRESH = count()
"""Patterns that no cache knows yet."""


def seconds(work: Work) -> float:
    """The processor time of the work, per time that it is done."""
    times, best = 1, 0.0
    while best < LEAST:
        best, times = min(_timed(work, times) for _ in range(3)), times * 4
    return best / (times // 4)


def _timed(work: Work, times: int) -> float:
    gc.disable()  # it goes over all objects of this process
    try:
        began = time.thread_time()
        for _ in range(times):
            with suppress(ModelRetry):
                work()
        return time.thread_time() - began
    finally:
        gc.enable()


def grows_linearly(make: Callable[[int], Work], size: int) -> bool:
    return any(seconds(make(10 * size)) <= 15 * seconds(make(size)) for _ in range(12))  # the machine may be busy


def searched(pattern: str, *, ignore_case: bool = False) -> Callable[[str], object]:
    """A search for a literal text in the lines of another one."""
    find = matcher(pattern, regex=False, ignore_case=ignore_case)
    return lambda text: [find(line) for line in lines_of(text)]


def on(parse: Callable[[str], object], text: Callable[[int], str]) -> Callable[[int], Work]:
    """The parser with a text of a size; the text is made beforehand."""

    def make(size: int) -> Work:
        made = text(size)
        return lambda: parse(made)

    return make


def decoding(some: bytes) -> Callable[[int], Work]:
    return lambda size: partial(decode, some * size)


def glob(path: list[str]) -> Callable[[str], object]:
    return lambda pattern: matches(path, checked_glob(f"{next(FRESH)}{pattern}"))


TEXTS: dict[str, tuple[Callable[[int], Work], int]] = {
    "a command of one word": (on(split_command, lambda n: "x" * n), 3000),
    "a command of many words": (on(split_command, lambda n: "x " * (n // 2)), 3000),
    "a command of quotes": (on(split_command, lambda n: "'a'\"b\\$\"" * (n // 9)), 3000),
    "a command of backslashes": (on(split_command, lambda n: "\\a" * (n // 2)), 3000),
    "a quote that is not closed": (on(split_command, lambda n: '"' + "\\\\" * (n // 2 - 1)), 3000),
    "many quotes before one that is not closed": (on(split_command, lambda n: "''" * (n // 2 - 1) + '"a'), 3000),
    "a glob of stars": (on(glob(["a" * 200]), lambda n: "*a" * (n // 2) + "b"), 90),
    "a glob of opening brackets": (on(glob(["a" * 200]), lambda n: "]" + "[" * n), 90),
    "a glob of brackets": (on(glob(["a" * 200]), lambda n: "[a]" * (n // 3)), 90),
    "a glob of folders": (on(glob(["d"] * 60 + ["f"]), lambda n: "**/" * (n // 3) + "nope"), 90),
    "a path for a glob": (lambda n: partial(matches, ["d"] * n, "**/d/**/e"), 60),
    "known names": (lambda n: partial(nearest, "name", [f"nam{number}" for number in range(n)]), 200),
    "a misspelt word": (on(lambda word: nearest(word, ["ba" * 100] * 50), lambda n: "ab" * n), 1000),
    "a name of odd characters": (on(visible, lambda n: "\u202e\n" * n), 100),
    "bytes that are text": (decoding("é".encode()), 20_000),
    "bytes that are no text": (decoding(b"\xff"), 20_000),
    "broken UTF-16": (lambda n: partial(decode, b"\xff\xfe" + b"\x00\xd8" * n), 20_000),
    "lines that are counted": (on(lambda text: line_start(text, len(text) - 1), lambda n: "\n" * n), 20_000),
    "lines that are taken apart": (on(lambda text: [*lines_of(text)], lambda n: "a\r\n" * n), 5000),
    "a line that is cut": (on(lambda line: clip(line, 300, around=len(line) // 2), lambda n: "x" * n), 20_000),
    "a search for a text": (on(searched("a" * 1000 + "b"), lambda n: "a" * n), 20_000),
    "a search in any case": (on(searched("A" * 1000 + "b", ignore_case=True), lambda n: "a" * n), 20_000),
    "a search in short lines": (on(searched("Ö", ignore_case=True), lambda n: "ä\n" * n), 5000),
    "a search for a long text": (lambda n: partial(searched("a" * n + "b", ignore_case=True), "a" * 100_000), 1000),
    "a host of labels": (on(host_problem, lambda n: "a." * n + "a"), 100),
    "a host of digits": (on(host_problem, lambda n: "1" * n), 1000),
    "an expression of terms": (on(calculator(), lambda n: "max(" + "1," * (n // 2 - 5) + "1)"), 100),
    "an expression of parentheses": (on(calculator(), lambda n: "(" * n), 100),
    "an expression that is no arithmetic": (on(calculator(), lambda n: "a" * n), 100),
    "a time zone": (on(clock(), lambda n: "a" * n), 1000),
    "a schema that is cut": (on(lambda text: _cut_text(text, 1000), lambda n: "x" * n), 20_000),
}


@pytest.mark.parametrize("name", TEXTS)
def test_ten_times_the_text_takes_about_ten_times_the_time(name: str) -> None:
    make, size = TEXTS[name]
    assert grows_linearly(make, size)


def test_the_measure_finds_a_square() -> None:
    assert not grows_linearly(lambda n: lambda: sum(1 for a in range(n) for b in range(n)), 100)


@pytest.mark.parametrize("line", ["", "x", "é\r"])
def test_reading_the_end_of_a_file_takes_time_in_proportion(tmp_path: Path, line: str) -> None:
    read = file_tools(tmp_path)["read_file"]

    def make(lines: int) -> Work:
        (tmp_path / str(lines)).write_bytes(f"{line}\n".encode() * lines)
        return lambda: read(str(lines), start_line=lines - 5)

    assert grows_linearly(make, 50_000)
