"""Runs over HTTP: the events of a stream as server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from . import events as e
from .errors import kind_of
from .redact import redacted_traceback
from .run.stream import RunStream

__all__ = ["sse"]

log = logging.getLogger("agentkit")

_CALL = {"id": True, "name": True, "arguments": True}
_RESULT = {"call_id": True, "name": True, "content": True, "is_error": True, "parts": True}
_REPLY = {"text": True, "reasoning": True, "tool_calls": {"__all__": _CALL}}

_SENT: Mapping[type[Any], Mapping[str, Any]] = {
    e.RunStarted: {"run_id": True, "agent": True, "messages": True},
    e.MessageAdded: {"reason": True},
    e.ModelReplied: {"message": _REPLY, "usage": True, "finish_reason": True, "model": True, "cost": True, "seconds": True},
    e.ToolStarted: {"call": _CALL, "position": True},
    e.ToolFinished: {"call": _CALL, "result": _RESULT, "seconds": True, "refused": True, "is_json": True, "outcome": True},
    e.UsageAdded: {"call_id": True, "usage": True, "cost": True, "estimated": True},
    e.CallJudged: {"call_id": True, "verdict": True, "arguments": True},
    e.CallSuspended: {"call_id": True, "run_id": True, "pending": {"__all__": _CALL}, "outside": True},
    e.CallReconciled: {"call_id": True, "outcome": True},
    e.ApprovalGiven: {"call_id": True, "approved": True, "arguments": True},
    e.ResultGiven: {"call_id": True, "content": True, "is_error": True, "is_json": True},
    e.RunPaused: {"pending": {"__all__": _CALL}},
    e.RunResumed: {"agent": True, "attempt": True},
    e.RunFinished: {"stop_reason": True, "output": True},
    e.StepStarted: {"step": True},
    e.TextDelta: {"text": True},
    e.ReasoningDelta: {"text": True},
    e.ToolArgsDelta: {"index": True, "name": True, "text": True},
    e.PartialOutput: {"value": True},
    e.ToolProgress: {"call": _CALL, "data": True, "replaced": True},
    e.Retrying: {"attempt": True, "wait": True},
    e.ApprovalRequired: {"call": _CALL, "reason": True},
}
"""The fields that are sent, by kind of event. A field that is not listed here is not sent. Lasting events also have `at`."""


async def sse(stream: RunStream[Any]) -> AsyncIterator[str]:
    """The events as the text of a `text/event-stream`: one block each, with `event:` its type and `data:` its JSON.

    For a web framework's streaming response: `StreamingResponse(sse(agent.stream(prompt)), media_type="text/event-stream")`. A
    client that leaves ends the run: the framework cancels or closes the iterator.

    Sent: the user's new message, the replies of the model with its thinking text, its calls and their results as it got them,
    progress, usage and cost, the stop reason and the output. Not sent: instructions, the messages before the new one,
    corrections that the model got, texts and tracebacks of errors (a failed result has an empty `content`), artifacts,
    metadata, the process, fingerprints. `docs/streaming.md` lists the fields of each event. To send others, iterate over the
    stream and write the blocks with `agentkit.events.dump_event`.

    The last block is `RunFinished`, `RunPaused`, or `error` if the run failed. An error is logged, and only its kind is sent. A
    page that reads with `EventSource` must close it at each of these: it connects again when the response ends, which would
    begin a new run.
    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    async with stream:
        try:
            async for event in stream:
                yield _block(type(event).__name__, _sent(event))
        except Exception as error:  # noqa: BLE001  the response has begun: its status cannot say it any more
            log.warning("a run that is streamed to a client failed\n%s", redacted_traceback(error))
            yield _block("error", {"type": "error", "error": kind_of(error)})


def _sent(event: e.Event) -> dict[str, Any]:
    """What a client may see of an event, as JSON-able data."""
    from pydantic_core import to_jsonable_python

    if isinstance(event, e.Nested):
        return {"type": "Nested", "event": _sent(event.event), "run": to_jsonable_python(event.run)}
    if isinstance(event, e.RunStarted):
        event = replace(event, messages=event.messages[event.new_from :])
    if isinstance(event, e.ToolFinished) and event.result.is_error:
        event = replace(event, result=replace(event.result, content=""))
    elif isinstance(event, e.ResultGiven) and event.is_error:
        event = replace(event, content="")
    fields: Any = {**_SENT[type(event)], "at": True}
    data = to_jsonable_python(event, include=fields, serialize_unknown=True, inf_nan_mode="null")
    return {"type": type(event).__name__, **data}


def _block(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
