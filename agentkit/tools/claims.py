"""Which approved calls have run in this process, so that one approval runs a call once."""

from __future__ import annotations

__all__ = ["Claims"]

_KEPT = 10_000


class Claims:
    """The approved calls that a tool has run, each by its run (`RunState.lineage`) and its id. The last 10,000 are known.

    A state that is resumed twice in one process runs its approved call once. Another process does not know of it.
    """

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], object] = {}

    def __contains__(self, call: tuple[str, str]) -> bool:
        return call in self._taken

    def take(self, call: tuple[str, str]) -> bool:
        """Whether this call is the caller's to run: true once for each, also among threads."""
        mine = object()
        if self._taken.setdefault(call, mine) is not mine:
            return False
        while len(self._taken) > _KEPT:
            self._taken.pop(next(iter(self._taken)), None)
        return True
