from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentkit import ModelRetry, ToolRegistry
from agentkit_tools import file_tools
from agentkit_tools._paths import Root

posix_only = pytest.mark.skipif(os.name == "nt", reason="named pipes, modes and links are POSIX here")


def test_writing(tools: ToolRegistry, root: Path) -> None:
    assert tools["write_file"]("new/dir/f.txt", "é\n") == "[new/dir/f.txt: 3 bytes written]"
    with pytest.raises(ModelRetry, match=r"'new/dir/f.txt' exists already; use mode 'overwrite' or 'append'"):
        tools["write_file"]("new/dir/f.txt", "other")
    assert tools["write_file"]("new/dir/f.txt", "b", "append") == "[new/dir/f.txt: 1 byte added]"
    assert (root / "new/dir/f.txt").read_bytes() == b"\xc3\xa9\nb"
    assert tools["write_file"]("new/dir/f.txt", "c", "overwrite") == "[new/dir/f.txt: 1 byte written]"
    assert tools["write_file"]("fresh", "d", "append") == "[fresh: 1 byte added]"
    assert [entry.name for entry in (root / "new/dir").iterdir()] == ["f.txt"]
    for path, words in ((".", "is the root folder"), ("src", "is a folder"), ("a.txt/b", "not a folder")):
        with pytest.raises(ModelRetry, match=words):
            tools["write_file"](path, "x", "overwrite")
    with pytest.raises(ModelRetry, match="surrogate"):
        tools["write_file"]("s", "\ud800")


@posix_only
def test_overwriting_keeps_the_mode_and_leaves_a_hard_link_alone(tools: ToolRegistry, root: Path) -> None:
    (root / "a.txt").chmod(0o750)
    os.link(root / "a.txt", root.parent / "twin")
    tools["write_file"]("a.txt", "new", "overwrite")
    assert stat.S_IMODE((root / "a.txt").stat().st_mode) == 0o750
    assert (root.parent / "twin").read_text() == "one\ntwo\nthree\n"


@posix_only
def test_what_is_made_is_for_this_user_alone_unless_said_otherwise(tools: ToolRegistry, root: Path) -> None:
    tools["write_file"]("new/f", "x")
    tools["write_file"]("new/g", "x", "append")
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("new", "new/f", "new/g")] == [0o700, 0o600, 0o600]
    shared = file_tools(root, write=True, file_mode=0o644)["write_file"]
    shared("shared/f", "x")
    shared("shared/g", "x", "append")
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("shared", "shared/f", "shared/g")] == [0o755, 0o644, 0o644]


@pytest.mark.parametrize("mode", ["600", -1, 0o1000, 0o4755, 600, 6.0, None])
def test_what_is_no_mode_is_refused_when_the_tools_are_made(root: Path, mode: Any) -> None:
    with pytest.raises(ValueError, match=r"file_mode is .*; give a number from 0 to 0o777, such as 0o600"):
        file_tools(root, write=True, file_mode=mode)


def test_appending_loses_nothing_of_what_others_append(tools: ToolRegistry, root: Path) -> None:
    def write(writer: int) -> None:
        for number in range(25):
            tools["write_file"]("log", f"{writer}-{number}\n", "append")

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    with (root / "log").open("a") as other:  # a program that keeps its log open
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        other.write("other\n")
    lines = (root / "log").read_text().splitlines()
    assert sorted(lines) == sorted(["other", *(f"{writer}-{number}" for writer in range(4) for number in range(25))])


@posix_only
def test_what_is_no_ordinary_file_is_not_appended_to(tools: ToolRegistry, root: Path) -> None:
    (root.parent / "outside").write_text("as it was")
    os.link(root.parent / "outside", root / "twin")
    with pytest.raises(ModelRetry, match="'twin' is a hard link, which is not appended to; mode 'overwrite' replaces it"):
        tools["write_file"]("twin", "x", "append")
    tools["write_file"]("twin", "new", "overwrite")
    assert ((root.parent / "outside").read_text(), (root / "twin").read_text()) == ("as it was", "new")
    os.mkfifo(root / "pipe")
    (root / "data").write_bytes(b"\0\1")
    for name, words in (("pipe", "is a named pipe"), ("src", "is a folder"), ("data", "is a binary file; only text")):
        with pytest.raises(ModelRetry, match=words):
            tools["write_file"](name, "x", "append")
    with Root(root.resolve()).enter(()) as folder:
        (root / "link").symlink_to(root.parent / "secret")
        with pytest.raises((OSError, ModelRetry)):
            folder.append("link", b"x")
    assert (root.parent / "secret").read_text() == "canary"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_an_encoding_with_a_mark_is_kept(tools: ToolRegistry, root: Path, encoding: str) -> None:
    (root / "f").write_bytes("é\n".encode(encoding))
    tools["write_file"]("f", "漢\n", "append")
    assert (root / "f").read_bytes() == "é\n漢\n".encode(encoding)
    tools["write_file"]("f", "\ufeffü\n", "overwrite")
    assert (root / "f").read_bytes() == "ü\n".encode(encoding)


@pytest.mark.parametrize(("before", "after"), [("a\r\nb\r\n", "x\r\ny\r\n"), ("a\r\nb\nc\n", "x\ny\r\n"), ("", "x\ny\r\n")])
def test_line_ends_are_kept(tools: ToolRegistry, root: Path, before: str, after: str) -> None:
    (root / "f").write_bytes(before.encode())
    tools["write_file"]("f", "x\ny\r\n", "append")
    assert (root / "f").read_bytes() == (before + after).encode()
    (root / "f").write_bytes(before.encode("utf-16"))
    tools["write_file"]("f", "x\ny\r\n", "overwrite")
    assert (root / "f").read_bytes() == after.encode("utf-16")


def test_big_endian_is_kept_too(tools: ToolRegistry, root: Path) -> None:
    (root / "f").write_bytes(b"\xfe\xff\0a")
    tools["write_file"]("f", "b", "append")
    assert (root / "f").read_bytes() == b"\xfe\xff\0a\0b"


def test_an_unknown_encoding_is_neither_mixed_nor_destroyed(tools: ToolRegistry, root: Path) -> None:
    (root / "f").write_bytes(b"caf\xe9\n")
    with pytest.raises(ModelRetry, match="'f' is not UTF-8, and its encoding is unknown; append ASCII alone"):
        tools["write_file"]("f", "né\n", "append")
    shown = tools["read_file"]("f").splitlines()[-1]
    with pytest.raises(ModelRetry, match="each � in the content stands for one of them, which would be lost"):
        tools["write_file"]("f", f"{shown}!", "overwrite")
    tools["write_file"]("f", "plain\n", "append")
    assert (root / "f").read_bytes() == b"caf\xe9\nplain\n"
    tools["write_file"]("f", "né", "overwrite")
    assert (root / "f").read_text(encoding="utf-8") == "né"


@pytest.mark.parametrize(
    ("before", "note"),
    [
        ("café\n".encode("latin-1"), "before, it was not UTF-8, and its encoding is unknown"),
        ("漢字".encode("shift_jis"), "before, it was not UTF-8, and its encoding is unknown"),
        ("привет".encode("cp1251"), "before, it was not UTF-8, and its encoding is unknown"),
        ("hi\n".encode("utf-16-le"), "before, it was binary, or UTF-16 without a byte order mark"),
        ("hi\n".encode("utf-16-be"), "before, it was binary, or UTF-16 without a byte order mark"),
        (b"\x89PNG\r\n\x1a\n\0\0", "before, it was binary, or UTF-16 without a byte order mark"),
        (b"", ""),
        (b"x" + ("é" * 15).encode(), ""),  # of which 20 bytes are read, and one more
    ],
)
def test_an_encoding_that_is_not_kept_is_told(root: Path, before: bytes, note: str) -> None:
    write = file_tools(root, write=True, max_bytes=20)["write_file"]
    (root / "f").write_bytes(before)
    assert write("f", "é\n", "overwrite") == (f"[f: 3 bytes written as UTF-8; {note}]" if note else "[f: 3 bytes written]")
    assert (root / "f").read_bytes() == "é\n".encode()


def test_sizes_are_bounded_when_writing(root: Path) -> None:
    tools = file_tools(root, write=True, max_bytes=20, max_total_bytes=70)
    with pytest.raises(ModelRetry, match="would have 21 bytes; files of up to 20 bytes are written"):
        tools["write_file"]("f", "x" * 21)
    with pytest.raises(ModelRetry, match="would have 24 bytes"):
        tools["write_file"]("a.txt", "x" * 10, "append")
    used = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    tools["write_file"]("f", "x" * (70 - used))
    with pytest.raises(ModelRetry, match="has room for 0 bytes more; 'g' needs 1"):
        tools["write_file"]("g", "x")
    assert not (root / "g").exists()


def test_no_file_is_written_deeper_than_a_walk_goes(root: Path) -> None:
    """There `max_total_bytes` did not count it, and folders nested by the thousand break programs that remove them."""
    write = file_tools(root, write=True, max_total_bytes=1000)["write_file"]
    write("d/" * 63 + "f", "x" * 400)
    with pytest.raises(ModelRetry, match="has room for"):
        write("d/" * 63 + "g", "x" * 900)
    with pytest.raises(ModelRetry, match="is nested too deep: a path has at most 64 names"):
        write("d/" * 64 + "f", "x")


@posix_only
def test_a_crash_leaves_the_old_file_whole(root: Path) -> None:
    script = (
        "import resource, signal, sys; from agentkit_tools import file_tools;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
        "file_tools(sys.argv[1], write=True)['write_file']('a.txt', 'x' * 5000, 'overwrite')"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script, str(root)], env=env, check=False)
    assert done.returncode < 0
    (left,) = root.glob(".*.new")
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    assert (root / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert file_tools(root)["list_files"]() == "a.txt (14 bytes)\nsrc/"


def test_a_reader_never_sees_half_a_file(tools: ToolRegistry, root: Path) -> None:
    whole = {"a" * 200_000, "b" * 200_000}
    (root / "f").write_text("a" * 200_000)
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add((root / "f").read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for text in sorted(whole) * 10:
        tools["write_file"]("f", text, "overwrite")
    done.set()
    reader.join()
    assert seen <= whole


@posix_only
def test_a_file_that_changes_into_a_link_and_back_is_never_left_for_the_target(tools: ToolRegistry, root: Path) -> None:
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            (root.parent / "next").symlink_to(root.parent / "secret")
            (root.parent / "next").replace(root / "a.txt")
            (root.parent / "next").write_text("inside")
            (root.parent / "next").replace(root / "a.txt")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(1000):
            with suppress(ModelRetry):
                tools["write_file"]("a.txt", "x", "append")
            with suppress(ModelRetry):
                assert "canary" not in tools["read_file"]("a.txt")
    finally:
        done.set()
        swapping.join()
    assert (root.parent / "secret").read_text() == "canary"
