"""Conversations of the chat as files, so that a later chat can continue them."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..events import RunFinished, RunStarted, UsageAdded
from ..messages import Message, Usage, User, message_text
from ..run.loop import LAST_ANSWER
from ..run.result import RunResult
from ..run.state import RunState
from .exits import UsageError

__all__ = ["Conversation", "Kept", "chats_folder", "history_file", "read_conversation", "write_conversation"]

_MAX_KEPT = 100
"""Conversations that are kept. The oldest are removed."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said so far, and what it took."""

    messages: tuple[Message, ...] = ()
    usage: Usage = field(default_factory=Usage)
    uncounted: Usage = field(default_factory=Usage)
    """Estimated usage that the server did not count, such as that of answers that were cancelled."""
    cost: float | None = 0.0

    @property
    def turns(self) -> int:
        """The number of turns: user messages, each with everything up to the next one."""
        return sum(map(_is_of_user, self.messages))

    def after(self, result: RunResult[Any], *, failed: bool = False) -> Conversation:
        """The conversation after a turn. What a failed turn took counts, but its messages are left out."""
        cost = None if self.cost is None or result.cost is None else self.cost + result.cost
        messages = self.messages if failed else tuple(result.messages)
        usage, uncounted = self.usage + result.usage, self.uncounted + result.uncounted
        return Conversation(messages, usage, uncounted, cost)

    def before_last(self) -> tuple[tuple[Message, ...], str] | None:
        """The messages before the last message of the user, and its text. None if there is none."""
        places = [place for place, message in enumerate(self.messages) if _is_of_user(message)]
        if not places:
            return None
        last = self.messages[places[-1]]
        return self.messages[: places[-1]], message_text(last)


def _is_of_user(message: Message) -> bool:
    """Whether the user wrote it, and not a run that asks for its last answer at a limit."""
    return isinstance(message, User) and message.content != LAST_ANSWER


def write_conversation(path: Path, conversation: Conversation) -> None:
    """Write the file whole or not at all, in the form of `result.save`. Only the current user can read it. Raises OSError."""
    messages = conversation.messages
    RunState.replay(
        [
            RunStarted(os.urandom(16).hex(), messages, len(messages)),
            UsageAdded("", conversation.usage, conversation.cost),
            UsageAdded("", conversation.uncounted, estimated=True),
            RunFinished("answer"),
        ]
    ).save(path)


def read_conversation(path: Path) -> Conversation:
    """The conversation in a file of a chat or of `result.save`. Raises `UsageError` if it cannot be read."""
    try:
        state = RunState.load(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Conversation(tuple(state.messages), state.usage, state.estimated_usage, state.cost)


class Kept:
    """Where this chat is kept: a file of its own that is written after each turn."""

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        self._folder, self.path = folder, path

    @classmethod
    def newest(cls, folder: Path) -> Kept:
        """The chat that was written last. Raises `UsageError` if there is none."""
        path = next(_by_age(folder), None)
        if path is None:
            raise UsageError(f"there is no earlier chat to resume in {folder}")
        return cls(folder, path)

    def begin_another(self) -> None:
        """Let the next conversation have a file of its own, so that this one stays as it is."""
        self.path = None

    def write(self, conversation: Conversation) -> None:
        """Write the conversation, and remove the oldest files. Raises OSError."""
        if self.path is None:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            self.path = self._folder / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S-%f}.json"
        write_conversation(self.path, conversation)
        for old in [*_by_age(self._folder)][_MAX_KEPT:]:
            with contextlib.suppress(OSError):
                old.unlink()


def _by_age(folder: Path) -> Iterator[Path]:
    """The conversations of a folder, the newest first."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.glob("[!.]*.json"):
            with contextlib.suppress(OSError):  # another chat may remove it
                found.append((path.stat().st_mtime_ns, path.name, path))
    return (path for *_, path in sorted(found, reverse=True))


def history_file() -> Path:
    """The file of what was typed in chats."""
    return chats_folder().parent / "history"


def chats_folder(env: Mapping[str, str] = os.environ) -> Path:
    """The folder of kept chats: below XDG_STATE_HOME, or LOCALAPPDATA on Windows, or ~/.local/state."""
    base = env.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base) / "agentkit" / "chats"
    try:
        return Path.home() / ".local" / "state" / "agentkit" / "chats"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"agentkit-{os.getpid()}" / "chats"
