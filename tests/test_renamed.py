"""Earlier names work for one version, and say so."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from agentkit import KeepTurns, Limiter, Limits, ScriptedModel, User
from agentkit.history import DropToolResults, mend
from agentkit.middleware.compaction import SpillOutputs, Summarise


@pytest.mark.parametrize(
    ("make", "options", "old", "new", "value"),
    [
        (Limits, {}, "max_steps", "steps", 7),
        (Limits, {"cost": 1}, "calls_at_once", "concurrent_calls", 7),
        (KeepTurns, {}, "most", "max_turns", 7),
        (KeepTurns, {"max_turns": 9}, "least", "min_turns", 7),
        (DropToolResults, {}, "most", "max_chars", 7),
        (Summarise, {"model": ScriptedModel([])}, "most", "max_chars", 7),
        (Summarise, {"model": ScriptedModel([])}, "at_once", "chunk_chars", 7),
        (Limiter, {}, "at_once", "concurrency", 7),
    ],
)
def test_an_earlier_name_is_taken_with_a_warning(make: Any, options: dict[str, Any], old: str, new: str, value: int) -> None:
    with pytest.warns(DeprecationWarning, match=f"{make.__name__}: {old} is now {new}") as caught:
        made = make(**options, **{old: value})
    assert caught[0].filename == __file__
    assert getattr(made, new) == value
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        assert getattr(made, old) == value
    with pytest.raises(TypeError, match=f"{old} is the earlier name of {new}"):
        make(**{**options, old: value, new: value})


def test_new_names_give_no_warning_and_values_can_be_copied(tmp_path: Path) -> None:
    limits = Limits(steps=3)
    assert copy.deepcopy(limits) == pickle.loads(pickle.dumps(limits)) == limits
    SpillOutputs(tmp_path, max_chars=900, head=100)
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepz'"):
        Limits(stepz=3)  # type: ignore[call-arg]


def test_a_function_under_its_earlier_name_warns() -> None:
    with pytest.warns(DeprecationWarning, match="mend is now repaired_history"):
        assert mend([User("a")]) == [User("a")]
