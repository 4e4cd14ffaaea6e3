"""What many test files need: the types of the fixtures in `conftest.py`, short ways to read a run, an environment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from agentkit import Message, RunResult, RunState, ToolResult
from agentkit.testing import DeepSeekSimulator

How: TypeAlias = Callable[..., RunResult[Any]]
"""One of the four ways to run an agent: the fixture `how`."""
Simulate: TypeAlias = Callable[..., DeepSeekSimulator]
"""Starts a simulator: the fixture `deepseek`."""


class HasMessages(Protocol):
    """A result, a state or a request."""

    @property
    def messages(self) -> Sequence[Message]: ...


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what makes a process measure its coverage, which takes time, and can hang.

    A KeyboardInterrupt inside of coverage leaves its lock taken, so a process that gets a SIGINT is not measured.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def tool_texts(source: HasMessages) -> list[str]:
    """The text of each tool result that the model gets, in order."""
    return [message.content for message in source.messages if isinstance(message, ToolResult)]


def reloaded(state: RunState) -> RunState:
    """The state after a round trip through JSON text, as a program stores it."""
    return RunState.from_json(json.loads(json.dumps(state.to_json())))
