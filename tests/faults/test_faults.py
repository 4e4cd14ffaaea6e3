"""The table of faults, row by row, streamed and not; `tests/conftest.py` prints it by group at the end."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from . import http_rows, payload_rows, sse_rows, tool_rows, transport_rows
from .conftest import Fault
from .play import play
from .rows import Row
from .table import CATALOGUE

ROWS = [*http_rows.ROWS, *transport_rows.ROWS, *sse_rows.ROWS, *payload_rows.ROWS, *tool_rows.ROWS]

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("row", "watched"),
    [pytest.param(row, watched, id=f"{row.id}-{'streamed' if watched else 'whole'}") for row in ROWS for watched in row.ways],
)
def test_fault(row: Row, watched: bool, fault: Fault) -> None:
    fault(f"{row.group} {row.id.partition('#')[0]}")
    with pytest.warns(row.warns) if row.warns else nullcontext():
        played = play(row, watched=watched)
    row.must.check(played)
    for check in row.checks:
        check(played)


def test_a_row_that_is_decided_otherwise_stands_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")
    assert [row.id for row in ROWS if row.why and f"`{row.id.partition('#')[0]}`" not in text] == []


def test_every_row_belongs_to_the_catalogue() -> None:
    assert {(row.group, row.id.partition("#")[0]) for row in ROWS} <= {*CATALOGUE}
