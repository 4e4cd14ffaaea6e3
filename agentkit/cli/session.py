"""Builds an agent from the options of a command, and runs it turn by turn. Ctrl-C cancels a turn."""

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
from .fit_context import FitContext
from .load import file_tools, load_agent, load_tools
from .render import View
from .screen import Screen

__all__ = ["AgentOptions", "Session", "build_agent", "is_terminal", "terminal_approve"]

T = TypeVar("T")

_MAX_REPEATS = 3
"""Equal calls with equal results after which a new agent is asked for its answer. Weak models repeat them without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The agent options of `run` and `chat`. None means the default of the agent or of agentkit."""

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
    """The agent that the options name, changed by the other options, or a new agent.

    An agent with its own `approve` keeps it. Raises `UsageError`, `SettingsError` or `MissingKey`.
    """
    base = load_agent(options.agent) if options.agent else None
    changes: dict[str, Any] = {}
    if base is None or options.model or options.base_url:
        name = options.model or (info_of(base.model).name if base else "") or None
        changes["model"] = ChatModel(name, base_url=options.base_url or _server_of(base))
    extra = [*load_tools(options.tools), *(file_tools(options.files) if options.files else ())]
    if extra:
        changes["tools"] = [*(base.parts["tools"] if base else []), *extra]
    if options.instructions is not None:
        changes["instructions"] = options.instructions
    limits = base.spec.limits if base else Limits(repeats=_MAX_REPEATS, on_limit="answer")
    changes["limits"] = limits if options.max_steps is None else replace(limits, steps=options.max_steps)
    if approve is not None and (base is None or base.spec.approve is None):
        changes["approve"] = approve
    changes["settings"] = _settings(options, base)
    changes["middleware"] = _with_cache_report((FitContext(), *(base.spec.middleware if base else ())))
    agent = base.copy(**changes) if base else Agent(**changes)
    endpoint = getattr(agent.model, "endpoint", None)
    if endpoint is not None:
        endpoint.require_key()
    return agent


def _server_of(agent: Agent[Any] | None) -> str | None:
    """The server of an agent's model, so that another model's name does not lead to another server."""
    endpoint = getattr(agent.model, "endpoint", None) if agent else None
    return getattr(endpoint, "base_url", None)


def _with_cache_report(middleware: tuple[Middleware, ...]) -> tuple[Middleware, ...]:
    """The middleware, with a `CacheReport` as the last one unless it has one."""
    has_one = any(isinstance(layer, CacheReport) for layer in middleware)
    return middleware if has_one else (*middleware, CacheReport())


def _settings(options: AgentOptions, base: Agent[Any] | None) -> ModelSettings:
    given = {"thinking": options.thinking, "reasoning_effort": options.effort, "stream": options.stream}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(base.spec.settings if base else ModelSettings(), **changed)


class Session:
    """Runs all turns of an agent on one event loop, so that connections are reused. Use it with `with`."""

    def __init__(self, agent: Agent[Any]) -> None:
        self._agent = agent
        self._runner = asyncio.Runner()

    def turn(self, prompt: str, view: View, messages: Sequence[Message] = ()) -> RunResult[Any]:
        """Run the agent, observed by `view`. Ctrl-C cancels the run; KeyboardInterrupt is raised after the run has ended."""
        view.result = None
        try:
            return self.wait_for(self._agent.run(prompt, messages=messages, observers=[view]))
        finally:
            view.close()

    def switch(self, agent: Agent[Any]) -> None:
        """Run further turns with this agent, and close the connections of the earlier one."""
        before, self._agent = self._agent, agent
        self.wait_for(before.aclose())

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine in this session's loop, and return its value."""
        return self._runner.run(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.wait_for(self._agent.aclose())
        finally:
            self._runner.close()


def terminal_approve(screen: Screen) -> Approve | None:
    """An `approve` function that asks at the terminal. None without a terminal: then the run pauses for approvals."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return None

    async def ask(call: ToolCall, reason: str = "") -> bool | dict[str, str]:
        # async, so that it is called in the main thread; blocking the loop is intended
        return _approved(screen, call, reason)

    return ask


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal. A closed stream, or None, is not."""
    return stream is not None and not stream.closed and stream.isatty()


def _approved(screen: Screen, call: ToolCall, reason: str = "") -> bool | dict[str, str]:
    """Show the call and ask. Only the single key y approves, pressed at a terminal after the question is shown."""
    screen.stop_waiting()
    if reason:
        screen.line(f"! {escaped(reason[:300])}", "yellow")
    with _interruptible():
        key = _key_for(screen, call)
        if key in ("r", "R"):
            return _refusal()
    approved = key in ("y", "Y")
    answer = "yes" if approved else "no"
    if key is None:
        answer = "  not approved: only a key at a terminal approves a call"
    elif len(key) > 1:
        answer = "no: that was more than one key, as of a paste; only the key y approves"
    print(answer)  # noqa: T201
    return approved


def _key_for(screen: Screen, call: ToolCall) -> str | None:
    """The key pressed at the question, after the whole call was shown if that was asked for."""
    whole = False
    while True:
        shown, all_of_it = (show_call(call.name, _arguments(call), screen.width, whole=all) for all in (whole, True))
        screen.line(shown, "bold yellow")
        if is_terminal(sys.stdin):
            whole_key = ", w shows the whole of it" if shown != all_of_it else ""
            screen.line(f"  y runs this call{whole_key}, r refuses with a reason, any other key refuses", "dim")
        key = fresh_key("  run this call? [y/N] ")
        if key not in ("w", "W") or whole:
            return key
        print("all of it:")  # noqa: T201
        whole = True


def _refusal() -> bool | dict[str, str]:
    """A refusal with the reason that the user types, which the model reads."""
    try:
        why = input("no, because: ").strip()
    except EOFError:
        why = ""
    return {"deny": why} if why else False


def _arguments(call: ToolCall) -> Mapping[str, Any]:
    """The arguments by name. A text that is not a JSON object is one argument, unchanged."""
    try:
        values = json.loads(call.arguments or "{}", strict=False)
    except (ValueError, RecursionError):
        values = None
    return values if isinstance(values, dict) else {"arguments": call.arguments}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt a blocking read immediately; the event loop's handler would only cancel a task after it.

    If the program was started with SIGINT ignored, it stays ignored.
    """
    before = signal.getsignal(signal.SIGINT)
    if before in (None, signal.SIG_IGN):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print()  # noqa: T201  the question has no line feed
        raise
    finally:
        signal.signal(signal.SIGINT, before)
