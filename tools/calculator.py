"""Arithmetic, by walking a parsed expression; nothing is ever evaluated as Python."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from agentkit import ModelRetry, Tool, tool

from ._text import nearest

__all__ = ["calculator"]

Number: TypeAlias = int | float

_DEEPEST = 60
_ALPHABET = re.compile(r"[0-9A-Za-z_.,+\-*/%()\[\] \t]*")
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "\n": " ", "\r": " "})
_CONSTANTS: Mapping[str, float] = MappingProxyType({"pi": math.pi, "e": math.e, "tau": math.tau})
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = MappingProxyType({ast.UAdd: operator.pos, ast.USub: operator.neg})
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = MappingProxyType({
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
})  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType({
    "sqrt": math.sqrt, "cbrt": math.cbrt, "abs": abs, "round": round, "floor": math.floor, "ceil": math.ceil,
    "exp": math.exp, "log": math.log, "log2": math.log2, "log10": math.log10,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan,
    "atan2": math.atan2, "hypot": math.hypot, "degrees": math.degrees, "radians": math.radians,
    "factorial": math.factorial, "gcd": math.gcd, "lcm": math.lcm,
})  # fmt: skip
_OVER_MANY: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"min": min, "max": max, "sum": sum})


def calculator(*, max_digits: int = 1000, max_length: int = 1000) -> Tool[[str], Number]:
    """A tool `calculate`: + - * / // % **, parentheses, common functions, pi, e and tau.

    Integers are exact, up to `max_digits` digits (1 to 4000: what Python turns into text); everything else is a 64-bit
    float. An expression has at most `max_length` characters. Raises ValueError for a limit out of its range.
    """
    if not 1 <= max_digits <= 4000:
        raise ValueError(f"max_digits is {max_digits}; allowed: 1 to 4000")
    rules = _Rules(max_digits)

    def calculate(expression: str) -> Number:
        """Calculate an arithmetic expression.

        Args:
            expression: For example "(1 + 2) * 3 ** 2 / sqrt(2)". Operators: + - * / // % **. Functions: sqrt, cbrt,
                abs, round, floor, ceil, min, max, sum, exp, log(x, base), log2, log10, sin, cos, tan, asin, acos,
                atan, atan2, hypot, degrees, radians, factorial, gcd, lcm. Angles are in radians. Constants: pi, e, tau.
        """
        if len(expression) > max_length:
            raise ModelRetry(f"the expression has {len(expression):,} characters; allowed: {max_length:,}; split it up")
        return rules.value(_parsed(expression))

    return tool(calculate, read_only=True, destructive=False, idempotent=True, open_world=False, output="trusted")


def _parsed(expression: str) -> ast.expr:
    text = expression.translate(_SIGNS).strip()
    if not _ALPHABET.fullmatch(text):
        odd = next(char for char in text if not _ALPHABET.fullmatch(char))
        hint = "; a power is written **" if odd == "^" else "; only arithmetic is understood"
        raise ModelRetry(f"{odd!r} is not understood in {expression!r}{hint}")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ModelRetry(f"{expression!r} is not a complete expression; write it like '(1 + 2) * 3'") from None


@dataclass(frozen=True, slots=True)
class _Rules:
    """What may be calculated, and how big it may get."""

    max_digits: int

    def value(self, node: ast.expr, depth: int = 0) -> Number:
        """The number that the expression stands for; raises ModelRetry where there is none."""
        if depth > _DEEPEST:
            raise ModelRetry(f"the expression is nested more than {_DEEPEST} levels deep; split it up")
        try:
            return self._bounded(self._raw(node, depth + 1))
        except ZeroDivisionError:
            raise ModelRetry(f"division by zero in {ast.unparse(node)!r}") from None
        except OverflowError:
            raise ModelRetry(f"{ast.unparse(node)!r} is too big for a 64-bit float") from None
        except (ValueError, TypeError) as error:
            raise ModelRetry(f"{ast.unparse(node)!r}: {error}") from None

    def _raw(self, node: ast.expr, depth: int) -> Any:
        match node:
            case ast.Constant(value=number) if type(number) in (int, float):
                return number
            case ast.Name(id=name) if name in _CONSTANTS:
                return _CONSTANTS[name]
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
                return _UNARY[type(sign)](self.value(operand, depth))
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
                return self._binary(sign, self.value(left, depth), self.value(right, depth))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(name, args, depth)
            case ast.Name(id=name):
                raise ModelRetry(f"{name!r} is unknown{nearest(name, [*_CONSTANTS, *_FUNCTIONS, *_OVER_MANY])}")
            case ast.Tuple():
                raise ModelRetry("a comma separates arguments; write numbers without thousands separators")
        raise ModelRetry(f"{ast.unparse(node)[:100]!r} is not arithmetic; allowed: numbers, + - * / // % **, functions")

    def _binary(self, sign: ast.operator, left: Number, right: Number) -> Any:
        if isinstance(sign, ast.Pow) and isinstance(left, int) and isinstance(right, int) and abs(left) > 1:
            self._expect_digits(right * math.log10(abs(left)))
        return _BINARY[type(sign)](left, right)

    def _call(self, name: str, args: list[ast.expr], depth: int) -> Any:
        if name in _OVER_MANY:
            items = args[0].elts if len(args) == 1 and isinstance(args[0], ast.List | ast.Tuple) else args
            return _OVER_MANY[name]([self.value(item, depth) for item in items])
        if name not in _FUNCTIONS:
            raise ModelRetry(f"there is no function {name!r}{nearest(name, [*_FUNCTIONS, *_OVER_MANY])}")
        values = [self.value(arg, depth) for arg in args]
        if name == "factorial" and values and values[0] > 1:
            self._expect_digits(math.lgamma(values[0] + 1) / math.log(10))
        if name == "round" and len(values) == 2 and abs(values[1]) > self.max_digits:
            raise ModelRetry(f"round is asked for {values[1]} digits; allowed: -{self.max_digits} to {self.max_digits}")
        return _FUNCTIONS[name](*values)

    def _expect_digits(self, digits: float) -> None:
        if digits > self.max_digits + 1:
            raise ModelRetry(f"the result would have more than {self.max_digits:,} digits; use floats, such as 2.0 ** 100")

    def _bounded(self, number: Any) -> Number:
        if isinstance(number, complex):
            raise ModelRetry("the result is a complex number; only real numbers are calculated")
        if isinstance(number, float) and not math.isfinite(number):
            raise OverflowError
        if isinstance(number, int):
            self._expect_digits(number.bit_length() * math.log10(2))
        return number  # type: ignore[no-any-return]
