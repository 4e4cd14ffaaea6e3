"""A run as JSON: to text, to a file, and back; and as another run that began in the same way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar, Self

from ..errors import SettingsError
from ..events import LastingEvent, dump_events, load_events
from ..messages import Message
from .fork import forked, in_own_logs

__all__ = ["StoredRun"]


class StoredRun:
    """What `RunState` can do with its events besides folding them."""

    events: list[LastingEvent]
    messages: list[Message]
    open_calls: Any

    replay: ClassVar[Any]

    def to_json(self) -> dict[str, Any]:
        """The run as JSON-able data: its events, and the version of the format."""
        return dump_events(self.events)

    def dumps(self) -> str:
        """The run as JSON text."""
        return json.dumps(self.to_json())

    @classmethod
    def loads(cls, text: str) -> Self:
        """The state of a text of `dumps`. Raises ValueError for anything else."""
        try:
            data = json.loads(text)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
        return cls.from_json(data)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The state of `to_json`'s data. Raises ValueError for a newer version, and for events that do not fit."""
        state: Self = cls.replay(load_events(data))
        return state

    def save(self, path: str | Path) -> None:
        """Write the run to a file, as JSON. A crash leaves the earlier file or the new one; only its owner can read it.

        Raises OSError.
        """
        import tempfile

        target = Path(path)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.dumps())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The run in a file of `save`. Raises OSError, and ValueError for a file that holds something else; both name it."""
        data = Path(path).read_bytes()
        try:
            return cls.loads(data.decode())
        except ValueError as error:
            why = _first_line(error) if data.strip() else "it is empty"
            raise ValueError(f"{path} is not a saved run or conversation: {why}") from error

    def fork(self, *, until: int | None = None, run_id: str | None = None) -> Self:
        """A new run with the first `until` events of this run (None: all) and a new id.

        The fork and this run can both continue. Their calls have different idempotency keys, and an approval in one does not
        count in the other. Raises `SettingsError` if `until` leaves no event, for this run's own id, and if a call continues
        in a log of its own, which has one owner.
        """
        if until is not None and until < 0:  # not counted from the end
            raise SettingsError(f"until is {until}; allowed: 1 to {len(self.events)}")
        fork: Self = type(self).replay(forked(self.events[:until], run_id or os.urandom(16).hex()))
        if waiting := in_own_logs(fork.open_calls):
            raise SettingsError(f"the call {waiting[0]} goes on in a log of its own; fork before it, with until=")
        return fork


def _first_line(error: ValueError) -> str:
    """What an error says, in one line. pydantic's says much more."""
    from pydantic_core import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{error.title}.{'.'.join(map(str, first['loc']))}: {first['msg']}"
