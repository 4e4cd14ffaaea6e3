"""Pydantic AI: `@agent.tool` with `RunContext[Deps]` and `@agent.instructions`. Here tools are functions of their own."""

from agentkit import Agent, RunContext, tool


@tool(read_only=True)
def seats_left(ctx: RunContext[dict[str, int]], film: str) -> int:
    """Seats that are left for a film tonight."""
    return ctx.deps.get(film, 0)


def programme(ctx: RunContext[dict[str, int]]) -> str:
    return f"You sell tickets for {', '.join(ctx.deps)}."


agent = Agent(instructions=programme, tools=[seats_left], deps_type=dict)
print(agent.run_sync("Is there a seat for Alien?", deps={"Alien": 3, "Heat": 0}).output)
