"""The agent of `agentkit demo --crash`, and the process that drives it and kills itself."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ..agent import Agent
from ..events import Event, ModelReplied
from ..messages import ToolCall, ToolResult
from ..model import ModelRequest
from ..models.scripted import ScriptedModel, call
from ..store import open_store
from ..tools.tool import tool

__all__ = ["IN_TOOL", "LEASE", "ON_REPLY", "TASK", "made_agent", "sent"]

TASK = "Send the report to Ann and to Bob."
IN_TOOL = "in-tool"
ON_REPLY = "on-reply"
LEASE = 1.0
"""Seconds after which another process may go on with the run of a dead one. The default of a store is 30."""


def made_agent(folder: Path, crash: str | None = None) -> Agent[str]:
    """The agent. With `crash`, the process dies at the second mail: after the mail is sent, or after the reply is stored."""
    outbox = folder / "outbox.txt"

    @tool
    def send_mail(to: str) -> str:
        """Send the report to somebody."""
        with outbox.open("a", encoding="utf-8") as file:
            file.write(f"{to}\n")
            file.flush()
            os.fsync(file.fileno())
        if crash == IN_TOOL and to == "bob":
            die()
        return f"sent to {to}"

    @tool(read_only=True)
    def read_outbox() -> list[str]:
        """Who has got the report."""
        return sent(folder)

    replies = 0

    def watch(event: Event) -> None:
        nonlocal replies
        replies += isinstance(event, ModelReplied)
        if crash == ON_REPLY and replies == 2:
            die()

    return Agent(ScriptedModel(_next_move), tools=[send_mail, read_outbox], observers=[watch], name="demo")


def _next_move(request: ModelRequest) -> str | ToolCall:
    results = [message for message in request.messages if isinstance(message, ToolResult)]
    if len(results) < 2:
        return call("send_mail", to=("ann", "bob")[len(results)])
    if results[-1].is_error:
        return call("read_outbox")
    return "Ann and Bob have the report."


def sent(folder: Path) -> list[str]:
    """Who has got the report, in order."""
    outbox = folder / "outbox.txt"
    return outbox.read_text(encoding="utf-8").splitlines() if outbox.exists() else []


def die() -> None:
    """End this process at once, as `kill -9` does: nothing is closed, written or handed back."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows, SIGTERM does it


def _main() -> None:
    folder, crash = Path(sys.argv[1]), sys.argv[2]
    store = open_store(str(folder / "runs.db"), lease=LEASE)
    made_agent(folder, crash).run_sync(TASK, store=store, run_id=crash)


if __name__ == "__main__":
    _main()
