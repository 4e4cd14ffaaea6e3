"""Tool calls that a server left in the text, in the model's own markup (docs/deepseek.md).

Only the complete grammar counts: one closed section at the end of the text, each call closed, each value valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from ..messages import ToolCall

__all__ = ["MARK", "BrokenMarkup", "looks_like_a_call", "read_markup"]

MARK = "DSML"
"""A word that is part of all such markup."""

_BAR = r"[｜|]{1,2}"
_OPEN = re.compile(rf"<{_BAR}DSML{_BAR}(tool_calls|function_calls)>(?=\s*(?:\Z|<))")
"""The opening tag of a section. If other text follows it directly, the text only talks about markup."""
_SECTION = re.compile(rf"<{_BAR}DSML{_BAR}(tool_calls|function_calls)>(.*)</{_BAR}DSML{_BAR}\1>\s*\Z", re.DOTALL)
_INVOKE = re.compile(rf'\s*<{_BAR}DSML{_BAR}invoke name="([^"<>]+)">(.*?)</{_BAR}DSML{_BAR}invoke>\s*', re.DOTALL)
_PARAMETER = re.compile(
    rf'\s*<{_BAR}DSML{_BAR}parameter name="([^"<>]+)" string="(true|false)">(.*?)</{_BAR}DSML{_BAR}parameter>\s*', re.DOTALL
)

_OTHER = re.compile(
    r"""^[ \t]*(?:<tool_call>\s*|<minimax:tool_call>\s*|<function_calls>\s*|<\|tool_calls_section_begin\|>\s*)?
    (?:<function=|<invoke\ name="|<tool_call>\s*|<\|tool_call_begin\|>\s*(?:functions\.)?|\[TOOL_CALLS\]\s*|<\|python_tag\|>
    |<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?
    |(?:<\|start\|>assistant)?<\|channel\|>commentary\ to=functions\.)
    (?:\[?\{\s*"name":\s*")?([\w.-]{1,64})""",
    re.VERBOSE | re.MULTILINE,
)
"""The beginning of a call in the markup of Qwen, MiniMax, GLM, Kimi, Mistral, Llama, DeepSeek V3 and gpt-oss, at the beginning
of a line, with the name of its tool."""


class BrokenMarkup(ValueError):
    """A section of calls that is incomplete or malformed."""


def read_markup(text: str, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """The text before a final section of calls, and the calls without ids. Without a section, the whole text and no calls.

    `names` are the offered tools: a section that calls another tool stays text. Raises `BrokenMarkup` for a section that does
    not end, or that does not follow the grammar.
    """
    opened = _OPEN.search(text)
    if opened is None or not names:
        return text, ()
    section = _SECTION.fullmatch(text, opened.start())
    if section is None:
        closing = re.search(rf"</{_BAR}DSML{_BAR}{opened[1]}>", text)
        if closing:  # text follows the section, so it is about markup and not a call
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
    """Whether a text is JSON in the shape of a call to one of these tools, or has a model's own markup of one.

    It may also be an answer, so it never runs.
    """
    if any(found[1] in names for found in _OTHER.finditer(text)):
        return True
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
