"""What became of a call whose program stopped while it ran: the answers of a tool's `reconcile` function."""

from __future__ import annotations

from typing import Any, TypeAlias

from .._dataclass import frozen_dataclass

__all__ = ["Done", "NotDone", "Reconciled", "Unknown"]


@frozen_dataclass
class Done:
    """The call has taken effect. The model gets `result`, as if the tool had returned it."""

    result: Any


@frozen_dataclass
class NotDone:
    """The call has not taken effect, so it is run now, with the same idempotency key."""


@frozen_dataclass
class Unknown:
    """It cannot be found out. The model is told so, and `result.uncertain` lists the call."""

    reason: str = ""


Reconciled: TypeAlias = Done | NotDone | Unknown
