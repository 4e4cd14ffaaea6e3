"""What may differ from run to run: parts given for one run, and instructions and tools that depend on its context."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ._dataclass import frozen_dataclass
from .errors import SettingsError, StopRun
from .history import repaired_history
from .messages import Message, System, User, checked, checked_content, distinct_text
from .names import with_article
from .parts import Content
from .run.state import RunState
from .tools.context import RunContext
from .tools.registry import ToolLike, as_tools
from .tools.tool import AnyTool
from .tools.toolset import Toolset, is_asked_once, is_enabled

__all__ = ["OVERRIDES", "Conversation", "Instructions", "Tools", "depends_on_run", "instructions_of", "parts_for", "tools_of"]

OVERRIDES = ("model", "tools", "instructions", "settings", "limits", "output_type")
"""The parts of an agent that one run may be given in place of the agent's."""

Instructions: TypeAlias = "str | Callable[..., str | Awaitable[str]] | Iterable[str | Callable[..., str | Awaitable[str]]]"
"""Text, a function of the context (or of nothing) that gives it, sync or async, or several of these."""

Tools: TypeAlias = "ToolLike | Callable[[RunContext[Any]], Any]"
"""What `tools=` takes: tools, functions, registries and toolsets, or one function of the context that gives them."""


@frozen_dataclass
class Conversation:
    """What a run begins with: earlier messages, checked and repaired, and the user's new one."""

    history: tuple[Message, ...]
    new: tuple[Message, ...]
    prompt: str

    @classmethod
    def of(cls, prompt: Content | None, messages: Sequence[Message] | None) -> Conversation:
        """Raises `SettingsError` for what is no prompt and no message, and where there is nothing to say."""
        if prompt is not None and not isinstance(prompt, str | list | tuple):
            raise SettingsError(
                f"the prompt is {with_article(type(prompt).__name__)}; allowed: text, or a list of texts, images, audio and"
                " files (messages= takes messages)"
            )
        try:
            history = repaired_history([checked(message) for message in (() if messages is None else messages)])
        except (ValueError, TypeError) as error:
            raise SettingsError(f"messages: {error}") from None
        if prompt is None and not history:
            raise SettingsError("there is nothing to say: give a prompt, or messages")
        new = () if prompt is None else (User(checked_content(prompt, "the prompt")),)
        return cls(tuple(history), new, distinct_text(new[0]) if new else "")

    def after(self, instructions: str) -> tuple[tuple[Message, ...], int]:
        """The messages after these instructions, which replace those of the history, and the number of the first new one."""
        history = self.history
        if instructions:
            history = (System(instructions), *(history[1:] if history and isinstance(history[0], System) else history))
        return (*history, *self.new), len(history)


def instructions_of(given: object) -> tuple[Any, ...]:
    """The texts and functions, in order. Raises `SettingsError` for anything else."""
    if isinstance(given, str):
        return (given,) if given else ()
    parts = (given,) if callable(given) else tuple(given) if isinstance(given, Iterable) else (given,)
    for part in parts:
        if not isinstance(part, str) and not callable(part):
            raise SettingsError(f"instructions is {part!r:.80}; allowed: text, a function of the context, or a list of these")
    return parts


def tools_of(given: Any) -> tuple[Any, ...]:
    """The tools and toolsets, in order."""
    return tuple(as_tools(Toolset(given) if is_asked_once(given) else given))


def depends_on_run(parts: Mapping[str, Any]) -> bool:
    """Whether instructions or tools have to be asked for once the run's context is known."""
    return any(map(callable, parts["instructions"])) or any(
        isinstance(item, Toolset) or not isinstance(item.enabled, bool) for item in parts["tools"]
    )


async def parts_for(
    parts: Mapping[str, Any], ctx: RunContext[Any], known: RunState | None
) -> tuple[dict[str, Any], StopRun | None]:
    """The parts with what the functions in them say for this run, and the `StopRun` that one of them raised.

    The instructions of a run that continues were rendered when it began: its system message has them. A run that is stopped
    here has only the parts that need no function.
    """
    known_texts = [message.content for message in known.messages[:1] if isinstance(message, System)] if known else []
    try:
        tools = [item async for item in _offered(parts["tools"], ctx)]
        texts = known_texts if known else [await _rendered(part, ctx) for part in parts["instructions"]]
    except StopRun as stop:
        fixed = tuple(item for item in parts["tools"] if not isinstance(item, Toolset) and item.enabled is True)
        texts = known_texts if known else [part for part in parts["instructions"] if isinstance(part, str)]
        return {**parts, "tools": fixed, "instructions": tuple(texts), "tool_choice": "auto"}, stop
    return {**parts, "tools": tuple(tools), "instructions": tuple(texts)}, None


async def _offered(items: Iterable[Any], ctx: RunContext[Any]) -> AsyncIterator[AnyTool]:
    """The tools that this run offers: those that are enabled, with what toolsets give in their place."""
    for item in items:
        if isinstance(item, Toolset):
            async for inner in _offered(as_tools(await item.tools(ctx)), ctx):
                yield inner
        elif await is_enabled(item.enabled, ctx):
            yield item


async def _rendered(part: Any, ctx: RunContext[Any]) -> str:
    if isinstance(part, str):
        return part
    takes_context = len(inspect.signature(part).parameters) > 0
    text = part(ctx) if takes_context else part()
    if inspect.isawaitable(text):
        text = await text
    if not isinstance(text, str):
        name = getattr(part, "__qualname__", repr(part))
        raise SettingsError(f"the instructions function {name} gave {text!r:.80}; allowed: text")
    return text
