"""What validation lost of a model's value: digits of a number, one of two keys that mean the same, a key of a class.

A library that converts may do this without a word; each is a call that was not meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from .coerce import joined, shown
from .repair import LongNumber

__all__ = ["losses"]

_INTEGER = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)
_DIGITS = re.compile(r"\s*[+-]?[\d_.]+\s*", re.ASCII)
_NUMBERS = ("float", "Decimal", "Fraction", "complex")


def losses(value: Any, result: Any, *, is_closed: bool = True, path: str = "") -> Iterator[str]:
    """What is in the JSON value and not in the validated one, in words for the model, each with its path.

    `is_closed` says that validation refused unknown keys itself.
    """
    match value:
        case LongNumber() if not isinstance(result, float):
            yield f"{path}: the number {value.text[:80]} has more digits than a JSON number can keep; send it as a text"
        case list() if isinstance(result, list | tuple) and len(result) == len(value):
            for place, (item, made) in enumerate(zip(value, result, strict=True)):
                yield from losses(item, made, is_closed=is_closed, path=f"{path}[{place}]")
        case list():
            for place, item in enumerate(value):
                yield from losses(item, None, is_closed=is_closed, path=f"{path}[{place}]")
        case dict() if isinstance(result, Mapping):
            yield from _of_mapping(value, result, is_closed, path)
        case dict():
            if not is_closed and (dropped := _dropped(value, result)):
                yield f"{joined(path, dropped[0])}: unknown key of {type(result).__name__}"
            for key, item in value.items():
                yield from losses(item, getattr(result, key, None), is_closed=is_closed, path=joined(path, key))


def _of_mapping(value: dict[str, Any], result: Mapping[Any, Any], is_closed: bool, path: str) -> Iterator[str]:
    if len(result) < len(value) and (is_closed or not result.keys() <= value.keys()):
        yield f"{path or 'arguments'}: several of its keys mean the same: {shown([*value])}"
    elif all(isinstance(key, str) for key in result):
        for key, item in value.items():
            yield from losses(item, result.get(key), is_closed=is_closed, path=joined(path, key))
    else:
        for (text, item), (key, made) in zip(value.items(), result.items(), strict=False):
            if not _says(text, key):
                yield f"{joined(path, text)}: the key is not written as {type(key).__name__}"
            yield from losses(item, made, is_closed=is_closed, path=joined(path, text))


def _says(text: str, key: Any) -> bool:
    """Whether the text of a key is the usual one of its value: 1 and not 01, true and not yes, a date and no digits."""
    if isinstance(key, bool):
        return text in ("true", "false")
    if isinstance(key, int) or isinstance(getattr(key, "value", None), int):
        return bool(_INTEGER.fullmatch(text))
    return isinstance(key, str) or type(key).__name__ in _NUMBERS or not _DIGITS.fullmatch(text)


def _dropped(value: dict[str, Any], result: Any) -> list[str]:
    """The keys that the class does not know and says nothing about."""
    kind = type(result)
    config = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None) or {}
    if config.get("extra") is not None:
        return []
    if hasattr(kind, "model_fields"):
        lost = len(value) - len(result.model_fields_set)
        return [key for key in value if key not in kind.model_fields][:lost] if lost > 0 else []
    return [key for key in value if not hasattr(result, key)] if is_dataclass(result) else []
