"""LangChain: `with_structured_output(...)`, or `response_format=ToolStrategy(...)` of an agent. Here: `output_type`."""

from datetime import date

from pydantic import BaseModel

from agentkit import Agent


class Invoice(BaseModel):
    seller: str
    due: date
    lines: dict[str, float]


invoice = (
    Agent(instructions="Read the invoice.", output_type=Invoice).run_sync("Tea 4.50, cake 3 - Mill Café, by 1 May 2026").output
)
print(invoice.seller, invoice.due.strftime("%d %B"), sum(invoice.lines.values()))
