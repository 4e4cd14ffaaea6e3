"""Docstrings in Google, NumPy, reST and Epydoc style, or a mix of them: the text, and the description of each parameter.

This module finds the sections, and docstring-parser parses them. Sections may be anywhere in the text. A section that is not
about parameters, results or errors, such as a note or an example, is part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from .._dataclass import frozen_dataclass

__all__ = ["Docstring", "read_docstring"]

_PARAMETERS = {
    "args", "arguments", "parameters", "params", "keyword args", "keyword arguments", "other args", "other arguments",
    "other parameters", "attributes",
}  # fmt: skip
_RESULTS = {"returns", "return", "yields", "yield", "raises", "raise", "except", "exceptions", "warns", "receives"}
_HEADER = re.compile(r"(?:#{1,6}\s+)?\*{0,2}([A-Za-z][A-Za-z ]*?)\s*:?\*{0,2}\s*:?\s*")
"""A header, which may be one of Markdown."""
_GOOGLE_HEADER = re.compile(r"[A-Z][A-Za-z ]*:")
_UNDERLINE = re.compile(r"(?:-{3,}|={3,})\s*")
_CODE = re.compile(r"\s*(```|~~~)")
_FIELD = re.compile(
    r"([:@])(param|parameter|arg|argument|key|keyword|kwarg|type|returns?|rtype|raises?|except|exception|yields?|ytype"
    r"|attribute|cvar|ivar)\b((?:[^:\[\n]|\[[^\]\n]{0,200}\]|\[(?![^\]\n]{0,200}\]))*+):(?!\S*`)"
)
_PARAMETER_FIELDS = {"parameter", "arg", "argument", "key", "keyword", "kwarg", "attribute", "ivar", "cvar"}
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s")
_ENTRY = re.compile(
    r"(?P<indent>\s*)(?:(?:[-*+•]|\d+[.)])\s+)?(?P<mark>\*\*|[`'\"]?)(?P<name>\*{0,2}[^\W\d]\w*)(?P=mark)\s*"
    r"(?:\((?:[^()]|\([^()]*\))*\)\s*)?(?::|\s[-\u2013\u2014]\s)(?P<text>.*)"
)
"""An entry of a Google section, with its type and with what people write round the name: a bullet, quotes, a dash."""
_NAME = re.compile(r"\*{0,2}[^\W\d]\w*")


@dataclass(slots=True)
class Docstring:
    """The text without the sections on parameters, results and errors; the descriptions of the parameters and the result."""

    text: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    returns: str = ""


@frozen_dataclass
class _Block:
    """Lines that belong together, and their style, which is empty for plain text."""

    style: str
    lines: list[str]


def read_docstring(text: str) -> Docstring:
    """Parse a cleaned docstring (`inspect.getdoc`). A section that cannot be parsed stays in the text."""
    found = Docstring()
    kept: list[str] = []
    for block in _blocks(_with_indent(text.splitlines())):
        kept += _read(block, found) if block.style else block.lines
    found.text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return found


def _with_indent(lines: list[str]) -> list[str]:
    """The lines with the entries of a section on the first line indented again.

    `inspect.getdoc` removes their indent, because it takes it for the indent of the whole docstring.
    """
    is_first = len(lines) > 1 and _GOOGLE_HEADER.fullmatch(lines[0]) and _is_header(lines[0])
    if not is_first or lines[1][:1].isspace() or not lines[1].strip() or _UNDERLINE.fullmatch(lines[1]):
        return lines
    end = next((index for index in range(1, len(lines)) if _is_header(lines[index])), len(lines))
    return [lines[0], *(f"    {line}" for line in lines[1:end]), *lines[end:]]


def _is_header(line: str) -> bool:
    return _title(line) in _PARAMETERS | _RESULTS


def _title(line: str) -> str:
    """The words of a header in lower case; empty if the line is none."""
    header = _HEADER.fullmatch(line)
    return header[1].lower() if header else ""


def _blocks(lines: list[str]) -> Iterator[_Block]:
    at, fence = 0, ""
    while at < len(lines):
        fence_mark = _CODE.match(lines[at])
        style, end = ("", at + 1) if fence or fence_mark else _section(lines, at)
        if fence_mark and (not fence or lines[at].strip() == fence):
            fence = "" if fence else fence_mark[1]
        yield _Block(style, lines[at:end])
        at = end


def _section(lines: list[str], at: int) -> tuple[str, int]:
    """The style of the block that begins at this line, and the index of its end."""
    line = lines[at]
    if line[:1].isspace() or not line.strip():
        return "", at + 1
    if (found := _FIELD.match(line)) and (found[1] == ":" or len(found[3].split()) <= 1):
        return ("rest" if found[1] == ":" else "epydoc"), _indented_end(lines, at + 1)
    if _is_header(line):
        if at + 1 < len(lines) and _UNDERLINE.fullmatch(lines[at + 1]):
            return "numpy", _numpy_end(lines, at + 2)
        end = _indented_end(lines, at + 1)
        if end == at + 1 and _title(line) in _PARAMETERS:
            end = _list_end(lines, end)
        if (line.rstrip(" *").endswith(":") or line[0] == "#") and any(lines[at + 1 : end]):
            return "google", end
    return "", at + 1


def _indented_end(lines: list[str], at: int) -> int:
    """The end of the indented lines, including blank lines among them."""
    end = at
    for index in range(at, len(lines)):
        if lines[index].strip():
            if not lines[index][:1].isspace():
                break
            end = index + 1
    return end


def _list_end(lines: list[str], at: int) -> int:
    """The end of the list that begins at this line, maybe after blank lines; this line if there is none."""
    end = at
    for index in range(at, len(lines)):
        if _ITEM.match(lines[index]):
            end = _indented_end(lines, index + 1)
        elif index >= end and lines[index].strip():
            break
    return end


def _numpy_end(lines: list[str], at: int) -> int:
    """The index of the next header or field."""
    for index in range(at, len(lines)):
        if index + 1 < len(lines) and lines[index].strip() and _UNDERLINE.fullmatch(lines[index + 1]):
            return index
        if _FIELD.match(lines[index]) or _GOOGLE_HEADER.fullmatch(lines[index]):
            return index
    return len(lines)


def _read(block: _Block, found: Docstring) -> list[str]:
    """Add the content of the block to `found`. Returns the lines that cannot be parsed."""
    header, *lines = usual = _normalized(block)
    if _parsed(block.style, usual, found):
        return []
    if block.style != "google":
        return block.lines
    left = [line for entry in _entries(lines) if not _parsed("google", [header, *entry], found) for line in entry]
    return [block.lines[0], *left] if left else []


def _entries(lines: list[str]) -> Iterator[list[str]]:
    """The entries of a section: each is a line and the deeper-indented lines after it."""
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    starts = [index for index, line in enumerate(lines) if line.strip() and not line[indent : indent + 1].isspace()]
    for start, end in pairwise([*starts, len(lines)]):
        yield lines[start:end]


def _parsed(style: str, lines: list[str], found: Docstring) -> bool:
    """Add the content of the lines to `found`. Returns False if the style's parser cannot parse them."""
    from docstring_parser import ParseError, epydoc, google, numpydoc, rest

    parse = {"google": google.parse, "numpy": numpydoc.parse, "rest": rest.parse, "epydoc": epydoc.parse}[style]
    summary = ["-", ""] if style == "google" else []  # this parser ignores a section at the very beginning
    try:
        parsed = parse("\n".join(summary + lines))
    except (ParseError, ValueError, IndexError):
        return False
    named = [
        (name.replace("\\", "").strip(), _joined(parameter.description or ""))
        for parameter in parsed.params
        for name in parameter.arg_name.split(",")  # NumPy style: x1, x2 : array
    ]
    if style == "google" and not all(_NAME.fullmatch(name) for name, _ in named):
        return False
    for name, description in named:
        if description and (plain := name.strip("`*'\"")):
            found.parameters.setdefault(plain, description)
    if parsed.returns and parsed.returns.description:
        found.returns = found.returns or _joined(parsed.returns.description)
    return True


def _normalized(block: _Block) -> list[str]:
    """The block's lines, with the spelling that docstring-parser supports."""
    first, *rest = block.lines
    if block.style in ("rest", "epydoc"):
        head = _FIELD.match(first)
        assert head, "a field began the block"
        (mark, kind, what), end = head.groups(), head.end()
        kind = "param" if kind in _PARAMETER_FIELDS else kind
        *types, name = what.split() or [""]
        types = types if block.style == "rest" and len(types) == 1 else []  # a type with spaces is not needed here
        name = name.replace("\\", "").lstrip("*")
        words = [kind, *types, *([name] if name else [])]
        return [f"{mark}{' '.join(words)}:{first[end:]}", *rest]
    if _title(first) in _PARAMETERS:
        first = "Parameters" if block.style == "numpy" else "Args:"
        rest = rest if block.style == "numpy" else [*_usual_entries(rest)]
    if block.style == "numpy":
        rest = ["-" * len(first), *rest[1:]]
    return [first, *rest]


def _usual_entries(lines: list[str]) -> Iterator[str]:
    """The lines of a section on parameters, with each entry in the form `name: text`, indented."""
    starts_with_item = None
    for first, *more in _entries(lines):
        is_item = bool(_ITEM.match(first))
        starts_with_item = is_item if starts_with_item is None else starts_with_item
        if head := None if is_item and not starts_with_item else _ENTRY.fullmatch(first):
            first, is_item = f"{head['indent']}{head['name']}:{head['text']}", False
        is_below = is_item or not first[:1].isspace()  # an item after an entry that is none belongs to that entry
        yield from (f"    {line}" if is_below else line for line in (first, *more))


def _joined(text: str) -> str:
    """The text as one paragraph; a list in it keeps its lines."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if not any(_ITEM.match(line) for line in lines):
        return " ".join(" ".join(lines).split())
    joined: list[list[str]] = []
    for line in lines:
        if joined and line.strip() and not _ITEM.match(line):
            joined[-1].append(line.strip())
        elif line.strip():
            joined.append([line])
    return "\n".join(" ".join(parts) for parts in joined)
