from agentkit import Agent, RunContext


def greeting(ctx: RunContext[str]) -> str:
    return f"You talk to {ctx.deps}."


print(Agent(instructions=greeting).run_sync("Who am I?", deps="Ann").output)
