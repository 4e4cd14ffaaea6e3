"""Runs over HTTP: the events of a stream as server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from .errors import kind_of
from .events import dump_event
from .redact import redacted_traceback
from .run.stream import RunStream

__all__ = ["sse"]

log = logging.getLogger("agentkit")


async def sse(stream: RunStream[Any]) -> AsyncIterator[str]:
    """The events as the text of a `text/event-stream`: one block each, with `event:` its type and `data:` its JSON.

    For a web framework's streaming response: `StreamingResponse(sse(agent.stream(prompt)), media_type="text/event-stream")`. A
    client that leaves ends the run: the framework cancels or closes the iterator. An error of the run is logged, and is the
    last block, `event: error`, with its kind alone: its text may say what a client must not read.
    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    async with stream:
        try:
            async for event in stream:
                yield _block(type(event).__name__, dump_event(event))
        except Exception as error:  # noqa: BLE001  the response has begun: its status cannot say it any more
            log.warning("a run that is streamed to a client failed\n%s", redacted_traceback(error))
            yield _block("error", {"type": "error", "error": kind_of(error)})


def _block(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
