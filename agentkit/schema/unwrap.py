"""Removes text without meaning that models and chat templates put around the JSON of a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, partial

from ..names import wire_name

__all__ = ["plain_key", "unwrapped"]

_FENCE = re.compile(r"```[ \t]*(?:(?:json[c5]?|python|javascript|js)[ \t]*)?\r?\n", re.IGNORECASE)
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL)
_BARS = r"(?:｜{1,2}|\|{1,2})"
_TOKEN = re.compile(
    r"<\|[^|<>]{1,60}\|>|<｜[^｜<>]{1,60}｜>|</?(?:s|tool_call|function_call|arguments|json)>"
    rf"|</?{_BARS}DSML{_BARS}[a-z_]{{1,30}}>"
)
"""Tokens that chat templates put around a call."""
_TOKEN_BEFORE = re.compile(rf"{_TOKEN.pattern}|</think>")
_MAX_TOKEN = 80
_SEPARATOR = r"<[｜|]tool[▁_ ]sep[｜|]>"
_INVOKE = re.compile(rf'<{_BARS}DSML{_BARS}invoke name="([^"<>]{{1,200}})(">\s*)')
_CALLED = re.compile(rf"(?:function\s*{_SEPARATOR}\s*)?([^\s<>{{}}]{{1,200}})\s*({_SEPARATOR}\s*)?")
"""The tool's name before the object, in the markup of DeepSeek V4 and V3."""
_PREFACE = re.compile(r"""(?:[^{}\[\]"'`“”‘’<>=|\\]|(?<=\w)['’](?=\w))+""")
"""Words before an object, without brackets, quotes or signs of code."""
_MAX_PREFACE = 2_000
_ANY_SPACE = re.compile(r"\s+")


def plain_key(key: str) -> str:
    """A key without case and separators, since models confuse these."""
    return key.casefold().replace("_", "").replace("-", "").replace(" ", "")


def unwrapped(text: str, name: str, keys: Iterable[str] | None, *, words: bool) -> tuple[str, list[str]]:
    """The text reduced to its object, and the names of the removed wrappers.

    `name` is the tool's name, which markup may put before the object. Markup with another name stays. `keys` are the keys that
    the object may have; None for any. A key directly before the object belongs to it, and stays. `words` says whether other
    words before the object are removed.
    """
    repairs = []
    if text.startswith("\ufeff"):
        text = text.removeprefix("\ufeff")
        repairs.append("byte order mark")
    wrappers: dict[str, Callable[[str], str]] = {
        "thinking text": _without_thought,
        "special tokens": partial(_without_tokens, name=name),
        "words before the object": partial(_without_words, keys=keys),
        "code fence": _without_fence,
    }
    if not words:
        del wrappers["words before the object"]
    text = text.strip()
    for _ in range(3):  # one wrapper may be inside another
        for wrapper, remove in wrappers.items():
            inner = remove(text).strip()
            if inner != text:
                text = inner
                if wrapper not in repairs:
                    repairs.append(wrapper)
    return text, repairs


def _without_thought(text: str) -> str:
    found = _THOUGHT.match(text)
    return text[found.end() :] if found else text


def _without_tokens(text: str, name: str) -> str:
    """The text without a template's tokens. Markup that names another tool stays, so that the text is refused."""
    start, end = 0, len(text)
    while found := _TOKEN_BEFORE.match(text, start):
        start = _after_space(text, found.end())
    if name:
        start = _after_name(text, start, name)
    while end > start:
        opening = text.rfind("<", max(start, end - _MAX_TOKEN), end)
        if text[end - 1].isspace():
            end -= 1
        elif opening >= 0 and _TOKEN.fullmatch(text, opening, end):
            end = opening
        else:
            break
    return text[start:end]


def _after_space(text: str, at: int) -> int:
    found = _ANY_SPACE.match(text, at)
    return found.end() if found else at


def _after_name(text: str, at: int, name: str) -> int:
    """The index of the object after the tool's own name, as in DeepSeek's markup."""
    for pattern in (_INVOKE, _CALLED):
        found = pattern.match(text, at)
        if found and found[1] in (name, wire_name(name)) and (at or found[2]):
            return found.end()
    return at


@cache
def _denial() -> re.Pattern[str]:
    """Words that suggest that the call is not meant, or not this one. Only a few languages are covered."""
    return re.compile(
        r"\b(?:not|no|never|without|instead|rather|wrong|unlike|bad|old|earlier|previous\w*|last|example\w*|sample\w*|template\w*"
        r"|draft\w*|placeholder\w*|invalid\w*|incorrect\w*|mistak\w*|error\w*|fail\w*|reject\w*|refus\w*|denied|cancel\w*|abort\w*"
        r"|skip\w*|stop\w*|undo\w*|undone|revok\w*|revert\w*|ignor\w*|avoid\w*|if|would|could|might|nicht|kein\w*|statt|pas|sans"
        r"|sin|нет|не)\b|n['’]t\b|[不别勿没無无]",
        re.IGNORECASE,
    )


def _without_words(text: str, keys: Iterable[str] | None) -> str:
    """The text from its first brace or fence on, if only meaningless words precede it."""
    start = min((at for at in (text.find("{"), text.find("```")) if at > 0), default=0)
    words = text[:start]
    if start > _MAX_PREFACE or not _PREFACE.fullmatch(words) or _denial().search(words):
        return text
    if words.rstrip(" \t\u00a0")[-1:] not in (":", "\n"):
        return text
    each = words.replace(":", " ").split()
    if not words[0].isalpha() or (len(each) == 1 if keys is None else plain_key(each[-1]) in map(plain_key, keys)):
        return text
    return text[start:]


def _without_fence(text: str) -> str:
    found = _FENCE.match(text)
    return text[found.end() : -3] if found and text.endswith("```") and len(text) - 3 >= found.end() else text
