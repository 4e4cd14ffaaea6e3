"""Ready-made policies."""

from __future__ import annotations

from .protocol import Allow, Ask, Deny, JudgeContext, JudgedCall, Policy, Verdict

__all__ = ["AskWrites", "ReadOnly", "ToolScope"]


class ReadOnly(Policy):
    """Only tools that are labelled `read_only` may run."""

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Denies what may change something."""
        if call.tool.read_only:
            return Allow()
        return Deny(f"{call.name} may change something, and only tools that read are allowed here")


class ToolScope(Policy):
    """Only the tools with these names may run."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Denies every other tool."""
        if call.name in self.names:
            return Allow()
        return Deny(f"{call.name} is not allowed here; allowed: {', '.join(sorted(self.names)) or 'none'}")


class AskWrites(Policy):
    """A call of a tool that is not labelled `read_only` has to be approved."""

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Asks about what may change something."""
        return Allow() if call.tool.read_only else Ask(f"{call.name} may change something")
