"""LangChain: `create_agent(model, tools, system_prompt=...)` and `invoke(...)`. Here: `Agent`, `run` and `result.output`."""

from agentkit import Agent


def tide(harbour: str) -> str:
    """When the water is high in a harbour today.

    Args:
        harbour: Its name.
    """
    return {"Dover": "at 14:20"}.get(harbour, "unknown")


agent = Agent(tools=[tide], instructions="You are a harbour master.")
result = agent.run_sync("When is high water in Dover?")
print(result.output)
print([message.role for message in result.messages])
