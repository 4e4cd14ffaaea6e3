"""OpenAI Agents SDK: several `Runner.run` in `asyncio.gather`, and an agent that picks the best. Here under one budget."""

import asyncio

from agentkit import Agent, Limits
from agentkit.team import gather

writer = Agent(name="writer", instructions="Write a slogan.")
judge = Agent(name="judge", instructions="Which is the best? Answer with its number.", output_type=int)


async def main() -> None:
    tasks = [(writer, "for tea"), (writer, "for tea, funny"), (writer, "for tea, in three words")]
    slogans = [result.output for result in await gather(*tasks, limits=Limits(output_tokens=2_000))]
    best = await judge.run("\n".join(f"{number}. {slogan}" for number, slogan in enumerate(slogans, 1)))
    print(slogans[best.output - 1])


asyncio.run(main())
