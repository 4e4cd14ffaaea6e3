"""What the commands on stored runs do."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import typer

from ..events import dump_events
from ..store import Store, StoredRun, open_store
from .approval import escaped, show_call
from .exits import UsageError
from .text import clean, counted, one_line

__all__ = [
    "answer_call",
    "approve_call",
    "cancel_run",
    "export_run",
    "fork_run",
    "list_runs",
    "opened",
    "print_events",
    "prune_runs",
    "show_run",
    "submit_run",
]  # fmt: skip

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_POLL = 0.2
_DONE = ("finished", "failed", "cancelled")
_INDENT = " " * 11
_STATUSES = ("queued", "running", "paused", *_DONE)


def _print(value: Any, text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(value) if as_json else clean(text))


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{what} {text[:80]!r} is not JSON: {error}; a text is written with quotes, such as '\"yes\"'"
        ) from None


def opened(db: str) -> Store:
    """A store that is there. A file is not made, so that a mistyped name is no empty store."""
    path = Path(url2pathname(db.removeprefix("sqlite://"))) if db.startswith("sqlite:///") else Path(db)
    if "://" not in db.removeprefix("sqlite://") and not path.exists():
        raise UsageError(f"--db {db}: there is no such file; `submit` and `worker` make it")
    return open_store(db)


def submit_run(
    db: str,
    task: str,
    *,
    agent: str,
    run_id: str | None,
    queue: str,
    session: str | None,
    deps: str | None,
    priority: int,
    at: str | None,
    as_json: bool,
) -> None:
    """Queue a run."""
    if ":" not in agent:
        raise UsageError(f"--agent {agent}: write it as module:name, for example my_agents:agent")
    prompt = task if task != "-" else sys.stdin.read()
    found = open_store(db).submit(
        prompt,
        agent=agent,
        run_id=run_id,
        queue=queue,
        session=session,
        deps=None if deps is None else _parsed(deps, "--deps-json"),
        priority=priority,
        at=None if at is None else _time(at),
    )
    _print({"run_id": found}, found, as_json=as_json)


def _time(text: str) -> float:
    try:
        found = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"--at {text}: allowed: a time such as 2030-01-31T08:00, or seconds since 1970") from None
    return found


def list_runs(db: str, *, status: str | None, children: bool, limit: int | None, as_json: bool) -> None:
    """Print the runs, a line each."""
    if status is not None and status not in _STATUSES:
        raise UsageError(f"--status {status}: allowed: {', '.join(_STATUSES)}")
    for run in opened(db).runs(status=status, children=children, limit=limit):
        text = f"{run.run_id}  {run.status:9}  {run.steps:3} steps  {_when(run.updated)}  {one_line(_outcome(run), 60)}"
        _print(_summary(run), text, as_json=as_json)


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
        return "waits for " + ", ".join(f"{call['name']} ({call['id']})" for call in run.pending)
    return str(run.error or ("" if run.output is None else run.output))


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
    lines = [f"run        {run.run_id}", f"status     {run.status}{f' ({run.stop_reason})' if run.stop_reason else ''}"]
    for name, value in (("agent", run.agent), ("queue", run.queue), ("session", run.session), ("parent", run.parent)):
        lines += [f"{name:10} {value}"] if value else []
    tokens = f", {run.usage['input_tokens']} + {run.usage['output_tokens']} tokens" if run.usage else ""
    cost = f", ${run.cost:.4f}" if run.cost is not None else ""
    lines += [f"steps      {run.steps}{tokens}{cost}", f"created    {_when(run.created)}", f"updated    {_when(run.updated)}"]
    lines += [f"uncertain  {call['tool']} ({call['call_id']}): it may or may not have taken effect" for call in run.uncertain]
    for call in run.pending:
        words = ["agentkit", "approve" if call["kind"] == "approval" else "answer"]
        command = shlex.join([*words, *(["--"] if run.run_id.startswith("-") else []), run.run_id, call["id"]])
        lines += [f"waits for  {_shown(call)}", f"{_INDENT}{escaped(command)}"]
    lines += [f"error      {run.error}"] if run.error else []
    lines += (
        [f"output     {run.output if isinstance(run.output, str) else json.dumps(run.output)}"]
        if run.output is not None
        else []
    )
    typer.echo("\n".join(clean(line).replace("\n", f"\n{_INDENT}") for line in lines))
    if events:
        print_events(db, run_id, after=-1, follow=False, as_json=False)


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
        _print({"seq": number, **event}, text, as_json=as_json)
    sys.stdout.flush()
    return max(after, -1) + len(found)


def approve_call(
    db: str, run_id: str, call_id: str, *, deny: str | None, edit: str | None, by: str | None, as_json: bool
) -> None:
    """Answer a call that waits for an approval."""
    if deny is not None and edit is not None:
        raise UsageError("--deny and --edit exclude each other")
    given: Any = {"deny": deny} if deny is not None else {"args": _parsed(edit, "--edit")} if edit is not None else True
    if by is not None:
        given = {**(given if isinstance(given, dict) else {"approve": True}), "by": by}
    store = opened(db)
    done = store.approve(run_id, call_id, given)
    what = "refused" if deny is not None else "approved"
    _print_answer(store, run_id, call_id, done, what, as_json=as_json)


def _print_answer(store: Store, run_id: str, call_id: str, done: str, what: str, *, as_json: bool) -> None:
    text = what if done == "done" else f"{what} before"
    if store.get(run_id).queue is None:
        text += f"; it is a run of no queue: go on with agent.resume({run_id!r}, store=...)"
    _print({"run_id": run_id, "call_id": call_id, "answer": done}, text, as_json=as_json)


def answer_call(db: str, run_id: str, call_id: str, value: str, *, as_json: bool) -> None:
    """Give the result of an outside call."""
    store = opened(db)
    done = store.answer(run_id, call_id, _parsed(value, "the result"))
    _print_answer(store, run_id, call_id, done, "answered", as_json=as_json)


def cancel_run(db: str, run_id: str, *, as_json: bool) -> None:
    """Cancel a run."""
    done = opened(db).cancel(run_id)
    text = {"done": "cancelled", "same": "cancelled before", "asked": "its worker ends it"}[done]
    _print({"run_id": run_id, "answer": done}, text, as_json=as_json)


def fork_run(db: str, run_id: str, *, at: int, new_id: str | None, as_json: bool) -> None:
    """Fork a run."""
    found = opened(db).fork(run_id, at=at, new_id=new_id)
    _print({"run_id": found}, found, as_json=as_json)


def prune_runs(db: str, older_than: str, *, as_json: bool) -> None:
    """Delete old runs."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", older_than.strip())
    if match is None:
        raise UsageError(f"--older-than {older_than}: allowed: a number with s, m, h, d or w, such as 30d")
    count = opened(db).prune(older_than=float(match[1]) * _SECONDS[match[2]])
    _print({"pruned": count}, f"{counted(count, 'run')} deleted", as_json=as_json)


def export_run(db: str, run_id: str, to: str, *, as_json: bool) -> None:
    """Write a run to a file."""
    state = opened(db).state(run_id)
    if to == "-":
        typer.echo(state.dumps())
        return
    if not to or Path(to).is_dir():
        raise UsageError(f"--to {to}: allowed: the name of a file, or -")
    try:
        state.save(Path(to))
    except OSError as error:
        raise UsageError(f"--to {to}: the file cannot be written: {error.strerror or error}") from None
    text = f"{to}: {len(state.events)} events of run {run_id}"
    _print({"run_id": run_id, "file": to, "event_count": len(state.events)}, text, as_json=as_json)
