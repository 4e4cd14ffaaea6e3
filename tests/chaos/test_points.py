"""A kill at each append, each effect and each model call of a run; another process goes on with it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .check import check, expected_requests
from .endpoint import Endpoint
from .ledger import effects
from .nursery import Nursery
from .scene import Scene


@pytest.mark.parametrize("plan", ["keyed plain+note pay", "helper~plain"])
def test_a_kill_at_each_point(address: str, tmp_path: Path, endpoint: Endpoint, nursery: Nursery, plan: str) -> None:
    scene = Scene(address, tmp_path, endpoint, nursery)
    passed = tmp_path / "passed"
    scene.submit("whole", plan)
    assert scene.run(passed=str(passed)) == 0
    names = {f"r{number}": line["point"] for number, line in enumerate(effects(str(passed)), 1)}
    assert any(name.startswith("written ModelReplied") for name in names.values())
    for number, (run_id, name) in enumerate(names.items(), 1):
        scene.submit(run_id, plan)
        assert scene.run(at=number, lease=600.0) == -signal.SIGKILL, name
    scene.finish()
    expected = expected_requests(scene.tasks["whole"])
    for run_id, name in names.items():
        calls = check(scene.store, run_id, scene.tasks[run_id], scene.effects)
        asked = sum(count for task, count in endpoint.requests.items() if task.startswith((f"{run_id}:", f"{run_id}/")))
        assert expected <= asked <= expected + 1, name
        assert all(made.startswith(("plain", "note")) for made in calls), name
    scene.store.close()
