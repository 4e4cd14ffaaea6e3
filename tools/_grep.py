"""The child process of grep: finds the lines that match. A regular expression may take any time and memory here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeAlias

from ._child import serve
from ._text import clip, decode

__all__ = ["lines_of", "main", "matcher"]

Find: TypeAlias = Callable[[str], int]


def main() -> None:
    """Answer one job of `search` in `_search`."""
    serve(_search)


def _search(job: dict[str, Any], data: BinaryIO) -> dict[str, Any]:
    try:
        find = matcher(job["pattern"], regex=job["regex"], ignore_case=job["ignore_case"])
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        return {"error": str(error) or type(error).__name__}
    hits: list[tuple[int, int, str]] = []
    total = 0
    for index, size in enumerate(job["sizes"]):
        text = decode(data.read(size))[0]
        if not job["regex"] and find(text) < 0:  # most files, and quicker than line by line
            continue
        for number, line in enumerate(lines_of(text)):
            column = find(line)
            if column >= 0:
                total += 1
                if total <= job["most"]:
                    hits.append((index, number, clip(line, job["line"], around=column)))
    return {"hits": hits, "total": total}


def matcher(pattern: str, *, regex: bool, ignore_case: bool) -> Find:
    """A function that gives the column of the first match in a line, or -1. A plain text takes linear time."""
    if regex:
        search = re.compile(pattern, re.IGNORECASE if ignore_case else 0).search
        return lambda line: match.start() if (match := search(line)) else -1
    if ignore_case:
        folded = pattern.casefold()
        return lambda line: line.casefold().find(folded)
    return lambda line: line.find(pattern)


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text without their line ends, LF or CR LF; one at a time, since a list of them takes much memory."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end].removesuffix("\r")
        start = end + 1
    yield text[start:]
