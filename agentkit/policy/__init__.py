"""Policies: whether a call may run.

A policy is asked about each call before it runs, with the validated arguments and the tool's labels. Of several, the strictest
verdict counts: a denial before a question before a permission.

    Agent(..., policy=[ReadOnly() | ToolScope("send_report"), AskWrites()])
"""

from __future__ import annotations

from .policies import AskWrites, ReadOnly, ToolScope
from .protocol import AllOf, Allow, AnyOf, Ask, Deny, JudgeContext, JudgedCall, Policy, Verdict, judged_by

__all__ = [
    "AllOf", "Allow", "AnyOf", "Ask", "AskWrites", "Deny", "JudgeContext", "JudgedCall", "Policy", "ReadOnly", "ToolScope",
    "Verdict", "judged_by",
]  # fmt: skip
