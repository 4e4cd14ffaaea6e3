"""What a run can do next: `decide` gives one of these, and `drive` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import AgentError
from ..messages import Message, ToolCall
from .state import OpenCall

__all__ = ["AskModel", "Decision", "Finish", "Judge", "Pause", "ReadAnswer", "RunTools"]


@dataclass(frozen=True, slots=True)
class AskModel:
    """Send the transcript to the model, after saying `prompt` for `reason`."""

    tool_choice: str = "auto"
    prompt: Message | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """Find out whether these calls may run, or somebody has to approve them."""

    calls: list[OpenCall]


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """Read the model's answer, which may call validators of the program, and decide with what it says."""


@dataclass(frozen=True, slots=True)
class RunTools:
    """Answer these calls: run them, or tell the model why they are not run (`refusal`; `refused` is its short name)."""

    calls: list[OpenCall]
    refusal: str | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait until somebody approves these calls or refuses them."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """End the run with this value, or with an error to raise."""

    stop_reason: str
    output: Any = None
    error: AgentError | None = None


Decision: TypeAlias = AskModel | Judge | ReadAnswer | RunTools | Pause | Finish
