"""A router hands the conversation over to the agent that knows the subject. A guardrail stops card numbers at once.

Run: AGENTKIT_API_KEY=... python examples/11_router.py "Where is my order A-17?"
"""

import re
import sys

from agentkit import Agent, guardrail, tool
from agentkit.team import handoff


@tool(read_only=True)
def find_order(number: str) -> str:
    """State of an order, such as A-17."""
    return "shipped on Monday" if number == "A-17" else "not known"


@guardrail("input")
def no_cards(text: str) -> str | None:
    return "please write no card numbers" if re.search(r"\b(?:\d[ -]?){13,16}\b", text) else None


orders = Agent(name="orders", description="knows where orders are", tools=[find_order])
refunds = Agent(name="refunds", description="gives money back", instructions="Be kind, and ask for the number of the order.")
router = Agent(name="router", instructions="Hand over.", tools=[handoff(orders), handoff(refunds)], middleware=[no_cards])

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    result = router.run_sync(sys.argv[1])
    print(result.output if result.output is not None else f"stopped: {result.stop_reason}")
