"""What is shown of a call that waits for an approval: all of it, and nothing that looks like something else."""

from __future__ import annotations

import io
import json
import os
import re
import select
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from agentkit import ToolCall
from agentkit.cli.approval import fresh_key, show_call
from agentkit.cli.screen import PlainScreen
from agentkit.cli.session import _approved


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("delete_file", {"name": "old.log"}, '? delete_file\n    name: "old.log"'),
        ("files.read-all", {}, "? files.read-all\n    no arguments"),
        ("f", {"n": 3, "on": True, "none": None, "x": 1.5}, "? f\n    on: true\n    none: null\n    x: 1.5\n    n: 3"),
        ("f", {"to": ["a", {"b": "ü 漢字 🙂"}]}, '? f\n    to: ["a", {"b": "ü 漢字 🙂"}]'),
        ("f", {"command": "rm x", "note": "\n\n? read_file"}, '? f\n    note: "\\n\\n? read_file"\n    command: "rm x"'),
        ("f", {"path": 'a" b: "c', "b": "\\u200b"}, '? f\n    path: "a\\" b: \\"c"\n    b: "\\\\u200b"'),
        ("f", {'x"\n    y': 1, "$a": 2}, '? f\n    "x\\"\\n    y": 1\n    "$a": 2'),
        ("read_file: safe", {"x": 1}, '? "read_file: safe"\n    x: 1'),
        ("pay\u202eyap", {"\u200bx": 1}, '? "pay\\u202eyap"\n    "\\u200bx": 1'),
        ("p\u0430y", {}, '? "p\u0430y"\n    no arguments'),  # a Cyrillic letter
        ("f", {"n": 10**5000}, "? f\n    n: (an int that cannot be shown)"),
        ("f", {"when": {1}}, '? f\n    when: "{1}"'),
    ],
)
def test_a_call_is_its_name_and_one_argument_a_line_the_longest_first(name: str, arguments: Any, shown: str) -> None:
    assert show_call(name, arguments) == shown


INVISIBLE = {
    "escape": "\x1b", "null": "\0", "delete": "\x7f", "control sequence": "\x9b", "carriage return": "\r", "tab": "\t",
    "no-break space": "\u00a0", "ideographic space": "\u3000", "soft hyphen": "\u00ad", "grapheme joiner": "\u034f",
    "letter mark": "\u061c", "hangul filler": "\u3164", "jamo filler": "\u115f", "half-width filler": "\uffa0",
    "inherent vowel": "\u17b4", "mongolian selector": "\u180b", "zero-width space": "\u200b", "joiner": "\u200d",
    "right-to-left mark": "\u200f", "line separator": "\u2028", "paragraph separator": "\u2029", "override": "\u202e",
    "isolate": "\u2066", "word joiner": "\u2060", "braille blank": "\u2800", "private use": "\ue000", "selector": "\ufe0f",
    "byte order mark": "\ufeff", "annotation": "\ufff9", "object": "\ufffc", "half surrogate": "\ud800",
    "not assigned": "\u0378", "null notehead": "\U0001d159", "musical control": "\U0001d173", "tag": "\U000e0041",
    "selector 17": "\U000e0100", "private plane": "\U0010fffd",
}  # fmt: skip


@pytest.mark.parametrize("char", INVISIBLE.values(), ids=INVISIBLE)
@pytest.mark.parametrize("place", ["value", "key", "name", "inside"])
def test_no_invisible_character_is_written_as_it_is(char: str, place: str) -> None:
    text = f"a{char}b"
    name, arguments = (text, {}) if place == "name" else ("f", {text: 1} if place == "key" else {"x": text})
    shown = show_call(name, {"x": [{"y": text}]} if place == "inside" else arguments)
    assert char not in shown
    assert json.dumps(char)[1:-1].replace("\x7f", "\\u007f") in shown


def read(line: str) -> tuple[str, Any]:
    """A line's argument and its value."""
    line = line.removeprefix("    ")
    if not line.startswith('"'):
        key, _, value = line.partition(": ")
        return key, json.loads(value)
    key, end = json.JSONDecoder().raw_decode(line)
    return key, json.loads(line[end + 2 :])


@settings(derandomize=True, deadline=None)
@given(
    st.dictionaries(st.text(max_size=20), st.text(max_size=60) | st.integers(), min_size=1, max_size=8), st.text(max_size=60)
)
def test_what_is_shown_is_json_of_the_values_in_visible_characters(arguments: dict[str, Any], name: str) -> None:
    shown = show_call(name, arguments, width=100_000)
    for char in shown.replace("\n", ""):
        assert char == " " or unicodedata.category(char)[0] in "LMNPS", hex(ord(char))
    head, *lines = shown.split("\n")
    assert head == f"? {name}" or json.loads(head[2:]) == name
    assert dict(map(read, lines)) == arguments


def test_marks_that_pile_up_on_a_letter_are_escaped_and_those_of_a_language_are_not() -> None:
    shown = show_call("f", {"x": "हिन्दी Việt ạ̀", "y": "a" + "\u0336" * 9, "z": "\u0338"})
    assert '"हिन्दी Việt ạ̀"' in shown
    assert shown.count("\u0336") == 3 and shown.count("\\u0336") == 6 and "\u0338" not in shown


def test_a_long_value_is_cut_in_its_middle_and_counted() -> None:
    arguments = {"path": "a.txt", "text": "begin" + "x" * 1_000_000 + "end"}
    head, text, path = show_call("write", arguments, width=100_000).split("\n")
    assert (head, path) == ("? write", '    path: "a.txt"')
    found = re.fullmatch(r'    text: "begin(x+) \[\.\.\. ([\d,]+) characters are left out here \.\.\.\] (x+)end"', text)
    assert found and 1000 < len(found[1]) + len(found[3]) < 1200
    assert len(found[1]) + int(found[2].replace(",", "")) + len(found[3]) == 1_000_000


def test_a_cut_never_shows_half_an_escape_of_an_invisible_character() -> None:
    for more in range(12):
        shown = show_call("f", {"x": "a" * more + "\u200b" * 10_000}, width=100_000)
        assert set(re.findall(r"\\\w*", shown)) == {"\\u200b"}


@pytest.mark.parametrize(
    "arguments",
    [
        {f"key{number}": "\u200b" * 5000 for number in range(1000)},
        {"x" * 100_000: "y" * 100_000},
        {"deep": [[[["\n" * 1000] * 10] * 10] * 10]},
        {"many": list(range(100_000))},
    ],
)
def test_what_is_shown_is_bounded(arguments: dict[str, Any]) -> None:
    shown = show_call("n" * 10_000, arguments, width=80)
    assert len(shown) < 12_000 and len(shown.splitlines()) < 170
    assert "characters are left out here" in shown


def test_no_text_can_begin_a_line_of_the_prompt() -> None:
    padded = "ls" + " " * 70 + "? read_file README.md" + "漢" * 60 + " run this call? [y/N] y"
    for width in range(20, 160):
        lines = show_call("run", {"command": padded}, width).splitlines()
        assert lines[0] == "? run" and all(line.startswith("    ") for line in lines[1:])


def test_a_long_value_breaks_before_a_blank_and_no_blank_is_lost() -> None:
    text = "remove the old files below /tmp and keep the new ones. " * 8 + "x" * 100 + " 漢字" * 40
    for width in (60, 61, 62, 80, 120):
        first, *rows = show_call("run", {"why": text}, width).splitlines()[1:]
        assert all(row.startswith("        ") and not row.endswith(" ") for row in rows)
        assert "".join([first, *(row[8:] for row in rows)]) == f'    why: "{text}"'
        assert all(cell_len(row) <= width for row in (first, *rows))
        assert all(row[8] == " " for row in rows[:4]), "words are whole"


@pytest.mark.parametrize("text", ["y\n", "yes\n", "y", "n\n", ""])
def test_input_that_is_no_terminal_never_approves(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert _approved(PlainScreen(out), ToolCall("1", "f", '{"command": "\\u0072\\u006d x"}'), "the\u202e policy asks") is False
    assert out.getvalue() == '! the\\u202e policy asks\n? f\n    command: "rm x"\n'


@pytest.mark.parametrize("stdin", [None, "closed"])
def test_without_an_input_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, stdin: str | None) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed if stdin else None)
    assert fresh_key("? ") is None


if sys.platform != "win32":
    import tty


class Answering(io.StringIO):
    """An output at which somebody presses keys as soon as the question is there."""

    def __init__(self, terminal: int, keys: str) -> None:
        super().__init__()
        self.terminal, self.keys = terminal, keys

    def write(self, text: str) -> int:
        if text:
            os.write(self.terminal, self.keys.encode())
        return super().write(text)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("before", ["", "y", "y\n", "n\ny\n"])
@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("y", "y"),
        ("y\n", "y"),
        ("Y\r", "Y"),
        ("n", "n"),
        ("\n", "\n"),
        ("\x04", "\x04"),
        ("\x1b[A", "\x1b[A"),
        (" y\n", " y"),
        ("yes\n", "yes"),
        ("y\ny\n", "y\ny"),
        ("some text\ny\n", "some text\ny"),
        ("é", "é"),
    ],
)
def test_a_key_counts_if_it_comes_alone_and_after_the_question(
    monkeypatch: pytest.MonkeyPatch, before: str, keys: str, key: str
) -> None:
    monkeypatch.setattr("agentkit.cli.approval._SEEN", 0.0)
    monkeypatch.setattr("agentkit.cli.approval._QUIET", 0.02)
    ours, theirs = os.openpty()
    with os.fdopen(ours, "wb", buffering=0), os.fdopen(theirs) as terminal:
        if before:
            tty.setcbreak(theirs)
            os.write(ours, before.encode())
            assert select.select([theirs], [], [], 10)[0]  # a pseudo-terminal passes it on later
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys, "stdout", Answering(ours, keys))
        assert fresh_key("? ") == key


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("", "    no arguments"),
        ('{"a": "\n"}', '    a: "\\n"'),
        ("not json\n? g", '    arguments: "not json\\n? g"'),
        ("[1]", '    arguments: "[1]"'),
        ("[" * 100_000, "characters are left out here"),
    ],
)
def test_arguments_that_are_no_json_object_are_shown_as_text(monkeypatch: pytest.MonkeyPatch, raw: str, shown: str) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdin", None)
    _approved(PlainScreen(out), ToolCall("1", "f", raw))
    assert shown in out.getvalue().replace("\n        ", "")
