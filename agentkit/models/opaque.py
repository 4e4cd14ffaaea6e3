"""Fields of a reply that agentkit does not know: stored unchanged, since a server may want them back. Pure.

Gemini refuses a call without its thought signature, OpenRouter continues thinking from `reasoning_details`, and gateways to
Anthropic's models want signed blocks. None of them needs code here: every unknown field is stored, and sent back to servers of
the same profile.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .pieces import json_of

__all__ = ["dump", "merge", "unknown_fields"]

_TEXTS = frozenset({"text", "thinking", "summary", "content", "arguments", "partial_json"})
"""Fields of a streamed block whose pieces are joined, even if two pieces are equal."""
_LABELS = frozenset({"id", "type", "format", "role"})
"""Fields that identify a block. They are never joined."""


def unknown_fields(data: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The unknown fields with a value: not null, false, zero or empty."""
    if data.keys() <= known:  # the usual case
        return {}
    return {name: value for name, value in data.items() if value and name not in known}


def merge(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Merge a streamed piece of these fields into `whole`.

    Texts are joined, except for an exact repetition. Objects are merged. The first item of a list is merged into the last item
    of `whole` if it continues the same block; all other items are appended.
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
    """Whether a streamed block continues the last one."""
    if not (isinstance(last, dict) and isinstance(item, dict)):
        return False
    if any(name in item and name in last and last[name] != item[name] for name in ("type", "id", "index")):
        return False
    if "index" in item:
        return "index" in last
    has_text = any(isinstance(item.get(name), str) for name in _TEXTS)
    return has_text and last.get("type") == item.get("type") and not last.get("signature")


def dump(fields: Mapping[str, Any]) -> str:
    """The fields as one JSON object; an empty text if there are none. Characters split over two pieces are joined."""
    return json_of(fields).decode() if fields else ""
