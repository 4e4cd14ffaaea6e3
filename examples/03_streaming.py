"""Watch a run: thinking, text, tool calls and retries are events of one stream.

Run: AGENTKIT_API_KEY=... python examples/03_streaming.py
"""

import asyncio

from agentkit import Agent, ReasoningDelta, Retrying, RunFinished, TextDelta, ToolFinished, ToolStarted, tool


@tool(read_only=True)
def population(city: str) -> int:
    """Number of inhabitants of a city."""
    return {"Paris": 2_103_000, "Rome": 2_749_000}[city]


async def main() -> None:
    agent = Agent(tools=[population])
    async for event in agent.stream("Which is larger, Paris or Rome?"):
        match event:
            case ReasoningDelta(text):
                print(f"\033[2m{text}\033[0m", end="", flush=True)
            case TextDelta(text):
                print(text, end="", flush=True)
            case ToolStarted(call):
                print(f"\n-> {call.name} {call.arguments}")
            case ToolFinished(call, tool_result):
                print(f"<- {tool_result.content}")
            case Retrying(error=error):
                print(f"\n(asking again: {error})")
            case RunFinished(result=result):
                print(f"\n{result.steps} steps, {result.usage.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main())
