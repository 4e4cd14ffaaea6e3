"""Fields of a reply that agentkit does not know: kept as they came, since a server may want them back. Pure.

Gemini refuses a call without its thought signature, OpenRouter continues thinking from `reasoning_details`, gateways of
Anthropic's models want signed blocks. None of them needs a line here: what is not known is kept, and goes back to servers of
the profile that it came from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .pieces import json_of

__all__ = ["dump", "merge", "unknown_fields"]

_TEXTS = frozenset({"text", "thinking", "summary", "content", "arguments", "partial_json"})
"""Fields of a streamed block whose pieces are joined, even where two pieces are the same."""
_LABELS = frozenset({"id", "type", "format", "role"})
"""Fields that name a block. They are never joined."""


def unknown_fields(data: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The fields that are not known and say something: not null, false, zero or empty."""
    if data.keys() <= known:  # as nearly always
        return {}
    return {name: value for name, value in data.items() if value and name not in known}


def merge(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Take a streamed piece of these fields into what came before.

    Texts are joined, but one that comes again as it was is not. Objects are merged. The first item of a list goes on with the
    last one so far if it is a further piece of the same block; the others are added.
    """
    for name, value in piece.items():
        before = whole.get(name)
        if isinstance(value, str) and isinstance(before, str):
            if name in _LABELS:
                whole[name] = value
            elif name in _TEXTS or value != before:
                whole[name] = before + value
        elif isinstance(value, dict) and isinstance(before, dict):
            merge(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            last, first = before[-1:], value[:1]
            if last and first and _goes_on(last[0], first[0]):
                merge(last[0], first[0])
                value = value[1:]
            before += copy.deepcopy(value)
        else:
            whole[name] = copy.deepcopy(value)


def _goes_on(last: Any, item: Any) -> bool:
    """Whether a streamed block is a further piece of the last one."""
    if not (isinstance(last, dict) and isinstance(item, dict)):
        return False
    if any(name in item and name in last and last[name] != item[name] for name in ("type", "id", "index")):
        return False
    if "index" in item:
        return "index" in last
    has_text = any(isinstance(item.get(name), str) for name in _TEXTS)
    return has_text and last.get("type") == item.get("type") and not last.get("signature")


def dump(fields: Mapping[str, Any]) -> str:
    """The fields as one JSON object; an empty text for none. Halves of characters that came in two pieces are joined."""
    return json_of(fields).decode() if fields else ""
