"""LangChain: `SQLDatabaseToolkit` for an agent that queries a database. Here `sqlite_tools`, which cannot write."""

import sys

from agentkit import Agent, Limits
from agentkit_tools import sqlite_tools

agent = Agent(
    instructions="You answer questions about a database. Look at its schema before you query it.",
    tools=sqlite_tools(sys.argv[1], max_rows=50),
    limits=Limits(steps=10),
)
print(agent.run_sync(sys.argv[2]).output)
