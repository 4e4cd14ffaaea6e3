"""A command as words: what a POSIX shell would make of it, as long as it would do nothing else."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit_tools._words import split_command

words = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20), min_size=1)


@given(words)
def test_quoted_words_come_out_as_they_went_in(given: list[str]) -> None:
    assert split_command(shlex.join(given)) == given


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (r'a"b c"\ d\'e', ["ab c d'e"]),
        (r'"\$HOME \` \" \\ \n"', [r"$HOME ` \" \ \n".replace(r"\"", '"')]),
        ("one \\\n  two thr\\\nee", ["one", "two", "three"]),
        ('"a\\\nb"', ["ab"]),
        ("a\t\rb  ''", ["a", "b", ""]),
        ("# no * ? ~ [comment] {a,b} !x", ["#", "no", "*", "?", "~", "[comment]", "{a,b}", "!x"]),
        ("", []),
        (" ", []),
    ],
)
def test_quotes_and_backslashes_are_those_of_a_posix_shell(command: str, found: list[str]) -> None:
    assert split_command(command) == found
