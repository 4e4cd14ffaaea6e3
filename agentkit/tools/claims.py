"""Remembers which approved calls have run in this process, so that an approval runs its call only once."""

from __future__ import annotations

__all__ = ["Claims"]

_MAX_CLAIMS = 10_000


class Claims:
    """The approved calls that a tool has run, identified by run (`RunState.lineage`) and call id. The last 10,000 are kept.

    If a state is resumed twice in one process, its approved call runs once. Other processes do not know the claims.
    """

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], object] = {}

    def __contains__(self, call: tuple[str, str]) -> bool:
        return call in self._taken

    def give_back(self, call: tuple[str, str]) -> None:
        """Give up a claim: the call was not started."""
        self._taken.pop(call, None)

    def take(self, call: tuple[str, str]) -> bool:
        """Claim a call. Returns True only for the first claim of each call, also across threads."""
        mine = object()
        if self._taken.setdefault(call, mine) is not mine:
            return False
        while len(self._taken) > _MAX_CLAIMS:
            self._taken.pop(next(iter(self._taken)), None)
        return True
