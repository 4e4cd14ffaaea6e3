"""The fixture `deepseek`, and what importing costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import agentkit
from agentkit.testing import DeepSeekSimulator

from .helpers import body

pytest_plugins = ["pytester"]

INNER = """
import os
import httpx
from agentkit.pytest_plugin import deepseek

started = []

def test_one_line(deepseek):
    sim = deepseek(["Hi"], keep_alive=1)
    started.append(sim)
    assert os.environ["AGENTKIT_BASE_URL"] == sim.base_url
    assert os.environ["AGENTKIT_API_KEY"] == "sk-offline-simulator"
    assert "AGENTKIT_MODEL" not in os.environ
    assert httpx.get(sim.base_url + "/models").status_code == 200

def test_after_it():
    assert os.environ["AGENTKIT_BASE_URL"] == "before"
    assert os.environ["AGENTKIT_MODEL"] == "mine"
    try:
        started[0].base_url
    except Exception as error:
        assert "not running" in str(error)
    else:
        raise AssertionError("it still runs")
"""


def test_the_fixture_starts_and_stops(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_BASE_URL", "before")
    monkeypatch.setenv("AGENTKIT_MODEL", "mine")
    pytester.makepyfile(INNER)
    monkeypatch.setenv("PYTHONPATH", str(Path(agentkit.__file__).parents[1]))
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_several_simulators_and_the_last_one_counts(deepseek: Callable[..., DeepSeekSimulator]) -> None:
    first, second = deepseek(["one"]), deepseek(["two"], api_key="secret")
    assert first.base_url != second.base_url == os.environ["AGENTKIT_BASE_URL"]
    assert os.environ["AGENTKIT_API_KEY"] == "secret"
    answer = httpx.post(f"{first.base_url}/chat/completions", json=body())
    assert answer.json()["choices"][0]["message"]["content"] == "one"


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("agentkit.pytest_plugin", "agentkit.simulator"), ("agentkit.testing", "agentkit.simulator.transport")],
)
def test_imports_are_late(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
