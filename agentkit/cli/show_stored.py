"""What the commands do that show stored runs: `runs`, `show` and `events`."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import typer

from ..events import dump_events
from ..redact import redact
from ..store import Store, StoredRun
from .approval import escaped, show_call
from .exits import UsageError
from .stored import emit, opened
from .text import clean, one_line

__all__ = ["list_runs", "print_events", "show_run"]

_POLL = 0.2
_DONE = ("finished", "failed", "cancelled")
_INDENT = " " * 11
_STATUSES = ("queued", "running", "paused", *_DONE)


def list_runs(db: str, *, status: str | None, children: bool, limit: int | None, as_json: bool) -> None:
    """Print the runs, a line each."""
    if status is not None and status not in _STATUSES:
        raise UsageError(f"--status {status}: allowed: {', '.join(_STATUSES)}")
    for run in opened(db).runs(status=status, children=children, limit=limit):
        text = f"{run.run_id}  {run.status:9}  {run.steps:3} steps  {_when(run.updated)}  {one_line(_outcome(run), 60)}"
        emit(_summary(run), text, as_json=as_json)


def _summary(run: StoredRun) -> dict[str, Any]:
    data = run.to_json()
    count = data.pop("events")
    return {**data, "event_count": count}


def _so_far(store: Store, run: StoredRun) -> dict[str, Any]:
    """The summary. Of a run that goes on, usage and cost are those so far."""
    data = _summary(run)
    if run.status in _DONE or not run.events:
        return data
    state = store.state(run.run_id)
    return {**data, "usage": dataclasses.asdict(state.usage), "cost": state.cost}


def _outcome(run: StoredRun) -> str:
    if run.status == "paused":
        calls = ", ".join(f"{call['name']} ({call['id']})" for call in run.pending)
        return f"waits for {calls}" if calls else f"answered; {_how_on(run)}"
    return str(run.error or ("" if run.output is None else run.output))


def _how_on(run: StoredRun) -> str:
    """How a run goes on that has paused, and whose calls are all answered. One of a queue is queued then."""
    return "its parent goes on with it" if run.parent else f"go on with agent.resume({run.run_id!r}, store=...)"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def show_run(db: str, run_id: str, *, events: bool, as_json: bool) -> None:
    """Print one run."""
    store = opened(db)
    run = store.get(run_id)
    if as_json:
        found = dump_events(store.state(run_id).events)["events"] if run.events else []
        typer.echo(json.dumps({**_so_far(store, run), "events": found}))
        return
    lines = [*_facts(run), *_waits(db, run), *_end(run)]
    typer.echo("\n".join(clean(line).replace("\n", f"\n{_INDENT}") for line in lines))
    if events:
        print_events(db, run_id, after=-1, follow=False, as_json=False)


def _facts(run: StoredRun) -> Iterator[str]:
    yield f"run        {run.run_id}"
    yield f"status     {run.status}{f' ({run.stop_reason})' if run.stop_reason else ''}"
    named = {"agent": run.agent, "queue": run.queue, "session": run.session, "parent": run.parent}
    timed = {"priority": run.priority, "at": None if run.at is None else _when(run.at)}
    yield from (f"{name:10} {value}" for name, value in {**named, **timed}.items() if value)
    tokens = f", {run.usage['input_tokens']} + {run.usage['output_tokens']} tokens" if run.usage else ""
    cost = f", ${run.cost:.4f}" if run.cost is not None else ""
    yield f"steps      {run.steps}{tokens}{cost}"
    yield f"created    {_when(run.created)}"
    yield f"updated    {_when(run.updated)}"
    for call in run.uncertain:
        yield f"uncertain  {call['tool']} ({call['call_id']}): it may or may not have taken effect"


def _waits(db: str, run: StoredRun) -> Iterator[str]:
    """The calls that wait, each with the command that answers it. That of a child run is answered at the run at the top."""
    for call in run.pending:
        place = [call.get("root_id", run.run_id), call.get("root_call", call["id"])]
        given = [] if db == os.environ.get("AGENTKIT_DB") else ["--db", redact(db)]
        dashes = ["--"] if any(word.startswith("-") for word in place) else []
        is_approval = call["kind"] == "approval"
        words = [
            "agentkit",
            "approve" if is_approval else "answer",
            *given,
            *dashes,
            *place,
            *([] if is_approval else ["JSON"]),
        ]
        yield f"waits for  {_shown(call)}"
        yield f"{_INDENT}{escaped(shlex.join(words))}"
        if not is_approval:
            yield f"{_INDENT}for JSON, write the result, such as 3 or '\"a text\"'"
    if run.status == "paused" and not run.pending:
        yield f"answered   {_how_on(run)}"


def _end(run: StoredRun) -> Iterator[str]:
    if run.error:
        yield f"error      {run.error}"
    if run.output is not None:
        yield f"output     {run.output if isinstance(run.output, str) else json.dumps(run.output)}"


def _shown(call: Mapping[str, Any]) -> str:
    """The call as the question for an approval shows it, in the lines of `show`."""
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except (ValueError, RecursionError):
        arguments = None
    known = arguments if isinstance(arguments, dict) else {"arguments": call["arguments"]}
    width = shutil.get_terminal_size((100, 24)).columns - len(_INDENT)
    return show_call(call["name"], known, width).removeprefix("? ")


def print_events(db: str, run_id: str, *, after: int, follow: bool, as_json: bool) -> None:
    """Print the events after a number; with `follow`, until the run has ended."""
    store = opened(db)
    while True:
        ended = store.get(run_id).status in _DONE  # asked first, so that no event is missed
        after = _print_new(store, run_id, after, as_json=as_json)
        if not follow or ended:
            return
        time.sleep(_POLL)


def _print_new(store: Store, run_id: str, after: int, *, as_json: bool) -> int:
    found = dump_events(store.events(run_id, after=after))["events"]
    for number, event in enumerate(found, max(after, -1) + 1):
        kind, at = event["type"], event.get("at", 0)
        rest = {name: value for name, value in event.items() if name not in ("v", "type", "at")}
        text = f"{number:4}  {_when(at)}  {kind:14} {one_line(json.dumps(rest, ensure_ascii=False), 200)}"
        emit({"seq": number, **event}, text, as_json=as_json)
    sys.stdout.flush()
    return max(after, -1) + len(found)
