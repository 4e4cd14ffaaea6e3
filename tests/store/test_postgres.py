"""Addresses at which no Postgres answers."""

from __future__ import annotations

import socket
import time

import pytest

from agentkit import StoreError
from agentkit.store import open_store

pytest.importorskip("psycopg_pool")


@pytest.fixture
def port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


def test_a_server_that_is_not_there_is_not_waited_for(port: int) -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match=rf'127\.0\.0\.1", port {port} failed: ') as caught:
        open_store(f"postgresql://ann:hunter2@127.0.0.1:{port}/x")
    assert time.monotonic() - began < 10
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_that_says_nothing_is_waited_for_as_the_address_says() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreError, match=f"127.0.0.1:{port}/x.*timeout expired"):
            open_store(f"postgresql://ann:hunter2@127.0.0.1:{port}/x?connect_timeout=2")


def test_a_password_that_breaks_the_address_is_not_in_the_message(port: int) -> None:
    with pytest.raises(StoreError, match="in the password, write %40 for @") as caught:
        open_store(f"postgresql://ann:hun@ter2@127.0.0.1:{port}/x")
    assert "ter2" not in str(caught.value)
