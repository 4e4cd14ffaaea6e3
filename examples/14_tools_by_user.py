"""Which tools a run has depends on who is asking: `enabled=` of one tool, and a Toolset for tools that are made for the run.

Run: AGENTKIT_API_KEY=... python examples/14_tools_by_user.py ann "What is in my notes?"
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from agentkit import Agent, RunContext, ToolRegistry, Toolset, tool
from agentkit_tools import file_tools


@dataclass
class Member:
    name: str
    is_admin: bool = False


@tool(enabled=lambda ctx: ctx.deps.is_admin)
def list_members() -> list[str]:
    """All members of the club."""
    return ["ann", "root"]


@Toolset
def own_files(ctx: RunContext[Member]) -> ToolRegistry:
    """The files of this member alone: notes_read_file, notes_grep and the others."""
    return file_tools(Path("members") / ctx.deps.name).prefixed("notes_")


agent = Agent(tools=[list_members, own_files], deps_type=Member)

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    member = Member(sys.argv[1], is_admin=sys.argv[1] == "root")
    print(agent.run_sync(sys.argv[2], deps=member).output)
