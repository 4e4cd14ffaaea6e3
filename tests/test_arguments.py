"""The page of all arguments is that of the code."""

from __future__ import annotations

from pathlib import Path

from tests.arguments import page


def test_the_page_of_arguments_is_made_from_the_code() -> None:
    written = (Path(__file__).parent.parent / "docs" / "arguments.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m tests.arguments > docs/arguments.md"


def test_each_argument_has_a_meaning() -> None:
    assert [line for line in page().splitlines() if line.endswith("|  |")] == []
