"""The results of the checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from ...messages import Usage
from ..profiles import Profile

__all__ = ["Finding", "Report", "Verdict"]

Verdict: TypeAlias = Literal["yes", "no", "broken", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: `yes` it works, `no` unsupported, `broken` it works wrongly, `unknown` not determined."""

    check: str
    verdict: Verdict
    detail: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the profile in use that this server needs changed."""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, the usage of the checks, and the profile that fits."""

    findings: tuple[Finding, ...]
    profile: Profile
    """The profile that the checks used."""
    requests: int
    """Requests sent; `usage` counts only the answered ones."""
    usage: Usage
    cost: float | None
    mark: str = ""
    """The server's mark that identified this profile, such as `server: llama.cpp`; empty if it is the model's own profile."""
    sent_again: int = 0
    """Requests that were repeated because the connection failed or the reply was cut."""

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of the profile to change."""
        return {name: value for finding in self.findings for name, value in finding.settings.items()}

    @property
    def fitting(self) -> Profile:
        """The profile with these changes."""
        return replace(self.profile, **self.settings)
