"""What a prompt's prefix is worth: a run of a hundred steps against the simulator, which caches as DeepSeek does.

`python -m tests.costs` prints the bill of an agent, and of loops by hand that break the prefix, at the published prices.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from agentkit import Agent, ChatModel, Limits, Usage, tool
from agentkit.middleware.cache_report import CacheReport
from agentkit.models.prices import cost_of
from agentkit.models.profiles import DEEPSEEK
from agentkit.models.usage import read_usage
from agentkit.testing import DeepSeekSimulator, SimRequest, call

STEPS = 100
NAMES = ("look_up", "mark", "copy", "move", "print", "count", "sort", "close")
WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RULES = "You look things up and then answer. " + "Be exact, say where each number is from, and never guess. " * 20
WORDS = "row 17: value 3.14, path /var/log/app.log, state ok\n" * 20


@dataclass(frozen=True)
class Bill:
    """What all the steps of a run cost."""

    usage: Usage

    @property
    def dollars(self) -> float:
        """At the published prices, outside of the hours with a discount."""
        return cost_of(DEEPSEEK.price_of("deepseek-v4-flash"), self.usage, WHEN) or 0.0


def look_up(page: int) -> str:
    """Look a page up."""
    return f"page {page}\n{WORDS}"


def other(page: int) -> str:
    """Do something else with a page."""
    return f"page {page}: nothing done"


def answer(request: SimRequest) -> Any:
    done = sum(message["role"] == "tool" for message in request.body["messages"])
    return [call("look_up", page=done)] if done < STEPS else "All pages are read."


def of_the_agent(base_url: str) -> Bill:
    """The bill of an agent of this library."""
    tools = [tool(look_up, read_only=True), *(tool(other, name=name) for name in NAMES[1:])]
    agent = Agent(
        ChatModel(base_url=base_url), tools=tools, instructions=RULES, limits=Limits(steps=None), middleware=[CacheReport()]
    )
    result = agent.run_sync("Read all pages.")
    assert result.steps == STEPS + 1 and result.cache_misses == []
    return Bill(result.usage)


def _function(name: str, description: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


async def by_hand(base_url: str, fault: str, seed: int) -> Bill:
    """The bill of a loop by hand with this fault."""
    shuffled, spent = random.Random(seed), Usage()
    tools = [_function(name, f"{name} a page.") for name in NAMES]
    system = {"role": "system", "content": RULES}
    messages: list[dict[str, Any]] = [system, {"role": "user", "content": "Read all pages."}]
    async with httpx.AsyncClient(timeout=60) as client:
        for step in range(STEPS + 1):
            if fault == "the time in the system prompt":
                system["content"] = f"It is {step // 60:02}:{step % 60:02}. {RULES}"
            if fault == "tools in a random order":
                shuffled.shuffle(tools)
            if fault == "old results shortened at each step" and step > 10:
                messages[3 + 2 * (step - 11)]["content"] = "(shortened)"
            body = {"model": "deepseek-v4-flash", "thinking": {"type": "disabled"}, "messages": messages, "tools": tools}
            reply = (await client.post(f"{base_url}/chat/completions", json=body)).raise_for_status().json()
            spent += read_usage(reply["usage"])
            message = reply["choices"][0]["message"]
            messages.append({key: value for key, value in message.items() if value is not None})
            made = message.get("tool_calls") or ()
            messages += [{"role": "tool", "tool_call_id": one["id"], "content": look_up(step)} for one in made]
    return Bill(spent)


def bills(seed: int) -> dict[str, Bill]:
    """Each with a server of its own, whose cache is empty."""
    with DeepSeekSimulator(answer) as simulator:
        found = {"agentkit": of_the_agent(simulator.base_url)}
    for fault in ("", "tools in a random order", "old results shortened at each step", "the time in the system prompt"):
        with DeepSeekSimulator(answer) as simulator:
            found[f"by hand, {fault}" if fault else "by hand"] = asyncio.run(by_hand(simulator.base_url, fault, seed))
    return found


def main(seed: int = 1) -> None:
    """Print the table."""
    print(f"{STEPS} steps and an answer, seed {seed}, prices of {WHEN:%Y-%m-%d}, {WHEN:%H:%M} UTC\n")
    print("| loop | prompt tokens | from the cache | cost | ratio |")
    print("|---|---:|---:|---:|---:|")
    found = bills(seed)
    least = found["agentkit"].dollars
    for name, bill in found.items():
        share = bill.usage.cache_read_tokens / bill.usage.input_tokens
        print(f"| {name} | {bill.usage.input_tokens:,} | {share:.1%} | ${bill.dollars:.4f} | {bill.dollars / least:.1f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
