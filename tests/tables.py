"""What is known of function calling, as tables: `python -m tests.tables`.

The kinds of signature, the docstrings by style, the corpus of broken calls, and the time that a schema takes.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from agentkit import tool
from tests import corpus, docstrings, signatures

__all__: list[str] = []


class Place(BaseModel):
    """Where something is."""

    city: str
    country: str = "FR"


_BODY = '"""Do {n}.\n\n    Args:\n        a: The first.\n        c: The third.\n    """\n'
_PARAMETERS = [
    'a: int, b: str = "x", c: list[float] = ()',
    "a: Place, *, c: Annotated[int, Field(ge=1, le=9)] = 3",
    'a: Literal["on", "off"], c: dict[str, int] | None = None',
    "a: bool, b: float | None, c: str",
]


def schema_times(count: int) -> list[float]:
    """Seconds of processor time to decorate each of `count` different functions, in four shapes."""
    times = []
    for n in range(count):
        names: dict[str, Any] = {"Place": Place, "Annotated": Annotated, "Field": Field, "Literal": Literal}
        exec(f"def f{n}({_PARAMETERS[n % len(_PARAMETERS)]}) -> str:\n    {_BODY.format(n=n)}", names)
        begin = time.process_time()
        tool(names[f"f{n}"]).schema()
        times.append(time.process_time() - begin)
    return times


def main() -> None:
    """Print all tables."""
    for title, table in (("signatures", signatures), ("docstrings", docstrings), ("calls", corpus)):
        print(f"== {title}")
        table.main()
    times = schema_times(1000)
    print("== schemas of 1,000 decorated functions, processor time")
    print(f"{sum(times) * 1e3:.0f} ms in all, {median(times) * 1e6:.0f} us each (median), {times[0] * 1e3:.0f} ms the first")


if __name__ == "__main__":
    main()
