"""Pydantic AI: `deps_type` with `output_type`, as in an agent for support that returns a judged answer."""

from pydantic import BaseModel, Field

from agentkit import Agent, RunContext, tool


class Customer(BaseModel):
    contracts: list[str]


class Advice(BaseModel):
    text: str
    risk: int = Field(ge=0, le=10)


@tool(read_only=True)
def contracts(ctx: RunContext[Customer]) -> list[str]:
    return ctx.deps.contracts


agent = Agent(instructions="You advise people on insurance.", tools=[contracts], output_type=Advice, deps_type=Customer)
print(repr(agent.run_sync("My bike was stolen.", deps=Customer(contracts=["bicycle"])).output))
