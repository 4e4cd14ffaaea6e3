"""Faults of replies that depend on which tools may be called."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agentkit import Agent, ToolResult
from tests.models.raw_server import raw_server

from .conftest import Fault
from .play import is_taken, pay
from .rows import answer, call, calls, history_is_valid

pytestmark = pytest.mark.faults


def one_call(tool_choice: str, *, watched: bool) -> tuple[Any, list[Any], list[str]]:
    """The result of a run whose model calls `pay`, then answers; what was paid, and the choices that were sent."""
    paid: list[Any] = []
    replies = [calls(call("pay", '{"amount": 5}')), answer()]

    async def main() -> tuple[Any, list[bytes]]:
        async with raw_server(lambda number: replies[number](watched)) as server:
            model = server.model()
            agent: Agent[Any] = Agent(model, tools=[pay], tool_choice=tool_choice)
            if watched:
                stream = agent.stream("go", deps=paid)
                async for _event in stream:
                    pass
                result: Any = stream.result
            else:
                result = await agent.run("go", deps=paid)
            await model.aclose()
        return result, server.bodies

    result, bodies = asyncio.run(main())
    history_is_valid(result.messages)
    for body in bodies:
        is_taken(body)
    return result, paid, [json.loads(body)["tool_choice"] for body in bodies]


def test_a_call_where_none_may_be_made(fault: Fault, watched: bool) -> None:
    """The tool is offered, but `tool_choice` is "none": it does not run, and the model is told so."""
    fault("payload disallowed_tool")
    result, paid, choices = one_call("none", watched=watched)
    assert result.output == "hello" and paid == [] and choices == ["none", "none"]
    (told,) = [message for message in result.messages if isinstance(message, ToolResult)]
    assert told.is_error and told.content == "error: not run: no tool may be called here; answer in words"


def test_a_forced_choice_ends_with_the_first_call(fault: Fault, watched: bool) -> None:
    """Else the model could never stop calling."""
    fault("payload endless_tool_loop")
    result, paid, choices = one_call("required", watched=watched)
    assert result.output == "hello" and paid == ["paid"] and choices == ["required", "auto"]
