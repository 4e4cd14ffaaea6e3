"""Forks of stored runs, their rows, and what is written about runs that nobody drives."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel, StoreError, Tool
from agentkit.events import CallSuspended, RunPaused, ToolFinished, ToolStarted
from agentkit.store import Store
from agentkit.testing import call
from tests.kit import tool_texts

weigh = Tool.outside("weigh", "Weigh a thing.", {"type": "object", "properties": {"what": {"type": "string"}}})


def weighing() -> Agent[str]:
    return Agent(
        ScriptedModel(lambda request: "Done." if len(request.messages) > 1 else call("weigh", what="a stone")), tools=[weigh]
    )


def number_of(store: Store, kind: Any) -> int:
    return next(number for number, event in enumerate(store.events("r1"), 1) if isinstance(event, kind))


async def test_a_fork_that_waits_for_an_outside_result_goes_on(store: Store) -> None:
    paused = await weighing().run("Go", store=store, run_id="r1")
    call_id = paused.pending[0].id
    store.answer("r1", call_id, 3)
    await weighing().resume("r1", store=store)
    fork = store.fork("r1", at=number_of(store, RunPaused))
    assert store.get(fork).pending == ({"id": call_id, "name": "weigh", "arguments": '{"what": "a stone"}', "kind": "result"},)
    assert store.answer(fork, call_id, 4) == "done"
    result = await weighing().resume(fork, store=store)
    assert tool_texts(result.state) == ["4"] and result.output == "Done."
    for kind in (ToolStarted, CallSuspended):  # nobody can have carried the call out before the run waits for it
        early = store.fork("r1", at=number_of(store, kind))
        assert (await weighing().resume(early, store=store)).stop_reason == "pending_result"


async def test_a_fork_has_the_columns_of_its_original(store: Store) -> None:
    await weighing().run("Go", store=store, run_id="r1")
    paused = store.get("r1")
    store.cancel("r1")
    for at, known in ((number_of(store, RunPaused), paused), (store.get("r1").events, store.get("r1"))):
        fork = store.get(store.fork("r1", at=at))
        for name in ("status", "stop_reason", "steps", "output", "usage", "cost", "uncertain", "pending", "events"):
            assert getattr(fork, name) == getattr(known, name), name
    begun = store.get(store.fork("r1", at=2))
    assert (begun.steps, begun.usage["requests"]) == (1, 1)


async def test_the_end_of_a_run_that_nobody_drives_has_its_time(store: Store) -> None:
    before = time.time()
    await weighing().run("Go", store=store, run_id="r1")
    store.cancel("r1")
    answer, last = store.events("r1")[-2:]
    assert isinstance(answer, ToolFinished) and before <= answer.at <= last.at <= time.time()


def test_a_run_that_is_not_there_has_no_state(store: Store) -> None:
    with pytest.raises(StoreError, match="there is no run 'r1'"):
        store.state("r1")
    store.submit("Go", agent="a", run_id="r1")
    with pytest.raises(StoreError, match="has no events yet; it is queued"):
        store.state("r1")
