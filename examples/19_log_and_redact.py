"""A middleware that hides mail addresses from the model, and logs each model call and tool call.

Run: AGENTKIT_API_KEY=... python examples/19_log_and_redact.py "Who has not paid?"
"""

import re
import sys
import time
from typing import Any

from agentkit import Agent, Middleware, ModelReply, ModelRequest, RunContext, ToolCall, tool
from agentkit.run.middleware import NextModelCall, NextToolCall


class LogAndRedact(Middleware):
    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        began, reply = time.monotonic(), await next(request)
        took = time.monotonic() - began
        print(f"model: {took:.1f} s, {reply.usage.input_tokens} tokens in, {reply.usage.output_tokens} out", file=sys.stderr)
        return reply

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        found = str(await next(call))
        hidden = re.sub(r"[\w.+-]+@[\w.-]+", "[mail address]", found)
        print(f"{call.name} {call.arguments}: {found.count('@')} addresses hidden", file=sys.stderr)
        return hidden


@tool(read_only=True)
def open_bills() -> list[str]:
    """The bills that are not paid."""
    return ["Ada Lovelace <ada@example.com>: 20 EUR", "Alan Turing <alan@example.com>: 7 EUR"]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(Agent(tools=[open_bills], middleware=[LogAndRedact()]).run_sync(sys.argv[1]).output)
