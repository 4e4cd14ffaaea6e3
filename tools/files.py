"""Files under one root folder: read, list, find, search, and with `write` write.

`_paths` says what the tools do not protect from: hard links, and mounts inside the root.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from agentkit import ModelRetry, ToolRegistry

from ._child import AT_ONCE
from ._paths import Parts, Root
from ._search import Budget, checked_glob, matches, search, walk
from ._text import clip, count, decode, encoding_lost, ends_with_crlf, line_start, looks_binary, mark_of, visible

__all__ = ["file_tools"]

_LONGEST_LINE = 2000
_BATCH = 8_000_000


def file_tools(
    root: str | os.PathLike[str],
    *,
    write: bool = False,
    hidden: bool = False,
    file_mode: int = 0o600,
    max_bytes: int = 10_000_000,
    max_chars: int = 50_000,
    max_results: int = 200,
    max_entries: int = 100_000,
    max_total_bytes: int | None = None,
    seconds: float = 10.0,
) -> ToolRegistry:
    """Tools for the files under `root`: read_file, list_files, find_files, grep, and with `write` write_file.

    Nothing outside the root is reached: absolute paths, `..` and links that lead out are refused. Names that begin with
    a dot (.env, .git) are neither shown nor served unless `hidden`. A path has at most 64 names.

    `file_mode`: the mode of new files, by default for this user alone; new folders can also be entered by whoever may
    read. A file that is overwritten keeps its mode. `max_bytes`: the largest file that is read or written. `max_chars`:
    the longest result. `max_results`: the maximum number of names or lines in a result. `max_entries` and `seconds`:
    limits of one walk through folders; grep reads at most ten times `max_bytes` in all. `max_total_bytes`: a write that
    would make everything under the root larger than this is refused; None sets no limit.

    Raises ValueError when the root is not a folder, or `file_mode` is not between 0 and 0o777.
    """
    served = Root.of(root, hidden=hidden, mode=file_mode)
    files = _Files(served, max_bytes, max_chars, max_results, max_entries, max_total_bytes, seconds)
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
    searches: threading.Semaphore = field(default_factory=partial(threading.Semaphore, AT_ONCE), repr=False)

    def read_file(
        self,
        path: str,
        start_line: Annotated[int, Field(ge=1)] = 1,
        max_lines: Annotated[int, Field(ge=1, le=10_000)] = 1000,
        line_numbers: bool = False,
    ) -> str:
        """Read a text file. The first line of the result says which lines are shown and how many there are.

        Args:
            path: Path of the file, from the root folder.
            start_line: First line to show, counted from 1.
            max_lines: Maximum number of lines to show.
            line_numbers: Put its number before each line.
        """
        data = self._load(path)
        name = visible(path)
        if looks_binary(data):
            return f"[{name}: a binary file of {count(len(data), 'byte')}; not shown]"
        text, note = decode(data)
        total = text.count("\n") + (not text.endswith("\n")) if text else 0
        if start_line > max(1, total):
            raise ModelRetry(f"{path!r} has {count(total, 'line')}; ask for start_line of 1 to {max(1, total)}")
        shown = self._fitting(_lines(text, start_line - 1, min(total, start_line - 1 + max_lines)), start_line * line_numbers)
        last = start_line - 1 + len(shown)
        notes = [f"[{name}: {_span(start_line, last, total)}, {count(len(data), 'byte')}]", note, *_form(data, text)]
        if last < total:
            shown.append(f"[cut: showed {len(shown):,} of {count(total, 'line')}; ask for start_line={last + 1}]")
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
        found = [name for name, _ in self._matching(path, checked_glob(pattern), budget)]
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
        with self.searches:
            return self._grep(path, checked_glob(glob), pattern, regex=regex, ignore_case=ignore_case)

    def _grep(self, path: str, glob: str, pattern: str, *, regex: bool, ignore_case: bool) -> str:
        budget, tally = self._budget(), _Tally()
        lines: list[str] = []
        total = 0
        for batch in _batches(self._texts(path, glob, budget, tally)):
            texts = [data for _, data in batch]
            room = self.max_results - len(lines)
            hits, found = search(texts, pattern, regex=regex, ignore_case=ignore_case, most=room, seconds=budget.left)
            total += found
            lines += [f"{batch[hit.text][0]}:{hit.line + 1}: {hit.shown}" for hit in hits]
        found_lines = self._listed(lines, total, "matching line", budget)
        return "\n".join(filter(None, ["" if total else f"[no line has {pattern[:200]!r}]", found_lines, tally.note]))

    def write_file(self, path: str, content: str, mode: Literal["create", "overwrite", "append"] = "create") -> str:
        """Write a text file. New files are UTF-8. A file keeps its byte order mark, and CR LF as its line ends.

        No other encoding is kept: an overwritten file becomes UTF-8, and the result says so.

        Args:
            path: Path of the file, from the root folder. Folders that are missing are made.
            content: The text to write.
            mode: "create" refuses when the file exists, "overwrite" replaces it as a whole, "append" adds to its end.
        """
        *folders, name = self.root.resolve(path) or ("",)
        if not name:
            raise ModelRetry(f"{path!r} is the root folder; name a file in it")
        with self.root.explained(path):
            before = b"" if mode == "create" else self._before((*folders, name))
            data = _encoded(path, content, before, mode)
            self._check_size(path, len(data) + (len(before) if mode == "append" else 0), len(data))
            with self.root.enter(tuple(folders), create=True) as folder:
                if mode == "append":
                    folder.append(name, data)
                else:
                    folder.put(name, data, replace=mode == "overwrite")
        lost = encoding_lost(before) if mode == "overwrite" else ""
        done = "added" if mode == "append" else f"written as UTF-8; {lost}" if lost else "written"
        return f"[{visible(path)}: {count(len(data), 'byte')} {done}]"

    def _budget(self) -> Budget:
        return Budget(self.seconds, self.max_entries)

    def _load(self, path: str) -> bytes:
        parts = self.root.resolve(path)
        if not parts:
            raise ModelRetry(f"{path!r} is the root folder, not a file; use list_files")
        with self.root.explained(path):
            return self._read(parts)

    def _read(self, parts: Parts, *, cut: bool = False) -> bytes:
        """The whole file, which must not be too large unless it may be cut."""
        with self.root.enter(parts[:-1]) as folder, folder.read(parts[-1]) as file:
            data = file.read(self.max_bytes + 1)
            if len(data) > self.max_bytes and not cut:
                size = os.fstat(file.fileno()).st_size
                raise ModelRetry(f"has {size:,} bytes; files of up to {self.max_bytes:,} bytes are read")
            return data

    def _before(self, parts: Parts) -> bytes:
        """The file that is written to, as far as it may be read; nothing when it is new."""
        try:
            return self._read(parts, cut=True)
        except FileNotFoundError:
            return b""

    def _fitting(self, lines: Iterable[str], first: int = 0) -> list[str]:
        """The lines that fit into a result, with their numbers when `first` is the number of the first one."""
        shown: list[str] = []
        room = self.max_chars
        for offset, line in enumerate(lines):
            text = clip(line, min(_LONGEST_LINE, self.max_chars))
            text = f"{first + offset}\t{text}" if first else text
            room -= len(text) + 1
            if room < 0 and shown:
                break
            shown.append(text)
        return shown

    def _listed(self, lines: list[str], total: int, noun: str, budget: Budget) -> str:
        shown = self._fitting(lines)
        if len(shown) < total:
            shown.append(
                f"[cut: showed {len(shown):,} of {count(total, noun)}; ask for a smaller folder or a narrower pattern]"
            )
        return "\n".join([*shown, budget.note] if budget.note else shown)

    def _matching(self, path: str, pattern: str, budget: Budget) -> Iterator[tuple[str, Parts]]:
        """Names and places of the files below a folder that fit a glob."""
        start = self.root.resolve(path)
        with self.root.explained(path):
            for entry in walk(self.root, start, budget):
                if entry.kind == "file" and matches(entry.parts[len(start) :], pattern):
                    yield entry.name, entry.parts

    def _texts(self, path: str, glob: str, budget: Budget, tally: _Tally) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the text files to search, as far as the budget goes."""
        room = 10 * self.max_bytes
        for name, parts in self._searched(path, glob, budget):
            try:
                data = self._read(parts)
            except (ModelRetry, OSError):
                data = b"\0"
            room -= len(data)
            if room < 0 or not budget.take():
                budget.spent = budget.spent or f"after {count(10 * self.max_bytes, 'byte')}"
                return
            if looks_binary(data):
                tally.skipped += 1
            else:
                tally.searched += 1
                yield name, data

    def _searched(self, path: str, glob: str, budget: Budget) -> Iterator[tuple[str, Parts]]:
        parts = self.root.resolve(path)
        with self.root.explained(path):
            is_file = bool(parts) and self._is_file(parts)
        return iter([(visible("/".join(parts)), parts)]) if is_file else self._matching(path, glob, budget)

    def _is_file(self, parts: Parts) -> bool:
        with suppress(FileNotFoundError), self.root.enter(parts[:-1]) as folder:
            return not stat.S_ISDIR(folder.status(parts[-1]).st_mode)
        return False

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


def _lines(text: str, first: int, end: int) -> Iterator[str]:
    """The lines from number `first` to before `end`, counted from 0, without their line ends."""
    at = line_start(text, first) if first < end else 0
    for _ in range(first, end):
        stop = text.find("\n", at)
        yield text[at:stop].removesuffix("\r") if stop >= 0 else text[at:]
        at = stop + 1


def _form(data: bytes, text: str) -> list[str]:
    """What a reader of the text cannot see and a writer has to know: line ends, the byte order mark, the encoding."""
    mark, encoding = mark_of(data)
    notes = ["[the lines end with CR LF, which write_file keeps]"] if ends_with_crlf(text) else []
    return [*notes, f"[{encoding[:6].upper().rstrip('-')} with a byte order mark, which write_file keeps]"] if mark else notes


def _encoded(path: str, content: str, before: bytes, mode: str) -> bytes:
    """The content in the encoding and with the line ends of the file that it goes to, which has the bytes `before`."""
    if mode == "append" and looks_binary(before):
        raise ModelRetry(f"{path!r} is a binary file; only text is appended")
    mark, encoding = mark_of(before)
    text, unreadable = decode(before)
    if unreadable and not mark and mode == "append" and not content.isascii():
        raise ModelRetry(f"{path!r} is not UTF-8, and its encoding is unknown; append ASCII alone")
    if unreadable and "\ufffd" in content:
        raise ModelRetry(f"{path!r} has unreadable bytes: each � in the content stands for one of them, which would be lost")
    if ends_with_crlf(text):
        content = content.replace("\r\n", "\n").replace("\n", "\r\n")
    try:
        data = (content.removeprefix("\ufeff") if mark else content).encode(encoding)
    except UnicodeEncodeError:
        raise ModelRetry("the content has half of a surrogate pair, which is no character; leave it out") from None
    return data if mode == "append" else mark + data


@dataclass(slots=True)
class _Tally:
    """How many files one search has read."""

    searched: int = 0
    skipped: int = 0

    @property
    def note(self) -> str:
        skipped = f"; skipped {count(self.skipped, 'file')} (binary, too large or unreadable)" if self.skipped else ""
        return f"[searched {count(self.searched, 'text file')}{skipped}]"


def _batches(texts: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """The same in lists of about 8 MB, so that memory does not grow with what is searched."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for name, data in texts:
        batch.append((name, data))
        size += len(data)
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
