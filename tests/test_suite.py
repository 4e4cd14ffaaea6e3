"""The suite itself: it runs as others run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.nightly import commands, property_tests

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "-o", "addopts=")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command without the options of the pytest around it."""
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_results_can_be_written_as_junit_xml(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    tests = ["tests/faults/test_faults.py", "tests/faults/test_payload.py", "-k", "args_nul_and or disallowed_tool"]
    command = [sys.executable, *PYTEST, *tests, f"--junitxml={report}"]
    done = run(command)
    assert done.returncode == 0, done.stdout
    cases = [*ElementTree.parse(report).getroot().iter("testcase")]
    named = {found.get("value") for case in cases for found in case.iter("property") if found.get("name") == "fault"}
    assert len(cases) >= 3
    assert named == {"('payload', 'args_nul_and_surrogates')", "('payload', 'disallowed_tool')"}


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("sh") is None, reason="there is no sh that ignores SIGINT")
def test_tests_that_interrupt_a_process_pass_where_the_parent_ignores_sigint() -> None:
    tests = "tests/test_portal.py -k ctrl_c"
    command = f"trap '' INT; exec '{sys.executable}' {' '.join(PYTEST)} -n 1 {tests}"
    done = run(["sh", "-c", command])
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_nightly_run_covers_every_property_test_and_can_be_repeated() -> None:
    files = property_tests()
    assert {"tests/test_sse.py", "tests/models/test_replies.py", "tests/tools/test_files.py"} <= {*files}
    pytest_run, *rest = commands(seed=7, runs=60)
    assert {*files, "--hypothesis-seed=7", "--hypothesis-profile=nightly"} <= {*pytest_run}
    assert [command[-2:] for command in rest] == [["--seed", "7"]] * (sys.platform != "win32")
