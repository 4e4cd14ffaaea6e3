"""A map over inputs that is kept in a store goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import Agent, ScriptedModel, SettingsError, User, tool
from agentkit.store import Store
from agentkit.testing import call

DONE: list[str] = []


class Size(BaseModel):
    """A size."""

    letters: int


@tool
def note(word: str) -> str:
    """Note a word."""
    DONE.append(word)
    return word


def agent(*, fails_at: str | None = None) -> Agent[Size]:
    def say(request: Any) -> Any:
        word = next(message.content for message in request.messages if isinstance(message, User))
        if word == fails_at:
            raise LookupError("the server is away")
        return call("note", word=word) if isinstance(request.messages[-1], User) else call("final_answer", letters=len(word))

    return Agent(ScriptedModel(say), tools=[note], output_type=Size)


def test_it_goes_on_where_it_stopped(store: Store, tmp_path: Path) -> None:
    DONE.clear()
    out = tmp_path / "out.jsonl"
    words = ["tea", "milk", "water"]
    first = agent(fails_at="milk").map_sync(words, store=store, run_id="job", out=out, concurrency=1)
    assert [item.error is None for item in first] == [True, False, True] and DONE == ["tea", "water"]
    again = agent().map_sync([*words, "juice"], store=store, run_id="job", out=out)
    assert [item.output.letters for item in again] == [3, 4, 5, 5], "typed, as in the first run"
    assert sorted(DONE) == ["juice", "milk", "tea", "water"], "no call ran twice"
    assert [item.result and item.result.run_id for item in again] == ["job-0", "job-1", "job-2", "job-3"]
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["index"] for line in lines) == [0, 1, 2, 3]


def test_another_input_is_another_job(store: Store) -> None:
    agent().map_sync(["tea"], store=store, run_id="job")
    (item,) = agent().map_sync(["milk"], store=store, run_id="job")
    assert "choose another run_id" in str(item.error)


def test_a_name_needs_a_store() -> None:
    with pytest.raises(SettingsError, match="run_id is of one run, and map makes many"):
        agent().map_sync(["tea"], run_id="job")
