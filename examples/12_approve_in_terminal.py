"""Ask at the terminal before anything is changed, then go on. A policy decides which calls are asked about.

Run: AGENTKIT_API_KEY=... python examples/12_approve_in_terminal.py FOLDER "Write a summary of notes.txt to summary.txt"
"""

import sys
from typing import Any

from agentkit import Agent, ToolCall
from agentkit.policy import AskWrites
from agentkit_tools import file_tools


def ask(call: ToolCall) -> Any:
    print(f"{call.name} {call.arguments}")
    said = input("Enter runs it; a reason refuses it: ")
    return {"deny": said} if said else True


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    agent = Agent(tools=[file_tools(sys.argv[1], write=True)], policy=[AskWrites()])
    result = agent.run_sync(sys.argv[2])
    while result.pending:  # the run has paused; `result.state.save(path)` would keep it for another day
        result = agent.resume_sync(result.state, {call.id: ask(call) for call in result.pending})
    print(result.output)
