"""The content of a message: a text, an object, or a list of parts, with text, thinking text and refusals in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["has_blocks", "read_content", "refusal_in", "text_of"]

_THOUGHTS = ("thinking", "reasoning")
"""Types of a part that is thinking text: Mistral and Anthropic, Databricks."""


def read_content(content: Any) -> tuple[str, str]:
    """The text and the thinking text of a content field, which is a string, null, an object, or a list of parts."""
    if isinstance(content, str):
        return content, ""
    text, thought = "", ""
    for part in _parts(content):
        if isinstance(part, str):
            text += part
        elif part.get("type") in _THOUGHTS:
            thought += next((found for name in (*_THOUGHTS, "text", "summary") if (found := text_of(part.get(name)))), "")
        else:
            text += next((found for name in ("text", "summary") if (found := _words(part.get(name)))), "")
    return text, thought


def text_of(value: Any) -> str:
    """All words of a field that holds only thinking text, in any of the forms of a content."""
    text, thought = read_content(value)
    return thought + text


def has_blocks(content: Any) -> bool:
    """Whether the content has blocks other than text."""
    parts = (part for part in _parts(content) if isinstance(part, dict))
    return isinstance(content, list) and any(part.get("type", "text") != "text" for part in parts)


def refusal_in(content: Any) -> str:
    """The refusal in a list of parts."""
    found = (part.get("refusal") for part in _parts(content) if isinstance(part, dict))
    return "".join(refusal for refusal in found if isinstance(refusal, str))


def _parts(content: Any) -> list[str | Mapping[str, Any]]:
    parts = content if isinstance(content, list) else [content]
    return [part for part in parts if isinstance(part, str | dict)]


def _words(value: Any) -> str:
    """A text, which some servers wrap as `{"value": text}`."""
    value = value.get("value") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""
