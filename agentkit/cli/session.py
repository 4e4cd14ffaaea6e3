"""An agent at work for a terminal: built from options, run turn by turn, cancelled by Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from ..agent import Agent
from ..messages import Message, ToolCall
from ..middleware.cache_report import CacheReport
from ..model import ModelSettings, info_of
from ..models.chat import ChatModel
from ..run.limits import Limits
from ..run.middleware import Middleware
from ..run.result import RunResult
from ..run.spec import Approve
from .approval import escaped, fresh_key, show_call
from .load import file_tools, load_agent, load_tools
from .render import View
from .screen import Screen

__all__ = ["AgentOptions", "Session", "asker", "build_agent", "is_terminal"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What the options of `run` and `chat` say about the agent. None: what the agent, or agentkit, has by default."""

    tools: Sequence[str] = ()
    files: str | None = None
    agent: str | None = None
    model: str | None = None
    base_url: str | None = None
    instructions: str | None = None
    max_steps: int | None = None
    thinking: bool | None = None
    effort: str | None = None
    stream: bool | None = None


def build_agent(options: AgentOptions, approve: Approve | None = None) -> Agent[Any]:
    """The agent of the options: the one that they name, with what they say put over it, or a new one.

    An agent that has an `approve` of its own keeps it. Raises `UsageError`, `SettingsError` or `MissingKey`.
    """
    base = load_agent(options.agent) if options.agent else None
    changes: dict[str, Any] = {}
    if base is None or options.model or options.base_url:
        name = options.model or (info_of(base.model).name if base else "") or None
        changes["model"] = ChatModel(name, base_url=options.base_url)
    extra = [*load_tools(options.tools), *(file_tools(options.files) if options.files else ())]
    if extra:
        own = [item for item in base.spec.tools if item.name != base.spec.answering] if base else []
        changes["tools"] = [*own, *extra]
    if options.instructions is not None:
        changes["instructions"] = options.instructions
    if options.max_steps is not None:
        changes["limits"] = replace(base.spec.limits if base else Limits(), steps=options.max_steps)
    if approve is not None and (base is None or base.spec.approve is None):
        changes["approve"] = approve
    changes["settings"] = _settings(options, base)
    changes["middleware"] = _reporting(base.spec.middleware if base else ())
    agent = base.copy(**changes) if base else Agent(**changes)
    endpoint = getattr(agent.model, "endpoint", None)
    if endpoint is not None:
        endpoint.require_key()
    return agent


def _reporting(middleware: tuple[Middleware, ...]) -> tuple[Middleware, ...]:
    """The middleware with a cache report, which sees what is sent in the end."""
    has_one = any(isinstance(layer, CacheReport) for layer in middleware)
    return middleware if has_one else (*middleware, CacheReport())


def _settings(options: AgentOptions, base: Agent[Any] | None) -> ModelSettings:
    given = {"thinking": options.thinking, "reasoning_effort": options.effort, "stream": options.stream}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(base.spec.settings if base else ModelSettings(), **changed)


class Session:
    """One event loop for all turns of an agent, so that its connections are kept. Use it with `with`."""

    def __init__(self, agent: Agent[Any]) -> None:
        self._agent = agent
        self._runner = asyncio.Runner()

    def turn(self, prompt: str, view: View, messages: Sequence[Message] = ()) -> RunResult[Any]:
        """Run the agent, shown by `view`. Ctrl-C cancels the run and is raised as KeyboardInterrupt when it has ended."""
        view.result = None
        try:
            return self.wait_for(self._agent.run(prompt, messages=messages, observers=[view]))
        finally:
            view.close()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises, run in this session's loop."""
        return self._runner.run(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.wait_for(self._agent.aclose())
        finally:
            self._runner.close()


def asker(screen: Screen) -> Approve | None:
    """Asks whoever sits at the terminal about each call. None when nobody does: then the run waits for an approval."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return None

    async def ask(call: ToolCall, reason: str = "") -> bool:
        # async, so that it is called in the main thread; it is meant to block the loop
        return _approved(screen, call, reason)

    return ask


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sits there; a closed stream, or none at all, is no terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def _approved(screen: Screen, call: ToolCall, reason: str = "") -> bool:
    """Show the call and ask. Only the key y approves, alone, and pressed at a terminal after the question is shown."""
    screen.still()
    if reason:
        screen.line(f"! {escaped(reason[:300])}", "yellow")
    screen.line(show_call(call.name, _arguments(call), screen.width), "bold yellow")
    with _interruptible():
        key = fresh_key("  run this call? [y/N] ")
    approved = key in ("y", "Y")
    said = "yes" if approved else "no"
    if key is None:
        said = "  not approved: only a key at a terminal approves a call"
    elif len(key) > 1:
        said = "no: that was more than one key, as of a paste; only the key y approves"
    print(said)  # noqa: T201
    return approved


def _arguments(call: ToolCall) -> Mapping[str, Any]:
    """The arguments by name; a text that is no JSON object is shown as it is."""
    try:
        values = json.loads(call.arguments or "{}", strict=False)
    except (ValueError, RecursionError):
        values = None
    return values if isinstance(values, dict) else {"arguments": call.arguments}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C interrupts a blocking read at once; the event loop's own handler would only cancel a task after it.

    A program that was started with SIGINT ignored goes on ignoring it.
    """
    before = signal.getsignal(signal.SIGINT)
    if before in (None, signal.SIG_IGN):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
