"""LangChain: a retriever tool over a vector store. Here any function that searches: the result is text, and is not trusted."""

import re
from pathlib import Path

from agentkit import Agent, tool

PARAGRAPHS = [(path.name, text) for path in sorted(Path("docs").glob("*.txt")) for text in path.read_text().split("\n\n")]


@tool(read_only=True, output="untrusted")
def search(query: str, limit: int = 2) -> list[tuple[str, str]]:
    """The paragraphs of the handbook that share the most words with a query, each with its file."""
    words = set(re.findall(r"\w+", query.lower()))
    return sorted(PARAGRAPHS, key=lambda found: -len(words & set(re.findall(r"\w+", found[1].lower()))))[:limit]


agent = Agent(instructions="Answer from the handbook alone, and name the file.", tools=[search])
print(agent.run_sync("How many days of holiday do I have?").output)
