"""Fingerprints: a digest of each part of an agent, recorded when a run begins."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from ..model import ModelSettings, info_of
from .spec import AgentSpec

__all__ = ["described", "digest", "fingerprint_of"]


def fingerprint_of(spec: AgentSpec) -> dict[str, str]:
    """A digest of each part that influences what a run does. It is the same in every process."""
    parts = described(spec)
    return {
        "instructions": digest(spec.instructions)[:16],
        "tools": digest(parts["tools"])[:16],
        "output": digest(parts["output"])[:16],
        "model": info_of(spec.model).name,
        "settings": digest(parts["settings"])[:16],
    }


def described(spec: AgentSpec) -> dict[str, Any]:
    """The parts whose text is in no transcript: the tools as the model sees them, the output type, and the settings."""
    answer = spec.output.tool
    return {
        "tools": [[tool.name, tool.description, tool.parameters, tool.strict] for tool in spec.offered],
        "output": [type(spec.output).__name__, answer.parameters if answer else None],
        "settings": _settings(spec.settings),
    }


def digest(value: Any) -> str:
    """The SHA-256 of a text, or of a value as JSON, in 64 hexadecimal digits."""
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
    else:
        from pydantic_core import to_json

        data = to_json(value, inf_nan_mode="strings", serialize_unknown=True)
    return sha256(data).hexdigest()


def _settings(settings: ModelSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ModelSettings.__dataclass_fields__}
