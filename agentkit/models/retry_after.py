"""The wait that a server asks for before the next request, in the headers or the text of its refusal. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf, nan

__all__ = ["wait_in_headers", "wait_in_text"]

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (3600, 60, 1, 0.001)
_IN_FIELD = re.compile(rb'"retry_?(?:delay|after|in)(_?ms|_?seconds)?"\s*:\s*"?(\d{1,9}(?:\.\d{1,9})?)(ms|s)?"?', re.IGNORECASE)
"""A field of the body, such as Gemini's `"retryDelay": "23s"` or a gateway's `"retry_after": 7`."""
_NUMBER = rb"\d{1,9}(?:\.\d{1,9})?"
_WORDED = rb"(?:" + _NUMBER + rb"\s?[a-z]{0,15}[\s,]{0,2}(?:and )?){1,4}"
_IN_WORDS = re.compile(
    rb"(?:try again|try your request again|retry|retry your request|wait|resets?)(?: in| after| for| at least| about|:)* "
    rb"(?P<then>" + _WORDED + rb")(?![\d:/-])|\bin (?P<first>" + _WORDED + rb"),? (?:please )?(?:try|retry)",
    re.IGNORECASE,
)
"""A sentence: OpenAI's "Please try again in 1.5s" or "in 6m0s", Azure's "retry after 17 seconds"."""
_PART = re.compile(rb"(" + _NUMBER + rb")\s?([a-z]*)", re.IGNORECASE)
_SECONDS = {
    unit.encode(): seconds
    for seconds, units in (
        (0.001, "ms msec msecs millisecond milliseconds"),
        (1.0, "s sec secs second seconds"),
        (60.0, "m min mins minute minutes"),
        (3600.0, "h hr hrs hour hours"),
        (86400.0, "d day days"),
    )
    for unit in units.split()
}
_MAX_RESET = 60.0
_FIRST_EPOCH = 1e9
"""A larger number is no wait but a time, in seconds since 1970."""
_RESETS = (
    *((f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}") for kind in ("requests", "tokens")),
    *(
        (f"anthropic-ratelimit-{kind}-remaining", f"anthropic-ratelimit-{kind}-reset")
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)
"""For each limit, the header of what is left of it, and of when it is restored."""


def wait_in_headers(headers: Mapping[str, str], clock: Callable[[], datetime]) -> float | None:
    """Seconds, never negative; None if the headers have no valid value.

    The value comes from `retry-after-ms`, else from `Retry-After`, else from the time until a limit that is used up is restored
    (the headers of OpenAI, Anthropic, OpenRouter and the IETF's draft). That one is the time until the limit is fully restored,
    so it is ignored if it is longer than a minute. Each may be in seconds, a duration such as 6m0s, a date, or the seconds or
    milliseconds since 1970.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (seconds := _seconds(headers.get(name, ""), clock, scale)) is not None:
            return seconds
    used_up = [reset for left, reset in _RESETS if headers.get(left, "").strip() == "0"]
    waits = [_seconds(headers.get(reset, ""), clock) for reset in used_up]
    return max((wait for wait in waits if wait is not None and wait <= _MAX_RESET), default=None)


def _seconds(value: str, clock: Callable[[], datetime], scale: float = 1.0) -> float | None:
    """The seconds that a header's value stands for; None for an invalid value, or a time in the past."""
    try:
        seconds = float(value) * scale
        if seconds >= _FIRST_EPOCH:
            seconds = seconds * (0.001 if seconds >= 1000 * _FIRST_EPOCH else 1.0) - clock().timestamp()
    except ValueError:
        duration = _duration(value)
        seconds = _seconds_until(value, clock) if duration is None else duration
    return seconds if 0 <= seconds < inf else None


def wait_in_text(body: bytes) -> float | None:
    """Seconds that the body of a refusal asks to wait, in a field or in a sentence; None if it does not say."""
    if found := _IN_FIELD.search(body):
        in_ms = b"ms" in (found[1] or b"").lower() or found[3] == b"ms"
        return float(found[2]) * (0.001 if in_ms else 1.0)
    found = _IN_WORDS.search(body)
    return _worded_seconds(found["then"] or found["first"]) if found else None


def _worded_seconds(text: bytes) -> float | None:
    """The seconds in "1h2m", "2 days" or "1 minute and 5 seconds". A bare number is seconds. None for an unknown unit."""
    total, last = 0.0, inf
    for number, unit in _PART.findall(text):
        seconds = _SECONDS.get(unit.lower() or b"s")
        if seconds is None:
            return None if last == inf else total
        if seconds >= last:
            break  # the number belongs to the next sentence
        total, last = total + float(number) * seconds, seconds
    return total


def _duration(text: str) -> float | None:
    """The seconds in a duration such as 6m0s or 250ms; None for another text."""
    found = _DURATION.fullmatch(text.strip())
    if not found or not any(found.groups()):
        return None
    return sum(float(number or 0) * unit for number, unit in zip(found.groups(), _UNITS, strict=True))


def _seconds_until(date: str, clock: Callable[[], datetime]) -> float:
    """Seconds until an HTTP date or an ISO date, which is in UTC if it names no zone; NaN for an invalid date."""
    try:
        when = datetime.fromisoformat(date) if date[:4].isdecimal() else parsedate_to_datetime(date)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return (when - clock()).total_seconds()
    except (ValueError, OverflowError):  # no date, or one beyond the calendar
        return nan
