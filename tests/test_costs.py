"""The bills that docs/speed.md shows."""

from __future__ import annotations

import pytest

from tests import costs


def test_a_broken_prefix_costs_many_times_as_much(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(costs, "STEPS", 30)
    costs.main(2)
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    ratios = {name.strip(): float(ratio) for name, _tokens, _share, _cost, ratio in rows}
    assert ratios["agentkit"] == 1.0 and ratios["by hand"] == pytest.approx(1.0, abs=0.1)
    assert ratios["by hand, the time in the system prompt"] > 5
    assert ratios["by hand, tools in a random order"] > 5 and ratios["by hand, old results shortened at each step"] > 1
