"""Statuses, headers and bodies of refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from agentkit import Limiter
from agentkit import errors as e
from tests.models.raw_server import Step, http

from .rows import Answers, Outcome, Played, Raises, Row, status

__all__ = ["ROWS"]

TWICE = Answers(attempts=2)
OWN = 1e-9, 0.5
"""The first wait when the server asks for none: any, but not at once."""
PATIENT = {"limiter": Limiter(failures=None)}
"""Lets requests through however many have failed."""
BACKOFF = Answers(attempts=2, wait=OWN)


def carries(code: int) -> Callable[[Played], None]:
    """The error has the status, the server's text, its request id and body."""

    def check(played: Played) -> None:
        error = played.error
        assert isinstance(error, e.ModelError)
        assert (error.status, error.request_id) == (code, "req-1")
        assert f"fault {code}" in str(error) and f"fault {code}" in error.body

    return check


def refused(code: int, kind: type[e.ModelError]) -> Row:
    must = Raises(kind, status=code, retryable=False)
    return Row(id=f"http_{code}", group="http", fault=status(code), times=None, must=must, checks=[carries(code)])


def waits(name: str, headers: str, low: float, high: float, code: int = 429) -> Row:
    return Row(id=name, group="http", fault=status(code, headers=headers), must=Answers(attempts=2, wait=(low, high)))


def in_two_seconds(_watched: bool) -> list[Step]:
    return status(429, headers=f"Retry-After: {format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)}\r\n")


def is_bounded(played: Played) -> None:
    """The waits grow within their bounds, and are not all the same."""
    assert all(0 < wait <= min(0.5 * 2**n, 20) for n, wait in enumerate(played.waits))
    assert len(set(played.waits)) == len(played.waits) == played.attempts - 1


def grows_and_is_jittered(played: Played) -> None:
    """Of 54 waits between 0 and 20 seconds, one at least is in each quarter: all but certain."""
    late = played.waits[5:]
    assert {int(wait // 5) for wait in late} >= {0, 1, 2, 3}


class GivesUpInTime(Outcome):
    """The run ends with the server's error: for the time that the waits took, not for their count."""

    def check(self, played: Played) -> None:
        assert isinstance(played.error, e.Overloaded)
        assert 2 <= played.attempts < 300 and sum(played.waits) <= 1


def knows_the_wait(seconds: float) -> Callable[[Played], None]:
    def check(played: Played) -> None:
        assert isinstance(played.error, e.RateLimited) and played.error.retry_after == seconds

    return check


def endless_error(_watched: bool) -> Iterator[Step]:
    yield b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    for _ in range(64):
        yield b"x" * 2**20


def is_cut(played: Played) -> None:
    assert isinstance(played.error, e.Overloaded) and len(played.error.body) <= 2000


def error(message: str, **more: object) -> str:
    return json.dumps({"error": {"message": message, **more}})


QUOTA = error("You exceeded your current quota", type="insufficient_quota", code="insufficient_quota")
TOO_LONG = error(
    "This model's maximum context length is 131072 tokens", type="invalid_request_error", code="context_length_exceeded"
)
BUSY = error("overloaded", code=503).encode()

ROWS = [
    *(
        Row(id=f"http_{code}_once", group="http", fault=status(code), must=BACKOFF)
        for code in (408, 409, 500, 502, 503, 504, 529, 425)
    ),
    *(refused(code, e.BadRequest) for code in (400, 404, 405, 410, 413, 415, 422)),
    *(refused(code, e.AuthError) for code in (401, 403)),
    refused(402, e.InsufficientBalance),
    refused(501, e.Overloaded),
    Row(
        id="http_503_forever", group="http", fault=status(503), times=None, checks=[is_bounded, carries(503)],
        must=Raises(e.Overloaded, attempts=5, status=503),
    ),
    Row(
        id="http_503_forever#long", group="http", fault=status(503), times=None, checks=[is_bounded, grows_and_is_jittered],
        must=Raises(e.Overloaded, attempts=60, status=503), attempts=60, retry={"total": 1e6}, model=PATIENT,
    ),
    Row(
        id="http_503_forever#total", group="http", fault=status(503), times=None, must=GivesUpInTime(), attempts=300,
        model=PATIENT, retry={"first": 0.05, "longest": 0.05, "total": 1.0, "sleep": asyncio.sleep},
    ),
    waits("http_429_retry_after_seconds", "Retry-After: 1\r\n", 1, 3),
    waits("http_429_retry_after_fraction", "Retry-After: 0.5\r\n", 0.5, 3),
    waits("http_429_retry_after_ms", "retry-after-ms: 700\r\nRetry-After: 1\r\n", 0.7, 0.99),
    Row(id="http_429_retry_after_date", group="http", fault=in_two_seconds, must=Answers(attempts=2, wait=(0.9, 5))),
    waits("http_429_retry_after_past_date", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", *OWN),
    waits("http_429_retry_after_garbage", "Retry-After: soon\r\n", *OWN),
    *(
        waits(f"http_429_retry_after_nan{name}", f"Retry-After: {value}\r\n", *OWN)
        for name, value in (("", "nan"), ("#inf", "inf"), ("#negative", "-5"))
    ),
    Row(
        id="http_429_retry_after_huge", group="http", fault=status(429, headers="Retry-After: 3600\r\n"), times=None,
        must=Raises(e.RateLimited, status=429), checks=[knows_the_wait(3600)],
    ),
    Row(  # within the total, but longer than one wait may be
        id="http_429_retry_after_huge#minutes", group="http", fault=status(429, headers="Retry-After: 100\r\n"), times=None,
        must=Raises(e.RateLimited, status=429), checks=[knows_the_wait(100)],
    ),
    waits("http_503_retry_after", "Retry-After: 1\r\n", 1, 3, 503),
    waits("http_429_x_ratelimit_reset", "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1s\r\n", 0.9, 3),
    Row(
        id="http_429_insufficient_quota", group="http", fault=status(429, QUOTA),
        must=Raises(e.InsufficientBalance, status=429, says="exceeded your current quota"),
    ),
    Row(
        id="http_should_retry_false", group="http", fault=status(500, headers="x-should-retry: false\r\n"),
        must=Raises(e.Overloaded, status=500, retryable=False),
    ),
    Row(
        id="http_400_context_length", group="http", fault=status(400, TOO_LONG),
        must=Raises(e.ContextTooLong, status=400, says="131072 tokens"),
    ),
    Row(
        id="http_500_html_body", group="http", must=BACKOFF,
        fault=status(502, "<html><h1>502 Bad Gateway</h1></html>", content_type="text/html"),
    ),
    Row(id="http_500_huge_body", group="http", fault=lambda _watched: status(500, b"x" * (50 * 2**20)), must=TWICE),
    Row(
        id="http_500_huge_body#kept", group="http", fault=lambda _watched: status(500, b"x" * 2**20), times=None,
        must=Raises(e.Overloaded, attempts=5, status=500), checks=[is_cut],
    ),
    Row(  # reading on would come to the limit of a reply
        id="http_500_huge_body#endless", group="http", fault=endless_error, model={"max_bytes": 4 * 2**20},
        must=Answers(attempts=2),
    ),
    Row(
        id="http_302_other_host", group="http", fault=status(302, headers="Location: http://127.0.0.1:9/steal\r\n"),
        must=Raises(e.BadRequest, status=302, says="redirects to http://127.0.0.1:9/steal"),
    ),
    Row(
        id="http_200_not_json", group="http", fault=[http(b"upstream error", content_type="text/plain")], times=None,
        must=Raises(e.StreamBroken, attempts=5), checks=[lambda played: _has_body(played, "upstream error")],
        why="retried as often as any fault of a gateway, not once only: it is as likely to pass",
    ),
    Row(
        id="http_200_error_object", group="http", fault=[http(BUSY)], times=None,
        must=Raises(e.Overloaded, attempts=5, status=503, says="overloaded"),
    ),
    Row(
        id="http_200_error_object#not_retried", group="http", fault=[http(error("no", type="invalid_request_error").encode())],
        must=Raises(e.BadRequest, status=400),
    ),
    Row(id="http_204_empty", group="http", fault=[http(b"")], times=None, must=Raises(e.StreamBroken, attempts=5)),
]  # fmt: skip


def _has_body(played: Played, text: str) -> None:
    assert isinstance(played.error, e.StreamBroken) and text in played.error.body
