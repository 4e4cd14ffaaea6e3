"""The events of a run as those of another, which began in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import SettingsError
from ..events import CallSuspended, LastingEvent, RunStarted
from .open_call import OpenCall

__all__ = ["forked", "in_own_logs"]


def in_own_logs(open_calls: Iterable[OpenCall]) -> list[str]:
    """The calls that go on in a child run with a log of its own, by their ids. Two runs cannot share such a log."""
    return [c.call.id for c in open_calls if c.suspended and c.suspended.run_id and not c.suspended.events]


def forked(events: Sequence[LastingEvent], run_id: str) -> Iterator[LastingEvent]:
    """These events under another run's id. The runs inside, whose ids begin with that of the run, are renamed as well.

    Raises `SettingsError` where there is no first event, and where it has the new id already.
    """
    if not events or not isinstance(events[0], RunStarted):
        raise SettingsError("a fork needs at least the first event of its run: until=1 or more")
    old = events[0].run_id
    if old == run_id:
        raise SettingsError(f"the fork cannot have the id of its run, {run_id!r}")
    for event in events:
        match event:
            case RunStarted():
                yield replace(event, run_id=run_id, forked_at=len(events))
            case CallSuspended():
                inner = tuple(_renamed(inner, old, run_id) for inner in event.events)
                yield replace(event, run_id=_new_id(event.run_id, old, run_id), events=inner)
            case _:
                yield event


def _renamed(event: Mapping[str, Any], old: str, new: str) -> Mapping[str, Any]:
    """An event of a run inside, as JSON, and of the runs inside that one."""
    changed = dict(event)
    if isinstance(changed.get("run_id"), str):
        changed["run_id"] = _new_id(changed["run_id"], old, new)
    if isinstance(changed.get("events"), list | tuple):
        changed["events"] = [_renamed(inner, old, new) for inner in changed["events"]]
    return changed


def _new_id(run_id: str, old: str, new: str) -> str:
    if not run_id:  # the call of an outside tool, which has no child run
        return ""
    return new + run_id.removeprefix(old) if run_id.startswith(old) else f"{new}:{run_id}"
