"""Fingerprints: a digest of each part of an agent, recorded when a run begins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from ..model import ModelSettings, info_of
from .spec import AgentSpec

__all__ = ["changed_tools", "described", "described_json", "digest", "fingerprint_of"]


def fingerprint_of(spec: AgentSpec) -> dict[str, str]:
    """A digest of each part that influences what a run does. It is the same in every process.

    Each has only what the program gave for it: what an output type adds to the other parts counts as the output. Instructions
    that depend on the run are left out; the run's own messages have them.
    """
    parts, own = described(spec), spec.own_instructions
    return {
        **({} if own is None else {"instructions": digest(own)[:16]}),
        "tools": digest(parts["tools"])[:16],
        "output": digest(parts["output"])[:16],
        "model": info_of(spec.model).name,
        "settings": digest(parts["settings"])[:16],
    }


def described(spec: AgentSpec) -> dict[str, Any]:
    """The parts whose text is in no transcript: the tools as the model sees them, the output type, and the settings."""
    answer, form = spec.output.tool, spec.output.response_format
    settings = {name: getattr(spec.settings, name) for name in ModelSettings.__dataclass_fields__}
    return {
        "tools": [
            [tool.name, tool.description, tool.parameters, tool.strict] for tool in spec.offered if tool.name != spec.answering
        ],
        "output": [
            type(spec.output).__name__,
            [answer.description, answer.parameters] if answer else None,
            spec.output.instructions,
        ],
        "settings": {**settings, "response_format": None} if form else settings,
    }


def described_json(spec: AgentSpec) -> dict[str, Any]:
    """`described` in the form in which a store has it, to compare the two. Of the fields of `extra_body`, only the names."""
    from pydantic_core import to_json

    found: dict[str, Any] = json.loads(to_json(described(spec), inf_nan_mode="strings", serialize_unknown=True))
    found["settings"]["extra_body"] = [*found["settings"]["extra_body"]]
    return found


def changed_tools(before: Sequence[Any], now: Sequence[Any]) -> str:
    """Which tools differ, in words, such as "changed: search; removed: pay". Both are the "tools" of `described_json`."""
    old, new = ({tool[0]: tool for tool in tools} for tools in (before, now))
    found = {
        "changed": [name for name in new if name in old and new[name] != old[name]],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
    }
    return "; ".join(f"{how}: {', '.join(names)}" for how, names in found.items() if names) or "in another order"


def digest(value: Any) -> str:
    """The SHA-256 of a text, or of a value as JSON, in 64 hexadecimal digits."""
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
    else:
        from pydantic_core import to_json

        data = to_json(value, inf_nan_mode="strings", serialize_unknown=True)
    return sha256(data).hexdigest()
