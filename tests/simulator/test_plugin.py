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
from agentkit_pytest import deepseek

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


def test_imports_are_late() -> None:
    code = "import sys, agentkit.testing; sys.exit('agentkit.testing.simulator.transport' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


STRANGER = """
import sys

OURS = ("agentkit", "httpx", "h11", "pydantic", "tenacity")

def test_what_is_loaded():
    assert [name for name in sys.modules if name.partition(".")[0] in OURS] == []
"""


def test_a_project_that_does_not_use_agentkit_loads_nothing_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(STRANGER)
    result = pytester.runpytest_subprocess("-p", "no:cov", "-W", "error")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("plugins:*agentkit-*")


FLAG = "def pytest_addoption(parser): parser.addoption('--record-cassettes', action='store_true')"
WITH_VALUE = "def pytest_addoption(parser): parser.addoption('--record-cassettes', type=int, required=False)"
READS_IT = """
def test_it(request, cassette):
    assert request.config.getoption("--record-cassettes") == {value}
    assert not cassette.record
"""


def make_test(pytester: pytest.Pytester, source: str, value: object) -> None:
    """A test module and an empty cassette for it."""
    pytester.makepyfile(test_it=source.format(value=value))
    tape = pytester.path / "cassettes" / "test_it" / "test_it.jsonl"
    tape.parent.mkdir(parents=True, exist_ok=True)
    tape.write_text("")


@pytest.mark.parametrize(
    ("conftest", "given", "value"),
    [
        (FLAG, "--record-cassettes", True),
        (FLAG, "-q", False),
        (WITH_VALUE, "--record-cassettes=7", 7),
        (WITH_VALUE, "-q", None),
    ],
)
def test_an_option_of_the_same_name_is_the_projects(
    pytester: pytest.Pytester, conftest: str, given: str, value: object
) -> None:
    pytester.makeconftest(conftest)
    make_test(pytester, READS_IT, value)
    result = pytester.runpytest_subprocess(given)
    result.assert_outcomes(passed=1)


def test_an_option_of_the_same_name_in_another_plugin_or_in_a_folder_below(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(other=FLAG)
    make_test(pytester, READS_IT, True)
    pytester.runpytest_subprocess("-p", "other", "--record-cassettes").assert_outcomes(passed=1)
    below = pytester.mkpydir("a") / "b"
    below.mkdir()
    (below / "conftest.py").write_text(FLAG)
    (below / "test_below.py").write_text("def test_below(): pass")
    pytester.runpytest_subprocess("a").assert_outcomes(passed=1)


RECORDS = "def test_it(cassette): assert cassette.record is {value}"


def test_recording_is_asked_for_by_the_option_or_by_the_environment(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_test(pytester, RECORDS, True)
    pytester.runpytest_subprocess("--record-cassettes").assert_outcomes(passed=1)
    pytester.runpytest_subprocess("--record-cassettes", "-n", "1").assert_outcomes(passed=1)
    pytester.makeconftest(FLAG)
    monkeypatch.setenv("AGENTKIT_RECORD_CASSETTES", "1")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    monkeypatch.setenv("AGENTKIT_RECORD_CASSETTES", "0")
    make_test(pytester, RECORDS, False)
    pytester.runpytest_subprocess("--record-cassettes").assert_outcomes(passed=1)


def test_the_option_may_be_given_twice(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --record-cassettes")
    make_test(pytester, RECORDS, True)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    pytester.runpytest_subprocess("--record-cassettes").assert_outcomes(passed=1)
    pytester.runpytest_subprocess("--record-cassettes", "-n", "1", "--record-cassettes").assert_outcomes(passed=1)


def test_a_projects_own_fixtures_win(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("""
        import pytest

        @pytest.fixture
        def cassette(): return "mine"

        @pytest.fixture
        def deepseek(): return "mine"
    """)
    pytester.makepyfile("def test_it(cassette, deepseek): assert cassette == deepseek == 'mine'")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_earlier_name_still_works(pytester: pytest.Pytester) -> None:
    make_test(pytester, RECORDS, True)
    pytester.runpytest_subprocess("-p", "agentkit.pytest_plugin", "--record-cassettes").assert_outcomes(passed=1)
