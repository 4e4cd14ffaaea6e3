"""The policy protocol: the judged call, its context, the verdicts, and combinations of policies."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from .._dataclass import frozen_dataclass
from .._sync import is_being_cancelled
from ..events import RunInfo
from ..messages import Message, User
from ..parts import content_text
from ..redact import redacted_traceback
from ..tools.tool import AnyTool

__all__ = ["AllOf", "Allow", "AnyOf", "Ask", "Deny", "JudgeContext", "JudgedCall", "Policy", "Verdict", "frozen", "judged_by"]

log = logging.getLogger("agentkit")


@frozen_dataclass
class Allow:
    """The call may run."""


@frozen_dataclass
class Ask:
    """The call needs an approval. The reason is shown to the approver."""

    reason: str = ""


@frozen_dataclass
class Deny:
    """The call may not run. The model gets the reason, and the run goes on."""

    reason: str = ""


Verdict: TypeAlias = Allow | Ask | Deny
_STRICTNESS: dict[type[Verdict], int] = {Allow: 0, Ask: 1, Deny: 2}


@frozen_dataclass
class JudgedCall:
    """The call to judge. `args` are the validated arguments as the tool gets them, in immutable containers.

    `tool` has the labels: `read_only`, `destructive`, `idempotent`, `open_world`, `sensitive`, `output`, `trusted_fields`.
    """

    id: str
    name: str
    args: Mapping[str, Any]
    tool: AnyTool


@frozen_dataclass
class JudgeContext:
    """What a policy may know of the run: its id and agent, its `deps`, and its transcript so far."""

    run: RunInfo
    deps: Any
    messages: Sequence[Message]

    @property
    def user_messages(self) -> list[str]:
        """The texts of the user's messages, without names and contents of images and files: others may have made those."""
        return [content_text(m.content, labels=False) for m in self.messages if isinstance(m, User)]


class Policy:
    """Judges calls. Override `judge`, as a sync or an async method.

    `a & b` gives the stricter of both verdicts, and `a | b` the less strict one. An exception counts as a `Deny`, and so does a
    return value that is not a verdict. A sync `judge` runs on the event loop, so it must not block.
    """

    def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict | Awaitable[Verdict]:
        """Whether the call may run."""
        raise NotImplementedError(f"{type(self).__name__} has no judge(call, ctx)")

    def __and__(self, other: Policy) -> Policy:
        """A policy that gives the stricter of both verdicts."""
        return AllOf((self, other))

    def __or__(self, other: Policy) -> Policy:
        """A policy that gives the less strict of both verdicts."""
        return AnyOf((self, other))


class AllOf(Policy):
    """The strictest verdict of several policies."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(policies)

    async def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """The strictest verdict; the first one if several are equally strict."""
        return (await judged_by(self.policies, call, ctx))[0]


class AnyOf(Policy):
    """The least strict verdict of several policies."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(policies)

    async def judge(self, call: JudgedCall, ctx: JudgeContext) -> Verdict:
        """The least strict verdict; the first one if several are equally strict."""
        return min([await _verdict(policy, call, ctx) for policy in self.policies], key=_strictness)


async def judged_by(policies: Iterable[Policy], call: JudgedCall, ctx: JudgeContext) -> tuple[Verdict, str]:
    """The strictest verdict of the policies, and the name of the policy that gave it."""
    strictest: tuple[Verdict, str] = Allow(), ""
    for policy in policies:
        verdict = await _verdict(policy, call, ctx)
        if _strictness(verdict) > _strictness(strictest[0]):
            strictest = verdict, type(policy).__name__
    return strictest


async def _verdict(policy: Policy, call: JudgedCall, ctx: JudgeContext) -> Verdict:
    try:
        verdict: Any = policy.judge(call, ctx)
        if inspect.isawaitable(verdict):
            verdict = await verdict
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        log.warning("the policy %.80r failed, so the call %s is denied\n%s", policy, call.name, redacted_traceback(error))
        return Deny(f"the policy {type(policy).__name__} failed: {type(error).__name__}")
    if type(verdict) not in _STRICTNESS:
        log.warning("the policy %.80r gave %.80r, so the call %s is denied", policy, verdict, call.name)
        return Deny(f"the policy {type(policy).__name__} gave no verdict; allowed: Allow(), Ask(reason), Deny(reason)")
    return verdict  # type: ignore[no-any-return]


def _strictness(verdict: Verdict) -> int:
    return _STRICTNESS[type(verdict)]


def frozen(value: Any) -> Any:
    """The value with immutable dicts, lists and sets. Other values in them are unchanged."""
    if isinstance(value, dict):
        return MappingProxyType({name: frozen(item) for name, item in value.items()})
    if isinstance(value, list):
        return tuple(map(frozen, value))
    if isinstance(value, set):
        return frozenset(value)
    return value
