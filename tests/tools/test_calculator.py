from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import ModelRetry
from agentkit_tools import calculator

calculate = calculator()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-2 ** 2", -4),
        ("+-3", -3),
        ("7 // 2", 3),
        ("-7 % 3", 2),
        ("7 / 2", 3.5),
        ("2 ** 200", 2**200),
        ("2 ** -1", 0.5),
        ("1_000 + 0x10", 1016),
        ("0 ** 10000000000", 0),
        ("sqrt(16)", 4.0),
        ("cbrt(27)", pytest.approx(3)),
        ("abs(-3)", 3),
        ("round(2.567, 2)", 2.57),
        ("max(1, 5, 3) - min([1, 5])", 4),
        ("sum([1, 2, 3]) + sum(1, 2)", 9),
        ("log(8, 2)", pytest.approx(3)),
        ("exp(0) + sin(0) + cos(0)", 2.0),
        ("2 * pi", 2 * math.pi),
        ("e", math.e),
        ("factorial(20)", math.factorial(20)),
        ("floor(1e300)", math.floor(1e300)),
        ("gcd(12, 18) + lcm(4, 6)", 18),
        ("3 × 4 ÷ 2 − 1", 5.0),
        ("1 +\n2", 3),
    ],
)
def test_arithmetic(expression: str, expected: float) -> None:
    result = calculate(expression)
    assert result == expected
    assert type(result) in (int, float)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("1 / 0", "division by zero in '1 / 0'"),
        ("5 % (1 - 1)", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("2 ^ 3", "a power is written \\*\\*"),
        ("1,234 + 1", "without thousands separators"),
        ("__import__('os').system('id')", "not understood"),
        ("().__class__", "not arithmetic"),
        ("pi.real", "not arithmetic"),
        ("[1, 2]", "not arithmetic"),
        ("abs(x=1)", "'=' is not understood"),
        ("True + 1", "'True' is not arithmetic"),
        ("1j", "not arithmetic"),
        ("1 if 1 else 2", "not arithmetic"),
        ("sqroot(4)", "no function 'sqroot'; nearest: sqrt"),
        ("eval(1)", "no function 'eval'"),
        ("x + 1", "'x' is unknown; there are"),
        ("sqrt(-1)", "math domain error"),
        ("log(1, 2, 3)", "argument"),
        ("round(1.5, 1.5)", "float"),
        ("min()", "empty"),
        ("(-8) ** 0.5", "complex"),
        ("10.0 ** 400", "too big for a 64-bit float"),
        ("1e999", "too big for a 64-bit float"),
        ("10 ** 400 / 3", "too big for a 64-bit float"),
        ("(1 + 2", "not a complete expression"),
        ("", "not a complete expression"),
        ("9 ** 9 ** 9", "more than 1,000 digits"),
        ("10 ** 999 * 10 ** 999", "more than 1,000 digits"),
        ("factorial(100000000)", "more than 1,000 digits"),
        ("factorial(-1)", "negative"),
        ("round(5, -1000000000)", "allowed: -1000 to 1000"),
        ("9" * 1001, "1,001 characters; allowed: 1,000"),
        ("-" * 200 + "1", "nested more than 60 levels"),
        ("(" * 199 + "1" + ")" * 199 + "+", "not a complete expression"),
        ("(" * 450 + "1" + ")" * 450, "not a complete expression"),
    ],
)
def test_what_is_no_arithmetic_is_refused_at_once(expression: str, words: str) -> None:
    started = time.monotonic()
    with pytest.raises(ModelRetry, match=words):
        calculate(expression)
    assert time.monotonic() - started < 0.5


def test_digits_are_counted_exactly() -> None:
    small = calculator(max_digits=3)
    assert small("999") == 999
    assert small("-999 + 0") == -999
    with pytest.raises(ModelRetry, match="more than 3 digits"):
        small("999 * 1000")


@pytest.mark.parametrize("digits", [0, 4001])
def test_a_limit_that_python_cannot_print_is_refused(digits: int) -> None:
    with pytest.raises(ValueError, match="allowed: 1 to 4000"):
        calculator(max_digits=digits)
    assert len(str(calculator(max_digits=4000)("10 ** 3999"))) == 4000


def test_through_the_tool() -> None:
    assert asyncio.run(calculate.call({"expression": "6 * 7"})) == 42
    assert (calculate.name, calculate.read_only, calculate.destructive) == ("calculate", True, False)


_number = st.one_of(st.integers(-1000, 1000), st.floats(-1000, 1000).map(lambda number: round(number, 3)))
_expression = st.recursive(
    _number.map(lambda number: f"({number})"),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
        lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
    ),
    max_leaves=8,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(_expression)
def test_it_agrees_with_python(expression: str) -> None:
    try:
        expected = eval(expression, {"__builtins__": {}})
    except ZeroDivisionError:
        with pytest.raises(ModelRetry, match="division by zero"):
            calculate(expression)
    else:
        result = calculate(expression)
        assert (type(result), result) == (type(expected), expected)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_number_or_a_refusal(text: str) -> None:
    with suppress(ModelRetry):
        assert isinstance(calculate(text), int | float)
