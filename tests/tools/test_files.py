from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import ModelRetry, ToolRegistry
from agentkit_tools import file_tools
from agentkit_tools._paths import _WINDOWS_NAMES, HAS_DIR_FD, Root
from agentkit_tools._search import Budget, walk

posix_only = pytest.mark.skipif(os.name == "nt", reason="named pipes, modes and links are POSIX here")


OUTSIDE = [
    "../secret", "..", "src/../../secret", "/etc/passwd", "//etc/passwd", "/", "~/x", "~root/x", "~", "C:\\x", "C:/x",
    "..\\secret", "a\0b", "a\nb", "", "   ", "../app-secret/key", "src/../a.txt", "./../secret", "\ud800", "x" * 300,
    "d/" * 3000 + "x", "/proc/self/root/etc/passwd", "/dev/zero",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("name", ["read_file", "list_files", "write_file"])
def test_a_path_out_of_the_root_is_refused(tools: ToolRegistry, root: Path, name: str, path: str) -> None:
    more = ("x",) if name == "write_file" else ()
    with pytest.raises(ModelRetry) as caught:
        tools[name](path, *more)
    assert str(root.parent) not in str(caught.value)
    assert sorted(entry.name for entry in root.parent.iterdir()) == ["app", "app-secret", "secret"]


@pytest.mark.parametrize("path", ["%2e%2e/secret", "．．/secret", "a.txt ", " a.txt", "src/ ../secret"])
def test_a_path_is_taken_literally(tools: ToolRegistry, path: str) -> None:
    with pytest.raises(ModelRetry, match="does not exist"):
        tools["read_file"](path)


def test_dots_are_refused_even_inside(tools: ToolRegistry) -> None:
    with pytest.raises(ModelRetry, match=r"'src/../a.txt' contains '\.\.'; write the path from the root folder"):
        tools["read_file"]("src/../a.txt")


def test_an_absolute_path_inside_is_served_and_its_lookalike_is_not(tools: ToolRegistry, root: Path) -> None:
    assert "three" in tools["read_file"](str(root.resolve() / "a.txt"))
    with pytest.raises(ModelRetry, match="outside of the root folder"):
        tools["read_file"](f"{root.resolve()}-secret/key")


@posix_only
@pytest.mark.parametrize("dir_fds", [HAS_DIR_FD, False])
@pytest.mark.parametrize(
    ("target", "path"),
    [("../secret", "link"), ("/", "link/etc/passwd"), ("../app-secret", "link/key"),
     ("/proc/self/root", "link/etc/passwd"), ("..", "link/secret"), ("link", "link"), (".env", "link"),
     ("../missing", "link"), ("../app-secret", "link/new")],
)  # fmt: skip
def test_a_link_out_of_the_root_is_refused(root: Path, dir_fds: bool, target: str, path: str) -> None:
    (root / "link").symlink_to(target)
    tools = file_tools(root, write=True)
    with pytest.raises(ModelRetry):
        tools["read_file"](path)
    with pytest.raises(ModelRetry):
        tools["write_file"](path, "evil", "overwrite")
    served = Root(root.resolve(), dir_fds=dir_fds)
    with (
        pytest.raises((ModelRetry, OSError)),
        served.enter(served.resolve(path)[:-1]) as folder,
        folder.read(path) as file,
    ):
        file.read()
    assert (root.parent / "secret").read_text() == (root.parent / "app-secret" / "key").read_text() == "canary"
    assert not (root.parent / "missing").exists()
    assert not (root.parent / "app-secret" / "new").exists()


@posix_only
@pytest.mark.parametrize("dir_fds", [HAS_DIR_FD, False])
def test_a_link_that_is_put_in_place_after_the_check_is_not_followed(root: Path, dir_fds: bool) -> None:
    served = Root(root.resolve(), dir_fds=dir_fds)
    file, folder = served.resolve("src/main.py"), served.resolve("src/deep/x.py")
    (root / "src" / "main.py").unlink()
    (root / "src" / "main.py").symlink_to(root.parent / "secret")
    (root / "src" / "deep" / "x.py").unlink()
    (root / "src" / "deep").rmdir()
    (root / "src" / "deep").symlink_to(root.parent / "app-secret")
    with served.enter(file[:-1]) as opened, pytest.raises((OSError, ModelRetry)):
        opened.read(file[-1])
    with pytest.raises(OSError), served.enter(folder[:-1]):
        pass


@posix_only
def test_a_link_that_stays_inside_is_served(tools: ToolRegistry, root: Path) -> None:
    (root / "link").symlink_to("src")
    (root / "file").symlink_to("a.txt")
    assert "TODO" in tools["read_file"]("link/main.py")
    assert "main.py" in tools["list_files"]("link")
    tools["write_file"]("file", "new", "overwrite")
    assert (root / "file").is_symlink()
    assert (root / "a.txt").read_text() == "new"


@posix_only
def test_a_walk_follows_no_link(tools: ToolRegistry, root: Path) -> None:
    (root / "out").symlink_to(root.parent)
    (root / "loop").symlink_to(".")
    assert tools["find_files"]("**") == "a.txt\nsrc/deep/x.py\nsrc/main.py"
    assert "no line has" in tools["grep"]("canary")
    assert "loop (link)\nout (link)" in tools["list_files"]()


_names = st.sampled_from(["..", ".", "src", "deep", "a.txt", "", "~", "link", "in", "C:", "…", "..."])


@posix_only
@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(_names, max_size=6), st.booleans())
def test_no_path_escapes(tmp_path_factory: pytest.TempPathFactory, names: list[str], absolute: bool) -> None:
    base = tmp_path_factory.getbasetemp() / "escape"
    if not base.exists():
        (base / "app" / "src" / "deep").mkdir(parents=True)
        (base / "app" / "a.txt").write_text("inside")
        (base / "a.txt").write_text("canary")
        (base / "app" / "link").symlink_to("..")
        (base / "app" / "in").symlink_to("src")
    path = ("/" if absolute else "") + "/".join(names)
    tools = file_tools(base / "app", hidden=True)
    for name in ("read_file", "list_files"):
        try:
            shown = tools[name](path)
        except ModelRetry:
            continue
        assert "canary" not in shown
        assert "app/" not in shown
        resolved = Root.of(base / "app", hidden=True).resolve(path)
        assert (base / "app").joinpath(*resolved).resolve().is_relative_to((base / "app").resolve())


@posix_only
@pytest.mark.parametrize("kind", ["named pipe", "socket", "folder"])
def test_only_regular_files_are_read(tools: ToolRegistry, root: Path, kind: str) -> None:
    if kind == "named pipe":
        os.mkfifo(root / "thing")
    elif kind == "socket":
        short = os.open(root, os.O_RDONLY)  # a socket's address has room for 100 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{short}/thing")
        os.close(short)
    else:
        (root / "thing").mkdir()
    with pytest.raises(ModelRetry, match=f"'thing' is a {kind}, not a file"):
        tools["read_file"]("thing")
    with pytest.raises(ModelRetry, match=f"is a {kind}"):
        tools["write_file"]("thing", "x", "overwrite")
    assert "no line has" in tools["grep"]("x y z")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices")
def test_a_device_is_refused() -> None:
    with pytest.raises(ModelRetry, match="'zero' is a device, not a file"):
        file_tools("/dev")["read_file"]("zero")


def test_a_huge_file_is_refused(root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(10_000_000_000)
    tools = file_tools(root)
    started = time.monotonic()
    with pytest.raises(ModelRetry, match="'huge' has 10,000,000,000 bytes; files of up to 10,000,000 bytes are read"):
        tools["read_file"]("huge")
    assert "skipped 1 file (binary, too large or unreadable)" in tools["grep"]("one")
    assert time.monotonic() - started < 1.5


def test_reading_tells_what_there_is(tools: ToolRegistry, root: Path) -> None:
    assert tools["read_file"]("a.txt") == "[a.txt: 3 lines, 14 bytes]\none\ntwo\nthree"
    assert tools["read_file"]("a.txt", start_line=2, max_lines=1) == (
        "[a.txt: lines 2-2 of 3, 14 bytes]\ntwo\n[cut: showed 1 of 3 lines; ask for start_line=3]"
    )
    assert tools["read_file"]("a.txt", line_numbers=True, start_line=2).endswith("\n2\ttwo\n3\tthree")
    (root / "empty").touch()
    assert tools["read_file"]("empty") == "[empty: 0 lines, 0 bytes]"
    with pytest.raises(ModelRetry, match=r"'a.txt' has 3 lines; ask for start_line of 1 to 3"):
        tools["read_file"]("a.txt", start_line=4)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\xef\xbb\xbfbom", "[f: 1 line, 6 bytes]\n[UTF-8 with a byte order mark, which write_file keeps]\nbom"),
        (b"\xff\xfea\0", "[f: 1 line, 4 bytes]\n[UTF-16 with a byte order mark, which write_file keeps]\na"),
        (b"\0\0\xfe\xff\0\0\0a", "[f: 1 line, 8 bytes]\n[UTF-32 with a byte order mark, which write_file keeps]\na"),
        (b"caf\xe9 \xff", "[f: 1 line, 6 bytes]\n[not valid utf-8: 2 unreadable characters shown as �]\ncaf� �"),
        (b"\x89PNG\0\0", "[f: a binary file of 6 bytes; not shown]"),
        (b"a\r\nb\r\n", "[f: 2 lines, 6 bytes]\n[the lines end with CR LF, which write_file keeps]\na\nb"),
        (b"a\r\n\n\rb\r", "[f: 3 lines, 7 bytes]\na\n\n\rb\r"),
        ("a\x0bb\u2028c".encode(), "[f: 1 line, 6 bytes]\na\x0bb\u2028c".replace("6 bytes", "7 bytes")),
    ],
)
def test_bytes_as_text(tools: ToolRegistry, root: Path, data: bytes, shown: str) -> None:
    (root / "f").write_bytes(data)
    assert tools["read_file"]("f") == shown


def test_reading_is_cut_with_counts(root: Path) -> None:
    (root / "long").write_text("".join(f"{number:09}\n" for number in range(1234)) + "x" * 5000)
    shown = file_tools(root, max_chars=1000)["read_file"]("long")
    assert shown.endswith("[cut: showed 100 of 1,235 lines; ask for start_line=101]")
    last = file_tools(root)["read_file"]("long", start_line=1235)
    assert last.endswith("... [cut: showed 2,000 of 5,000 characters of this line]")


def test_a_missing_file_is_told_the_nearest(tools: ToolRegistry) -> None:
    with pytest.raises(ModelRetry, match=r"'src/mian.py' does not exist; nearest: src/main.py"):
        tools["read_file"]("src/mian.py")
    with pytest.raises(ModelRetry, match=r"'scr/deep/x.py' does not exist; nearest: src$"):
        tools["read_file"]("scr/deep/x.py")
    with pytest.raises(ModelRetry, match="not a folder"):
        tools["read_file"]("a.txt/b")
    with pytest.raises(ModelRetry, match=r"'nosuch' does not exist; there are: a.txt, src$"):
        tools["list_files"]("nosuch")


@posix_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(tools: ToolRegistry, root: Path) -> None:
    (root / "a.txt").chmod(0)
    with pytest.raises(ModelRetry, match="the system does not permit that"):
        tools["read_file"]("a.txt")


@pytest.mark.parametrize("path", [".env", "src/.git/config", "./.env"])
def test_hidden_names_are_not_served(tools: ToolRegistry, root: Path, path: str) -> None:
    with pytest.raises(ModelRetry, match="is hidden"):
        tools["read_file"](path)
    with pytest.raises(ModelRetry, match="is hidden"):
        tools["write_file"](path, "x", "overwrite")
    assert ".env" not in tools["list_files"]()
    assert "canary" in file_tools(root, hidden=True)["read_file"](".env")
    assert ".env:1: KEY=canary" in file_tools(root, hidden=True)["grep"]("canary")


def test_listing(tools: ToolRegistry, root: Path) -> None:
    assert tools["list_files"]() == "a.txt (14 bytes)\nsrc/"
    assert tools["list_files"]("src") == f"deep/\nmain.py ({(root / 'src' / 'main.py').stat().st_size} bytes)"
    (root / "none").mkdir()
    assert tools["list_files"]("none") == "[the folder is empty]"
    with pytest.raises(ModelRetry, match=r"'a.txt' is not a folder"):
        tools["list_files"]("a.txt")


def test_many_names_are_cut_with_counts(root: Path) -> None:
    for number in range(30):
        (root / f"f{number:02}.log").touch()
    tools = file_tools(root, max_results=10)
    assert tools["find_files"]("*.log").split("\n")[9:] == [
        "f09.log", "[cut: showed 10 of 30 files; ask for a smaller folder or a narrower pattern]",
    ]  # fmt: skip
    assert "[cut: showed 10 of 32 names;" in tools["list_files"]()
    few = file_tools(root, max_entries=5)["find_files"]("*")
    assert "[cut: stopped after 5 names; there may be more" in few


def test_writing_is_asked_for_and_labels_are_honest(root: Path) -> None:
    assert [item.name for item in file_tools(root)] == ["read_file", "list_files", "find_files", "grep"]
    assert all(item.read_only and item.idempotent and item.output == "untrusted" for item in file_tools(root))
    write = file_tools(root, write=True)["write_file"]
    assert write.destructive
    assert not write.read_only
    with pytest.raises(ValueError, match="not an existing folder"):
        file_tools(root / "missing")
    with pytest.raises(ValueError, match="not an existing folder"):
        file_tools(root / "a.txt")


def test_through_the_tools(tools: ToolRegistry) -> None:
    assert asyncio.run(tools["read_file"].call('{"path": "a.txt", "max_lines": 1}')).startswith("[a.txt: lines 1-1 of 3")
    with pytest.raises(ValueError, match="start_line"):
        asyncio.run(tools["read_file"].call({"path": "a.txt", "start_line": 0}))


@pytest.mark.parametrize("dir_fds", [HAS_DIR_FD, False])
def test_a_walk_is_sorted_and_needs_no_descriptors(root: Path, dir_fds: bool) -> None:
    served = Root(root.resolve(), dir_fds=dir_fds)
    found = [entry.name for entry in walk(served, (), Budget(5, 100))]
    assert found == ["a.txt", "src", "src/deep", "src/deep/x.py", "src/main.py"]
    with served.enter(("src", "fresh"), create=True) as folder:
        folder.put("f", b"1", replace=False)
    with pytest.raises(FileExistsError), served.enter(("src", "fresh")) as folder:
        folder.put("f", b"2", replace=False)
    assert (root / "src" / "fresh" / "f").read_bytes() == b"1"


@posix_only
def test_no_descriptor_is_left_open(tools: ToolRegistry, root: Path) -> None:
    before = len([*Path("/dev/fd").iterdir()])
    for path in ("a.txt", "src/main.py", "missing", "src", "a.txt/b"):
        with suppress(ModelRetry):
            tools["read_file"](path)
        tools["find_files"]("**")
    assert len([*Path("/dev/fd").iterdir()]) == before


ODD = ["a\nb.txt: 1", "\x1b[31mred", "x\u202etxt.exe", "tab\t", "line\u2028", "tag\U000e0041", "zero\u200bwidth"]


@posix_only
def test_a_name_cannot_imitate_the_lines_round_it(tools: ToolRegistry, root: Path) -> None:
    for name in ODD:
        (root / name).write_text("odd name\n")
    shown = [tools["list_files"](), tools["find_files"]("*"), tools["grep"]("odd name")]
    for text in shown:
        assert r"a\nb.txt: 1" in text and r"\x1b[31mred" in text and r"x\u202etxt.exe" in text
        assert text.replace("\n", "").isprintable()
        assert len(text.split("\n")) == len(ODD) + (2 if text is shown[0] else 3 if text is shown[1] else 1)
    with pytest.raises(ModelRetry) as caught:
        tools["read_file"]("a_b.txt: 1")
    assert r"nearest: a\nb.txt: 1" in str(caught.value)
    for name in ("\u202fnarrow space", "नमस्ते", "👩\u200d💻"):
        (root / name).write_text("fine name\n")
        assert f"{name}:1: fine name" in tools["grep"]("fine name", glob=name)


def test_names_that_are_not_utf8_are_shown(tools: ToolRegistry, root: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert "�.txt" in tools["list_files"]()
    assert "�.txt" in tools["find_files"]("*.txt")
    assert "[searched 4 text files]" in tools["grep"]("one")


@posix_only
@pytest.mark.parametrize("name", ["a\nb.txt", "a\u202eb.txt", "a\\nb.txt", "\x1b" * 100, "e\u2028/in\x7f", "e\\x/f"])
def test_a_name_is_taken_back_as_it_is_shown(tools: ToolRegistry, root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("found\n")
    (path,) = [line for line in tools["find_files"]("**").splitlines() if "\\" in line]
    assert tools["read_file"](path).splitlines()[1:] == ["found"]
    assert tools["grep"]("found", path).splitlines()[0] == f"{path}:1: found"
    tools["write_file"](path, "new", "overwrite")
    assert (root / name).read_text() == "new"
    with pytest.raises(ModelRetry, match="exists already"):
        tools["write_file"](path, "new")
    folder, _, listed = path.rpartition("/")
    assert f"{listed} (3 bytes)" in tools["list_files"](folder or ".")
    with pytest.raises(ModelRetry, match="is not a path from the root folder"):
        tools["write_file"](f"{path}\\x", "new")


@posix_only
def test_names_that_are_shown_alike_are_not_opened(tools: ToolRegistry, root: Path) -> None:
    for name in ("a\nb", "a\\nb"):
        (root / name).write_text("x")
    with pytest.raises(ModelRetry, match="may be any of 2 files, whose names look alike"):
        tools["read_file"]("a\\nb")


@posix_only
def test_a_shown_name_opens_nothing_hidden_or_outside(tools: ToolRegistry, root: Path) -> None:
    (root / ".e\nv").write_text("canary")
    (root.parent / "out\nside").write_text("canary")
    (root / "src" / "link\n").symlink_to(root.parent / "out\nside")
    (root / "up").symlink_to(root.parent)
    for path, words in (
        (".e\\nv", "is not a path from the root folder"),
        (".e\nv/x\\n", "control character"),
        (".env/x\\n", "is hidden"),
        ("src/link\\n", "leads out of the root"),
        ("up/out\\nside", "leads out of the root"),
        ("..\\out\\nside", "is not a path from the root folder"),
        ("\\x2e\\x2e/secret", "is not a path from the root folder"),
    ):
        with pytest.raises(ModelRetry, match=words):
            tools["read_file"](path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_that_is_not_unicode_is_taken_back_as_it_is_shown(tools: ToolRegistry, root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff.txt")).write_text("found\n")
    assert tools["find_files"]("bad*") == "bad\ufffd.txt"
    assert tools["read_file"]("bad\ufffd.txt").splitlines()[1:] == ["found"]
    assert tools["grep"]("found", "bad\ufffd.txt").startswith("bad\ufffd.txt:1: found")
    with pytest.raises(ModelRetry, match="nearest: bad\ufffd"):
        tools["read_file"]("bad.txt")
    assert tools["write_file"]("new\ufffd", "x") == "[new\ufffd: 1 byte written]"


def test_a_path_of_many_unreadable_names_takes_no_time(tools: ToolRegistry) -> None:
    began = time.process_time()
    with pytest.raises(ModelRetry, match="is nested too deep"):
        tools["read_file"]("/".join("\ufffd" * 900))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", ["CON", "aux.txt", "COM1", "lpt²", "Com³.log", "nul ", "a:b", "x."])
def test_what_windows_reserves_is_no_name_there(name: str) -> None:
    assert _WINDOWS_NAMES.fullmatch(name)
    assert not _WINDOWS_NAMES.fullmatch("COM10") and not _WINDOWS_NAMES.fullmatch("console")
