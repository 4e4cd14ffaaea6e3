"""Texts that a database does not take as they are, and what else is refused at the border."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel, SettingsError, ToolCall, tool
from agentkit.messages import Assistant
from agentkit.store import Store, open_store


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
def test_a_run_that_fails_with_an_odd_text_has_ended(store: Store, odd: str) -> None:
    def fail(request: Any) -> Any:
        raise LookupError(f"bad {odd} thing")

    with pytest.raises(LookupError):
        Agent(ScriptedModel(fail)).run_sync("go", store=store, run_id="r1")
    assert store.get("r1").status == "failed" and "LookupError: bad" in (store.get("r1").error or "")
    assert store.state("r1").stop_reason == "error"


@pytest.mark.parametrize("odd", ["\0", "\ud800", " ", "é/1", "x" * 2000])
def test_a_call_with_an_odd_id_is_approved(store: Store, odd: str) -> None:
    @tool(approval=True)
    def pay() -> str:
        """Pay."""
        return "paid"

    agent = Agent(ScriptedModel([Assistant("", "", (ToolCall(odd, "pay", "{}"),)), "done"]), tools=[pay])
    (waiting,) = agent.run_sync("go", store=store, run_id="r1").pending
    assert store.approve("r1", waiting.id) == "done"
    assert agent.resume_sync("r1", store=store).output == "done"


def test_what_is_refused_at_the_border(store: Store) -> None:
    with pytest.raises(SettingsError, match="status is 'nope'; allowed: queued, running"):
        store.runs(status="nope")
    for seconds in (-1, float("nan")):
        with pytest.raises(SettingsError, match="older_than is"):
            store.prune(older_than=seconds)


def test_a_path_is_an_address(tmp_path: Path) -> None:
    open_store(tmp_path / "a b?c#d%20.db").close()
    assert (tmp_path / "a b?c#d%20.db").exists()
