"""The demo: a real agent with real tools and real files. Only the language model is an offline simulator."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from ..agent import Agent
from ..models.chat import ChatModel
from ..run.result import RunResult
from ..testing import DeepSeekSimulator, Late, SimRequest
from ..testing.simulator.replies import AnyReply
from .demo_model import next_move
from .exits import Exit, exit_for
from .load import file_tools
from .render import LiveView
from .screen import Screen
from .session import Session
from .text import money, summary

__all__ = ["FILES", "TASK", "run_demo"]

TASK = "How much did the shop sell in the month of the report, and what is left after the discounts?"

FILES = {
    "config.toml": '[report]\nmonth = "2026-03"\ncurrency = "EUR"\nrules = "notes/discounts.md"\n',
    "notes/discount-rules.md": (
        "# Discounts\n\nA region that sells at least 5,000 in a month gives its customers 4 % of that month's sales back.\n"
        "Other regions give nothing back.\n"
    ),
    "sales.csv": (
        "month,region,amount\n"
        "2026-01,north,4120\n2026-01,south,3890\n2026-01,west,2975\n"
        "2026-02,north,4410\n2026-02,south,5230\n2026-02,west,3120\n"
        "2026-03,north,4385\n2026-03,south,6240\n2026-03,west,5110\n"
    ),
}
"""The demo's files. The configuration has an outdated name for the rules: the agent has to recover from this error."""

INSTRUCTIONS = "You answer questions about the files of a shop. Calculate with the calculator."

NEXT = """
  {agentkit} demo --files shop           # writes these files to ./shop; change them, and run it again: another answer
  export AGENTKIT_API_KEY=...          # for https://www.anyfast.ai/v1; or DEEPSEEK_API_KEY=... for DeepSeek's own API
  {agentkit} run "{task}" --files shop
  {agentkit} run "..." --tools my_tools.py          # with your own functions
  {agentkit} run "..." --base-url http://localhost:8000/v1 --model qwen3          # a server on this machine needs no key

Next: README.md, examples/ (one idea a file), {agentkit} --help"""

_CHUNK = 6
_PAUSE = 0.02


def run_demo(screen: Screen, folder: Path | None = None) -> Exit:
    """Run the demo on the files of `folder`, or of a temporary one. A new folder gets the demo's files."""
    if folder is not None:
        _write_files(folder)
        return _run(screen, folder)
    with tempfile.TemporaryDirectory(prefix="agentkit-demo-") as temporary:
        _write_files(Path(temporary) / "shop")
        return _run(screen, Path(temporary) / "shop")


def _write_files(folder: Path) -> None:
    if folder.exists():
        return
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def _run(screen: Screen, folder: Path) -> Exit:
    with DeepSeekSimulator(_paced if screen.fancy else next_move, chunk=_CHUNK, delay=0.3 * screen.fancy) as simulator:
        _introduce(screen, simulator.base_url, folder)
        # the environment's key belongs to another server, and its proxy cannot reach this one
        client = httpx.AsyncClient(trust_env=False)
        model = ChatModel("deepseek-v4-flash", base_url=simulator.base_url, api_key="offline", client=client)
        agent: Agent[str] = Agent(model, tools=file_tools(str(folder)), instructions=INSTRUCTIONS)
        with Session(agent) as session:
            try:
                result = session.turn(TASK, LiveView(screen, _summary))
            finally:
                session.wait_for(client.aclose())
    _what_next(screen)
    return exit_for(result)


def _introduce(screen: Screen, base_url: str, folder: Path) -> None:
    screen.line("An offline simulator answers here, not a language model: it works out its replies from the tools' results.")
    screen.line("The HTTP, the streaming, the agent loop, the tools and the files are real.")
    screen.line()
    screen.line(f"server  {base_url}", "dim")
    screen.line(f"files   {folder}: {', '.join(sorted(_names(folder)))}", "dim")
    screen.line(f"task    {TASK}", "bold")
    screen.line()


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()][:20]


def _paced(request: SimRequest) -> AnyReply:
    """The next move, streamed slowly enough to watch."""
    move = next_move(request)
    length = len(move.reasoning + move.text) + sum(len(call.arguments) for call in move.tool_calls)
    reply: AnyReply = move
    for after in range(2, 2 + length // _CHUNK):
        reply = Late(reply, _PAUSE, after)
    return reply


def _summary(result: RunResult[Any], seconds: float) -> str:
    return summary(result, seconds).replace(money(result.cost, result.price_note), "$0 (simulated)")


def _program() -> str:
    """The command that started this program, so that users can copy the lines."""
    if shutil.which("agentkit"):
        return "agentkit"
    return sys.argv[0] if Path(sys.argv[0]).stem == "agentkit" else "python -m agentkit"


def _what_next(screen: Screen) -> None:
    screen.line()
    screen.line("The same with a language model and a key:", "bold")
    for line in NEXT.format(task=TASK, agentkit=_program()).splitlines():
        screen.line(line)
