"""The corpus of broken calls, and how each case comes out: `python -m tests.corpus` prints the table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from agentkit import AgentError, ToolArgumentsInvalid, ToolRegistry

__all__ = ["CASES", "Case", "outcome", "tools"]


class Color(Enum):
    RED = "red"
    GREEN = "green"


class Spot(NamedTuple):
    x: int
    y: int = 0


class Place(BaseModel):
    name: str


class Event(BaseModel):
    title: str
    day: date
    people: list[str]
    place: Place | None = None


tools = ToolRegistry()


@tools.tool
def clock() -> str:
    return "noon"


@tools.tool
def weather(city: str, unit: Literal["c", "f"] = "c") -> None: ...


@tools.tool
def purge(folder: str, dry_run: bool = True) -> None: ...


@tools.tool
def defaults(dry_run: bool = False) -> None: ...


@tools.tool
def transfer(amount: float, to: str, dry_run: bool = False) -> None: ...


@tools.tool
def search(query: str, tags: list[str] = [], limit: int = 10) -> None: ...  # noqa: B006


@tools.tool
def note(text: str) -> None: ...


@tools.tool
def either(value: int | str) -> None: ...


@tools.tool
def anything(value: Any) -> None: ...


@tools.tool
def matrix(rows: list[list[int]]) -> None: ...


@tools.tool
def mark(at: Spot, path: list[Spot] = []) -> None: ...  # noqa: B006


@tools.tool
def paint(color: Color) -> None: ...


@tools.tool
def pick(ids: set[int], ratio: float | None = None) -> None: ...


@tools.tool
def meet(event: Event) -> None: ...


@tools.tool
def run(args: list[str]) -> None: ...


@tools.tool
def pay(amount: Decimal) -> None: ...


@tools.tool
def rename(names: dict[int, str]) -> None: ...


@tools.tool
def switch(lamps: dict[bool, str]) -> None: ...


@tools.tool
def order(what: Place | dict[str, Any], count: int | list[int] = 1) -> None: ...


@dataclass(frozen=True)
class Case:
    """A call's text and what it must come to: `want` are arguments, "refuse", or arguments that may be refused as well."""

    kind: str
    tool: str
    text: str
    want: Any
    why: str = ""

    @property
    def meant(self) -> dict[str, Any] | None:
        """The arguments that were meant; None if nobody can tell."""
        return None if self.want == "refuse" else self.want.get("or_refused", self.want)

    @property
    def may_be_refused(self) -> bool:
        """Whether a refusal is right, too."""
        return self.want == "refuse" or "or_refused" in self.want


_LINES = (Path(__file__).parent / "data" / "calls.jsonl").read_text(encoding="utf-8").splitlines()
CASES = [Case(**json.loads(line)) for line in _LINES]


def outcome(case: Case) -> str:
    """How a case comes out: right, mended, refused, or else what is wrong."""
    tool = tools[case.tool]
    try:
        found = tool.parse(case.text)
    except ToolArgumentsInvalid as error:
        if not case.may_be_refused:
            return f"wrong: refused ({error})"
        return "refused"
    except AgentError as error:
        return f"wrong: {error!r}"
    if case.meant is None:
        return f"wrong: ran with {found.values}"
    meant = tool.parse(case.meant)
    if found.values != meant.values or repr(found.values) != repr(meant.values):
        return f"wrong: ran with {found.values}, not {meant.values}"
    return "mended" if found.repairs else "right"


def main() -> None:
    """Print the counts for each kind of case, and every wrong one."""
    counts: dict[str, Counter[str]] = {}
    wrong = []
    for case in CASES:
        result = outcome(case)
        counts.setdefault(case.kind, Counter())[result.partition(":")[0]] += 1
        if result.startswith("wrong"):
            wrong.append(f"{case.kind}: {case.tool} {case.text!r}: {result}")
    columns = ("right", "mended", "refused", "wrong")
    rows = [*counts.items(), ("all", sum(counts.values(), Counter()))]
    print(f"{'kind of case':24}" + "".join(f"{column:>9}" for column in columns))
    for kind, row in rows:
        print(f"{kind:24}" + "".join(f"{row[column]:>9}" for column in columns))
    print(*wrong, sep="\n", end="")


if __name__ == "__main__":
    main()
