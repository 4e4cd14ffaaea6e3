"""Several steps on real files: the ready-made tools stay below the folder that they are given.

Run: AGENTKIT_API_KEY=... python examples/04_file_tools.py [FOLDER]
"""

import sys

from agentkit import Agent, Limits, ToolFinished, ToolStarted
from agentkit_tools import calculator, file_tools

agent = Agent(
    instructions="You answer questions about the files of a project. Look before you answer.",
    tools=[file_tools(sys.argv[1] if len(sys.argv) > 1 else "."), calculator()],
    limits=Limits(steps=12, tool_calls=30, on_limit="answer"),
)

with agent.stream_sync("How many Python files are there, and which is the longest?") as stream:
    for event in stream:
        match event:
            case ToolStarted(call):
                print(f"-> {call.name} {call.arguments}")
            case ToolFinished(call, answer) if answer.is_error:
                print(f"<- {answer.content}")

print(stream.result.output)
