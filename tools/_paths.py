"""A folder that a path written by a model cannot leave.

A path is checked in two steps. First its links are resolved, and the result has to lie in the root. Then the resolved
path is walked folder by folder with descriptors that follow no link, so a link put in its place after the check is
refused too. Windows has no such descriptors: there the real path of each folder is checked again, which leaves a race of
a few microseconds.

Not covered: a hard link looks like any other file when it is read or overwritten (overwriting replaces the name and
leaves the other one alone; appending to it is refused), and a mount inside the root belongs to it. Names are compared as
the file system does: where it ignores case or Unicode forms, so do the tools.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from agentkit import ModelRetry

from ._text import nearest, visible

__all__ = ["DEEPEST", "Entry", "Folder", "Parts", "Root"]

Parts: TypeAlias = tuple[str, ...]

DEEPEST = 64
"""Max names in a path. Folders nested hundreds deep break programs that walk or remove them."""

HAS_DIR_FD = os.open in os.supports_dir_fd and os.scandir in os.supports_fd and hasattr(os, "O_NOFOLLOW")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | getattr(os, "O_BINARY", 0)
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)
_WINDOWS_NAMES = re.compile(r"(?i)(con|prn|aux|nul|(com|lpt)[\d¹²³]|conin\$|conout\$)\s*(\..*)?|.*[. ]|.*[:<>\"|?*].*")
_NOT_FROM_ROOT = "is not a path from the root folder; write it as 'docs/a.txt'"
_KINDS = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link"), (stat.S_ISFIFO, "named pipe"),
          (stat.S_ISSOCK, "socket"))  # fmt: skip


def kind_of(mode: int) -> str:
    """What a file mode says the thing is, in one word or two."""
    return next((name for test, name in _KINDS if test(mode)), "device")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder: its path from the root, what it is, and its size in bytes."""

    parts: Parts
    kind: str
    size: int

    @property
    def name(self) -> str:
        """Its path as the model sees it."""
        return visible("/".join(self.parts))


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder: `fd` where the system has folder descriptors, else its real path. New files get `mode`."""

    path: Path
    fd: int | None
    mode: int = 0o600

    def at(self, name: str) -> str:
        """What to give to an `os` function as the path, next to `dir_fd=folder.fd`."""
        return name if self.fd is not None else str(self.path / name)

    def status(self, name: str) -> os.stat_result:
        """The status of an entry itself, never of what it links to."""
        return os.stat(self.at(name), dir_fd=self.fd, follow_symlinks=False)

    def enter(self, name: str, *, create: bool) -> Folder:
        """The folder of that name in this one; a link is refused with OSError."""
        if create:
            with suppress(FileExistsError):
                os.mkdir(self.at(name), self.mode | (self.mode & 0o444) >> 2, dir_fd=self.fd)
        path = self.path / name
        if self.fd is not None:
            return Folder(path, os.open(name, _FOLDER, dir_fd=self.fd), self.mode)
        if not stat.S_ISDIR(self.status(name).st_mode) or os.path.realpath(path) != str(path):
            raise NotADirectoryError(name)
        return Folder(path, None, self.mode)

    def scan(self) -> Iterator[tuple[str, os.stat_result]]:
        """Names and statuses of what is in the folder, in no order; what vanishes meanwhile is left out."""
        with os.scandir(self.path if self.fd is None else self.fd) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    yield entry.name, self.status(entry.name)

    def read(self, name: str) -> IO[bytes]:
        """The regular file of that name, open for reading. Raises OSError for a link, ModelRetry for anything else."""
        return os.fdopen(self._open(name, _READ, self.status(name)), "rb")

    def _open(self, name: str, flags: int, before: os.stat_result | None) -> int:
        """The descriptor of a regular file; `before` is its status, None if it is new."""
        if before and not stat.S_ISREG(before.st_mode):
            raise ModelRetry(f"is a {kind_of(before.st_mode)}, not a file")
        fd = os.open(self.at(name), flags, self.mode, dir_fd=self.fd)
        after = os.fstat(fd)
        if not stat.S_ISREG(after.st_mode) or (self.fd is None and before and not os.path.samestat(before, after)):
            os.close(fd)
            raise ModelRetry("is not the regular file that it was a moment ago")
        return fd

    def append(self, name: str, data: bytes) -> None:
        """Add to the end of the file of that name, which is made if it is missing. What others add meanwhile stays.

        Raises OSError, or ModelRetry where the name is a device, a link, or a hard link: its other name may lie outside.
        """
        before = None
        with suppress(FileNotFoundError):
            before = self.status(name)
            if stat.S_ISDIR(before.st_mode):
                raise IsADirectoryError(name)
        fd = self._open(name, _APPEND, before)
        try:
            if before is None and hasattr(os, "fchmod"):
                os.fchmod(fd, self.mode)
            if os.fstat(fd).st_nlink > 1:
                raise ModelRetry("is a hard link, which is not appended to; mode 'overwrite' replaces it with a new file")
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def put(self, name: str, data: bytes, *, replace: bool) -> None:
        """Make or, with `replace`, replace the file of that name in one step: nobody ever sees half of it.

        A file that is replaced keeps its mode. A crash leaves at most a file `.<hex>.new`. Raises OSError, or ModelRetry
        where the name is a device or a link.
        """
        with suppress(FileNotFoundError):
            old = self.status(name).st_mode
            if not replace:
                raise FileExistsError(name)
            if not stat.S_ISREG(old):
                raise IsADirectoryError(name) if stat.S_ISDIR(old) else ModelRetry(f"is a {kind_of(old)}, not a file")
            return self._put(name, data, replace=True, mode=stat.S_IMODE(old))
        return self._put(name, data, replace=replace, mode=self.mode)

    def _put(self, name: str, data: bytes, *, replace: bool, mode: int) -> None:
        beside = f".{os.urandom(8).hex()}.new"
        try:
            with os.fdopen(os.open(self.at(beside), _CREATE, 0o600, dir_fd=self.fd), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), mode)
            self._move(beside, name, replace=replace)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self.at(beside), dir_fd=self.fd)

    def _move(self, source: str, target: str, *, replace: bool) -> None:
        old, new = self.at(source), self.at(target)
        if replace:
            os.replace(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        elif os.name == "nt":
            Path(old).rename(new)
        else:
            os.link(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd is not None:
            os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Root:
    """The folder that is served. `path` is its real path; with `hidden` names that begin with a dot are served too.

    New files get `mode`, new folders the same and the right to enter them for whoever may read.
    """

    path: Path
    hidden: bool = False
    mode: int = 0o600
    dir_fds: bool = HAS_DIR_FD

    @classmethod
    def of(cls, folder: str | os.PathLike[str], *, hidden: bool = False, mode: int = 0o600) -> Root:
        """The root at that folder; raises ValueError when there is none, or the mode is not a file mode."""
        if not isinstance(mode, int) or not 0 <= mode <= 0o777:
            raise ValueError(f"file_mode is {mode!r}; give a number from 0 to 0o777, such as 0o600")
        path = Path(os.path.realpath(Path(folder).expanduser()))
        if not path.is_dir():
            raise ValueError(f"the root {os.fspath(folder)!r} is not an existing folder; create it or name another one")
        return cls(path, hidden, mode)

    def resolve(self, given: str) -> Parts:
        """Where the path leads, links resolved, as names below the root; () is the root itself.

        The path may not exist. A name may be given as it is shown. Raises ModelRetry when the path is malformed, leads out of
        the root or is hidden.
        """
        names: Parts = ()
        split = self._split(given)
        _check_depth(given, split)
        for name in split:
            names += (self._on_disk(given, names, name) if "\\" in name or "\ufffd" in name else name,)
        return self._inside(given, names)

    def _on_disk(self, given: str, folder: Parts, name: str) -> str:
        """The only name in the folder that is shown in this form; if none is, the name itself, if a new file may have it."""
        found: list[str] = []
        with suppress(OSError), self.enter(self._inside(given, folder)) as opened:
            names = [entry for entry, _ in opened.scan() if self.hidden or not entry.startswith(".")]
            found = [entry for entry in names if visible(entry) == name]
        if len(found) > 1:
            raise ModelRetry(f"{given!r} may be any of {len(found)} files, whose names look alike; it cannot be opened")
        if not found and "\\" in name:
            raise ModelRetry(f"the path {given[:200]!r} {_NOT_FROM_ROOT}")
        return found[0] if found else name

    def _inside(self, given: str, lexical: Parts) -> Parts:
        self._check_hidden(given, lexical)
        try:
            real = Path(os.path.realpath(self.path.joinpath(*lexical)))
        except OSError:  # a link that is replaced at this very moment
            raise ModelRetry(f"{given!r} is changing; try again") from None
        if not real.is_relative_to(self.path):
            raise ModelRetry(f"{given!r} leads out of the root folder through a link; only what is inside is served")
        parts = real.relative_to(self.path).parts
        _check_depth(given, parts)
        self._check_hidden(given, parts)
        return parts

    def _split(self, given: str) -> Parts:
        reason = _malformed(given)
        if reason:
            raise ModelRetry(f"the path {given[:200]!r} {reason}")
        names = [name for name in given.split("/") if name not in ("", ".")]
        if given.startswith("/"):
            own = [name for name in self.path.as_posix().split("/") if name]
            if names[: len(own)] != own:
                raise ModelRetry(f"{given!r} is outside of the root folder; write the path from the root, such as 'docs/a.txt'")
            names = names[len(own) :]
        return tuple(names)

    def _check_hidden(self, given: str, parts: Parts) -> None:
        if not self.hidden and any(name.startswith(".") for name in parts):
            raise ModelRetry(f"{given!r} is hidden: names that begin with a dot are not served here")

    @contextmanager
    def enter(self, parts: Parts, *, create: bool = False) -> Iterator[Folder]:
        """The folder at those names, open; with `create` folders that are missing are made. Follows no link."""
        folder = Folder(self.path, os.open(self.path, _FOLDER) if self.dir_fds else None, self.mode)
        try:
            for name in parts:
                deeper = folder.enter(name, create=create)
                folder.close()
                folder = deeper
            yield folder
        finally:
            folder.close()

    @contextmanager
    def explained(self, given: str) -> Iterator[None]:
        """Turn what goes wrong with the path inside into a ModelRetry in the model's terms, without host paths."""
        try:
            yield
        except FileNotFoundError:
            raise ModelRetry(self._missing(given)) from None
        except FileExistsError:
            raise ModelRetry(f"{given!r} exists already; use mode 'overwrite' or 'append', or another name") from None
        except PermissionError:
            raise ModelRetry(f"{given!r}: the system does not permit that; choose another path") from None
        except NotADirectoryError:
            raise ModelRetry(f"{given!r} is not a folder, or a part of it is a file or a link") from None
        except IsADirectoryError:
            raise ModelRetry(f"{given!r} is a folder, not a file") from None
        except OSError as error:
            raise ModelRetry(f"{given!r} cannot be used: {error.strerror or type(error).__name__}") from None
        except ModelRetry as error:
            raise ModelRetry(f"{given!r} {error}" if str(error).startswith(("is ", "has ")) else str(error)) from None

    def _missing(self, given: str) -> str:
        parts = self.resolve(given)
        for depth, name in enumerate(parts):
            with suppress(OSError), self.enter(parts[:depth]) as folder:
                here = {entry for entry, _ in folder.scan() if self.hidden or not entry.startswith(".")}
                if name not in here:
                    before = "".join(f"{part}/" for part in parts[:depth])
                    return f"{given!r} does not exist{nearest(name, here, before=before)}"
        return f"{given!r} does not exist"


def _check_depth(given: str, parts: Parts) -> None:
    if len(parts) > DEEPEST:
        raise ModelRetry(f"{given[:200]!r} is nested too deep: a path has at most {DEEPEST} names")


def _malformed(given: str) -> str:
    """Why a path is refused as it is written, or nothing."""
    if not given.strip():
        return "is empty; '.' is the root folder"
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 for char in given):
        return "contains a control character"
    if (os.name == "nt" and "\\" in given) or re.match(r"[A-Za-z]:(/|$)", given) or re.match(r"~\w*(/|$)", given):
        return _NOT_FROM_ROOT
    names = given.split("/")
    if ".." in names:
        return "contains '..'; write the path from the root folder without it"
    if len(given.encode()) > 4000 or any(len(name.encode()) > 255 for name in names if "\\" not in name):
        return "is too long"
    if os.name == "nt" and any(_WINDOWS_NAMES.fullmatch(name) for name in names if name not in ("", ".")):
        return "contains a name that Windows reserves"
    return ""
