"""Fingerprints: a digest of each part of an agent, recorded when a run begins."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from ..model import ModelSettings, info_of
from .spec import AgentSpec

__all__ = ["digest", "fingerprint_of"]


def fingerprint_of(spec: AgentSpec) -> dict[str, str]:
    """A digest of each part that influences what a run does. It is the same in every process."""
    answer = spec.output.tool
    return {
        "instructions": digest(spec.instructions)[:16],
        "tools": digest([[tool.name, tool.description, tool.parameters, tool.strict] for tool in spec.offered])[:16],
        "output": digest([type(spec.output).__name__, answer.parameters if answer else None])[:16],
        "model": info_of(spec.model).name,
        "settings": digest(_settings(spec.settings))[:16],
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
