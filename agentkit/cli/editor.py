"""The input line of a chat at a terminal, by prompt_toolkit."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

if TYPE_CHECKING:
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.output import Output

__all__ = ["Editor"]

_PROMPT = "you> "
_NO_TEXT = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.?|[\x00-\x08\x0b-\x1f\x7f]")
"""Keys that stand for no text, such as arrows."""
_MAX_AHEAD = 100_000
"""Bytes typed ahead that are read."""


class Editor:
    """Reads messages of one or several lines.

    Enter sends, and Alt-Enter begins a new line. A paste is one message, however many lines it has. What was typed during an
    answer stands in the next line, and is not sent before Enter is pressed there. `interrupted` says that Ctrl-C has just
    cleared the line or stopped an answer: then the next one, on an empty line, ends the chat.
    """

    def __init__(self, commands: Mapping[str, str], history: Path | None) -> None:
        self.interrupted = False
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            key_bindings=self._bindings(),
            completer=_Commands(commands),
            complete_while_typing=False,
            history=_history(history),
            prompt_continuation=" " * len(_PROMPT),
            enable_open_in_editor=False,
            output=_output(),
        )
        self._session.default_buffer.on_text_changed += self._text_changed

    def read(self) -> str:
        """The next message. Raises EOFError at Ctrl-D, and KeyboardInterrupt at Ctrl-C on an empty line."""
        return self._session.prompt([("ansicyan", _PROMPT)], default=_typed_ahead())

    def _text_changed(self, buffer: Buffer) -> None:
        if buffer.text:
            self.interrupted = False

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()

        @bindings.add("enter")
        def _send(event: KeyPressEvent) -> None:
            if event.app.key_processor.input_queue:  # more keys came at once: a paste of a terminal that does not mark it
                event.current_buffer.insert_text("\n")
            else:
                event.current_buffer.validate_and_handle()

        @bindings.add("escape", "enter")
        def _new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @bindings.add("c-c")
        @bindings.add("<sigint>")
        def _interrupt(event: KeyPressEvent) -> None:
            if not event.current_buffer.text:
                event.app.exit(exception=KeyboardInterrupt)
                return
            event.current_buffer.reset()
            self.interrupted = True

        return bindings


class _Commands(Completer):
    """Completes commands, and the files of /save and /load."""

    def __init__(self, commands: Mapping[str, str]) -> None:
        self._commands = commands
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """The completions of the text before the cursor."""
        text = document.text_before_cursor
        command, space, argument = text.partition(" ")
        if space and command in ("/save", "/load"):
            yield from self._paths.get_completions(Document(argument), complete_event)
        elif text.startswith("/"):
            for name, meaning in self._commands.items():
                if name.startswith(text):
                    yield Completion(name, start_position=-len(text), display_meta=meaning)


def _typed_ahead() -> str:
    """What was typed while no line was read, without the last Enter."""
    if sys.platform == "win32":
        return ""
    import termios

    terminal, typed = sys.stdin.fileno(), b""
    before, now = termios.tcgetattr(terminal), termios.tcgetattr(terminal)
    now[3] &= ~(termios.ICANON | termios.ECHO)
    now[6][termios.VMIN] = now[6][termios.VTIME] = 0  # a read does not wait
    termios.tcsetattr(terminal, termios.TCSANOW, now)
    try:
        while len(typed) < _MAX_AHEAD and (data := os.read(terminal, 4096)):
            typed += data
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
    return _NO_TEXT.sub("", typed.decode(errors="replace")).strip("\n")


def _history(path: Path | None) -> History:
    """What was typed in earlier chats. Without a file that can be written, only what is typed in this one."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        path.touch(0o600)
        with path.open("ab"):
            return FileHistory(str(path))
    except OSError:
        return InMemoryHistory()


def _output() -> Output | None:
    """The terminal, which is not asked where its cursor is: a late answer could be taken for a key at a question."""
    if sys.platform == "win32":
        return None
    from prompt_toolkit.output.vt100 import Vt100_Output

    output = Vt100_Output.from_pty(sys.stdout)
    output.enable_cpr = False
    return output
