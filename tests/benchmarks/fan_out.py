"""What a limit costs a fan-out, and how far it is passed: `python -m tests.benchmarks.fan_out`.

Forty sub-agents are asked in one reply; their model answers after 100 ms. The first table has limits that are far away, and the
wall time as a ratio to a run without limits. The second has limits of ten answers, of which the run itself takes one: how many
were made beyond, and how many requests were in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import replace
from typing import Any

from agentkit import Agent, Assistant, Limits, ModelReply, ModelRequest, ScriptedModel, ToolCall, Usage
from agentkit.models.prices import price_given
from agentkit.models.profiles import GENERIC

SUB_AGENTS = 40
SECONDS = 0.1
ANSWER, COST = Usage(1, 200, 100), 0.0004
PRICED = replace(GENERIC, prices={"": (price_given((1.0, 2.0)),)})
FAR = {
    "cost": Limits(cost=10),
    "output tokens": Limits(output_tokens=1_000_000),
    "input tokens": Limits(input_tokens=1_000_000),
}
NEAR = {
    "cost": Limits(cost=10 * COST),
    "output tokens": Limits(output_tokens=10 * ANSWER.output_tokens),
    "input tokens": Limits(input_tokens=10 * ANSWER.input_tokens),
}


class Waiting:
    """A model whose every answer takes 100 ms and costs the same; it counts its requests."""

    name = "waiting"

    def __init__(self, *, priced: bool) -> None:
        self.asked = self.in_flight = self.max_in_flight = 0
        if priced:
            self.profile = PRICED

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        """The answer."""
        self.asked += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        await asyncio.sleep(SECONDS)
        self.in_flight -= 1
        return ModelReply(Assistant("found"), ANSWER, cost=COST)


async def fan_out(limits: Limits, *, priced: bool, sub_agents: int) -> tuple[float, Waiting]:
    """The seconds of a run with so many sub-agents, and their model."""
    model = Waiting(priced=priced)
    calls = tuple(ToolCall(f"c{number}", "inner", '{"task": "x"}') for number in range(sub_agents))
    first = ModelReply(Assistant(tool_calls=calls), ANSWER, cost=COST)
    inner = Agent(model).as_tool("inner", "Ask.")
    agent = Agent(ScriptedModel([first, "Done."]), tools=[inner], limits=limits)
    began = time.perf_counter()
    await agent.run("go")
    return time.perf_counter() - began, model


def seconds(limits: Limits, *, priced: bool, sub_agents: int) -> float:
    """The wall time of one run."""
    return asyncio.run(fan_out(limits, priced=priced, sub_agents=sub_agents))[0]


def main() -> None:
    """Print both tables."""
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks.fan_out")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--sub-agents", type=int, default=SUB_AGENTS)
    given = options.parse_args()
    cases = [(name, priced) for name in FAR for priced in (True, False)]
    print(f"{given.sub_agents} sub-agents of {SECONDS * 1000:.0f} ms, medians of {given.rounds} rounds\n")
    print("| limit, far away | price | ms without it | ms with it | ratio |\n|---|---|---:|---:|---:|")
    for name, priced in cases:
        both = [
            statistics.median(seconds(limits, priced=priced, sub_agents=given.sub_agents) * 1000 for _ in range(given.rounds))
            for limits in (Limits(), FAR[name])
        ]
        known = "known" if priced else "unknown"
        print(f"| {name} | {known} | {both[0]:.0f} | {both[1]:.0f} | {both[1] / both[0]:.2f} |", flush=True)
    print("\n| limit of 10 answers | price | answers beyond it | max in flight |\n|---|---|---:|---:|")
    for name, priced in cases:
        _seconds, model = asyncio.run(fan_out(NEAR[name], priced=priced, sub_agents=given.sub_agents))
        print(f"| {name} | {'known' if priced else 'unknown'} | {model.asked - 9} | {model.max_in_flight} |")


if __name__ == "__main__":
    main()
