"""Files under one root folder: read, list, find, search, and write when asked for.

What the tools do not protect from is written in `_paths`: hard links, and mounts inside of the root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Literal

from pydantic import Field

from agentkit import ModelRetry, ToolRegistry

from ._paths import Root
from ._search import Budget, Hit, matches, search, walk
from ._text import clip, count, decode, looks_binary

__all__ = ["file_tools"]

_LONGEST_LINE = 2000
_LONGEST_HIT = 300
_BATCH = 8_000_000


def file_tools(
    root: str | os.PathLike[str],
    *,
    write: bool = False,
    hidden: bool = False,
    max_bytes: int = 10_000_000,
    max_chars: int = 50_000,
    max_results: int = 200,
    max_entries: int = 100_000,
    max_total_bytes: int | None = None,
    seconds: float = 10.0,
) -> ToolRegistry:
    """Tools for the files under `root`: read_file, list_files, find_files, grep, and with `write` write_file.

    Nothing outside of the root is reached: absolute paths, `..` and links that lead out are refused. Names that begin
    with a dot (.env, .git) are neither shown nor served unless `hidden`.

    `max_bytes`: the biggest file that is read or written. `max_chars`: the longest result. `max_results`: most names or
    lines that are found. `max_entries` and `seconds`: what one walk through folders may cost; grep reads at most ten
    times `max_bytes` in all. `max_total_bytes`: the size of everything under the root that a write may not exceed;
    None does not count.

    Raises ValueError when the root is no folder.
    """
    files = _Files(Root.of(root, hidden=hidden), max_bytes, max_chars, max_results, max_entries, max_total_bytes, seconds)
    registry = ToolRegistry()
    for method in (files.read_file, files.list_files, files.find_files, files.grep):
        registry.tool(method, read_only=True, destructive=False, idempotent=True, open_world=False, output="untrusted")
    if write:
        registry.tool(files.write_file, destructive=True, open_world=False, sequential=True, sensitive=("path",))
    return registry


@dataclass(frozen=True, slots=True)
class _Files:
    root: Root
    max_bytes: int
    max_chars: int
    max_results: int
    max_entries: int
    max_total_bytes: int | None
    seconds: float

    def read_file(
        self,
        path: str,
        start_line: Annotated[int, Field(ge=1)] = 1,
        max_lines: Annotated[int, Field(ge=1, le=10_000)] = 1000,
        line_numbers: bool = False,
    ) -> str:
        """Read a text file. The first line of the result tells which lines are shown and how many there are.

        Args:
            path: Path of the file, from the root folder.
            start_line: First line to show, counted from 1.
            max_lines: Most lines to show.
            line_numbers: Put its number before each line.
        """
        data = self._load(path)
        if looks_binary(data):
            return f"[{path}: a binary file of {count(len(data), 'byte')}; not shown]"
        text, note = decode(data)
        ends = "[the lines end with CR LF]" if "\r\n" in text else ""
        lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
        if start_line > max(1, len(lines)):
            raise ModelRetry(f"{path!r} has {count(len(lines), 'line')}; ask for start_line of 1 to {max(1, len(lines))}")
        shown = self._fitting(lines[start_line - 1 : start_line - 1 + max_lines], start_line if line_numbers else None)
        last = start_line - 1 + len(shown)
        notes = [f"[{path}: {_span(start_line, last, len(lines))}, {count(len(data), 'byte')}]", note, ends]
        if last < len(lines):
            shown.append(f"[cut: showed {len(shown):,} of {count(len(lines), 'line')}; ask for start_line={last + 1}]")
        return "\n".join([*filter(None, notes), *shown])

    def list_files(self, path: str = ".") -> str:
        """List a folder: folders end with a slash, files have their size.

        Args:
            path: Path of the folder, from the root folder; "." is the root folder itself.
        """
        budget = self._budget()
        with self.root.explained(path):
            entries = list(walk(self.root, self.root.resolve(path), budget, deep=False))
        lines = []
        for entry in entries[: self.max_results]:
            name = entry.name.rpartition("/")[2]
            kinds = {"folder": f"{name}/", "file": f"{name} ({count(entry.size, 'byte')})"}
            lines.append(kinds.get(entry.kind, f"{name} ({entry.kind})"))
        return self._listed(lines, len(entries), "name", budget) or "[the folder is empty]"

    def find_files(self, pattern: str, path: str = ".") -> str:
        """Find files by name. Returns their paths from the root folder, one a line.

        Args:
            pattern: A glob such as "*.py" (a name in any folder), "src/**/*.py" (a path; ** is any number of folders).
            path: The folder to look in, from the root folder. The pattern is matched with the path below it.
        """
        budget = self._budget()
        found = list(self._matching(path, pattern, budget))
        return self._listed(found[: self.max_results], len(found), "file", budget) or f"[no file matches {pattern!r}]"

    def grep(self, pattern: str, path: str = ".", glob: str = "**", regex: bool = False, ignore_case: bool = False) -> str:
        """Find lines in text files. Returns path:line number: line.

        Args:
            pattern: The text to look for, or a Python regular expression if regex is true.
            path: The folder or file to search, from the root folder.
            glob: Which files, such as "*.py" or "src/**/*.py"; all by default.
            regex: Take the pattern as a regular expression, matched line by line.
            ignore_case: Take upper and lower case as the same.
        """
        if not pattern or "\n" in pattern:
            raise ModelRetry("the pattern is empty or has a line break; give a text that stands in one line")
        budget, tally = self._budget(), _Tally()
        lines: list[str] = []
        total = 0
        for batch in _batches(self._texts(path, glob, budget, tally)):
            texts = [text for _, text in batch]
            room = self.max_results - len(lines)
            hits, found = search(texts, pattern, regex=regex, ignore_case=ignore_case, most=room, seconds=budget.left)
            total += found
            for index, group in groupby(hits, lambda hit: hit.text):
                lines += _shown(batch[index][0], texts[index].split("\n"), group)
        found_lines = self._listed(lines, total, "matching line", budget)
        return "\n".join(filter(None, ["" if total else f"[no line has {pattern!r}]", found_lines, tally.note]))

    def write_file(self, path: str, content: str, mode: Literal["create", "overwrite", "append"] = "create") -> str:
        """Write a text file as UTF-8, whole or not at all. Folders that are missing are made.

        Args:
            path: Path of the file, from the root folder.
            content: The text to write.
            mode: "create" refuses when the file exists, "overwrite" replaces it, "append" adds to its end.
        """
        try:
            data = content.encode()
        except UnicodeEncodeError:
            raise ModelRetry("the content has half of a surrogate pair, which is no character; leave it out") from None
        *folders, name = self.root.resolve(path) or ("",)
        if not name:
            raise ModelRetry(f"{path!r} is the root folder; name a file in it")
        with self.root.explained(path):
            before = self._load(path) if mode == "append" and self._exists((*folders, name)) else b""
            self._check_size(path, len(before) + len(data), len(data))
            with self.root.enter(tuple(folders), create=True) as folder:
                folder.put(name, before + data, replace=mode != "create")
        return f"[{path}: {count(len(data), 'byte')} {'added' if mode == 'append' else 'written'}]"

    def _budget(self) -> Budget:
        return Budget(self.seconds, self.max_entries)

    def _load(self, path: str) -> bytes:
        parts = self.root.resolve(path)
        if not parts:
            raise ModelRetry(f"{path!r} is the root folder, not a file; use list_files")
        with self.root.explained(path), self.root.enter(parts[:-1]) as folder, folder.read(parts[-1]) as file:
            data = file.read(self.max_bytes + 1)
            if len(data) > self.max_bytes:
                size = os.fstat(file.fileno()).st_size
                raise ModelRetry(f"{path!r} has {size:,} bytes; files of up to {self.max_bytes:,} bytes are read")
            return data

    def _fitting(self, lines: list[str], first: int | None) -> list[str]:
        shown: list[str] = []
        room = self.max_chars
        for offset, line in enumerate(lines):
            text = clip(line, min(_LONGEST_LINE, self.max_chars))
            text = text if first is None else f"{first + offset}\t{text}"
            room -= len(text) + 1
            if room < 0 and shown:
                break
            shown.append(text)
        return shown

    def _listed(self, lines: list[str], total: int, noun: str, budget: Budget) -> str:
        shown = self._fitting(lines, None)
        if len(shown) < total:
            shown.append(
                f"[cut: showed {len(shown):,} of {count(total, noun)}; ask for a smaller folder or a narrower pattern]"
            )
        return "\n".join([*shown, budget.note] if budget.note else shown)

    def _matching(self, path: str, pattern: str, budget: Budget) -> Iterator[str]:
        start = self.root.resolve(path)
        with self.root.explained(path):
            for entry in walk(self.root, start, budget):
                if entry.kind == "file" and matches(entry.parts[len(start) :], pattern):
                    yield entry.name

    def _texts(self, path: str, glob: str, budget: Budget, tally: _Tally) -> Iterator[tuple[str, str]]:
        """Names and texts of the files to search, as far as the budget goes."""
        room = 10 * self.max_bytes
        for name in self._named(path, glob, budget):
            try:
                data = self._load(name)
            except ModelRetry:
                data = b"\0"
            room -= len(data)
            if room < 0 or not budget.take():
                budget.spent = budget.spent or f"after {count(10 * self.max_bytes, 'byte')}"
                return
            if looks_binary(data):
                tally.skipped += 1
            else:
                tally.searched += 1
                yield name, decode(data)[0].replace("\r\n", "\n")

    def _named(self, path: str, glob: str, budget: Budget) -> Iterator[str]:
        parts = self.root.resolve(path)
        with self.root.explained(path):
            is_file = bool(parts) and self._exists(parts) == "file"
        return iter(["/".join(parts)]) if is_file else self._matching(path, glob, budget)

    def _exists(self, parts: tuple[str, ...]) -> str:
        with suppress(FileNotFoundError), self.root.enter(parts[:-1]) as folder:
            mode = folder.status(parts[-1]).st_mode
            return "folder" if stat.S_ISDIR(mode) else "file"
        return ""

    def _check_size(self, path: str, size: int, added: int) -> None:
        if size > self.max_bytes:
            raise ModelRetry(f"{path!r} would have {size:,} bytes; files of up to {self.max_bytes:,} bytes are written")
        if self.max_total_bytes is None:
            return
        budget = self._budget()
        used = sum(entry.size for entry in walk(Root(self.root.path, True), (), budget) if entry.kind == "file")
        if used + added > self.max_total_bytes or budget.spent:
            room = max(0, self.max_total_bytes - used)
            raise ModelRetry(f"the root folder has room for {count(room, 'byte')} more; {path!r} needs {added:,}")


def _span(first: int, last: int, total: int) -> str:
    return count(total, "line") if (first, last) in ((1, total), (1, 0)) else f"lines {first:,}-{last:,} of {total:,}"


@dataclass(slots=True)
class _Tally:
    """How many files one search has read."""

    searched: int = 0
    skipped: int = 0

    @property
    def note(self) -> str:
        skipped = f"; passed over {count(self.skipped, 'file')} (binary, too big or unreadable)" if self.skipped else ""
        return f"[searched {count(self.searched, 'text file')}{skipped}]"


def _batches(texts: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The same in lists of about 8 MB, so that memory does not grow with what is searched."""
    batch: list[tuple[str, str]] = []
    size = 0
    for name, text in texts:
        batch.append((name, text))
        size += len(text)
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _shown(name: str, lines: list[str], hits: Iterable[Hit]) -> list[str]:
    return [f"{name}:{hit.line + 1}: {clip(lines[hit.line], _LONGEST_HIT, around=hit.column)}" for hit in hits]
