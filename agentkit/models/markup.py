"""Calls that a server left in the text, in the model's own markup (docs/deepseek.md).

Only the complete grammar counts: one closed section at the end of the text, each call closed, each value readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from ..messages import ToolCall

__all__ = ["MARK", "BrokenMarkup", "looks_like_a_call", "read_markup"]

MARK = "DSML"
"""What every such markup has in it."""

_BAR = r"[｜|]{1,2}"
_OPEN = re.compile(rf"<{_BAR}DSML{_BAR}(tool_calls|function_calls)>(?=\s*(?:\Z|<))")
"""Text right after it is text about markup."""
_SECTION = re.compile(rf"<{_BAR}DSML{_BAR}(tool_calls|function_calls)>(.*)</{_BAR}DSML{_BAR}\1>\s*\Z", re.DOTALL)
_INVOKE = re.compile(rf'\s*<{_BAR}DSML{_BAR}invoke name="([^"<>]+)">(.*?)</{_BAR}DSML{_BAR}invoke>\s*', re.DOTALL)
_PARAMETER = re.compile(
    rf'\s*<{_BAR}DSML{_BAR}parameter name="([^"<>]+)" string="(true|false)">(.*?)</{_BAR}DSML{_BAR}parameter>\s*', re.DOTALL
)


class BrokenMarkup(ValueError):
    """A section of calls that is not complete, or holds what cannot be read."""


def read_markup(text: str, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """The text before the section of calls at its end, and the calls, without ids; the text as it is if there is no section.

    `names` are the tools that were offered: a section that calls another one is left as text. Raises `BrokenMarkup` for a
    section that begins and does not end, or whose inside is not the grammar.
    """
    opened = _OPEN.search(text)
    if opened is None or not names:
        return text, ()
    section = _SECTION.fullmatch(text, opened.start())
    if section is None:
        closing = re.search(rf"</{_BAR}DSML{_BAR}{opened[1]}>", text)
        if closing:  # the text goes on: it is about markup, not a call
            return text, ()
        raise BrokenMarkup("the text has a section of calls that does not end")
    calls = tuple(_calls(section[2]))
    if any(call.name not in names for call in calls):
        return text, ()
    return text[: opened.start()].rstrip(), calls


def _calls(content: str) -> list[ToolCall]:
    calls, position = [], 0
    while found := _INVOKE.match(content, position):
        calls.append(ToolCall("", found[1], _arguments(found[2])))
        position = found.end()
    if position < len(content) or not calls:
        raise BrokenMarkup("the text has a section of calls that is not well-formed")
    return calls


def _arguments(content: str) -> str:
    """The parameters as JSON text."""
    parts, position, seen = [], 0, set[str]()
    while found := _PARAMETER.match(content, position):
        name, is_text, value = found.groups()
        if name in seen:
            raise BrokenMarkup(f"the text has a call with the parameter {name!r} twice")
        seen.add(name)
        if is_text == "false":
            try:
                json.loads(value)
            except ValueError:
                raise BrokenMarkup(f"the text has a call whose parameter {name!r} is not JSON") from None
        parts.append(f"{json.dumps(name)}: {value if is_text == 'false' else json.dumps(value, ensure_ascii=False)}")
        position = found.end()
    if content[position:].strip():
        raise BrokenMarkup("the text has a call that is not well-formed")
    return "{" + ", ".join(parts) + "}"


def looks_like_a_call(text: str, names: Collection[str]) -> bool:
    """Whether a text is JSON in the shape of a call of one of these tools. It may be an answer, so it is never run."""
    if text.strip()[:1] not in ("{", "[", "<"):
        return False
    bare = re.sub(r"</?tool_call>", "", text).strip()
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError):
        return False
    value = value[0] if isinstance(value, list) and value else value
    function = value.get("function", value) if isinstance(value, dict) else None
    function = function if isinstance(function, dict) else value
    return isinstance(function, dict) and function.get("name") in names and bool({"arguments", "parameters"} & function.keys())
