"""The two longer examples are run end to end: real files, a real database, real tests in a process of their own."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from agentkit.models.scripted import call
from agentkit.testing import DeepSeekSimulator, SimRequest

EXAMPLES = Path(__file__).parent.parent / "examples"
ASSISTANT = EXAMPLES / "repository_assistant" / "assistant.py"
ANALYST = EXAMPLES / "data_analyst" / "analyst.py"


def run(program: Path, simulator: DeepSeekSimulator, folder: Path, *arguments: str, typed: str = "") -> str:
    own = {"AGENTKIT_BASE_URL": simulator.base_url, "AGENTKIT_API_KEY": "test", "PYTHONIOENCODING": "utf-8"}
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(program), *arguments],
        env={**os.environ, **own},
        cwd=folder,
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def told(request: SimRequest) -> str:
    """What the last tool has returned."""
    return str(request.last["content"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    (root / "src").mkdir(parents=True)
    (root / "src" / "price.py").write_text("VAT = 0.19\n\n\ndef gross(net):\n    return net * (1 + VAT)\n")
    (root / "test_price.py").write_text(
        "from pathlib import Path\nfrom src.price import gross\n\n\n"
        "def test_gross():\n    Path('tests_ran').touch()\n    assert gross(100) == 107\n"
    )
    return root


def final(text: str, *cited: tuple[str, int, str]) -> Any:
    return call("final_answer", text=text, citations=[dict(zip(("file", "line", "text"), each, strict=True)) for each in cited])


def test_a_citation_is_printed_only_if_the_line_is_real(repository: Path) -> None:
    wrong, outside = ("src/price.py", 4, "return net * (1 + VAT)"), ("../secret.py", 1, "KEY = 1")
    (repository.parent / "secret.py").write_text("KEY = 1\n")

    def answers(request: SimRequest) -> Any:
        if request.turn == 0:
            return call("grep", pattern="VAT")
        if request.turn == 1:
            return call("read_file", path="src/price.py")
        if request.turn in (2, 3):
            return final("VAT is added.", wrong if request.turn == 2 else outside)
        return final("VAT is added.", ("src/price.py", 5, "return net * (1 + VAT)"), ("src/price.py", 1, "VAT = 0.19"))

    with DeepSeekSimulator(answers) as simulator:
        printed = run(ASSISTANT, simulator, repository.parent, str(repository), "How is the gross price computed?")
        grepped, _, *refused = [told(request) for request in simulator.requests[1:]]
    assert "src/price.py:1: VAT = 0.19" in grepped
    assert "src/price.py:4 is not 'return net * (1 + VAT)', but 'def gross(net):'" in refused[0]
    assert "../secret.py:1 is not 'KEY = 1', but ''" in refused[1]
    assert printed.splitlines() == [
        '  grep {"pattern": "VAT"}',
        '  read_file {"path": "src/price.py"}',
        "VAT is added.",
        "  src/price.py:5: return net * (1 + VAT)",
        "  src/price.py:1: VAT = 0.19",
    ]


def test_lines_are_counted_as_the_file_tools_count_them(repository: Path) -> None:
    odd = "\ufeffform\x0cfeed\u2028and\x85more\r\n\tneedle = 1\r\n".encode()
    (repository / "odd.py").write_bytes(odd)
    (repository / "latin.py").write_bytes(b"# caf\xe9\nneedle = 2\n")
    (repository / "link.py").symlink_to(repository.parent / "secret.py")
    (repository.parent / "secret.py").write_text("needle = 3\n")

    def answers(request: SimRequest) -> Any:
        if request.turn == 0:
            return call("grep", pattern="needle")
        if request.turn == 1:
            return final("Through a link.", ("link.py", 1, "needle = 3"))
        found = re.findall(r"^(\w+\.py):(\d+):\s*(.*)$", str(request.messages[3]["content"]), re.MULTILINE)
        return final("Two.", *((file, int(line), text.strip()) for file, line, text in found))

    with DeepSeekSimulator(answers) as simulator:
        printed = run(ASSISTANT, simulator, repository.parent, str(repository), "Where are needles?")
        assert "link.py:1 is not" in told(simulator.requests[2])
    assert set(printed.splitlines()[-2:]) == {"  odd.py:2: needle = 1", "  latin.py:2: needle = 2"}


@pytest.mark.parametrize("said", ["y", "n", ""])
def test_the_tests_of_the_repository_run_after_a_yes_alone(repository: Path, said: str) -> None:
    def answers(request: SimRequest) -> Any:
        if request.turn == 0:
            return call("run_tests", command="python -m pytest -q -p no:cacheprovider")
        return final("1 failed" if "1 failed" in told(request) and "assert 119.0 == 107" in told(request) else told(request))

    with DeepSeekSimulator(answers) as simulator:
        printed = run(ASSISTANT, simulator, repository.parent, str(repository), "Does it work?", typed=f"{said}\n")
    assert (repository / "tests_ran").exists() == (said == "y")
    assert ("1 failed" in printed) == (said == "y")


def test_a_conversation_about_the_repository_keeps_what_was_said(repository: Path) -> None:
    def answers(request: SimRequest) -> Any:
        asked = [str(message["content"]) for message in request.messages if message["role"] == "user"]
        return final(f"asked so far: {asked}")

    with DeepSeekSimulator(answers) as simulator:
        printed = run(ASSISTANT, simulator, repository.parent, str(repository), typed="one\ntwo\n\n")
    assert "asked so far: ['one', 'two']" in printed


def test_the_chart_has_the_sums_of_the_csv_file(tmp_path: Path) -> None:
    sums: dict[str, float] = defaultdict(float)
    with (ANALYST.parent / "sales.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            sums[row["region"]] += float(row["euros"]) if row["month"].startswith("2025") else 0
    query = "SELECT region, sum(euros) FROM sales WHERE month LIKE '2025-%' GROUP BY region ORDER BY 2 DESC"

    def answers(request: SimRequest) -> Any:
        if request.turn == 0:
            return call("sql_schema")
        if request.turn == 1:
            assert "CREATE TABLE sales" in told(request)
            return call("draw_bars", file="regions", title="Euros & regions", sql="SELECT * FROM sales")
        if request.turn == 2:
            assert "give 1 to 30 rows of a label and a number" in told(request)
            return call("draw_bars", file="regions", title="Euros & regions", sql=query)
        return f"Drawn in {told(request)}"

    with DeepSeekSimulator(answers) as simulator:
        printed = run(ANALYST, simulator, tmp_path, "Which region sold most in 2025? Draw it.")
    chart = tmp_path / "regions.svg"
    assert printed.endswith(f"Drawn in {chart}\n")
    bars = sorted(sums.items(), key=lambda bar: -bar[1])
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart.read_text())
    assert texts[0] == "Euros &amp; regions"
    assert list(zip(texts[1::2], texts[2::2], strict=True)) == [(name, f"{euros:,.12g}") for name, euros in bars]
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', chart.read_text())]
    assert widths == [pytest.approx(380 * euros / max(sums.values()), abs=0.1) for _, euros in bars]


def test_the_database_is_only_read_and_a_chart_stays_in_its_folder(tmp_path: Path) -> None:
    tries = [
        call("sql_query", sql="DELETE FROM sales"),
        call("draw_bars", file="a", title="x", sql="DELETE FROM sales RETURNING region, euros"),
        call("draw_bars", file="../a", title="x", sql="SELECT region, euros FROM sales LIMIT 3"),
        call("draw_bars", file="none", title="x", sql="SELECT region, euros FROM sales WHERE region = 'East'"),
        call("sql_query", sql="SELECT count(*) FROM sales"),
    ]
    with DeepSeekSimulator([*tries, "No."]) as simulator:
        run(ANALYST, simulator, tmp_path, "Delete all.")
        results = [str(request.last["content"]) for request in simulator.requests[1:]]
    assert "only reading is allowed" in results[0]
    assert "only reading is allowed" in results[1]
    assert "letters, digits and underscores" in results[2]
    assert "0 rows" in results[3]
    assert results[4] == '["count(*)"]\n[216]'
    assert [*tmp_path.iterdir()] == []


def test_the_files_of_the_user_stay_as_they_are(tmp_path: Path) -> None:
    for name in ("sales.db", "chart.svg"):
        (tmp_path / name).write_text("mine")
    query = "SELECT region, sum(euros) FROM sales GROUP BY region"
    tries = [call("draw_bars", file=name, title="x", sql=query) for name in ("chart", "other")]
    with DeepSeekSimulator([*tries, "Done."]) as simulator:
        run(ANALYST, simulator, tmp_path, "Draw it.")
        assert "chart.svg is there already; give another name" in told(simulator.requests[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chart.svg", "other.svg", "sales.db"]
    assert (tmp_path / "sales.db").read_text() == (tmp_path / "chart.svg").read_text() == "mine"


@pytest.mark.parametrize("program", [ANALYST, ASSISTANT])
def test_without_an_argument_the_usage_is_printed(program: Path) -> None:
    ended = subprocess.run([sys.executable, str(program)], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert ended.returncode == 1 and re.fullmatch(rf"usage: {program.name} .*\n", ended.stderr)
