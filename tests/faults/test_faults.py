"""The table of faults, row by row, streamed and not; `tests/conftest.py` prints it by group at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest

from . import http_rows, payload_rows, sse_rows, transport_rows
from .play import play
from .rows import Elsewhere, Row

ROWS = [*http_rows.ROWS, *transport_rows.ROWS, *sse_rows.ROWS, *payload_rows.ROWS]

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("row", "watched"),
    [pytest.param(row, watched, id=f"{row.id}-{'streamed' if watched else 'whole'}") for row in ROWS for watched in row.ways],
)
def test_fault(row: Row, watched: bool, record_property: Callable[[str, object], None]) -> None:
    record_property("fault", (row.group, row.id.partition("#")[0]))
    if isinstance(row.must, Elsewhere):
        pytest.skip(f"not applicable: {row.must.why}")
    with pytest.warns(row.warns) if row.warns else nullcontext():
        played = play(row, watched=watched)
    row.must.check(played)
    for check in row.checks:
        check(played)
