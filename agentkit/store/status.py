"""What a run's row says of it: its status, what it waits for, and what it has used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..events import ApprovalGiven, LastingEvent, ResultGiven, RunFinished, RunPaused, RunResumed, RunStarted
from ..messages import plain_text
from ..run.state import RunState
from .rows import row_of

__all__ = ["changes_of", "is_plain", "summary_of"]


_PLAIN_NOT = (RunStarted, RunResumed, RunPaused, RunFinished, ApprovalGiven, ResultGiven)


def is_plain(events: Sequence[LastingEvent]) -> bool:
    """Whether these events change nothing but the log."""
    return not any(isinstance(event, _PLAIN_NOT) for event in events)


def changes_of(events: Sequence[LastingEvent], state: RunState | None = None) -> dict[str, Any]:
    """What these events change in the row of their run. `state` is the state after events that were read from a log."""
    changes: dict[str, Any] = {}
    for event in events:
        match event:
            case RunStarted() | RunResumed():
                begun = {"status": "running", "stop_reason": None, "error": None, "pending": None}
                changes |= {**begun, "output": None, "output_blobs": None}
            case RunPaused():
                known = event.result.state if event.result else state
                outside = {call.id for call in known.outside} if known else set()
                calls = [
                    {"id": c.id, "name": c.name, "arguments": c.arguments, "kind": "result" if c.id in outside else "approval"}
                    for c in event.pending
                ]
                changes |= {"status": "paused", "pending": json.dumps(calls), **(summary_of(known) if known else {})}
            case RunFinished():
                known = event.result.state if event.result else state
                status = {"error": "failed", "cancelled": "cancelled"}.get(event.stop_reason, "finished")
                error = None if event.error is None else plain_text(event.error)
                ended = {"status": status, "stop_reason": plain_text(event.stop_reason), "error": error, "pending": None}
                changes |= {**ended, **_output(event.output), **(summary_of(known) if known else {})}
    return changes


def _output(output: Any) -> dict[str, Any]:
    """The columns of the output. The last event has the same large texts, and keeps them in the store."""
    row = row_of(json.dumps(output))
    return {"output": row.data, "output_blobs": json.dumps([(b.path, b.hash) for b in row.blobs]) if row.blobs else None}


def summary_of(state: RunState) -> dict[str, Any]:
    """The columns that say what a run has used, and which of its calls are uncertain."""
    usage = {name: getattr(state.usage, name) for name in state.usage.__dataclass_fields__}
    uncertain = [{"call_id": call.id, "tool": call.name} for call in state.uncertain]
    return {"steps": state.steps, "usage": json.dumps(usage), "cost": state.cost, "uncertain": json.dumps(uncertain)}
