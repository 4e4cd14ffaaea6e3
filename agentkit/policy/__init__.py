"""Policies decide whether a call may run.

A policy judges each call before it runs, by the validated arguments and the tool's labels. With several policies, the strictest
verdict counts: Deny, then Ask, then Allow.

    Agent(..., policy=[ReadOnly() | ToolScope("send_report"), AskWrites()])
"""

from __future__ import annotations

from .policies import AskWrites, ReadOnly, ToolScope
from .protocol import AllOf, Allow, AnyOf, Ask, Deny, JudgeContext, JudgedCall, Policy, Verdict, judged_by

__all__ = [
    "AllOf", "Allow", "AnyOf", "Ask", "AskWrites", "Deny", "JudgeContext", "JudgedCall", "Policy", "ReadOnly", "ToolScope",
    "Verdict", "judged_by",
]  # fmt: skip
