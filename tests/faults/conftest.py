"""For tests that are a row of the table by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

Fault: TypeAlias = Callable[[str], None]


@pytest.fixture
def fault(record_property: Callable[[str, object], None]) -> Fault:
    """Name the row of the table that a test is: `fault("sse slow_consumer")`, its group and its name."""
    return lambda row: record_property("fault", tuple(row.split()))
