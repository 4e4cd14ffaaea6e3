"""Answers questions about a code repository, with citations that were checked, and runs its tests if you say so.

Run: AGENTKIT_API_KEY=... python examples/repository_assistant/assistant.py FOLDER ["question"]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import BaseModel, Field

from agentkit import Agent, Limits, Message, ModelRetry, ToolCall, ToolStarted, tool
from agentkit_tools import file_tools, shell

INSTRUCTIONS = """You answer questions about the code repository that your file tools show.
Search with grep and find_files, and read what you found before you answer. Never answer from memory.
Support each claim with a citation: the file, the number of the line, and that line as it stands in the file.
Run the tests only if the question is about whether something works."""


class Citation(BaseModel):
    """A line of the repository that supports the answer."""

    file: str = Field(description="Path from the root of the repository, such as src/app.py")
    line: int = Field(ge=1)
    text: str = Field(description="The line itself, without its indentation")


class Answer(BaseModel):
    """The answer to the question."""

    text: str = Field(description="At most five sentences")
    citations: list[Citation] = []


def real_line(root: Path, citation: Citation) -> str:
    """What stands in the file at the line of a citation. Empty if there is no such line, or no such file below the root."""
    path = (root / citation.file).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        return ""
    lines = path.read_bytes().decode("utf-8-sig", "replace").split("\n")  # as the file tools count them
    return lines[citation.line - 1].strip() if citation.line <= len(lines) else ""


def ask_user(call: ToolCall) -> bool:
    """Whether the user wants this call. It runs code of the repository, which may do anything that you may."""
    return input(f"run {call.arguments}? [y/N] ") == "y"


def build_assistant(folder: str) -> Agent[Answer]:
    """The agent for the repository in this folder. Its file tools read only, and only there."""
    root = Path(folder).resolve()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    run_tests = tool(
        shell(["python -m pytest"], cwd=root, timeout=300, env={"PATH": path}),
        name="run_tests",
        approval=True,
        timeout=310,
    )
    agent = Agent(
        name="repository_assistant",
        instructions=INSTRUCTIONS,
        tools=[file_tools(root), run_tests],
        output_type=Answer,
        limits=Limits(steps=25, tool_calls=60, output_tokens=50_000, on_limit="answer"),
        approve=ask_user,
    )

    @agent.output_validator
    def citations_are_real(answer: Answer) -> Answer:
        for cited in answer.citations:
            found = real_line(root, cited)
            if not found or found != cited.text.strip():
                raise ModelRetry(f"{cited.file}:{cited.line} is not {cited.text!r}, but {found!r}; read the file again")
        return answer

    return agent


def answer(agent: Agent[Answer], question: str, messages: list[Message]) -> list[Message]:
    """Print what the agent looks at, its answer and its citations. Returns the conversation."""
    with agent.stream_sync(question, messages=messages) as events:
        for event in events:
            if isinstance(event, ToolStarted) and event.call.name in agent.tools:
                print(f"  {event.call.name} {event.call.arguments}")
    result = events.result
    if not isinstance(result.output, Answer):  # a limit was reached
        print(f"no answer: {result.stop_reason}")
        return messages
    print(result.output.text)
    for cited in result.output.citations:
        print(f"  {cited.file}:{cited.line}: {cited.text}")
    return list(result.messages)


def main() -> None:
    if not 2 <= len(sys.argv) <= 3:
        sys.exit('usage: assistant.py FOLDER ["question"]')
    agent, messages = build_assistant(sys.argv[1]), list[Message]()
    if len(sys.argv) > 2:
        answer(agent, sys.argv[2], messages)
        return
    while question := input("\nquestion (empty: end): "):
        messages = answer(agent, question, messages)


if __name__ == "__main__":
    main()
