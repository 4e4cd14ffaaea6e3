"""Streamed text at a terminal: lines break between words, and no line is wider than the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from agentkit.cli.screen import TerminalScreen
from agentkit.cli.text import one_line
from agentkit.cli.wrap import Wrapper, rows_of_parts


def wrapped(*pieces: str, width: int = 20) -> str:
    wrapper = Wrapper()
    return "".join(wrapper.add(piece, width) for piece in pieces) + wrapper.rest(width)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The quick brown fox jumps", "The quick brown fox\njumps"),
        ("exactly twenty chars and", "exactly twenty chars\nand"),
        ("你好世界你好世界你好世界", "你好世界你好世界你好\n世界"),
        ("a 你好世界你好世界你好世界", "a 你好世界你好世界你\n好世界"),
        ("  indented\n    code = 1\n", "  indented\n    code = 1\n"),
        ("a\n\nb", "a\n\nb"),
    ],
)
def test_lines_break_between_words_and_beside_wide_characters(text: str, shown: str) -> None:
    assert wrapped(text) == shown
    assert wrapped(*text) == shown, "as it comes in single characters"


def test_a_word_longer_than_a_line_is_broken_by_the_terminal() -> None:
    word = "x" * 30
    assert wrapped(f"{word} end") == f"{word} end"
    assert wrapped(*f"{word} end") == f"{word} end"
    assert wrapped(f"see {word * 2} end") == f"see\n{word * 2}\nend", "its third row is full"


@given(st.lists(st.text("a", min_size=1, max_size=30) | st.sampled_from([" ", "\t", "\n", "你", "é"])).map("".join))
def test_the_pieces_in_which_a_text_comes_change_nothing(text: str) -> None:
    for size in range(1, len(text)):
        assert wrapped(*(text[at : at + size] for at in range(0, len(text), size)), width=10) == wrapped(text, width=10)


@given(st.lists(st.text("ab 你\n", max_size=8), max_size=12))
def test_nothing_but_blanks_at_breaks_changes_and_no_line_is_too_wide(pieces: list[str]) -> None:
    text, shown = "".join(pieces), wrapped(*pieces, width=12)
    assert "".join(shown.split()) == "".join(text.split())
    words = [word for word in text.split() if "你" not in word]
    assert [word for word in shown.split() if "你" not in word and len(word) > 12] == [w for w in words if len(w) > 12]
    assert all(cell_len(line) <= 12 for line in shown.split("\n") if not any(len(word) > 12 for word in line.split()))


def test_a_terminal_of_60_columns_breaks_no_word() -> None:
    file = io.StringIO()
    screen = TerminalScreen(Console(file=file, force_terminal=False, width=60))
    text = "Antidisestablishmentarianism is one of the longest words that people know by heart. " * 3
    for start in range(0, len(text), 7):
        screen.write(text[start : start + 7])
    screen.end_line()
    lines = file.getvalue().splitlines()
    assert " ".join(lines).split() == text.split() and all(len(line) <= 60 for line in lines)


def test_a_change_of_style_keeps_what_was_held_back_in_its_own_style() -> None:
    file = io.StringIO()
    screen = TerminalScreen(Console(file=file, force_terminal=True, color_system="standard", width=60))
    screen.write("thinking", "dim")
    screen.write("answer", "bold")
    screen.end_line()
    assert file.getvalue() == "\x1b[2mthinking\x1b[0m\x1b[1manswer\x1b[0m\n"


@pytest.mark.parametrize("length", [20, 40])
def test_a_cut_line_is_counted_in_columns(length: int) -> None:
    assert cell_len(one_line("你好" * 50, length)) <= length
    assert one_line("你好", 4) == "你好"


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("2 steps · 489 tokens in · 174 ms", 32, "2 steps · 489 tokens in · 174 ms"),
        ("2 steps · 489 tokens in · 174 ms", 31, "2 steps · 489 tokens in\n  174 ms"),
        ("2 steps · 489 tokens in · 174 ms", 10, "2 steps\n  489 tokens in\n  174 ms"),
        ("名前 · 東京", 11, "名前 · 東京"),
        ("名前 · 東京", 10, "名前\n  東京"),
        ("", 10, ""),
    ],
)
def test_a_status_line_breaks_between_its_parts(text: str, width: int, shown: str) -> None:
    assert rows_of_parts(text, width) == shown


def test_the_summary_of_a_run_keeps_a_number_and_its_unit_together() -> None:
    file = io.StringIO()
    TerminalScreen(Console(file=file, force_terminal=False, width=60)).status(
        "2 steps · 2 tool calls · 489 tokens in (320 from cache, 65%) · 108 out · $0.0001 · 174 ms"
    )
    assert file.getvalue() == "2 steps · 2 tool calls · 489 tokens in (320 from cache, 65%)\n  108 out · $0.0001 · 174 ms\n"
