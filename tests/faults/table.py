"""The table that `pytest -m faults` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["CATALOGUE", "NOT_APPLICABLE", "lines"]

CATALOGUE = [
    tuple(line.split()) for line in (Path(__file__).parents[1] / "data" / "faults.txt").read_text("utf-8").splitlines()
]
"""Group and name of every row."""
NOT_APPLICABLE: dict[str, str] = {}
"""Groups of which no row can be run, and why."""


def lines(verdicts: Mapping[tuple[str, str], set[str]]) -> Iterator[str]:
    """Group, rows, passed, failed, not applicable with the reason, and rows without a test.

    `verdicts` has the outcomes of the tests of each row; a row passed if all of its tests passed.
    """
    yield f"{'group':12}{'rows':>6}{'passed':>8}{'failed':>8}{'not applicable':>16}{'no test':>9}"
    for group in dict.fromkeys(group for group, _name in CATALOGUE):
        rows = [name for its, name in CATALOGUE if its == group]
        passed = sum(verdicts.get((group, name)) == {"passed"} for name in rows)
        failed = sum("failed" in verdicts.get((group, name), ()) for name in rows)
        apart = len(rows) if group in NOT_APPLICABLE else sum(verdicts.get((group, name)) == {"skipped"} for name in rows)
        reason = f"  {NOT_APPLICABLE[group]}" if group in NOT_APPLICABLE else ""
        yield f"{group:12}{len(rows):>6}{passed:>8}{failed:>8}{apart:>16}{len(rows) - passed - failed - apart:>9}{reason}"
    without = [name for group, name in CATALOGUE if (group, name) not in verdicts and group not in NOT_APPLICABLE]
    if without:
        yield f"no test: {', '.join(without)}"
