"""A plain program without async: a conversation of two turns, typed dependencies, and an approval.

Run: AGENTKIT_API_KEY=... python examples/06_sync_program.py
"""

from dataclasses import dataclass

from agentkit import Agent, RunContext, tool


@dataclass
class Account:
    """What the tools of one run work on."""

    owner: str
    balance: float


@tool(read_only=True)
def balance(ctx: RunContext[Account]) -> str:
    """The balance of the account."""
    return f"{ctx.deps.owner} has {ctx.deps.balance:.2f} EUR"


@tool(approval=True)
def pay(ctx: RunContext[Account], amount: float, to: str) -> str:
    """Pay an amount in EUR to somebody."""
    ctx.deps.balance -= amount
    return f"paid {amount:.2f} EUR to {to}"


agent = Agent(tools=[balance, pay], deps_type=Account, approve=lambda call: input(f"run {call.name}? [y/n] ") == "y")
account = Account("Ada", 120.0)

first = agent.run_sync("How much money do I have?", deps=account)
second = agent.run_sync("Pay 20 EUR to Grace.", deps=account, messages=first.messages)

print(first.output, second.output, sep="\n")
print(f"balance: {account.balance:.2f} EUR after {len(second.messages)} messages")
