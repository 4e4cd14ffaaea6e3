"""The path of a value inside a JSON value, and the preview of a value in a message. Both are cheap for any value."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, TypeAlias

__all__ = ["Path", "child", "format_path", "preview"]

Path: TypeAlias = "tuple[Path, str | int] | None"
"""The path of the parent, and the key or index in it; None for the whole value."""

_MAX_LENGTH = 80
"""Max characters of a value or a key in a message."""
_MAX_DEPTH = 20


def child(path: Path, part: str | int) -> Path:
    """The path of a key or an item."""
    return path, part


def format_path(path: Path, default: str = "") -> str:
    """The path as `a.b[3]`; `default` for the whole value."""
    parts: list[str | int] = []
    while path is not None:
        path, part = path
        parts.append(part)
    text = ""
    for part in reversed(parts):
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if len(part) <= _MAX_LENGTH else f"{part[:_MAX_LENGTH]}...")
    return text or default


def preview(value: Any) -> str:
    """The JSON of a value, cut to 80 characters. Characters that UTF-8 cannot encode are replaced."""
    text = json.dumps(_beginning(value, 0), ensure_ascii=False, default=repr).encode("utf-8", "replace").decode()
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."


def _beginning(value: Any, depth: int) -> Any:
    """The parts of a value that can appear in its preview."""
    match value:
        case str():
            return value[: _MAX_LENGTH + 1]
        case list() | dict() if depth == _MAX_DEPTH:
            return "..."
        case list():
            return [_beginning(item, depth + 1) for item in value[:_MAX_LENGTH]]
        case dict():
            return {str(key)[: _MAX_LENGTH + 1]: _beginning(value[key], depth + 1) for key in islice(value, _MAX_LENGTH)}
    return value
