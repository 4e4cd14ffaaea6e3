"""Texts and numbers for a terminal, and the two kinds of screen."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from agentkit import RunState, ToolCall, Usage
from agentkit.cli.screen import PlainScreen, TerminalScreen, is_plain
from agentkit.cli.text import clean, duration, money, one_line, shown_call, summary
from agentkit.run.result import RunResult


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb", "a\nb"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b1m\x7f", "\\x9b1m\\x7f"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("half \ud83d", "half \\ud83d"),
        ("äß 漢字 👩‍👩‍👧 🙂", "äß 漢字 👩‍👩‍👧 🙂"),
    ],
)
def test_control_characters_are_shown_and_the_rest_stays(text: str, shown: str) -> None:
    assert clean(text) == shown


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=300), st.integers(40, 120))
def test_one_line_is_one_clean_line_of_at_most_that_length(text: str, length: int) -> None:
    line = one_line(text, length)
    assert len(line) <= length
    assert line == clean(line) and "\n" not in line


def test_a_cut_line_says_how_much_there_was() -> None:
    assert one_line("x" * 5000, 40) == "x" * 20 + "… (5,000 characters)"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"path": "a.txt", "n": 3}', 'f(path="a.txt", n=3)'),
        ("{}", "f()"),
        ("", "f()"),
        ('{"city": "Zürich\\n"}', 'f(city="Zürich\\n")'),
        ("not json\n[red]", "f(not json [red])"),
        ("[1, 2]", "f([1, 2])"),
        ('{"to": "a\u200b\U000e0041b"}', 'f(to="a\\u200b\\udb40\\udc41b")'),
    ],
)
def test_a_call_is_one_readable_line(arguments: str, shown: str) -> None:
    assert shown_call(ToolCall("1", "f", arguments)) == shown


def test_a_long_argument_leaves_room_for_the_others() -> None:
    shown = shown_call(ToolCall("1", "f", '{"text": "%s", "mode": "append"}' % ("x" * 10_000)))
    assert len(shown) < 110 and shown.endswith('… (10,002 characters), mode="append")')


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0004, "0 ms"), (0.25, "250 ms"), (0.9996, "1.0 s"), (59.9, "59.9 s"), (125, "2 min 5 s")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("cost", "shown"),
    [(None, "cost unknown"), (0.0, "$0.0000"), (0.00001, "< $0.0001"), (0.00042, "$0.0004"), (1234.5, "$1,234.50")],
)
def test_money(cost: float | None, shown: str) -> None:
    assert money(cost) == shown


def test_the_last_line_of_a_run() -> None:
    state = RunState()
    state.steps, state.cost = 4, 0.00042
    state.usage = Usage(input_tokens=3412, output_tokens=512, cache_read_tokens=2944, tool_calls=1)
    assert summary(RunResult("x", state), 1.23) == (
        "4 steps · 1 tool call · 3,412 tokens in (2,944 from cache, 86%) · 512 out · $0.0004 · 1.2 s"
    )


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("file", "env", "plain"),
    [
        (Tty(), {}, False),
        (io.StringIO(), {}, True),
        (Tty(), {"NO_COLOR": "1"}, True),
        (Tty(), {"NO_COLOR": ""}, False),
        (Tty(), {"CI": "true"}, True),
        (Tty(), {"TERM": "dumb"}, True),
    ],
)
def test_plain_lines_where_a_terminal_is_not_or_is_not_wanted(file: io.StringIO, env: dict[str, str], plain: bool) -> None:
    assert is_plain(file, env) is plain


def test_a_line_begins_at_the_beginning_of_a_line() -> None:
    file = io.StringIO()
    screen = PlainScreen(file)
    screen.write("text")
    screen.write("")
    screen.line("one")
    screen.line("two")
    screen.end_line()
    assert file.getvalue() == "text\none\ntwo\n"


def test_a_terminal_gets_styles_but_nothing_that_a_text_asks_for() -> None:
    file = Tty()
    screen = TerminalScreen(Console(file=file, force_terminal=True, color_system="standard", width=80))
    screen.wait("[blink]waiting[/blink]\x1b[5m")
    screen.line("[bold]:smile: \x1b]0;x\x07 127.0.0.1", "red")
    shown = file.getvalue()
    assert "[blink]waiting[/blink]\\x1b[5m" in shown and "\x1b[5m" not in shown
    assert shown.endswith("\x1b[31m[bold]:smile: \\x1b]0;x\\x07 127.0.0.1\x1b[0m\n")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1, "the cursor is hidden by the spinner and comes back"
