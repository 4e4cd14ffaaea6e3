"""An answer of one of two types, checked against the program's own data. The model reads what is wrong and tries again.

Run: AGENTKIT_API_KEY=... python examples/13_checked_answers.py "A table for six on Friday, please"
"""

import sys

from pydantic import BaseModel

from agentkit import Agent, ModelRetry, RunContext


class Booking(BaseModel):
    """A table that the guest gets."""

    day: str
    guests: int


class Question(BaseModel):
    """What the guest must tell us first."""

    text: str


agent = Agent(instructions="You book tables in a restaurant.", output_type=[Booking, Question], deps_type=dict)


@agent.output_validator
def is_free(ctx: RunContext[dict[str, int]], answer: Booking | Question) -> Booking | Question:
    if isinstance(answer, Booking) and answer.guests > ctx.deps.get(answer.day, 0):
        raise ModelRetry(f"no such table on {answer.day}; the largest free tables: {ctx.deps}")
    return answer


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(repr(agent.run_sync(sys.argv[1], deps={"Friday": 4, "Saturday": 8}).output))
