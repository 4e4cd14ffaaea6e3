"""Rules that no other test would miss: types of mended numbers, what is reserved and counted, progress, spilled outputs."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    Limiter,
    ModelRequest,
    ModelSettings,
    Retry,
    RunContext,
    ScriptedModel,
    ToolArgumentsInvalid,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    tool,
)
from agentkit.middleware.compaction import SpillOutputs
from agentkit.models.prices import DEEPSEEK_FLASH, cost_of
from agentkit.schema.coerce import coerce
from agentkit.schema.node import Nodes
from agentkit.testing import Cut, DeepSeekSimulator, call
from tests.kit import tool_texts

# --- mended values ------------------------------------------------------------------------------------------------------


class Node(BaseModel):
    kids: list[Node] = []


@tool
def plant(node: Node) -> str:
    """Plant a tree."""
    return "planted"


@pytest.mark.parametrize("arguments", ['{"node": {"kids": {"kids": {}}}}', '{"node": {"kids": {"kids": {"kids": []}}}}'])
def test_one_value_becomes_a_list_of_it_only_once_in_a_type_that_holds_itself(arguments: str) -> None:
    with pytest.raises(ToolArgumentsInvalid, match="kids"):
        plant.parse(arguments)


def test_one_value_becomes_a_list_of_it_at_one_level() -> None:
    assert plant.parse('{"node": {"kids": {"kids": []}}}').values == {"node": Node(kids=[Node()])}


LONG = 12345678901234567890


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("7", {"type": "integer"}, 7),
        ("-7", {"type": "integer"}, -7),
        (str(LONG), {"type": "integer"}, LONG),
        (7.0, {"type": "integer"}, 7),
        (1.0, {"type": "integer", "const": 1}, 1),
        (7.0, {"type": "number"}, 7.0),
        (7, {"type": "number"}, 7),
        ("7", {"type": "number"}, 7),
        ("7.0", {"type": "number"}, 7.0),
        ("7", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 7),
        (1, {"type": "number", "enum": [1.0, 2.0]}, 1.0),
    ],
)
def test_a_mended_number_has_the_type_that_the_schema_says(value: Any, schema: dict[str, Any], expected: Any) -> None:
    mended, _repairs = coerce(value, Nodes(schema))
    assert (mended, type(mended)) == (expected, type(expected))


@pytest.mark.parametrize("text", [f'{{"n": "{LONG}"}}', f'{{"n": {LONG}}}', f'{{"n": {LONG}.0}}', f"{{n: '{LONG}'}}"])
def test_a_long_integer_keeps_its_digits_on_every_way(text: str) -> None:
    @tool
    def count(n: int) -> str:
        """Count."""
        return str(n)

    (n,) = count.parse(text).values.values()
    assert (n, type(n)) == (LONG, int)


def test_a_literal_integer_is_no_float() -> None:
    @tool
    def level(n: Literal[1, 2]) -> str:
        """Set a level."""
        return repr(n)

    (n,) = level.parse('{"n": 2.0}').values.values()
    assert repr(n) == "2"


# --- what is reserved, and what is counted ------------------------------------------------------------------------------


def test_the_limiter_learns_what_a_request_really_used() -> None:
    now = 0.0

    async def main(agent: Agent[str]) -> list[str]:
        nonlocal now
        told: list[str] = []
        for wait in (0.0, 0.0, 180.0):
            now += wait
            try:
                async with asyncio.timeout(0.3 if told and not wait else 30):
                    await agent.run("Hi")
                told.append("answered")
            except TimeoutError:
                told.append("waits")
        return told

    with DeepSeekSimulator(lambda _request: "x" * 80_000) as sim:  # 20,000 tokens, which the request does not show
        limiter = Limiter(tokens_per_minute=10_000, clock=lambda: now)
        assert asyncio.run(main(Agent(ChatModel(base_url=sim.base_url, limiter=limiter)))) == ["answered", "waits", "answered"]


@pytest.mark.parametrize("hour", [12, 2], ids=["off peak", "peak"])
def test_broken_attempts_cost_what_their_tokens_cost(hour: int) -> None:
    when = datetime(2026, 11, 25, hour, tzinfo=UTC)
    with DeepSeekSimulator([Cut(Assistant("x" * 4_000), 300), Cut(Assistant("x" * 4_000), 300), "Yes."]) as sim:
        model = ChatModel("deepseek-flash", base_url=sim.base_url, profile="deepseek", clock=lambda: when)
        agent = Agent(model, retry=Retry(first=0, longest=0), settings=ModelSettings(stream=True))
        result = agent.run_sync("y" * 4_000)
    lost = cost_of(DEEPSEEK_FLASH, result.uncounted, when)
    assert result.uncounted.output_tokens > 500 and lost is not None and result.cost is not None
    assert result.state.known_cost - result.cost == pytest.approx(lost, rel=1e-9)


# --- progress -----------------------------------------------------------------------------------------------------------


def test_progress_of_a_thread_of_the_tools_own_is_told_at_once_and_in_its_call() -> None:
    seen = threading.Event()

    @tool
    async def works(ctx: RunContext[None]) -> str:
        """Work in a thread of its own."""

        def report() -> None:
            for part in range(3):
                ctx.progress(part)

        thread = threading.Thread(target=report)
        thread.start()
        told = await asyncio.to_thread(seen.wait, 10)  # the event loop has nothing else to wake up for
        thread.join()
        return "told" if told else "not told"

    events: list[tuple[Any, int]] = []

    def watch(event: Any) -> None:
        events.append((event, threading.get_ident()))
        if isinstance(event, ToolProgress) and event.data == 2:
            seen.set()

    async def main() -> int:
        await Agent(ScriptedModel([call("works"), "Done."]), tools=[works]).run("go", observers=[watch])
        return threading.get_ident()

    home = asyncio.run(main(), debug=True)  # which refuses what another thread may not do to a loop
    kinds = [type(event) for event, _thread in events]
    start, end = kinds.index(ToolStarted), kinds.index(ToolFinished)
    assert [event.data for event, _thread in events[start + 1 : end]] == [0, 1, 2]
    assert kinds.count(ToolProgress) == 3
    assert {thread for _event, thread in events} == {home}
    assert events[end][0].result.content == "told"


# --- spilled outputs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (-5, 3, "abc"),
        (-1, 0, ""),
        (0, -5, ""),
        (998, 10, "yz"),
        (5_000, 10, ""),
    ],
)
def test_a_part_outside_a_spilled_output_is_empty_and_never_from_its_end(
    tmp_path: Path, start: int, length: int, expected: str
) -> None:
    spill = SpillOutputs(tmp_path, max_chars=900, head=100)

    @tool
    def fetch() -> str:
        """Fetch a lot."""
        return "abc" + "-" * 995 + "yz"

    def answer(request: ModelRequest) -> Any:
        told = tool_texts(request)
        if not told:
            return call("fetch")
        (file,) = tmp_path.iterdir()
        return call("read_output", name=file.name, start=start, length=length) if len(told) == 1 else "Done."

    agent = Agent(ScriptedModel(answer), tools=[fetch, spill.tool], middleware=[spill])
    told = tool_texts(agent.run_sync("go"))
    assert told[1].rpartition("\n[characters ")[0] == expected
