"""What a run can do next: `decide` returns one of these decisions, and `drive` carries it out."""

from __future__ import annotations

from typing import Any, TypeAlias

from .._dataclass import frozen_dataclass
from ..errors import AgentError
from ..messages import Message, ToolCall
from .state import OpenCall

__all__ = ["AskModel", "Decision", "Finish", "Judge", "Pause", "ReadAnswer", "Reconcile", "RunTools"]


@frozen_dataclass
class AskModel:
    """Call the model. A `prompt` is added to the transcript first, for this `reason`."""

    tool_choice: str = "auto"
    prompt: Message | None = None
    reason: str = ""


@frozen_dataclass
class Judge:
    """Decide whether these calls may run or need an approval."""

    calls: list[OpenCall]


@frozen_dataclass
class Reconcile:
    """Ask the tools of these calls, which were started before a crash, what became of them."""

    calls: list[OpenCall]


@frozen_dataclass
class ReadAnswer:
    """Read the model's answer, which may call validators of the program, and decide again with it."""


@frozen_dataclass
class RunTools:
    """Answer these calls: run them or, with a `refusal`, tell the model why they are not run (`refused` is its short name)."""

    calls: list[OpenCall]
    refusal: str | None = None
    refused: str = ""


@frozen_dataclass
class Pause:
    """Wait until these calls are approved or refused, and until the results of the calls `outside` are given."""

    calls: tuple[ToolCall, ...]
    outside: tuple[ToolCall, ...] = ()


@frozen_dataclass
class Finish:
    """End the run with this output, or raise this error."""

    stop_reason: str
    output: Any = None
    error: AgentError | None = None
    why: str = ""
    """In words, where the stop reason alone does not say it."""
    is_refused: bool = False
    """Whether the last reply was refused as an answer. Then its text is not the output either."""


Decision: TypeAlias = AskModel | Judge | Reconcile | ReadAnswer | RunTools | Pause | Finish
