"""Docstrings: six styles, mixed styles, and what belongs to the text."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.schema.docstrings import read_docstring
from tests.docstrings import CASES, Case, outcome


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.style}: {case.shape}")
def test_every_parameter_is_described_and_the_text_is_what_is_left(case: Case) -> None:
    assert outcome(case) == "right"


def test_the_table_is_large() -> None:
    assert len(CASES) >= 200 and len({case.style for case in CASES}) == 6


MIXED = """
Send it.

:param to: Who gets it.

Args:
    body: What it says.

        In two paragraphs.

Parameters
----------
x, y : int
    Both.

Example:
    >>> send("a")

@return: The id.
"""


def test_styles_may_be_mixed() -> None:
    found = read_docstring(inspect.cleandoc(MIXED))
    assert found.text == 'Send it.\n\nExample:\n    >>> send("a")'
    assert found.parameters["to"] == "Who gets it."
    assert found.parameters["body"].startswith("What it says.")
    assert (found.parameters["x"], found.parameters["y"]) == ("Both.", "Both.")


@pytest.mark.parametrize(
    "text",
    [
        "Args:",
        "Args:\n\nNothing indented.",
        "Returns the weather.",
        "Returns: the weather.",
        ":ref:`x` is no field.",
        "See @param in the manual.",
        "Parameters are free.",
        "A table:\n\n    Args:\n        x: not a section, it is indented",
    ],
)
def test_what_only_looks_like_a_section_is_text(text: str) -> None:
    found = read_docstring(text)
    assert (found.text, found.parameters) == (text, {})


PIECES = [
    "Args:",
    "    x: y",
    "    x",
    "Returns:",
    "Parameters",
    "----------",
    "x : int",
    ":param x: y",
    ":param",
    "@type x: int",
    "",
    "  ",
    "text",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=12))
def test_no_docstring_raises_and_no_text_is_made_up(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = read_docstring(text)
    assert set(found.text.split()) <= set(text.split())
    for description in found.parameters.values():
        assert description.split()[0] in text


@pytest.mark.parametrize(
    ("text", "left", "parameters"),
    [
        ("""Args:
            x: The x,
                at length.

            y: The y.
        """, "", {"x": "The x, at length.", "y": "The y."}),
        ("""Args:
            x: The x.

        Returns:
            A thing.
        """, "", {"x": "The x."}),
        ("""Do.

        Args:
            x: The x.
            this is no entry
            y (int): The y.
        """, "Do.\n\nArgs:\n    this is no entry", {"x": "The x.", "y": "The y."}),
        ("""Do.

        ```
        Args:
            x: An example.
        ```

        Args:
            x: The x.
        """, "Do.\n\n```\nArgs:\n    x: An example.\n```", {"x": "The x."}),
        ("""Do.

        Parameters
        ==========
        x : int
            The x.
        """, "Do.", {"x": "The x."}),
    ],
)  # fmt: skip
def test_a_section_is_read_wherever_and_whole(text: str, left: str, parameters: dict[str, str]) -> None:
    found = read_docstring(inspect.cleandoc(text))
    assert (found.text, found.parameters) == (left, parameters)
