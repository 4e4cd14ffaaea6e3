"""What became of a call whose program stopped while it ran: the answers of a tool's `reconcile` function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from .._dataclass import frozen_dataclass

__all__ = ["Done", "NotDone", "Reconcile", "Reconciled", "Unknown"]


@frozen_dataclass
class Done:
    """The call has taken effect. The model gets `result`, as if the tool had returned it."""

    result: Any


@frozen_dataclass
class NotDone:
    """The call has not taken effect, and will not any more. It is run now, with the same idempotency key."""


@frozen_dataclass
class Unknown:
    """It cannot be found out. The model is told so, with the `reason`, and `result.uncertain` lists the call.

    At most 500 characters of the reason are kept, and secrets are removed from it, as with the errors of tools.
    """

    reason: str = ""


Reconciled: TypeAlias = Done | NotDone | Unknown
Reconcile: TypeAlias = Callable[[str, dict[str, Any]], "Reconciled | Awaitable[Reconciled]"]
"""Says what became of a call: `reconcile(key, arguments)`. The arguments are those that the tool's function got."""
