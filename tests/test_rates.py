"""What a server allows: rates, the window and the circuit, as values over a clock that the test turns."""

from __future__ import annotations

import errno

import pytest

from agentkit import errors as e
from agentkit.models.rates import Circuit, Rates, Window

DOWN = e.Overloaded("HTTP 500")


@pytest.mark.parametrize(
    ("taken", "waits"),
    [
        ([], 0.0),
        ([(1, 3_000)], 0.0),
        ([(1, 6_000)], 30.0),
        ([(1, 3_000), (0, 3_000)], 30.0),  # the reply used twice what was estimated
        ([(1, 6_000), (0, -3_000)], 0.0),  # the reply used half of it
        ([(1, 6_000), (-1, -6_000)], 0.0),  # the request was not made
        ([(1, 2**53)], 90.0),  # in debt by at most a minute
        ([(60, 0)], 1.0),
        ([(61, 0)], 2.0),
    ],
)
def test_seconds_until_a_request_of_3000_tokens_may_go(taken: list[tuple[int, int]], waits: float) -> None:
    rates = Rates(60, 6_000, 0.0)
    for requests, tokens in taken:
        rates.take(requests, tokens, 0.0)
    assert rates.wait(3_000, 0.0) == pytest.approx(waits)
    assert rates.wait(3_000, waits) == pytest.approx(0.0), "it refills meanwhile"


def test_a_request_above_a_minutes_allowance_waits_for_a_full_bucket() -> None:
    rates = Rates(None, 6_000, 0.0)
    rates.take(1, 600, 0.0)
    assert rates.wait(60_000, 0.0) == pytest.approx(6.0)
    assert Rates(None, None, 0.0).wait(2**53, 0.0) == 0.0


@pytest.mark.parametrize(
    ("max_size", "in_flight", "refusals", "size"),
    [
        (16, 16, 1, 8),
        (16, 16, 16, 8),  # sixteen refusals of one moment say one thing
        (16, 2, 1, 1),
        (100, 10, 1, 5),  # half of the peak, where that is less
        (None, 40, 1, 20),
        (100, 1, 5, 100),  # a request that is refused alone says nothing
        (None, 1, 5, None),
    ],
)
def test_a_429_halves_the_window_once(max_size: int | None, in_flight: int, refusals: int, size: float | None) -> None:
    window = Window(max_size)
    window.entered(in_flight, 1.0)
    for _ in range(refusals):
        window.refused(1.0, in_flight, 1.1)
    assert window.size == size


def test_answers_grow_the_window_by_one_a_round_and_fast_after_a_minute_without_a_429() -> None:
    window = Window(16)
    window.entered(16, 0.0)
    window.refused(0.0, 16, 0.0)
    for _ in range(8):
        window.answered(8, 1.0)
    assert 8.9 < (window.size or 0) < 9.0
    window.answered(4, 1.0)
    assert (window.size or 0) < 9.0, "not by those that it does not hold back"
    for _ in range(3):
        window.answered(9, 61.0)
    assert (window.size or 0) > 11.8
    for _ in range(9):
        window.answered(16, 61.0)
    assert window.size == 16, "never above what was given"


def test_the_peak_is_that_of_the_last_minute() -> None:
    window = Window(None)
    window.entered(40, 0.0)
    window.entered(10, 59.0)
    window.entered(10, 61.0)
    window.refused(61.0, 10, 61.0)
    assert window.size == 5


def _caused(error: e.ModelError, cause: Exception) -> e.ModelError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "has_answered", "counts"),
    [
        (DOWN, False, True),
        (e.ConnectionFailed("refused"), False, True),
        (e.ConnectionFailed("reset"), True, False),  # after its answer began
        (e.BadRequest("HTTP 400"), False, False),  # it answers
        (None, False, False),
        (e.ConnectionFailed("the HTTP client that was given is closed", retryable=False), False, None),
        (_caused(e.ConnectionFailed("Too many open files"), OSError(errno.EMFILE, "Too many open files")), False, None),
        (KeyboardInterrupt(), False, None),
    ],
)
def test_what_counts_as_a_failure_of_the_server(error: BaseException | None, has_answered: bool, counts: bool | None) -> None:
    """True: one more in a row; False: the row ends; None: it says nothing."""
    circuit = Circuit(3, 10.0)
    circuit.ended(DOWN, has_answered=False, now=0.0)
    circuit.ended(error, has_answered=has_answered, now=0.0)
    assert circuit.failed == {True: 2, False: 0, None: 1}[counts]
