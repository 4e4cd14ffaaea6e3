"""Begins a chat from the options of the command: a new conversation, or the one that was kept last."""

from __future__ import annotations

from dataclasses import replace

from .chat import Chat
from .conversation import Conversation, Kept, chats_folder, read_conversation
from .render import LiveView
from .screen import Screen
from .session import AgentOptions, build_agent, terminal_approve

__all__ = ["start_chat"]


def start_chat(options: AgentOptions, screen: Screen, *, resume: bool, keep: bool) -> Chat:
    """The chat, ready to talk. With `resume`, it says what it goes on with.

    Raises `UsageError` if there is no earlier chat, or if its file is damaged.
    """
    approve = terminal_approve(screen)
    kept = Kept.newest(chats_folder()) if resume else Kept(chats_folder())
    conversation = read_conversation(kept.path) if kept.path else Conversation()
    chat = Chat(
        build_agent(options, approve),
        screen,
        LiveView(screen),
        rebuild=lambda name: build_agent(replace(options, model=name), approve),
        kept=kept if keep else None,
        conversation=conversation,
    )
    if resume:
        chat.show_loaded()
    return chat
