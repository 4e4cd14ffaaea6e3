"""The answers with which a run goes on: those given to `resume`, and those in the store. The first one to a call counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._dataclass import frozen_dataclass
from .errors import SettingsError, StoreError
from .events import LastingEvent
from .messages import plain_text
from .run.approvals import answers
from .run.execute import describe_error
from .run.outside import given_results
from .run.state import RunState

if TYPE_CHECKING:
    from .run.storing import StoredDrive

__all__ = ["Given", "answered", "answered_in_store"]


@frozen_dataclass
class Given:
    """Answers to the calls that a run waits for, as `resume` takes them."""

    approvals: Mapping[str, Any]
    results: Mapping[str, Any]

    @classmethod
    def of(cls, approvals: object, results: object) -> Given:
        """The answers. Only None means none: raises `SettingsError` for anything else that is not a mapping."""
        approvals, results = {} if approvals is None else approvals, {} if results is None else results
        if not isinstance(approvals, Mapping):
            raise SettingsError(
                f"approvals is {approvals!r:.80}; allowed: answers by the ids of calls, such as "
                "{call.id: True for call in result.pending}"
            )
        if not isinstance(results, Mapping):
            raise SettingsError(f"results is {results!r:.80}; allowed: a mapping from the ids of calls to their results")
        return cls(approvals, results)


def answered(agent: Any, known: RunState, given: Given) -> list[LastingEvent]:
    """The events of these answers. Raises `SettingsError` for one that does not fit its call, or whose call does not wait."""
    return [*answers(given.approvals, known, agent.spec.tools), *given_results(given.results, known)]


async def answered_in_store(agent: Any, known: RunState, given: Given, drive: StoredDrive) -> list[LastingEvent]:
    """The events with which a stored run goes on: that it is resumed, and the answers in the store and given here.

    A stored answer counts again if the process stopped before the call: the run that is resumed then waits for it anew.
    Raises `SettingsError` for a stored answer that does not fit its call, after it is forgotten, and `StoreError` for a given
    one that differs from a stored one.
    """
    resumed, shown = agent._resumed(known), known
    if not known.pending and any(call.approved is not None and not call.started for call in known.open_calls):
        shown = RunState.replay([*known.events, resumed])
    stored = Given(drive.answers.get("approval", {}), drive.answers.get("result", {}))
    approvals = {call.id: stored.approvals[call.id] for call in shown.waiting if call.id in stored.approvals}
    results = {call.id: stored.results[call.id] for call in shown.outside if call.id in stored.results}
    await _check_fit(agent, shown, Given(approvals, results), drive)
    if known.stop_reason is None:  # to a run that has ended, any answer comes too late
        given = Given(_new(given.approvals, stored.approvals), _new(given.results, stored.results))
    given = Given({**approvals, **given.approvals}, {**results, **given.results})
    return [resumed, *answered(agent, shown, given)]


async def _check_fit(agent: Any, known: RunState, stored: Given, drive: StoredDrive) -> None:
    misfits: dict[str, str] = {}
    approvals = [(call_id, Given({call_id: answer}, {})) for call_id, answer in stored.approvals.items()]
    results = [(call_id, Given({}, {call_id: value})) for call_id, value in stored.results.items()]
    for call_id, one in (*approvals, *results):
        try:
            answered(agent, known, one)
        except SettingsError as error:
            misfits[call_id] = str(error)
    if misfits:
        text = f"{'; '.join(misfits.values())}. The store has forgotten this answer; give another one"
        await drive.refuse(misfits, text)
        raise SettingsError(text)


def _new(given: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The given answers that are not stored yet. The same answer again changes nothing."""
    for call_id, answer in given.items():
        if call_id in stored and stored[call_id] != _as_stored(answer):
            raise StoreError(f"the call {call_id!r} was answered before, with {stored[call_id]!r:.80}; that answer counts")
    return {call_id: answer for call_id, answer in given.items() if call_id not in stored}


def _as_stored(answer: Any) -> Any:
    if isinstance(answer, BaseException):
        return plain_text(f"error: {describe_error(answer)}")
    try:
        return json.loads(json.dumps(answer))
    except (TypeError, ValueError):
        return answer
