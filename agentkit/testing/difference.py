"""How a run of today's agent differs from the stored one that it was driven through."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ..agent import Agent
from ..events import RunResumed, RunStarted, ToolFinished
from ..messages import Assistant, Message, ToolResult
from ..run.fingerprint import changed_tools, described_json
from ..run.state import RunState
from .transcript import said, transcript

__all__ = ["CUT_SHORT", "Part", "ReplayMismatch", "changed_parts", "compare"]

Part: TypeAlias = "Callable[[str, str], Any]"
"""Gives a part of an agent by its name and its digest."""
CUT_SHORT = "replay:"
"""The beginning of the stop reasons of a replay that has come to the end of the stored run."""
_UNNAMED = ("model", "instructions")
"""Parts of a fingerprint that are not named: the model is a stored one, and instructions are in the transcript."""


class ReplayMismatch(AssertionError):
    """Today's agent does something else than the stored run. `diff` is a unified diff of what was said and done."""

    def __init__(self, message: str, diff: str) -> None:
        super().__init__(f"{message}\n{diff}" if diff else message)
        self.diff = diff


def changed_parts(stored: RunState, agent: Agent[Any], part: Part | None) -> dict[str, str]:
    """The parts that changed, and how: a diff if the store knows what they were, else an empty text."""
    last = [event for event in stored.events if isinstance(event, RunStarted | RunResumed)][-1]
    today, found = described_json(agent.spec), {}
    for name, digest_now in agent.fingerprint.items():
        known = last.fingerprint.get(name, digest_now)
        if name in _UNNAMED or known == digest_now:
            continue
        before, now = part(name, known) if part else None, today[name]
        if before is None:
            found[name] = ""
        elif name == "tools":
            found[f"tools ({changed_tools(before, now)})"] = _first_changed_tool(before, now)
        else:
            found[name] = _first_difference(_lines(before), _lines(now), f": {name}")
    return found


def _first_changed_tool(before: list[Any], now: list[Any]) -> str:
    old, new = ({tool[0]: _lines(tool) for tool in tools} for tools in (before, now))
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            return _first_difference(old.get(name, []), new.get(name, []), f": tool {name}")
    return _first_difference([*old], [*new], ": tools")


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=1).splitlines()


def compare(stored: RunState, now: RunState, changed: Mapping[str, str], *, is_child: bool = False) -> None:
    """Raise `ReplayMismatch` if the run of today's agent is another one, or if parts of it have `changed`."""
    before, after = [*transcript(stored)], [*transcript(now)]
    if (now.stop_reason or "").startswith(CUT_SHORT):
        after = [*said(now, _without_cut(now)), f"end: {now.stop_reason}"]
    if not _has_come_to_its_end(stored, now, is_child):
        before = [*said(stored, _without_cut(stored))]
        after = after[: len(before)]
    named = f"the agent of run {stored.run_id!r} had other parts: {', '.join(changed)}" if changed else ""
    diffs = [diff for diff in changed.values() if diff]
    if before != after:
        lead = f"the agent does not do what it did in run {stored.run_id!r}:"
        named = f"{named}\n{lead}" if named else lead
        diffs.append(_first_difference(before, after))
    if named:
        raise ReplayMismatch(named, "\n".join(diffs))


def _has_come_to_its_end(stored: RunState, now: RunState, is_child: bool) -> bool:
    """Whether the stored run ended or paused by itself, so that today's run must end in the same way."""
    goes_on = (now.stop_reason or "").startswith(CUT_SHORT)
    match stored.stop_reason:
        case None:
            return bool(stored.pending)
        case "answer":
            return True
        case "error":  # of an answer that does not fit, if today's run has come to an end too
            return not goes_on
        case reason:  # the limit of a child run may be one of its parent, which is not there
            return reason.startswith("limit:") and reason != "limit:seconds" and not (is_child and goes_on)


def _without_cut(stored: RunState) -> list[Message]:
    """The messages without the results of calls that the end of the run cut off."""
    cut = {event.call.id for event in stored.events if isinstance(event, ToolFinished) and event.refused == "ended"}
    last = max((n for n, message in enumerate(stored.messages) if isinstance(message, Assistant)), default=0)
    results = stored.messages[last + 1 :]
    is_cut = any(isinstance(message, ToolResult) and message.call_id in cut for message in results)
    return stored.messages[: last + 1] if is_cut else stored.messages


def _first_difference(before: list[str], after: list[str], of: str = "") -> str:
    lines = [*difflib.unified_diff(before, after, f"stored{of}", f"today{of}", lineterm="", n=2)]
    hunks = [number for number, line in enumerate(lines) if line.startswith("@@")]
    return "\n".join(lines[: hunks[1]] if len(hunks) > 1 else lines)
