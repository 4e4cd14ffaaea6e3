"""A log keeps a run through a crash: kill this program, start it again, and it goes on where it was.

Nobody knows whether the call that was running at the kill took effect. The model is told so, and can check.

Run: AGENTKIT_API_KEY=... python examples/20_crash_and_resume.py "Send the parcels 1, 2 and 3"
"""

import sys
from pathlib import Path

from agentkit import Agent, tool
from agentkit.run.journal import JsonLinesLog

SENT = Path("sent.txt")


@tool
def send_parcel(number: int) -> str:
    """Send a parcel."""
    with SENT.open("a") as file:
        file.write(f"{number}\n")
    input(f"parcel {number} is labelled; press Enter when it is handed over\n")  # a good moment for kill -9
    return f"parcel {number} is on its way"


@tool(read_only=True)
def was_labelled(number: int) -> bool:
    """Whether a parcel has its label. Check this before you send one again."""
    return str(number) in SENT.read_text().split()


log = JsonLinesLog("parcels.jsonl")
if len(sys.argv) < 2 and not log.path.exists():
    sys.exit(__doc__)
agent = Agent(tools=[send_parcel, was_labelled])
result = agent.resume_sync(log=log) if log.path.exists() else agent.run_sync(sys.argv[1], log=log)
print(result.output)
