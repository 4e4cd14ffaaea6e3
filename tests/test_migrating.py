"""The programs for people who come from another framework: short, listed, and each run as a program of its own."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from agentkit.models.scripted import call
from agentkit.testing import DeepSeekSimulator, SimRequest

MIGRATING = Path(__file__).parent.parent / "examples" / "migrating"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


def run(name: str, simulator: DeepSeekSimulator, folder: Path, *arguments: str, typed: str = "") -> str:
    own = {"AGENTKIT_BASE_URL": simulator.base_url, "AGENTKIT_API_KEY": "test", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-W", "error", str(MIGRATING / f"{name}.py"), *arguments]
    ended = subprocess.run(
        command,
        env={**os.environ, **own},
        cwd=folder,
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def said(request: SimRequest) -> str:
    return str(request.last["content"])


def role(request: SimRequest) -> str:
    return str(request.messages[0]["content"])


def test_the_programs_are_fifteen_short_ones_that_name_what_they_replace() -> None:
    here, readme = Path(__file__).read_text(encoding="utf-8"), (MIGRATING / "README.md").read_text(encoding="utf-8")
    programs = sorted(MIGRATING.glob("*.py"))
    assert len(programs) == 15
    for path in programs:
        lines = path.read_text(encoding="utf-8").splitlines()
        peer = {"p": "Pydantic AI: ", "o": "OpenAI Agents SDK: ", "l": "LangChain: "}[path.name[0]]
        assert len(lines) <= 25, path.name
        assert lines[0].startswith(f'"""{peer}'), path.name
        assert f"({path.name})" in readme
        assert f'"{path.stem}"' in here


def test_pydantic_ai_tool_with_deps(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        return f"{role(request)} {said(request)} left." if request.turn else call("seats_left", film="Alien")

    with DeepSeekSimulator(answers) as simulator:
        assert run("pydantic_ai_tool_with_deps", simulator, tmp_path) == "You sell tickets for Alien, Heat. 3 left.\n"


def test_pydantic_ai_support(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        if request.turn == 0:
            return call("contracts")
        return call("final_answer", text=f"You have: {request.messages[3]['content']}", risk=11 if request.turn == 1 else 3)

    with DeepSeekSimulator(answers) as simulator:
        assert run("pydantic_ai_support", simulator, tmp_path) == """Advice(text='You have: ["bicycle"]', risk=3)\n"""
        assert "risk" in said(simulator.requests[2])


def test_pydantic_ai_output_validator(tmp_path: Path) -> None:
    with DeepSeekSimulator(["(\\d", "\\d+", "\\d{4}-\\d\\d-\\d\\d"]) as simulator:
        assert run("pydantic_ai_output_validator", simulator, tmp_path) == "\\d{4}-\\d\\d-\\d\\d after 3 steps\n"
        assert "no regular expression" in said(simulator.requests[1])
        assert "does not match 2026-01-31" in said(simulator.requests[2])


def test_pydantic_ai_stream(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        return call("final_answer", answer=["coat", "boots", "scarf"]) if "pack" in role(request) else "Rivers bring salt."

    with DeepSeekSimulator(answers) as simulator:
        text, *lists = run("pydantic_ai_stream", simulator, tmp_path).splitlines()
    assert text.replace("|", "") == "Rivers bring salt."
    assert text.count("|") > 1
    assert lists[-1] == "['coat', 'boots', 'scarf']"
    assert len(lists) > 1


def test_pydantic_ai_deferred_tools(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        if request.turn == 0:
            return [call("refund", amount=20), call("refund", amount=80)]
        return "; ".join(str(message["content"]) for message in request.messages[-2:])

    with DeepSeekSimulator(answers) as simulator:
        printed = run("pydantic_ai_deferred_tools", simulator, tmp_path, typed="y\n")
        refused = run("pydantic_ai_deferred_tools", simulator, tmp_path, typed="n\n")
    assert printed == 'refund {"amount": 80}? 20.00 EUR are on their way; 80.00 EUR are on their way\n'
    assert refused.startswith('refund {"amount": 80}? 20.00 EUR are on their way; error: ')


def test_openai_agents_handoffs(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        return call("transfer_to_plumber") if "craftsman" in role(request) else f"{role(request)[-18:]} {said(request)}"

    with DeepSeekSimulator(answers) as simulator:
        assert run("openai_agents_handoffs", simulator, tmp_path) == "water and heating. My tap drips.\n"


def test_openai_agents_guardrail(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        judges = "diagnosis" in role(request)
        return call("final_answer", answer="wrong" in str(request.messages[1]["content"])) if judges else "Yes."

    with DeepSeekSimulator(answers) as simulator:
        assert run("openai_agents_guardrail", simulator, tmp_path) == "Yes.\nguardrail:no_diagnosis\n"


def test_openai_agents_as_tool(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        if "recipes" in role(request):
            return "three eggs"
        if "prices" in role(request):
            return f"{said(request)}: 1 EUR"
        moves = [call("ask_cook", task="omelette"), call("ask_shopper", task=said(request)), said(request)]
        return moves[request.turn]

    with DeepSeekSimulator(answers) as simulator:
        printed = run("openai_agents_as_tool", simulator, tmp_path)
    assert printed == "three eggs: 1 EUR\n5 requests of all three agents\n"


def test_openai_agents_session(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        return "; ".join(str(message["content"]) for message in request.messages if message["role"] == "user")

    with DeepSeekSimulator(answers) as simulator:
        assert run("openai_agents_session", simulator, tmp_path) == "I like trains.\nI like trains.; What do I like?\n"
        assert "trains.; What do I like?; I like trains." in run("openai_agents_session", simulator, tmp_path)


def test_openai_agents_parallel(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        if "best" in role(request):
            lines = said(request).splitlines()
            return call("final_answer", answer=next(n for n, line in enumerate(lines, 1) if "funny" in line))
        return f"Slogan {said(request)}"

    with DeepSeekSimulator(answers) as simulator:
        assert run("openai_agents_parallel", simulator, tmp_path) == "Slogan for tea, funny\n"


def test_langchain_create_agent(tmp_path: Path) -> None:
    def answers(request: SimRequest) -> Any:
        return f"High water is {said(request)}." if request.turn else call("tide", harbour="Dover")

    with DeepSeekSimulator(answers) as simulator:
        text, roles = run("langchain_create_agent", simulator, tmp_path).splitlines()
    assert text == "High water is at 14:20."
    assert roles == "['system', 'user', 'assistant', 'tool', 'assistant']"


def test_langchain_structured_output(tmp_path: Path) -> None:
    invoice = {"seller": "Mill Café", "due": "2026-05-01", "lines": {"tea": 4.5, "cake": 3}}
    with DeepSeekSimulator([call("final_answer", **invoice)]) as simulator:
        assert run("langchain_structured_output", simulator, tmp_path) == "Mill Café 01 May 7.5\n"


def test_langchain_retrieval(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "time.txt").write_text("You have 30 days of holiday.\n\nWork begins at nine.")
    (tmp_path / "docs" / "food.txt").write_text("Lunch is free.")

    def answers(request: SimRequest) -> Any:
        return said(request) if request.turn else call("search", query="days of holiday", limit=1)

    with DeepSeekSimulator(answers) as simulator:
        assert run("langchain_retrieval", simulator, tmp_path) == '[["time.txt","You have 30 days of holiday."]]\n'


def test_langchain_sql_agent(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "zoo.db")) as database, database:
        database.execute("CREATE TABLE animals (name TEXT, legs INTEGER)")
        database.executemany("INSERT INTO animals VALUES (?, ?)", [("ant", 6), ("emu", 2)])

    def answers(request: SimRequest) -> Any:
        moves = [call("sql_schema"), call("sql_query", sql="SELECT name FROM animals ORDER BY legs DESC LIMIT 1")]
        return moves[request.turn] if request.turn < 2 else said(request).splitlines()[1]

    with DeepSeekSimulator(answers) as simulator:
        assert run("langchain_sql_agent", simulator, tmp_path, "zoo.db", "Which has most legs?") == '["ant"]\n'
        assert "CREATE TABLE animals" in said(simulator.requests[1])


def test_langchain_chat_history(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)

    def answers(request: SimRequest) -> Any:
        last = request.last["content"]
        kinds = [part["type"] for part in last] if isinstance(last, list) else last
        return f"{kinds}, message {len(request.messages)}"

    with DeepSeekSimulator(answers) as simulator:
        printed = run("langchain_chat_history", simulator, tmp_path, typed="Hello\ncat.png\n\n")
    assert printed == "> Hello, message 2\n> ['text', 'image_url'], message 4\n> "
