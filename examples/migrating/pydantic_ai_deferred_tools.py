"""Pydantic AI: `requires_approval=True` and `DeferredToolRequests`. Here: `result.pending` and `resume`."""

from agentkit import Agent, tool


@tool(approval=lambda amount: amount > 50)
def refund(amount: float) -> str:
    """Refund an amount in EUR."""
    return f"{amount:.2f} EUR are on their way"


agent = Agent(tools=[refund])
result = agent.run_sync("Refund 20 EUR and 80 EUR.")
answers = {call.id: input(f"{call.name} {call.arguments}? ") == "y" for call in result.pending}  # only those above 50 EUR
result = agent.resume_sync(result.state, approvals=answers)
print(result.output)
