"""Middleware of `run` and `chat` that makes long prompts fit small context windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ContextTooLong
from ..history import DropToolResults, KeepTurns, repaired_history
from ..messages import Message, ToolResult, User, shorten
from ..model import ModelReply, ModelRequest
from ..run.middleware import Middleware, NextModelCall
from ..tools.context import RunContext

__all__ = ["FitContext"]

_MIN_RESULTS = 400
"""Characters of tool results below which older turns are dropped instead."""


@dataclass(frozen=True, slots=True)
class _View:
    """Tool results with at most `chars` characters, and at most `turns` turns. None means no limit."""

    chars: int | None = None
    turns: int | None = None

    def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
        if self.turns is not None:
            messages = KeepTurns(self.turns, self.turns - 1)(messages, len(messages))
        if self.chars is None:
            return messages
        each = self.chars // 2
        dropped = DropToolResults(self.chars)(messages, len(messages))
        return [_shortened(message, each) if isinstance(message, ToolResult) else message for message in dropped]

    @property
    def reason(self) -> str:
        """Why prompts are cut, and what is left out of them."""
        results = "old tool results were dropped and long ones shortened" if self.chars is not None else ""
        turns = "the oldest turns were dropped" if self.turns is not None else ""
        return f"the prompt was too long for the model, so {', and '.join(filter(None, (results, turns)))}"

    def smaller(self, sent: Sequence[Message]) -> _View | None:
        """A view that is smaller than the messages that were sent, or None if there is nothing left to drop."""
        results = sum(len(message.content) for message in sent if isinstance(message, ToolResult))
        if results > _MIN_RESULTS and (self.chars is None or self.chars > _MIN_RESULTS):
            return replace(self, chars=min(results, self.chars or results) // 2)
        turns = sum(isinstance(message, User) for message in sent)
        return replace(self, turns=turns // 2) if turns > 1 else None


class FitContext(Middleware):
    """If the server says that the prompt is too long, asks again with less, as often as it takes.

    Old tool results go first, then the middle of new ones, then old turns. The refused requests cost nothing. Later prompts are
    made that small from the beginning. The transcript keeps everything.
    """

    def __init__(self) -> None:
        self._view = _View()

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        """The reply to the longest view of the messages that fits."""
        while True:
            sent = self._view(request.messages)
            fitting = request
            if sent is not request.messages:
                fitting = replace(request, messages=repaired_history(sent), reason=self._view.reason)
            try:
                return await next(fitting)
            except ContextTooLong:
                smaller = self._view.smaller(fitting.messages)
                if smaller is None:
                    raise
                self._view = smaller


def _shortened(result: ToolResult, length: int) -> ToolResult:
    return result if len(result.content) <= length else replace(result, content=shorten(result.content, length))
