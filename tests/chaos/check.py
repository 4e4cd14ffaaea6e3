"""What must hold of every run, whoever was killed when."""

from __future__ import annotations

from agentkit.events import RunFinished, ToolFinished
from agentkit.messages import message_text
from agentkit.store import Store, StoredRun
from tests.faults.rows import history_is_valid

from .endpoint import CHILD_PLAN, steps_of
from .ledger import Effect

__all__ = ["check", "expected_requests"]

AGAIN = ("read", "keyed")
"""The tools that may run again."""


def expected_requests(task: str) -> int:
    """The model calls of a run of this task in which nothing goes wrong."""
    steps = steps_of(task)
    children = [_child_task("", word) for step in steps for word in step if word.startswith("helper")]
    return len(steps) + 1 + sum(expected_requests(child) for child in children)


def _child_task(who: str, word: str) -> str:
    inner = word.partition("~")[2].replace("/", "+").replace(",", " ") or CHILD_PLAN
    return f"{who}: {inner}"


def check(store: Store, run_id: str, task: str, effects: list[Effect]) -> list[str]:
    """Check a run that has ended and its child runs. Returns the calls that are reported uncertain."""
    children = {run.run_id: run for run in store.runs(children=True) if run.parent == run_id}
    return _check_one(store, store.get(run_id), task, effects, children)


def _check_one(store: Store, run: StoredRun, task: str, effects: list[Effect], children: dict[str, StoredRun]) -> list[str]:
    assert run.status == "finished" and run.stop_reason == "answer", run
    events = store.events(run.run_id)  # it raises where a position is missing
    assert len(events) == run.events and isinstance(events[-1], RunFinished)
    state = store.state(run.run_id)
    history_is_valid(state.messages)
    finished = [event.call.id for event in events if isinstance(event, ToolFinished)]
    assert len(finished) == len({*finished}), f"{task}: a call was answered twice: {finished}"
    uncertain = {call["call_id"] for call in run.uncertain}
    who, words = task.partition(": ")[0], ["done"]
    found = [call_id for call_id in uncertain if "/" not in call_id]
    inside: set[str] = set()
    for at, step in enumerate(steps_of(task)):
        for index, word in enumerate(step):
            name, n = word.partition("~")[0], f"{at}.{index}"
            is_uncertain = f"{name}-{n}" in uncertain
            words.append("error:" if is_uncertain else "done" if name == "helper" else name)
            if name == "helper":
                child = next(
                    c for c in children.values() if message_text(store.state(c.run_id).messages[0]).startswith(f"{who}/{n}:")
                )
                calls = _check_one(store, child, _child_task(f"{who}/{n}", word), effects, {})
                found, inside = [*found, *calls], inside | {f"{name}-{n}/{call_id}" for call_id in calls}
            else:
                _check_effects(name, [e for e in effects if (e["who"], e["n"]) == (who, n)], is_uncertain=is_uncertain)
    assert inside == {call_id for call_id in uncertain if "/" in call_id}, run.uncertain
    assert run.output == " ".join(words), f"{task}: {run.output}"
    return found


def _check_effects(name: str, seen: list[Effect], *, is_uncertain: bool) -> None:
    assert len({effect["key"] for effect in seen}) <= 1, f"several keys for one call: {seen}"
    if name in AGAIN:
        assert seen and not is_uncertain
    else:
        assert len(seen) == 1 or (is_uncertain and not seen), f"{len(seen)} effects, uncertain: {is_uncertain}: {seen}"
