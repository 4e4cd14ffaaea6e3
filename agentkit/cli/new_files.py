"""The files of a new project. PROJECT, PACKAGE and REQUIREMENT are replaced."""

from __future__ import annotations

__all__ = ["FILES"]

_TOOLS = '''"""The tools of the agent."""

from agentkit import ModelRetry, tool


@tool(read_only=True, open_world=False)
def count_words(text: str) -> int:
    """Count the words of a text.

    Args:
        text: The text to count.
    """
    if not text.strip():
        raise ModelRetry("the text is empty; give the text whose words are to be counted")
    return len(text.split())


@tool(destructive=False, open_world=False, approval=True)
def add_note(text: str) -> str:
    """Add a line to the notes.

    Args:
        text: The note, in one line.
    """
    with open("notes.txt", "a", encoding="utf-8") as notes:
        notes.write(f"{' '.join(text.split())}\\n")
    return "noted"
'''

_AGENT = '''"""The agent."""

from typing import Any

from agentkit import Agent

from .tools import add_note, count_words

INSTRUCTIONS = "You help with texts. Count with the tool, never by yourself."


def build_agent(**options: Any) -> Agent[str]:
    """The agent. `options` are those of `Agent`, such as model= or approve=."""
    return Agent(
        name="PROJECT",
        instructions=INSTRUCTIONS,
        tools=[count_words, add_note],
        **options,
    )
'''

_TESTS = '''"""The agent against an offline endpoint over real HTTP. `deepseek` is a fixture of agentkit."""

from pathlib import Path

from agentkit.testing import call

from PACKAGE.agent import build_agent
from PACKAGE.tools import count_words


def test_the_tool_is_still_a_function():
    assert count_words("one two three") == 3


def test_the_agent_answers_with_what_the_tool_says(deepseek):
    simulator = deepseek([call("count_words", text="one two three"), "It has three words."])
    result = build_agent().run_sync("How many words are in: one two three")
    assert (result.output, result.stop_reason) == ("It has three words.", "answer")
    assert simulator.requests[1].last["content"] == "3"
    assert simulator.errors == []


def test_an_empty_text_goes_back_to_the_model(deepseek):
    simulator = deepseek([call("count_words", text=" "), "There is no text."])
    assert build_agent().run_sync("Count nothing.").output == "There is no text."
    assert "the text is empty" in simulator.requests[1].last["content"]


def test_nothing_is_written_without_an_approval(deepseek, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deepseek([call("add_note", text="buy milk")])
    result = build_agent().run_sync("Note: buy milk")
    assert result.stop_reason == "pending_approval"
    assert not Path("notes.txt").exists()


def test_an_approved_note_is_written(deepseek, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deepseek([call("add_note", text="buy milk"), "Done."])
    assert build_agent(approve=lambda call: True).run_sync("Note: buy milk").output == "Done."
    assert Path("notes.txt").read_text(encoding="utf-8") == "buy milk\\n"
'''

_README = """# PROJECT

An agent made with agentkit. The tools are in `PACKAGE/tools.py`, the agent is in `PACKAGE/agent.py`.

```bash
python -m venv .venv
.venv/bin/python -m pip install -r requirements.txt
.venv/bin/python -m pytest
```

The tests need no key and no network: agentkit's simulator answers them. To talk to a model, set AGENTKIT_API_KEY (and
AGENTKIT_BASE_URL and AGENTKIT_MODEL for another server), then:

```bash
.venv/bin/agentkit chat --agent PACKAGE.agent:build_agent
```

Without a key, start `agentkit simulator` in a second terminal and add `--base-url http://127.0.0.1:8765/v1`.
"""

_PYPROJECT = """[project]
name = "PROJECT"
version = "0.1.0"
requires-python = ">=3.11"

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
filterwarnings = ["error"]

[tool.ruff]
line-length = 100
"""

_REQUIREMENTS = """# The package index has another project named agentkit, so this names an address. CI needs a git address.
REQUIREMENT
pytest>=8.3
"""

_WORKFLOW = """name: tests
on: [push, pull_request]
permissions:
  contents: read
jobs:
  tests:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: python -m pip install -r requirements.txt
      - run: python -m pytest
"""

FILES = {
    "PACKAGE/__init__.py": '"""PROJECT."""\n',
    "PACKAGE/agent.py": _AGENT,
    "PACKAGE/tools.py": _TOOLS,
    "tests/test_agent.py": _TESTS,
    "pyproject.toml": _PYPROJECT,
    "requirements.txt": _REQUIREMENTS,
    ".github/workflows/tests.yml": _WORKFLOW,
    ".gitignore": "__pycache__/\n.venv/\n.pytest_cache/\nnotes.txt\n",
    "README.md": _README,
}
