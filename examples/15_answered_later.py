"""A tool that somebody else carries out. The run is kept in a file, and goes on when the answer is there, in another process.

Run: AGENTKIT_API_KEY=... python examples/15_answered_later.py "Is the roof of house 7 dry?"
     AGENTKIT_API_KEY=... python examples/15_answered_later.py --answer "Yes, but a tile is loose."
"""

import sys
from pathlib import Path

from agentkit import Agent, RunState, Tool

WAITING = Path("waiting.json")

ask_inspector = Tool.outside(
    "ask_inspector",
    "Ask the inspector to look at a house. The answer may take days.",
    {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]},
)
agent = Agent(instructions="You answer the owners of houses.", tools=[ask_inspector])

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--answer":
        state = RunState.load(WAITING)
        result = agent.resume_sync(state, results={call.id: sys.argv[2] for call in state.pending})
    else:
        result = agent.run_sync(sys.argv[1])

    if result.pending:
        result.save(WAITING)
        print("waiting for:", *[call.arguments for call in result.pending])
    else:
        WAITING.unlink(missing_ok=True)
        print(result.output)
