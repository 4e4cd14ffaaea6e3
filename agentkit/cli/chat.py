"""A conversation at the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..agent import Agent
from ..errors import AgentError
from ..model import info_of
from .conversation import Conversation, Kept, read_conversation, write_conversation
from .exits import Exit, UsageError, complain, exit_for
from .render import View
from .screen import Screen
from .session import Session
from .show import labels
from .text import money, one_line, tokens

__all__ = ["BANNER", "COMMANDS", "HELP", "Chat"]

COMMANDS = {
    "/help": "shows this",
    "/reset": "forgets the conversation and begins another",
    "/retry": "asks the last message again",
    "/model": "shows the model; with NAME, goes on with another",
    "/tools": "lists the tools",
    "/usage": "shows what the conversation took",
    "/save": "shows where it is kept; with FILE, writes it there",
    "/load": "with FILE, goes on with a saved conversation",
    "/exit": "ends the chat, as Ctrl-D does",
}
HELP = "\n".join(
    [
        *(f"{name:<8}{what}" for name, what in COMMANDS.items()),
        "Ctrl-C  clears the line or stops an answer; twice, it ends the chat",
    ]
)
BANNER = "/exit or Ctrl-D ends the chat, /reset forgets the conversation, /help lists the rest. Ctrl-C stops an answer."
_COMMAND = re.compile(r"(/\w+)(?:[^\S\n]+(\S.*))?")
"""A command is one line. A text of several lines, such as a paste, never is one."""
_WITH_ARGUMENT = {"/model", "/save", "/load"}


class Chat:
    """A conversation. Each message goes to the agent with the conversation so far.

    `rebuild` makes the agent for another model's name. `kept` is where the conversation is written after each turn.
    """

    def __init__(
        self,
        agent: Agent[Any],
        screen: Screen,
        view: View,
        *,
        rebuild: Callable[[str], Agent[Any]],
        kept: Kept | None = None,
        conversation: Conversation | None = None,
    ) -> None:
        self._agent, self._screen, self._view = agent, screen, view
        self._rebuild, self._kept = rebuild, kept
        self._conversation = conversation or Conversation()
        self._failed: str | None = None
        """The last message, if its turn failed: then it is not part of the conversation."""

    def talk(self, lines: Iterable[str], on_interrupted: Callable[[], None] = lambda: None) -> Exit:
        """Answer messages until they end or `/exit`. Returns the exit code of the last answer.

        `on_interrupted` is called when Ctrl-C has stopped an answer.
        """
        code = Exit.ANSWER
        with Session(self._agent) as session:
            for line in lines:
                message = line.strip()
                if message in ("/exit", "/quit"):
                    break
                if (found := _COMMAND.fullmatch(message)) and (found[1] in COMMANDS or not found[2]):
                    retried = self._command(session, found[1], found[2] or "")
                    code = code if retried is None else retried
                elif message:
                    code = self._turn(session, message)
                    if code is Exit.INTERRUPTED:
                        on_interrupted()
        return code

    def _command(self, session: Session, name: str, argument: str) -> Exit | None:
        """Do what a command says. Returns the exit code of the turn, if it led to one."""
        if argument and name not in _WITH_ARGUMENT:
            self._note(f"{name} takes nothing after it")
            return None
        try:
            match name:
                case "/retry":
                    return self._retry(session)
                case "/model":
                    self._model(session, argument)
                case "/save":
                    self._save(argument)
                case "/load":
                    self._load(argument)
                case _:
                    self._plain_command(name)
        except AgentError as error:
            complain(error)
        return None

    def _plain_command(self, name: str) -> None:
        match name:
            case "/reset":
                self._conversation, self._failed = Conversation(), None
                if self._kept:
                    self._kept.begin_another()
                self._note("a new conversation begins")
            case "/tools":
                for tool in self._agent.tools:
                    self._screen.status(f"{tool.name}: {labels(tool)}")
                if not self._agent.tools:
                    self._note("there are no tools")
            case "/usage":
                self._screen.status(self._usage())
            case _:
                self._note(HELP if name == "/help" else f"there is no command {name}; /help lists the commands")

    def _note(self, text: str) -> None:
        self._screen.line(text, "dim")

    def _retry(self, session: Session) -> Exit | None:
        failed, last = self._failed, self._conversation.before_last()
        if failed is not None:
            return self._turn(session, failed)
        if last is None:
            self._note("there is no message to ask again")
            return None
        earlier, message = last
        self._note(f"again: {one_line(message, self._screen.width - 10)}")
        before, self._conversation = self._conversation, replace(self._conversation, messages=earlier)
        code = self._turn(session, message)
        if self._failed is not None:  # the earlier answer is better than none
            self._conversation = replace(self._conversation, messages=before.messages)
        return code

    def _model(self, session: Session, name: str) -> None:
        if name:
            self._agent = self._rebuild(name)
            session.switch(self._agent)
        server = getattr(getattr(self._agent.model, "endpoint", None), "base_url", "")
        self._note(f"model: {info_of(self._agent.model).name}{f' at {server}' if server else ''}")

    def _save(self, name: str) -> None:
        if not name:
            path = self._kept.path if self._kept else None
            self._note(f"kept in {path}" if path else "nothing is kept so far; /save FILE writes the conversation")
            return
        path = Path(name).expanduser()
        if path.exists():
            try:
                read_conversation(path)
            except UsageError as error:
                raise UsageError(f"not overwritten: {error}") from error
        try:
            write_conversation(path, self._conversation)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
        self._note(f"saved in {path}")

    def _load(self, name: str) -> None:
        if not name:
            raise UsageError("/load needs a file: /load FILE")
        self._conversation, self._failed = read_conversation(Path(name).expanduser()), None
        if self._kept:
            self._kept.begin_another()
        self.show_loaded()

    def show_loaded(self) -> None:
        """Say how far the conversation is, with the last message of the user."""
        last, said = self._conversation.before_last(), self._conversation.turns
        ending = f", the last: {one_line(last[1], max(self._screen.width - 50, 20))}" if last else ""
        self._note(f"a conversation with {said} {'message' if said == 1 else 'messages'} of yours{ending}")

    def _turn(self, session: Session, message: str) -> Exit:
        try:
            session.turn(message, self._view, self._conversation.messages)
            code = None
        except (AgentError, KeyboardInterrupt) as error:
            code = complain(error)
        result = self._view.result
        failed = code is not None and code is not Exit.INTERRUPTED
        self._failed = message if failed else None
        if result is not None:  # an interrupted turn counts too
            self._conversation = self._conversation.after(result, failed=failed)
            if self._conversation.turns > 1:
                self._screen.status(self._usage())
        if not failed:
            self._keep()
        return code if code is not None else exit_for(result) if result else Exit.FAILED

    def _usage(self) -> str:
        now = self._conversation
        note = self._view.result.price_note if self._view.result else ""
        lost = f" · about {tokens(now.uncounted)} not counted by the server" if now.uncounted.total_tokens else ""
        turns = f"{now.turns} turn{'' if now.turns == 1 else 's'}"
        return f"conversation: {turns} · {tokens(now.usage)} · {money(now.cost, note)}{lost}"

    def _keep(self) -> None:
        if self._kept is None:
            return
        try:
            self._kept.write(self._conversation)
        except OSError as error:
            self._kept = None
            self._screen.line(f"! the conversation is not kept: {error}", "yellow")
