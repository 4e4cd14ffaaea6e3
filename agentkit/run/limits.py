"""The limits of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import takewhile
from math import inf
from typing import Literal

from .._dataclass import frozen_dataclass
from .._renamed import renamed
from ..errors import SettingsError
from ..messages import BYTES_PER_TOKEN, Assistant, Message, Spending, Usage, bytes_of
from ..model import ToolSpec
from ..prices import Price
from .state import RunState

__all__ = ["Limits", "prompt_estimate"]


@renamed(max_steps="steps", calls_at_once="concurrent_calls")
@frozen_dataclass(kw_only=True)
class Limits:
    """Limits of one run. None means no limit. A limit is checked before the call that would break it.

    Tokens and cost include child runs (`as_tool`, `within=`), which are bound by these limits too. They also include an
    estimate of usage that the server does not count (`RunResult.uncounted`).

    A run that reaches a limit ends with a result: it has everything done so far, and the `stop_reason` `limit:<name>` with
    the name of the field.
    """

    steps: int | None = 20
    """Model calls."""
    tool_calls: int | None = None
    """Tool calls of the run. Further calls are answered without being run."""
    calls_per_reply: int | None = 256
    """Tool calls of one reply. Further calls are answered without being run, and the run goes on."""
    concurrent_calls: int | None = 64
    """Tool calls of one reply that run concurrently. The others wait for a slot."""
    input_tokens: int | None = None
    """Prompt tokens of all model calls. The next prompt is estimated: the tokens of the last prompt and its answer, plus one
    token for every four bytes added since."""
    output_tokens: int | None = None
    """Answer tokens of all model calls, thinking included."""
    cost: float | None = None
    """US dollars. A call whose price is unknown counts as 0. The next call is estimated by its prompt alone: what was sent
    before counts as read from the cache."""
    seconds: float | None = None
    """Wall-clock time of the run; it starts again with each resume. Calls in flight are cancelled."""
    depth: int | None = 8
    """How deep runs may be nested. It stops an agent that calls itself as a tool."""
    repeats: int | None = None
    """Number of equal calls with equal results after which the run ends, because the model is in a loop."""
    refusals: int | None = 5
    """Number of denials of the same call after which the run ends, because the model does not give up."""
    on_limit: Literal["stop", "answer", "raise"] = "stop"
    """"stop": the run ends. "answer": the model is called once more, without tools, for a last answer.
    "raise": `LimitReached` is raised."""

    def __post_init__(self) -> None:
        for name in [item.name for item in fields(Limits) if item.name != "on_limit"]:
            value, minimum = getattr(self, name), 1 if name in ("calls_per_reply", "concurrent_calls", "refusals") else 0
            kind = int | float if name in ("cost", "seconds") else int
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind) or not minimum <= value < inf):
                number = "number" if kind is not int else "whole number"
                raise SettingsError(f"limits: {name} is {value!r}; allowed: None or a {number} of at least {minimum}")
        if self.on_limit not in ("stop", "answer", "raise"):
            raise SettingsError(f"limits: on_limit is {self.on_limit!r}; allowed: stop, answer, raise")

    def before_model_call(
        self, state: RunState, price: Price | None = None, tools: Sequence[ToolSpec] = (), *, whole: bool = True
    ) -> str | None:
        """The stop reason if one more model call would break a limit, or None.

        If the call does not send the `whole` transcript, tokens and cost are not checked here: the ledger sees the request.
        """
        if self.steps is not None and state.steps >= self.steps:
            return "limit:steps"
        if self.repeats is not None and state.repeats >= self.repeats:
            return "limit:repeats"
        if self.refusals is not None and state.refusals >= self.refusals:
            return "limit:refusals"
        if not self.bind_spending or not whole:
            return None
        return self.spending(state.spent, prompt_estimate(state, price, state.messages, tools))

    @property
    def bind_spending(self) -> bool:
        """Whether tokens or cost have a limit."""
        return not (self.input_tokens is None and self.output_tokens is None and self.cost is None)

    def spending(self, spent: Spending, more: Spending) -> str | None:
        """The stop reason if a call that spends `more` would break a limit, or None."""
        usage, added = spent.usage, more.usage
        if self.input_tokens is not None and usage.input_tokens + added.input_tokens >= self.input_tokens:
            return "limit:input_tokens"
        limit = self.output_tokens
        if limit is not None and (usage.output_tokens >= limit or usage.output_tokens + added.output_tokens > limit):
            return "limit:output_tokens"
        cost = spent.cost or 0.0
        if self.cost is not None and (cost >= self.cost or cost + (more.cost or 0.0) > self.cost):
            return "limit:cost"
        return None

    def tool_calls_left(self, state: RunState) -> int | None:
        """How many more tool calls may run, or None if there is no limit."""
        return None if self.tool_calls is None else max(0, self.tool_calls - state.usage.tool_calls)


def prompt_estimate(state: RunState, price: Price | None, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Spending:
    """Estimated tokens and minimum cost of the next request's prompt, with these messages."""
    known, added = state.context_tokens, _added_bytes(state) // BYTES_PER_TOKEN
    if not known:
        added += _bytes_of_tools(tools) // BYTES_PER_TOKEN
    if messages is not state.messages:
        whole = (sum(map(bytes_of, messages)) + _bytes_of_tools(tools)) // BYTES_PER_TOKEN
        known = min(known, whole)
        added = min(added, whole - known)
    return Spending(Usage(input_tokens=known + added), price.min_prompt_cost(known, added) if price else 0.0)


def _added_bytes(state: RunState) -> int:
    """The bytes of the messages that `context_tokens` does not count."""
    added = takewhile(lambda message: not isinstance(message, Assistant), reversed(state.messages))
    return sum(map(bytes_of, added if state.context_tokens else state.messages))


def _bytes_of_tools(tools: Sequence[ToolSpec]) -> int:
    from pydantic_core import to_json

    return sum(len(to_json(tool.parameters)) + len(tool.name) + len(tool.description) for tool in tools)
