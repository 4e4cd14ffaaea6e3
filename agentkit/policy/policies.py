"""Ready-made policies."""

from __future__ import annotations

from .protocol import Allow, Ask, Deny, JudgeContext, JudgedCall, Policy, Verdict

__all__ = ["AskWrites", "ReadOnly", "ToolScope"]


class ReadOnly(Policy):
    """Allows only tools that are labelled `read_only`."""

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Deny a call that may change something."""
        if call.tool.read_only:
            return Allow()
        return Deny(f"{call.name} may change something, and only tools that read are allowed here")


class ToolScope(Policy):
    """Allows only tools with these names."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Deny a call of any other tool."""
        if call.name in self.names:
            return Allow()
        return Deny(f"{call.name} is not allowed here; allowed: {', '.join(sorted(self.names)) or 'none'}")


class AskWrites(Policy):
    """Requires an approval for tools that are not labelled `read_only`."""

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """Ask about a call that may change something."""
        return Allow() if call.tool.read_only else Ask(f"{call.name} may change something")
