"""A planner splits a question, workers answer the parts at the same time under one budget, and a writer puts them together.

Run: AGENTKIT_API_KEY=... python examples/10_planner_and_workers.py "What should I see in Rome in two days?"
"""

import asyncio
import sys

from agentkit import Agent, Limits
from agentkit.team import gather

planner = Agent(name="planner", instructions="Split the question into at most four short tasks.", output_type=list[str])
worker = Agent(name="worker", instructions="Do the task in three sentences.")
writer = Agent(name="writer", instructions="Answer the question from the notes, in one paragraph.")


async def answer(question: str) -> str:
    tasks = (await planner.run(question)).output
    results = await gather(*((worker, task) for task in tasks), limits=Limits(output_tokens=20_000))
    notes = "\n\n".join(f"{task}: {result.output}" for task, result in zip(tasks, results, strict=True))
    return (await writer.run(f"{question}\n\nNotes:\n{notes}")).output


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(asyncio.run(answer(sys.argv[1])))
