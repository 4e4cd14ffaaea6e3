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


WRITTEN = [
    "Args:\n    - x: The x.\n    - y (int): The y: of two.",
    "Args:\n    * `x` (str): The x.\n    * `y`: The y: of two.",
    "Args:\n    1. x: The x.\n    2. y: The y: of two.",
    "Args:\n    **x**: The x.\n    **y** (int, optional): The y: of two.",
    "Args:\n    'x': The x.\n    \"y\": The y: of two.",
    "Args:\n    x - The x.\n    y (int) - The y: of two.",
    "Args:\n    x (Literal['a', 'b: c']): The x.\n    y (dict(str, int)): The y: of two.",
    "Parameters:\n- `x` (str): The x.\n- y: The y:\n  of two.",
    "**Args:**\n    x: The x.\n    y: The y: of two.",
    "**Parameters**:\n- **x**: The x.\n- **y**: The y: of two.",
    "### Parameters\n\n- x: The x.\n- y: The y: of two.",
    "Parameters\n----------\n`x` : str\n    The x.\n**y** : int\n    The y: of two.",
]


@pytest.mark.parametrize("section", WRITTEN)
def test_what_is_written_round_a_name_is_no_part_of_it(section: str) -> None:
    found = read_docstring(f"Do.\n\n{section}\n\nThen more.")
    assert found.parameters == {"x": "The x.", "y": "The y: of two."} or section.startswith("Parameters\n--")
    assert found.parameters["x"] == "The x." and found.parameters["y"].startswith("The y: of two.")


@pytest.mark.parametrize(
    ("section", "parameters"),
    [
        (
            "Args:\n    x: One of\n    - fast: quick\n    - slow\n    y: The y.",
            {"x": "One of\n- fast: quick\n- slow", "y": "The y."},
        ),
        ("Args:\n    x: See https://a.b/: it - works.", {"x": "See https://a.b/: it - works."}),
        ("Args:\n    - x: One of\n        - fast: quick\n    - y: The y.", {"x": "One of\n- fast: quick", "y": "The y."}),
    ],
)
def test_a_list_in_an_entry_is_part_of_it(section: str, parameters: dict[str, str]) -> None:
    assert read_docstring(f"Do.\n\n{section}").parameters == parameters


@pytest.mark.parametrize(
    "text",
    [
        "Args:\n    x or y: One of them.",
        "Args:\n    x.y: A path.",
        "@param {int} x - The x: of two.",
        "Notes:\n- x: no parameter",
    ],
)
def test_an_entry_without_a_name_stays_in_the_text(text: str) -> None:
    found = read_docstring(f"Do.\n\n{text}")
    assert (found.text, found.parameters) == (f"Do.\n\n{text}", {})
