"""Observers of a run for the command line: a live view, only the answer, or JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TextIO

from ..events import (
    Event,
    MessageAdded,
    ModelReplied,
    ReasoningDelta,
    Retrying,
    RunFinished,
    RunPaused,
    RunStarted,
    StepStarted,
    TextDelta,
    ToolArgsDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    dump_event,
)
from ..messages import ToolCall
from ..run.result import RunResult
from .screen import Screen
from .text import clean, duration, one_line, shown_call, summary, uncounted

__all__ = ["AnswerOnly", "JsonLines", "LiveView", "View", "shown_output"]

Summary = Callable[[RunResult[Any], float], str]


_MAX_MISSES = 3
"""Max cache misses that are listed."""


class View(Protocol):
    """An observer that keeps the result of its last run, even if the run failed or was cancelled."""

    result: RunResult[Any] | None

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def close(self) -> None:
        """Restore the terminal."""


class LiveView:
    """Shows a run live: thinking, tool calls with arguments and durations, the answer, and a summary.

    `summarize` makes the summary line from the result and its seconds.
    """

    def __init__(self, screen: Screen, summarize: Summary = summary, clock: Callable[[], float] = time.perf_counter) -> None:
        self.result: RunResult[Any] | None = None
        self._screen, self._summarize, self._clock = screen, summarize, clock
        self._began = clock()
        self._current_kind = ""
        self._shown = {"thinking": False, "text": False}
        self._numbers: dict[str, int] = {}
        self._running: dict[str, str] = {}
        self._told: set[str] = set()
        """Why requests were sent again. A cache miss that comes of it is not news."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunStarted():
                self._began, self.result = self._clock(), None
            case ToolStarted():
                self._tool_started(event)
            case ToolFinished():
                self._tool_finished(event)
            case MessageAdded():
                self._note(f"told the model: {getattr(event.message, 'content', event.reason)}")
            case RunFinished() | RunPaused():
                self._ended(event)
            case _:
                self._model_event(event)

    def _model_event(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._shown = dict.fromkeys(self._shown, False)
                self._screen.wait("waiting for the model")
            case ReasoningDelta(text):
                self._flow("thinking", text)
            case TextDelta(text):
                self._flow("text", text)
            case ToolArgsDelta():
                self._stop_flow()
                self._screen.wait(f"the model writes a call of {event.name}")
            case ToolProgress():
                self._screen.wait(f"{event.call.name}: {one_line(str(event.data), self._screen.width)}")
            case Retrying():
                self._retrying(event)
            case ModelReplied():
                self._replied(event)

    def close(self) -> None:
        """Remove the spinner and end the line."""
        self._screen.stop_waiting()
        self._stop_flow()

    def _flow(self, kind: str, text: str) -> None:
        if not self._shown[kind]:
            text = text.lstrip()
        if not text:
            return
        if self._current_kind != kind:
            self._stop_flow()
            self._current_kind, self._shown[kind] = kind, True
            if kind == "thinking" and not self._screen.fancy:
                text = f"thinking: {text}"
        self._screen.write(text, "dim italic" if kind == "thinking" else "")

    def _stop_flow(self) -> None:
        self._current_kind = ""
        self._screen.end_line()

    def _retrying(self, event: Retrying) -> None:
        self._stop_flow()
        dropped = "; what came of this reply is dropped" if any(self._shown.values()) else ""
        self._shown = dict.fromkeys(self._shown, False)
        after = f" in {duration(event.wait)}" if event.wait else ""
        self._note(f"{event.error}{dropped}; asking again{after}")
        self._told.add(event.error)
        self._screen.wait("asking again")

    def _replied(self, event: ModelReplied) -> None:
        for kind, text in (("thinking", event.message.reasoning), ("text", event.message.text)):
            if text and not self._shown[kind]:  # a model that does not stream
                self._flow(kind, text)
        self._stop_flow()

    def _tool_started(self, event: ToolStarted) -> None:
        call = event.call
        self._numbers[call.id] = event.position + 1
        self._running[call.id] = call.name
        self._screen.line(f"→ {event.position + 1} {shown_call(call, self._screen.width - 30)}", "cyan")
        self._wait_for_tools()

    def _tool_finished(self, event: ToolFinished) -> None:
        self._running.pop(event.call.id, None)
        name, number = one_line(event.call.name, 64), self._numbers.get(event.call.id)
        head = f"{number} {name} {duration(event.seconds)}" if number else name  # a call without a number was not run
        mark, style = ("✗", "red") if event.result.is_error else ("✓", "green")
        self._screen.end_line()
        self._screen.write(f"{mark} {head}", style)
        room = max(self._screen.width - len(head) - 5, 20)
        self._screen.write(f"  {one_line(event.result.content, room)}\n", "dim")
        self._wait_for_tools()

    def _wait_for_tools(self) -> None:
        if self._running:
            self._screen.wait(f"running {', '.join(self._running.values())}")

    def _note(self, text: str) -> None:
        self._screen.line(f"! {one_line(text, 4 * self._screen.width)}", "yellow")

    def _ended(self, event: RunFinished | RunPaused) -> None:
        self.close()
        result: RunResult[Any] = event.result
        self.result = result
        self._running.clear()
        self._numbers.clear()
        if result.output is not None and not isinstance(result.output, str):
            self._screen.line(shown_output(result.output))
        if isinstance(event, RunPaused):
            self._paused(event.pending)
        elif event.stop_reason.startswith("limit:"):
            self._note(f"stopped at the limit of {event.stop_reason.removeprefix('limit:')}; this is not a whole answer")
        self._screen.line()
        self._screen.status(self._summarize(result, self._clock() - self._began))
        if lost := uncounted(result):
            self._screen.status(lost)
        misses = [miss for miss in result.cache_misses if miss.why not in self._told]
        for miss in misses[:_MAX_MISSES]:
            self._note(str(miss))
        if len(misses) > _MAX_MISSES:
            self._note(f"and {len(misses) - _MAX_MISSES} more steps that the cache did not serve")

    def _paused(self, pending: tuple[ToolCall, ...]) -> None:
        for call in pending:
            self._note(f"waits for an approval: {shown_call(call)}")
        self._note("nobody can be asked here; run it in a terminal to approve calls")


class AnswerOnly:
    """Shows only the answer, when it is complete."""

    deltas = False

    def __init__(self, file: TextIO) -> None:
        self.result: RunResult[Any] | None = None
        self._file = file

    def __call__(self, event: Event) -> None:
        """Show the output of the last event."""
        if isinstance(event, RunFinished | RunPaused):
            result: RunResult[Any] = event.result
            self.result = result
            if result.output is not None and result.stop_reason not in ("error", "cancelled"):
                self._file.write(f"{clean(shown_output(result.output))}\n")

    def close(self) -> None:
        """Nothing to do."""


class JsonLines:
    """Writes one event a line, in the form of `dump_event`. The last line has the type "Result"."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.perf_counter) -> None:
        self.result: RunResult[Any] | None = None
        self._file, self._clock = file, clock
        self._began = clock()

    def __call__(self, event: Event) -> None:
        """Write one event."""
        self._write(_event_json(event))
        if isinstance(event, RunFinished | RunPaused):
            self.result = event.result
            error = event.error if isinstance(event, RunFinished) else None
            self._write(json.dumps(_result_data(event.result, error, self._clock() - self._began)))

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()

    def close(self) -> None:
        """Nothing to do."""


def _event_json(event: Event) -> str:
    try:
        return json.dumps(dump_event(event), allow_nan=False)
    except ValueError:  # a tool may report any value as progress
        if not isinstance(event, ToolProgress):
            raise
        return json.dumps(dump_event(replace(event, data=repr(event.data))))


def _result_data(result: RunResult[Any], error: str | None, seconds: float) -> dict[str, Any]:
    from pydantic_core import to_jsonable_python

    data = {
        "type": "Result",
        "output": result.output,
        "stop_reason": result.stop_reason,
        "error": error,
        "steps": result.steps,
        "usage": result.usage,
        "uncounted": result.uncounted,
        "cost": result.cost,
        "price_note": result.price_note,
        "cache_misses": [str(miss) for miss in result.cache_misses],
        "seconds": round(seconds, 3),
        "run_id": result.run_id,
        "pending": result.pending,
    }
    return {name: to_jsonable_python(value, fallback=str, inf_nan_mode="null") for name, value in data.items()}


def shown_output(output: Any) -> str:
    """An answer as text: text unchanged, anything else as readable JSON."""
    if isinstance(output, str):
        return output
    from pydantic_core import to_jsonable_python

    return json.dumps(to_jsonable_python(output, fallback=str), indent=2, ensure_ascii=False)
