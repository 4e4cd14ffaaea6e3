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
_NAMING = (
    "arguments? args? parameters? params? inputs? json object tools? functions? actions? calls? calling invocation"
    " invoking tool_calls? function_calls? using a an the this these it following follows below for of to with in as and"
    " here here's now i i'll i'm let let's me sure ok okay alright certainly course"
    " voilà voici les paramètres hier die argumente aquí los argumentos parámetros"
).replace(" ", "|")
"""Words that only announce the arguments of a call."""
_SPOKEN = re.compile(r"[^\s:：.。,，、!！*#`–—]+")
_ENDS = (":", "：", ".", "。", "!", "！", "\n")
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
        "words before the object": partial(_without_words, name=name, keys=keys),
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
def _preface() -> re.Pattern[str]:
    """Words before an object that only name the call. "Is" counts only after another word: at the beginning it asks."""
    return re.compile(
        rf"(?:(?<![\w'])(?:{_NAMING})(?![\w'])|(?<=\w )(?:is|are|am|will|sind)(?![\w'])"
        r"|[参參引][数數]|函[数數]|工具|[调調]用|[输輸]入|以下是?|如下|[这這]是|好的|[的为為]|[\s\u00a0\u3000:：.。,，、!！*#–—-])++",
        re.IGNORECASE | re.ASCII,
    )


def _without_words(text: str, name: str, keys: Iterable[str] | None) -> str:
    """The text from its first brace or fence on, if the words before it only name the call. Any other word may deny it."""
    start = min((at for at in (text.find("{"), text.find("```")) if at > 0), default=0)
    words = text[:start].rstrip(" \t\u00a0\u3000*")
    if start > _MAX_PREFACE or not words.endswith(_ENDS):
        return text
    spoken = _SPOKEN.findall(words)
    last = {plain_key("".join(spoken[-count:])) for count in (1, 2, 3)}
    if not spoken or (len(spoken) == 1 if keys is None else not last.isdisjoint(map(plain_key, keys))):
        return text
    own = "|".join(re.escape(one) for one in {name, wire_name(name)}) if name else r"(?!)"
    words = re.sub(rf"(?a:(?<![\w.-])(`?)(?:{own})\1(?![\w-]))", " tool ", words)
    return text[start:] if _preface().fullmatch(words.replace("’", "'")) else text


def _without_fence(text: str) -> str:
    found = _FENCE.match(text)
    return text[found.end() : -3] if found and text.endswith("```") and len(text) - 3 >= found.end() else text
