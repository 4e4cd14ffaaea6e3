"""The current time."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from agentkit import ModelRetry, Tool, tool

from ._text import nearest

__all__ = ["CurrentTime", "clock"]


@dataclass(frozen=True, slots=True)
class CurrentTime:
    """A moment as a model reads it."""

    time: str
    """ISO 8601 with the offset from UTC, to the second."""
    weekday: str
    """The English name of the day."""
    timezone: str


def clock(timezone: str = "UTC", *, now: Callable[[], datetime] | None = None) -> Tool[[str | None], CurrentTime]:
    """A tool `current_time`: date, time and weekday in `timezone`, or in another IANA zone that the model asks for.

    `now` gives the moment, with a zone; the system's clock by default. Raises ValueError when the zone is unknown.
    """
    if isinstance(home := _zone(timezone), str):
        raise ValueError(home)

    def current_time(timezone: str | None = None) -> CurrentTime:
        """The current date, time and weekday.

        Args:
            timezone: IANA name of a time zone, such as "Europe/Paris".
        """
        zone = home if timezone is None else _zone(timezone)
        if isinstance(zone, str):
            raise ModelRetry(zone)
        moment = (now() if now else datetime.now(UTC)).astimezone(zone)
        return CurrentTime(moment.isoformat(timespec="seconds"), _WEEKDAYS[moment.weekday()], str(zone))

    description = f"The current date, time and weekday, in the time zone {timezone} if no other one is asked for."
    return tool(current_time, description=description, read_only=True, destructive=False, open_world=False, output="trusted")


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _zone(name: str) -> tzinfo | str:
    """The zone of that name, or why there is none. UTC is known without a time zone database."""
    if name.upper() in ("UTC", "Z", "GMT"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = sorted(zoneinfo.available_timezones())
        hint = nearest(name, known) if known else "; this system has no time zone database (install tzdata)"
        return f"{name[:100]!r} is not an IANA time zone{hint}"
