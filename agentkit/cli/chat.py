"""A conversation at the terminal."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..agent import Agent
from ..errors import AgentError
from ..messages import Message, Usage
from ..run.result import RunResult
from .exits import Exit, complain, exit_for
from .render import View
from .screen import Screen
from .session import Session, is_terminal
from .text import money, tokens

__all__ = ["HELP", "Chat", "typed_lines"]

HELP = "/exit or Ctrl-D ends the chat, /reset forgets the conversation, /help shows this. Ctrl-C stops an answer."
_COMMAND = re.compile(r"/\w+")


class Chat:
    """A conversation. Each line is a message, and the agent gets the conversation so far."""

    def __init__(self, agent: Agent[Any], screen: Screen, view: View) -> None:
        self._agent, self._screen, self._view = agent, screen, view
        self._messages: Sequence[Message] = ()
        self._turns = 0
        self._usage = Usage()
        self._cost: float | None = 0.0

    def talk(self, lines: Iterator[str]) -> Exit:
        """Answer lines until they end or `/exit`. Returns the exit code of the last answer."""
        code = Exit.ANSWER
        with Session(self._agent) as session:
            for line in lines:
                message = line.strip()
                if message in ("/exit", "/quit"):
                    break
                if _COMMAND.fullmatch(message):
                    self._command(message)
                elif message:
                    code = self._turn(session, message)
        return code

    def _command(self, name: str) -> None:
        if name == "/reset":
            self._messages, self._turns, self._usage, self._cost = (), 0, Usage(), 0.0
            self._screen.line("a new conversation begins", "dim")
        else:
            self._screen.line(HELP if name == "/help" else f"there is no command {name}. {HELP}", "dim")

    def _turn(self, session: Session, message: str) -> Exit:
        try:
            session.turn(message, self._view, self._messages)
            code = None
        except (AgentError, KeyboardInterrupt) as error:
            code = complain(error)
        result = self._view.result
        if result is not None:
            self._count(result)
        if code is not None and code is not Exit.INTERRUPTED:
            return code
        if result is not None:  # an interrupted turn counts too
            self._messages = result.messages
        return code or (exit_for(result) if result else Exit.FAILED)

    def _count(self, result: RunResult[Any]) -> None:
        self._turns += 1
        self._usage += result.usage
        self._cost = None if self._cost is None or result.cost is None else self._cost + result.cost
        if self._turns > 1:
            cost = money(self._cost, result.price_note)
            self._screen.line(f"conversation: {self._turns} turns · {tokens(self._usage)} · {cost}", "dim")


def typed_lines(screen: Screen) -> Iterator[str]:
    """Lines from the terminal, with a prompt and readline editing, or lines from a pipe or file."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        yield from sys.stdin or ()
        return
    with contextlib.suppress(ImportError):  # not on Windows, where the console edits lines itself
        import readline  # noqa: F401
    while True:
        screen.line()
        try:
            yield input("you> ")
        except EOFError:
            screen.line()
            return
