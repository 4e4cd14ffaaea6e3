"""Functions with their docstring in six styles, and what must be read: `python -m tests.docstrings` prints the table."""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from agentkit import tool

__all__ = ["CASES", "Case", "outcome"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A documented parameter: its name, its type in words, and the lines of its description."""

    name: str
    kind: str
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A docstring before it is written in a style."""

    name: str
    entries: tuple[Entry, ...]
    summary: tuple[str, ...] = ("Do the thing.",)
    returns: str = ""
    raises: str = ""
    note: bool = False
    blank: bool = True
    results_first: bool = False


def e(name: str, kind: str, *lines: str) -> Entry:
    return Entry(name, kind, lines)


CITY = e("city", "str", "Name of the city.")
SHAPES = [
    Shape("one", (CITY,)),
    Shape("two", (CITY, e("unit", "str", "Temperature unit."))),
    Shape("many", tuple(e(f"p{n}", "int", f"Number {n} of them.") for n in range(12))),
    Shape("no blank line before", (CITY,), blank=False),
    Shape("long text", (CITY,), summary=("Do the thing.", "", "It takes long,", "and says so.", "", "Twice.")),
    Shape("summary of two lines", (CITY,), summary=("Do the thing", "and the other.")),
    Shape("returns", (CITY,), returns="The weather there."),
    Shape("returns without blank", (CITY,), returns="The weather there.", blank=False),
    Shape("raises", (CITY,), raises="If there is none."),
    Shape("all sections", (CITY,), returns="The weather.", raises="If there is none."),
    Shape("results first", (CITY,), returns="The weather.", raises="If there is none.", results_first=True),
    Shape("results first, no blank", (CITY,), returns="The weather.", results_first=True, blank=False),
    Shape("wrapped", (e("city", "str", "Name of the city,", "in English."), e("unit", "str", "Unit."))),
    Shape("wrapped three times", (e("city", "str", "Name", "of the", "city."),)),
    Shape("list in an entry", (e("mode", "str", "How:", "- fast", "- slow"), CITY)),
    Shape("list with colons", (e("mode", "str", "How:", "- fast: quick", "- slow: exact"), CITY)),
    Shape("numbered list", (e("mode", "str", "How:", "1. fast", "2. slow"), CITY)),
    Shape("colon in the text", (e("time", "str", "A time: hours, then minutes."),)),
    Shape("address in the text", (e("url", "str", "As in https://example.com/a?b=c."),)),
    Shape("brackets in the text", (e("size", "int", "Bytes (not bits) [at most 8]."),)),
    Shape("code in the text", (e("path", "str", "Like `a/b`, not ``a\\b``."),)),
    Shape("quotes in the text", (e("name", "str", "'a' or \"b\"."),)),
    Shape("default in the text", (e("size", "int", "Size. Defaults to 5."),)),
    Shape("other letters", (e("stadt", "str", "Name der Stadt, größer als München — 東京."),)),
    Shape("generic type", (e("counts", "dict[str, int]", "How many of each."),)),
    Shape("union type", (e("when", "int | None", "When, or never."),)),
    Shape("nested type", (e("rows", "list[dict[str, list[int]]]", "The rows."),)),
    Shape("literal type", (e("unit", 'Literal["c", "f"]', "The unit."),)),
    Shape("dotted type", (e("when", "datetime.date", "The day."),)),
    Shape("optional", (e("unit", "str, optional", "The unit."), CITY)),
    Shape("*args", (CITY, e("*args", "int", "More numbers."))),
    Shape("**kwargs", (CITY, e("**kwargs", "str", "More options."))),
    Shape("both", (CITY, e("*args", "int", "More numbers."), e("**kwargs", "str", "More options."))),
    Shape("names of sections", (e("returns", "str", "What."), e("args", "str", "Which."), e("note", "str", "Why."))),
    Shape("underscores", (e("max_results", "int", "At most."), e("_private", "int", "Hidden."))),
    Shape("text like a section", (e("text", "str", "See Returns: below."),), summary=("Do it.", "", "Returns are fine."))
,
    Shape("note", (CITY,), note=True),
    Shape("note and returns", (CITY,), note=True, returns="The weather."),
]  # fmt: skip


def google(shape: Shape, *, typed: bool) -> list[list[str]]:
    def head(entry: Entry) -> str:
        return f"    {entry.name} ({entry.kind}): {entry.lines[0]}" if typed else f"    {entry.name}: {entry.lines[0]}"

    entries = [line for entry in shape.entries for line in (head(entry), *(f"        {rest}" for rest in entry.lines[1:]))]
    sections = [["Args:", *entries]]
    if shape.returns:
        sections.append(["Returns:", f"    str: {shape.returns}" if typed else f"    {shape.returns}"])
    if shape.raises:
        sections.append(["Raises:", f"    ValueError: {shape.raises}"])
    return sections


def numpy(shape: Shape) -> list[list[str]]:
    entries = [
        line for entry in shape.entries for line in (f"{entry.name} : {entry.kind}", *(f"    {text}" for text in entry.lines))
    ]
    sections = [["Parameters", "----------", *entries]]
    if shape.returns:
        sections.append(["Returns", "-------", "str", f"    {shape.returns}"])
    if shape.raises:
        sections.append(["Raises", "------", "ValueError", f"    {shape.raises}"])
    return sections


def fields(shape: Shape, mark: str, *, typed: bool, inline: bool) -> list[list[str]]:
    lines: list[str] = []
    for entry in shape.entries:
        name = entry.name.replace("*", "\\*") if mark == ":" else entry.name
        kind = f"{entry.kind} " if typed and inline and " " not in entry.kind else ""
        lines += [f"{mark}param {kind}{name}: {entry.lines[0]}", *(f"    {rest}" for rest in entry.lines[1:])]
        if typed and not kind:
            lines.append(f"{mark}type {name}: {entry.kind}")
    results = []
    if shape.returns:
        results += [f"{mark}returns: {shape.returns}", *([f"{mark}rtype: str"] if typed else [])]
    if shape.raises:
        results.append(f"{mark}raises ValueError: {shape.raises}")
    return [lines, results] if results else [lines]


STYLES: dict[str, Callable[[Shape], list[list[str]]]] = {
    "Google, typed": lambda shape: google(shape, typed=True),
    "Google, untyped": lambda shape: google(shape, typed=False),
    "NumPy": numpy,
    "reST, typed": lambda shape: fields(shape, ":", typed=True, inline=True),
    "reST, untyped": lambda shape: fields(shape, ":", typed=False, inline=False),
    "Epydoc": lambda shape: fields(shape, "@", typed=True, inline=False),
}
NOTES = {"NumPy": ["Notes", "-----", "It is slow."]}


@dataclasses.dataclass(frozen=True)
class Case:
    """A function in a style, the text that must be left, and each parameter's description."""

    style: str
    shape: str
    fn: Callable[..., Any]
    text: str
    parameters: dict[str, str]


def _described(entry: Entry) -> str:
    has_list = any(line[:2] == "- " or line[1:2] == "." for line in entry.lines[1:])
    return ("\n" if has_list else " ").join(entry.lines)


def _cases() -> Iterator[Case]:
    for style, write in STYLES.items():
        for shape in SHAPES:
            sections = write(shape)
            if shape.results_first:
                sections.reverse()
            note = NOTES.get(style, ["Note:", "    It is slow."]) if shape.note else []
            parts = [list(shape.summary), *sections, *([note] if note else [])]
            between = [""] if shape.blank else []
            lines = [line for part in parts for line in (*between, *part)][len(between) :]
            scope: dict[str, Any] = {}
            names = ", ".join(entry.name for entry in shape.entries)
            exec(f"def documented({names}): ...", scope)
            fn = scope["documented"]
            fn.__doc__ = "\n".join([lines[0], *(f"    {line}" if line else "" for line in lines[1:])]) + "\n    "
            text = "\n".join(shape.summary) + ("\n\n" + "\n".join(note) if note else "")
            described = {entry.name.lstrip("*"): _described(entry) for entry in shape.entries}
            yield Case(style, shape.name, fn, text, described)


CASES = list(_cases())


def outcome(case: Case) -> str:
    """ "right", or what is wrong."""
    made = tool(case.fn)
    found = {name: node.get("description", "") for name, node in made.parameters["properties"].items()}
    rest = made.parameters.get("additionalProperties")
    if isinstance(rest, dict):
        found["kwargs"] = rest.get("description", "")
    if found != case.parameters:
        return f"parameters {found} are not {case.parameters}"
    if made.description != case.text:
        return f"text {made.description!r} is not {case.text!r}"
    return "right"


def main() -> None:
    """Print how many are right in each style, and each that is not."""
    counts: Counter[str] = Counter()
    for case in CASES:
        result = outcome(case)
        counts[case.style] += result == "right"
        if result != "right":
            print(f"{case.style}: {case.shape}: {result}\n{inspect.getdoc(case.fn)}")
    for style in STYLES:
        print(f"{style:18} {counts[style]} of {len(SHAPES)}")
    print(f"{'all':18} {sum(counts.values())} of {len(CASES)}")


if __name__ == "__main__":
    main()
