"""The stores of `tests/store`, and the parts of a chaos run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.store.conftest import address

from .endpoint import Endpoint
from .nursery import Nursery

__all__ = ["address", "endpoint", "nursery"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where processes cannot be forked and killed."""
    for item in items:
        if "chaos" in item.path.parts and not hasattr(os, "fork"):
            item.add_marker(pytest.mark.skip(reason="no fork and no SIGKILL on this system"))


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Starts worker processes."""
    with Nursery() as started:
        yield started


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A model endpoint that has nothing to complain about at the end."""
    with Endpoint() as started:
        yield started
    assert started.problems == []
