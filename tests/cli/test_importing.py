"""Files that run an agent at their top: loaded by the command line, imported by a worker process, collected by pytest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agentkit.cli.load import load_agent, load_tools

from .helpers import ROOT, cli

HINT = '`if __name__ == "__main__":`'
TOP = """
import asyncio, sys
from agentkit import Agent, ScriptedModel, tool

@tool
def look(x: int) -> int:
    "Look."
    return x

agent = Agent(ScriptedModel(lambda request: "hi"), tools=[look])

async def watch():
    async for _ in agent.stream("go"):
        pass
"""
LINE = TOP.count("\n") + 1


def file(folder: Path, source: str, name: str = "bot.py") -> str:
    (folder / name).write_text(TOP + textwrap.dedent(source))
    return str(folder / name)


@pytest.mark.parametrize(
    "source",
    [
        "print(agent.run_sync('go').output)\n",
        "asyncio.run(agent.run('go'))\n",
        "asyncio.run(watch())\n",
        "for event in agent.stream_sync('go'): print(event)\n",
        "print(*agent.stream_text_sync('go'))\n",
        "agent.map_sync(['go'], on_error='raise')\n",
        "asyncio.run(Agent(agent.model, instructions=[lambda: 'x']).run('go'))\n",
        "try: agent.run_sync('go')\nexcept Exception as error: sys.exit(f'failed: {error}')\n",
        "try: agent.run_sync('go')\nexcept Exception as error: raise RuntimeError('no luck') from None\n",
    ],
)
def test_a_file_that_runs_its_agent_at_the_top_is_not_loaded(tmp_path: Path, source: str) -> None:
    named = file(tmp_path, source)
    for command in (["tools", named], ["run", "hi", "--agent", f"{named}:agent"]):
        result = cli(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert len(result.stderr.splitlines()) == 1 and "runs an agent while it is loaded" in result.stderr
        assert HINT in result.stderr and f"(bot.py, line {LINE})" in result.stderr


def test_the_file_is_named_that_runs_it(tmp_path: Path) -> None:
    file(tmp_path, "agent.run_sync('go')\n", "inner_bot_of_outer.py")
    (tmp_path / "outer.py").write_text("from inner_bot_of_outer import agent\n")
    assert f"(inner_bot_of_outer.py, line {LINE})" in cli("tools", str(tmp_path / "outer.py")).stderr


def test_what_a_loaded_file_runs_later_is_run(tmp_path: Path) -> None:
    named = file(
        tmp_path,
        """
        import contextvars

        later = contextvars.copy_context()

        def make():
            assert agent.run_sync("go").output == "hi"
            return agent

        if __name__ == "__main__":
            agent.run_sync("go")
        """,
    )
    assert [tool.name for tool in load_tools([named])] == ["look"]
    agent = load_agent(f"{named}:make")
    [module] = [one for name, one in sys.modules.items() if name.startswith("_agentkit_bot_") and hasattr(one, "later")]
    assert module.later.run(agent.run_sync, "go").output == "hi"


POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(text):
    return agent.run_sync(text).output

{at_the_top}
if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(pool.submit(work, "go").result(timeout=60))
"""


@pytest.mark.parametrize("at_the_top", ["", "agent.run_sync('go')"])
def test_a_worker_process_does_not_run_the_agent_of_the_main_script_again(tmp_path: Path, at_the_top: str) -> None:
    named = file(tmp_path, POOL.format(at_the_top=at_the_top))
    done = subprocess.run(
        [sys.executable, named],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if at_the_top:
        assert (
            done.returncode == 1
            and f"a new worker process imports a file that runs an agent; put the lines that run it under {HINT}" in done.stderr
        )
    else:
        assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")


def test_a_file_that_pytest_cannot_collect_gets_the_hint(tmp_path: Path) -> None:
    file(tmp_path, "Agent(ScriptedModel([])).run_sync('go')\n", "test_bot.py")
    file(tmp_path, "1 / 0\n", "test_other.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for name, hints in (("test_bot.py", 1), ("test_other.py", 0)):
        done = subprocess.run(
            [*command, name],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2 and done.stdout.count("The file runs an agent while pytest collects it.") == hints
