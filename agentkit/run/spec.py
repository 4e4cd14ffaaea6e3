"""The parts of an agent, as one frozen value that the loop reads."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from ..errors import StopRun
from ..history import History
from ..messages import ToolCall
from ..model import Model, ModelSettings, ToolSpec
from ..policy import Policy
from ..prices import Price
from ..tools.registry import ToolRegistry
from .approvals import Answer
from .limits import Limits
from .middleware import Middleware, NextModelCall, NextToolCall
from .observers import Observer
from .open_call import OpenCall
from .output import Output, TextOutput

__all__ = ["AgentSpec", "Approve", "Middleware", "NextModelCall", "NextToolCall", "Observer", "OutputValidator"]

Approve: TypeAlias = Callable[..., "Answer | Awaitable[Answer]"]
"""Asks about a call that needs an approval: `approve(call)`, or `approve(call, reason)` if it requires two arguments.

The call has the arguments with which it will run. Only True approves it; other answers are those of `Agent.resume`."""


OutputValidator: TypeAlias = Callable[..., Any]
"""Checks or changes an answer: `validate(value)`, or `validate(ctx, value)` if it requires two arguments. It may be async.

What it returns is the answer, or the input of the next validator. `ModelRetry` sends the answer back to the model.
"""


@dataclass(frozen=True, kw_only=True)
class AgentSpec:
    """Everything about an agent that the loop needs; made by `Agent`."""

    model: Model
    tools: ToolRegistry
    offered: tuple[ToolSpec, ...]
    """The tools as the model sees them. The tuple stays the same, so that the head of a request is encoded only once."""
    instructions: str = ""
    settings: ModelSettings = field(default_factory=ModelSettings)
    limits: Limits = field(default_factory=Limits)
    output: Output = field(default_factory=TextOutput)
    output_retries: int = 2
    tool_choice: str = "auto"
    history: History | None = None
    approve: Approve | None = None
    price: Price | None = None
    """The model's price, if it is known."""
    middleware: tuple[Middleware, ...] = ()
    policies: tuple[Policy, ...] = ()
    observers: tuple[Observer, ...] = ()
    name: str = ""
    own_instructions: str | None = ""
    """The agent's own texts. None if they depend on the run: they are given for it, or a function gives them."""
    clock: Callable[[], float] = time.time
    stop: StopRun | None = None
    """Raised by a function that gives the instructions or the tools: the run ends as soon as it has begun."""

    @cached_property
    def has_final_tools(self) -> bool:
        """Whether the result of a tool may be the answer."""
        return any(tool.final for tool in self.tools)

    @property
    def answering(self) -> str | None:
        """The name of the tool that gives the answer."""
        return self.output.tool.name if self.output.tool else None

    def is_judged(self, call: ToolCall) -> bool:
        """Whether the call must be judged before it runs."""
        found = self.tools.get(call.name)
        return found is not None and (found.approval is not False or bool(self.policies))

    def is_reconciled(self, call: OpenCall) -> bool:
        """Whether the tool of a call that was found started is to be asked what became of it.

        It is not asked about a call that the original of a fork started: it would be asked with a key that nobody knows.
        """
        tool = self.tools.get(call.call.name)
        if tool is None or tool.reconcile is None or tool.may_repeat:
            return False
        return call.started and not call.suspended and not call.inherited and not call.reconciled

    def may_repeat(self, call: ToolCall) -> bool:
        """Whether a started call, which may have taken effect, may be run again. False if its tool no longer exists.

        A call of an outside tool may be: only its result has an effect, and the run waits for that.
        """
        found = self.tools.get(call.name)
        return found is not None and (found.may_repeat or found.is_outside)
