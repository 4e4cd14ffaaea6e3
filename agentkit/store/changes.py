"""What events change besides the log: the row of their run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..events import ApprovalGiven, LastingEvent, ResultGiven, RunFinished, RunPaused, RunResumed, RunStarted
from ..run.state import RunState

__all__ = ["changes_of", "is_plain"]

_PLAIN_NOT = (RunStarted, RunResumed, RunPaused, RunFinished, ApprovalGiven, ResultGiven)


def is_plain(events: Sequence[LastingEvent]) -> bool:
    """Whether these events change nothing but the log."""
    return not any(isinstance(event, _PLAIN_NOT) for event in events)


def changes_of(events: Sequence[LastingEvent]) -> dict[str, Any]:
    """What these events change in the row of their run."""
    changes: dict[str, Any] = {}
    for event in events:
        match event:
            case RunStarted() | RunResumed():
                changes |= {"status": "running", "stop_reason": None, "error": None, "pending": None, "output": None}
            case RunPaused():
                outside = {call.id for call in event.result.state.outside} if event.result else set()
                calls = [
                    {"id": c.id, "name": c.name, "arguments": c.arguments, "kind": "result" if c.id in outside else "approval"}
                    for c in event.pending
                ]
                changes |= {"status": "paused", "pending": json.dumps(calls), **_summary(event.result)}
            case RunFinished():
                status = {"error": "failed", "cancelled": "cancelled"}.get(event.stop_reason, "finished")
                ended = {"status": status, "stop_reason": event.stop_reason, "error": event.error, "pending": None}
                changes |= {**ended, "output": json.dumps(event.output), **_summary(event.result)}
    return changes


def _summary(result: Any) -> dict[str, Any]:
    if result is None:
        return {}
    state: RunState = result.state
    usage = {name: getattr(state.usage, name) for name in state.usage.__dataclass_fields__}
    uncertain = [{"call_id": call.id, "tool": call.name} for call in state.uncertain]
    return {"steps": state.steps, "usage": json.dumps(usage), "cost": state.cost, "uncertain": json.dumps(uncertain)}
