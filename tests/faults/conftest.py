"""For tests that are a row of the table by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

Fault: TypeAlias = Callable[[str], None]


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """Name the row of the table that a test is: `fault("sse slow_consumer")`, its group and its name.

    `record_property` does the same, but warns in a run with `--junitxml`.
    """
    return lambda row: request.node.user_properties.append(("fault", tuple(row.split())))


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def watched(request: pytest.FixtureRequest) -> bool:
    """Whether the reply is streamed."""
    return bool(request.param)
