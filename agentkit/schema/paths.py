"""Where in a JSON value something stands, and a value as a message shows it. Both cost little, whatever the value is."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, TypeAlias

__all__ = ["Path", "inside", "shown", "written"]

Path: TypeAlias = "tuple[Path, str | int] | None"
"""The place that holds this one, and the key or position in it; None for the whole value."""

_LONGEST = 80
"""Characters of a value, or of a key, that a message shows."""
_DEEPEST = 20


def inside(path: Path, part: str | int) -> Path:
    """The place of a key or an item."""
    return path, part


def written(path: Path) -> str:
    """The place as `a.b[3]`; empty for the whole value."""
    parts: list[str | int] = []
    while path is not None:
        path, part = path
        parts.append(part)
    text = ""
    for part in reversed(parts):
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if len(part) <= _LONGEST else f"{part[:_LONGEST]}...")
    return text


def shown(value: Any) -> str:
    """A value in a message for the model: its JSON, at most 80 characters of it, and none that UTF-8 does not have."""
    text = json.dumps(_beginning(value, 0), ensure_ascii=False, default=repr).encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _beginning(value: Any, depth: int) -> Any:
    """What of a value can be among its first characters."""
    match value:
        case str():
            return value[: _LONGEST + 1]
        case list() | dict() if depth == _DEEPEST:
            return "..."
        case list():
            return [_beginning(item, depth + 1) for item in value[:_LONGEST]]
        case dict():
            return {str(key)[: _LONGEST + 1]: _beginning(value[key], depth + 1) for key in islice(value, _LONGEST)}
    return value
