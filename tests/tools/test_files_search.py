from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentkit import ModelRetry, ToolRegistry
from agentkit_tools import file_tools
from agentkit_tools._search import checked_glob, matches


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("src/deep/x.py", "*.py", True),
        ("src/deep/x.py", "src/*.py", False),
        ("src/deep/x.py", "src/**/*.py", True),
        ("src/x.py", "src/**/*.py", True),
        ("src/x.py", "./src/x.py", True),
        ("src/x.py", "**", True),
        ("src/x.py", "**/src", False),
        ("a/b/c/b/c", "a/**/b/c", True),
        ("a/b/c/b/d", "a/**/b/c", False),
        ("x.pyc", "x.[a-p]y?", True),
        ("X.py", "x.py", False),
        ("a[1.txt", "a[1.*", True),
        ("a[1].txt", "a[[]1].txt", True),
        ("b].txt", "[ab]].txt", True),
        ("[b", "[", False),
    ],
)
def test_globs(path: str, pattern: str, fits: bool) -> None:
    assert matches(path.split("/"), checked_glob(pattern)) is fits


def test_a_long_glob_is_refused(tools: ToolRegistry) -> None:
    for name, options in (("find_files", {"pattern": "*a" * 501}), ("grep", {"pattern": "x", "glob": "**/" * 334})):
        with pytest.raises(ModelRetry, match=r"the file pattern has 1,002 characters; allowed: 1,000"):
            tools[name](**options)


def test_a_catastrophic_glob_takes_no_time() -> None:
    started = time.monotonic()
    assert not matches(["a"] * 60, "**/" * 60 + "b")
    assert not matches(["a" * 250], "*a" * 100 + "b")
    assert time.monotonic() - started < 0.2


def test_finding_is_below_the_folder(tools: ToolRegistry) -> None:
    assert tools["find_files"]("*.py") == "src/deep/x.py\nsrc/main.py"
    assert tools["find_files"]("deep/*.py", "src") == "src/deep/x.py"
    assert tools["find_files"]("*.rs") == "[no file matches '*.rs']"


MAIN = "src/main.py:2: # TODO: More"
ALL = "[searched 3 text files]"


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"pattern": "TODO"}, [MAIN, ALL]),
        ({"pattern": "todo", "ignore_case": True}, ["src/deep/x.py:1: todo", MAIN, ALL]),
        ({"pattern": r"^t\w+$", "regex": True}, ["a.txt:2: two", "a.txt:3: three", "src/deep/x.py:1: todo", ALL]),
        ({"pattern": "T..O", "regex": True, "ignore_case": True, "glob": "src/*.py"}, [MAIN, "[searched 1 text file]"]),
        ({"pattern": "t", "path": "a.txt"}, ["a.txt:2: two", "a.txt:3: three", "[searched 1 text file]"]),
        ({"pattern": "(", "path": "src"}, ["[no line has '(']", "[searched 2 text files]"]),
    ],
)  # fmt: skip
def test_grep(tools: ToolRegistry, options: dict[str, object], lines: list[str]) -> None:
    assert tools["grep"](**options).split("\n") == lines


@pytest.mark.parametrize("regex", [False, True])
def test_hits_are_cut_with_counts(root: Path, regex: bool) -> None:
    (root / "many").write_text("hit\n" * 1234 + "y" * 3000 + "hit!" + "y" * 3000)
    tools = file_tools(root, max_results=3)
    assert tools["grep"]("hit", regex=regex).split("\n")[2:4] == [
        "many:3: hit", "[cut: showed 3 of 1,235 matching lines; ask for a smaller folder or a narrower pattern]",
    ]  # fmt: skip
    shown = tools["grep"]("hit!", regex=regex)
    assert "hit!" in shown.split("\n")[0]
    assert "[cut: showed 300 of 6,004 characters of this line]" in shown


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "not a regular expression: missing \\)"),
        ("(?a)(?u)x", "not a regular expression: "),
        ("", "is empty"),
        ("a\nb", "line break"),
    ],
)
def test_a_broken_pattern_is_said(tools: ToolRegistry, pattern: str, words: str) -> None:
    with pytest.raises(ModelRetry, match=words):
        tools["grep"](pattern, regex=True)


def test_a_catastrophic_regex_is_killed_and_the_loop_stays_alive(root: Path) -> None:
    (root / "evil").write_text("a" * 60 + "!")
    tools = file_tools(root, seconds=0.4)

    async def go() -> int:
        ticks = 0
        call = asyncio.ensure_future(tools["grep"].call({"pattern": "(a+)+$", "regex": True}))
        while not call.done():
            await asyncio.sleep(0.005)
            ticks += 1
        with pytest.raises(ModelRetry, match=r"took more than 0.[34] seconds; avoid nested repeats"):
            call.result()
        return ticks

    assert asyncio.run(go()) > 20


def test_a_search_that_ignores_case_takes_linear_time(root: Path) -> None:
    (root / "f").write_text("a" * 3_000_000 + "\nSTRASSE straße\n")
    grep = file_tools(root, seconds=5.0)["grep"]
    assert grep("a" * 1200 + "b", ignore_case=True).startswith("[no line has")
    assert grep("Straße str", ignore_case=True).startswith("f:2: STRASSE straße")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory holds on Linux")
def test_a_regular_expression_has_bounded_memory(root: Path) -> None:
    (root / "f").write_text("ab" * 1_500_000)
    script = (
        "import resource, sys; from agentkit import ModelRetry; from agentkit_tools import file_tools\n"
        "try: file_tools(sys.argv[1], seconds=30.0)['grep']('(?:(a)|(b))*c', regex=True)\n"
        "except ModelRetry as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script, str(root)], env=env, check=True, capture_output=True, text=True)
    said, peak = done.stdout.splitlines()
    assert "needs more memory than it may have" in said
    assert int(peak) < 300_000


@pytest.mark.parametrize("regex", [False, True])
def test_a_big_search_goes_in_batches(root: Path, regex: bool) -> None:
    for number in range(4):
        (root / f"big{number}").write_text("x" * 79 + "\n" + ("y" * 79 + "\n") * 60_000 + "found\n")
    tools = file_tools(root, max_results=3)
    assert tools["grep"]("^found$" if regex else "found", regex=regex).split("\n") == [
        "big0:60002: found", "big1:60002: found", "big2:60002: found",
        "[cut: showed 3 of 4 matching lines; ask for a smaller folder or a narrower pattern]",
        "[searched 7 text files]",
    ]  # fmt: skip


def test_grep_reads_no_more_than_its_share(root: Path) -> None:
    for number in range(30):
        (root / f"f{number:02}").write_text("x" * 90)
    shown = file_tools(root, max_bytes=100)["grep"]("x" * 80)
    assert "[cut: stopped after 1,000 bytes;" in shown
    assert "[searched 11 text files]" in shown
