"""Pydantic AI: `@agent.output_validator` with `ModelRetry`, which sends a wrong answer back to the model."""

import re

from agentkit import Agent, ModelRetry

agent = Agent(instructions="Answer with one regular expression of Python, and nothing else.")


@agent.output_validator
def matches(pattern: str) -> str:
    try:
        if not re.fullmatch(pattern, "2026-01-31"):
            raise ModelRetry("it does not match 2026-01-31")
    except re.error as error:
        raise ModelRetry(f"that is no regular expression: {error}") from error
    return pattern


result = agent.run_sync("A date such as 2026-01-31")
print(result.output, "after", result.steps, "steps")
