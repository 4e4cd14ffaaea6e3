"""The answer as a value of a type: validated, and sent back to the model while it does not fit.

Run: AGENTKIT_API_KEY=... python examples/02_typed_output.py
"""

from typing import Literal

from pydantic import BaseModel, Field

from agentkit import Agent


class Ticket(BaseModel):
    """A support ticket, sorted."""

    product: str
    urgency: Literal["low", "normal", "high"]
    summary: str = Field(description="One sentence, for the engineer on duty")


agent = Agent(instructions="You sort support mails into tickets.", output_type=Ticket)
ticket = agent.run_sync("Since this morning the billing page shows a blank screen, and we cannot pay!").output

print(ticket.urgency, "|", ticket.product, "|", ticket.summary)
