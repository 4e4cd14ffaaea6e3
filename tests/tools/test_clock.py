from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agentkit import ModelRetry
from agentkit_tools import CurrentTime, clock


def leap_day() -> datetime:
    return datetime(2024, 2, 29, 23, 30, 15, 999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("home", "asked", "expected"),
    [
        ("UTC", None, CurrentTime("2024-02-29T23:30:15+00:00", "Thursday", "UTC")),
        ("utc", None, CurrentTime("2024-02-29T23:30:15+00:00", "Thursday", "UTC")),
        ("Europe/Paris", None, CurrentTime("2024-03-01T00:30:15+01:00", "Friday", "Europe/Paris")),
        ("Europe/Paris", "UTC", CurrentTime("2024-02-29T23:30:15+00:00", "Thursday", "UTC")),
        ("UTC", "America/New_York", CurrentTime("2024-02-29T18:30:15-05:00", "Thursday", "America/New_York")),
    ],
)
def test_the_moment_in_a_zone(home: str, asked: str | None, expected: CurrentTime) -> None:
    assert clock(home, now=leap_day)(asked) == expected


@pytest.mark.parametrize("name", ["Europe/Pariss", "America", "../../etc/passwd", "/etc/passwd", "", "a\0b", "Mars/Base"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ModelRetry, match="not an IANA time zone"):
        clock()(name)
    with pytest.raises(ValueError, match="not an IANA time zone"):
        clock(name)


def test_a_misspelt_zone_is_told_the_nearest() -> None:
    with pytest.raises(ModelRetry, match="nearest: Europe/Paris"):
        clock()("Europe/Pariss")


def test_the_system_clock_is_the_default() -> None:
    shown = datetime.fromisoformat(clock()(None).time)
    assert abs(datetime.now(UTC) - shown) < timedelta(seconds=5)


def test_through_the_tool() -> None:
    made = clock(now=leap_day)
    assert asyncio.run(made.call({})) == made(None)
    assert made.name == "current_time"
    assert "time zone UTC" in made.description
