"""What the checks found."""

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
    """What a check saw: `yes` it works, `no` the server does not do it, `broken` it does it wrongly, `unknown` not seen."""

    check: str
    verdict: Verdict
    detail: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the profile that this server needs otherwise than the profile in use has them."""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, what they used, and the profile that fits."""

    findings: tuple[Finding, ...]
    profile: Profile
    """The profile that the checks used."""
    requests: int
    """How many were sent; `usage` counts those that were answered."""
    usage: Usage
    cost: float | None
    mark: str = ""
    """What the server says of itself that names this profile, such as `server: llama.cpp`. Empty: it was the model's own."""
    sent_again: int = 0
    """Requests that were sent a second time, because the connection failed or the reply was cut."""

    @property
    def settings(self) -> dict[str, Any]:
        """What has to be changed in the profile."""
        return {name: value for finding in self.findings for name, value in finding.settings.items()}

    @property
    def fitting(self) -> Profile:
        """The profile with these changes."""
        return replace(self.profile, **self.settings)
