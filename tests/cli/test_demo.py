"""`agentkit demo`: an agent at work, offline, on files that a test may change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentkit.cli.demo import FILES, TASK
from agentkit.cli.demo_crash import TITLES
from agentkit.cli.demo_model import next_move
from agentkit.testing import SimRequest

from .helpers import cli


def shop(folder: Path, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


def test_it_says_what_is_real_works_mends_an_error_and_shows_how_to_go_on() -> None:
    result = cli("demo")
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines[0].startswith("An offline simulator answers here, not a language model")
    assert any("notes/discounts.md' does not exist; nearest: notes/discount-rules.md" in line for line in lines)
    assert '→ 5 read_file(path="notes/discount-rules.md")' in lines
    assert lines.index('→ 2 read_file(path="config.toml")') + 1 == lines.index('→ 3 read_file(path="sales.csv")')
    assert "In 2026-03 the shop sold 15,735 EUR in 3 regions; south sold most." in lines
    assert "After the discount 15,281 EUR are left." in lines
    assert any(line.startswith("6 steps · 8 tool calls · ") and "$0 (simulated)" in line for line in lines)
    for part in ("AGENTKIT_API_KEY", "DEEPSEEK_API_KEY", f'run "{TASK}" --files shop', "--tools", "README.md", "examples/"):
        assert part in result.stdout
    assert "pip install agentkit" not in result.stdout


def test_a_new_folder_gets_the_files_and_keeps_them(tmp_path: Path) -> None:
    result = cli("demo", "--files", str(tmp_path / "shop"))
    assert result.exit_code == 0
    assert {name: (tmp_path / "shop" / name).read_text(encoding="utf-8") for name in FILES} == FILES


def test_other_data_gives_another_answer(tmp_path: Path) -> None:
    files = {
        "report.toml": '[report]\nmonth = "2031-12"\ncurrency = "CHF"\nrules = "rules.txt"\n',
        "data/all.csv": "month,region,amount\n2031-11,a,999\n2031-12,a,700\n2031-12,b,1200\n2031-12,c,10\n2031-12,d,90\n",
        "rules.txt": "Whoever sells at least 1,000 gets 12.5 % back.\n",
    }
    result = cli("demo", "--files", shop(tmp_path, files))
    assert result.exit_code == 0
    assert "In 2031-12 the shop sold 2,000 CHF in 4 regions; b sold most." in result.stdout
    assert "The discount of 12.5 % comes to 150 CHF: b reached 1,000." in result.stdout
    assert "After the discount 1,850 CHF are left." in result.stdout
    assert "✗" not in result.stdout, "the configuration names a file that is there: there is no error to mend"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sales.csv": "month,region,amount\n2026-03,north,10\n"}, "no region reached 5,000"),
        ({"sales.csv": "month,region,amount\n2020-01,north,10\n"}, "no sales in '2026-03'"),
        ({"notes/discount-rules.md": "There are none.\n"}, "no rule such as"),
        ({"sales.csv": "month,place\n2026-03,north\n"}, "cannot make sense of the files"),
        ({"config.toml": "[report\n"}, "cannot make sense of the files"),
        ({"config.toml": ""}, "cannot make sense of the files"),
    ],
)
def test_data_without_an_answer_gets_an_honest_one(tmp_path: Path, change: dict[str, str], told: str) -> None:
    result = cli("demo", "--files", shop(tmp_path, {**FILES, **change}))
    assert (result.exit_code, told in result.stdout) == (0, True), result.stdout


def test_a_folder_without_the_files_is_told(tmp_path: Path) -> None:
    result = cli("demo", "--files", shop(tmp_path, {"a.txt": "x"}))
    assert "I need a .toml file that names the month and a .csv file of sales. I found: a.txt." in result.stdout


def test_a_proxy_and_a_key_in_the_environment_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("AGENTKIT_API_KEY", "secret")
    monkeypatch.setenv("AGENTKIT_BASE_URL", "http://127.0.0.1:9/v1")
    assert cli("demo").exit_code == 0


def test_the_answer_comes_from_what_the_tools_said() -> None:
    """The same conversation with another result of the calculator has that result in its answer."""
    made: list[dict[str, Any]] = [{"role": "user", "content": TASK}]
    listing = "\n".join(FILES)
    for _ in range(6):
        body = json.dumps({"messages": made, "thinking": {"type": "enabled"}}).encode()
        move = next_move(SimRequest("/chat/completions", {}, body))
        if not move.tool_calls:
            break
        calls: list[dict[str, Any]] = [
            {"id": f"{len(made)}-{at}", "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for at, c in enumerate(move.tool_calls)
        ]
        made.append({"role": "assistant", "content": "", "tool_calls": calls})
        made += [{"role": "tool", "tool_call_id": c["id"], "content": _fake_result(c["function"], listing)} for c in calls]
    assert move.text.splitlines()[-1] == "After the discount 777 EUR are left."


def _fake_result(function: dict[str, str], listing: str) -> str:
    if function["name"] == "find_files":
        return listing
    if function["name"] == "calculate":
        return "777"
    path = json.loads(function["arguments"])["path"]
    return f"[{path}]\n{FILES[path]}" if path in FILES else f"error: {path!r} does not exist"


def test_a_crash_loses_nothing_and_repeats_nothing() -> None:
    result = cli("demo", "--crash")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    on_reply, in_tool = (lines[lines.index(title) + 1 :][:11] for title in TITLES.values())
    assert on_reply[1].endswith("its result 'sent to ann', a reply of the model") and on_reply[2] == "outbox ann"
    assert 'not again 2 replies of the model, which were paid for; send_mail(to="ann")' in on_reply
    assert "uncertain nothing: the second call had not started" in on_reply
    assert 'then send_mail(to="bob"); the model was asked once' in on_reply
    assert in_tool[1].endswith('the start of send_mail(to="bob")') and in_tool[2] == "outbox ann, bob"
    assert 'uncertain send_mail(to="bob") was started, and its end is not stored. It is not run again:' in in_tool
    assert "then read_outbox(); the model was asked 2 times" in in_tool
    assert lines.count("outbox ann, bob: each mail was sent once") == 2
    assert cli("demo", "--crash", "--files", "x").exit_code == 2
