"""Texts for a terminal: sanitised texts of models and tools, and readable numbers."""

from __future__ import annotations

import json
import re
from typing import Any

from rich.cells import cell_len, chop_cells

from ..messages import ToolCall, Usage
from ..run.result import RunResult
from .approval import escaped

__all__ = ["clean", "counted", "duration", "money", "one_line", "shown_call", "summary", "tokens", "uncounted"]

_HARMFUL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters (ESC begins terminal commands), marks that change the direction of text, and lone surrogates."""

_MAX_VALUE = 60


def clean(text: str) -> str:
    """The text, safe for a terminal: line feeds and tabs are kept, other control characters become escapes."""
    return _HARMFUL.sub(lambda match: ascii(match[0])[1:-1], text.replace("\r", ""))


def one_line(text: str, length: int) -> str:
    """The text in one clean line of at most `length` columns. A longer text is cut, with a note of its length."""
    line = clean(" ".join(text[: 20 * length].split()))
    if cell_len(line) <= length and len(text) <= 20 * length:
        return line
    note = f"… ({len(text):,} characters)"
    room = length - len(note)
    return (chop_cells(line, room)[0] if room > 1 and line else "") + note


def shown_call(call: ToolCall, length: int = 100) -> str:
    """A call as one readable line, such as `read_file(path="a.txt", max_lines=3)`."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict):
        shown = ", ".join(f"{name}={one_line(_as_json(value), _MAX_VALUE)}" for name, value in arguments.items())
    else:
        shown = call.arguments
    return escaped(f"{one_line(call.name, 64)}({one_line(shown, length)})")


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def duration(seconds: float) -> str:
    """A readable time: `3 ms`, `1.2 s`, `2 min 5 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def money(cost: float | None, note: str = "") -> str:
    """US dollars, with as many digits as useful, and a note on the prices if there is one."""
    if cost is None:
        return "cost unknown"
    after = f" ({note})" if note else ""
    if 0 < cost < 0.00005:
        return f"< $0.0001{after}"
    return f"${cost:.4f}{after}" if cost < 1 else f"${cost:,.2f}{after}"


def tokens(usage: Usage) -> str:
    """Input tokens, those of them from the cache, and output tokens."""
    hits = usage.cache_read_tokens
    share = f" ({hits:,} from cache, {100 * hits / usage.input_tokens:.0f}%)" if hits and usage.input_tokens else ""
    return f"{usage.input_tokens:,} tokens in{share} · {usage.output_tokens:,} out"


def summary(result: RunResult[Any], seconds: float) -> str:
    """A summary of a run in one line: steps, calls, tokens, cost and time."""
    calls = result.usage.tool_calls
    counts = f"{counted(result.steps, 'step')} · {counted(calls, 'tool call')}"
    return f"{counts} · {tokens(result.usage)} · {money(result.cost, result.price_note)} · {duration(seconds)}"


def uncounted(result: RunResult[Any]) -> str:
    """The estimated usage that the server did not count, such as that of a cancelled answer, in one line; empty for none."""
    if not result.uncounted.total_tokens:
        return ""
    more = None if result.cost is None else result.state.known_cost - result.cost
    price = f" · {money(more, result.price_note)}" if more else ""
    return f"and about {tokens(result.uncounted)}{price}, which the server did not count"


def counted(number: int, word: str) -> str:
    """The number and the word, in the plural where it is one."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
