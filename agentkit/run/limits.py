"""How far a run may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import inf
from typing import Literal

from .._renamed import renamed
from ..errors import SettingsError
from ..messages import BYTES_PER_TOKEN, Assistant, Message, Spending, Usage, bytes_of
from ..model import ToolSpec
from ..prices import Price
from .state import RunState

__all__ = ["Limits", "prompt_estimate"]


@renamed(max_steps="steps", calls_at_once="concurrent_calls")
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run. None means: no limit. They are checked before the call that would break them.

    Tokens and cost include those of runs that are part of it (`as_tool`, `within=`), which these limits bind as well, and, by
    estimate, what the server does not count (`RunResult.uncounted`).

    A limit that is reached ends the run as a result with everything done so far and `stop_reason` "limit:<name>",
    where the name is the field's.
    """

    steps: int | None = 20
    """Model calls."""
    tool_calls: int | None = None
    """Tool calls; those beyond it are answered without being run."""
    calls_per_reply: int | None = 256
    """Tool calls of one reply; those beyond it are answered without being run, and the run goes on."""
    concurrent_calls: int | None = 64
    """Tool calls of one reply that run at the same time; the others wait for their turn."""
    input_tokens: int | None = None
    """Prompt tokens over all calls. The next prompt is taken to have those of the last prompt and its answer, and one token for
    each four bytes that came since."""
    output_tokens: int | None = None
    """Answer tokens over all calls, thinking included."""
    cost: float | None = None
    """US dollars, as far as prices are known; an unknown price counts as nothing. The next call is taken to cost its prompt,
    read from the cache as far as it was sent before."""
    seconds: float | None = None
    """Wall-clock time of one drive of the run (a resume starts anew); the call under way is cancelled."""
    depth: int | None = 8
    """How deep runs may be inside others: an agent that calls itself as a tool is stopped here."""
    repeats: int | None = None
    """The same call with the same result, this often in the run: the model is in a loop. "limit:repeats"."""
    refusals: int | None = 5
    """The same call denied by whoever approves calls, this often in the run: the model does not give up. "limit:refusals"."""
    on_limit: Literal["stop", "answer", "raise"] = "stop"
    """"answer": one last model call without tools writes an answer first. "raise": `LimitReached` is raised."""

    def __post_init__(self) -> None:
        for name in Limits.__slots__[:-1]:
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
        """The stop reason if one more model call would break a limit.

        Where it does not send the `whole` transcript, tokens and cost are left to the ledger, which sees the request.
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
        """The stop reason if a call that spends so much more would break a limit."""
        usage, added = spent.usage, more.usage
        if self.input_tokens is not None and usage.input_tokens + added.input_tokens >= self.input_tokens:
            return "limit:input_tokens"
        most = self.output_tokens
        if most is not None and (usage.output_tokens >= most or usage.output_tokens + added.output_tokens > most):
            return "limit:output_tokens"
        cost = spent.cost or 0.0
        if self.cost is not None and (cost >= self.cost or cost + (more.cost or 0.0) > self.cost):
            return "limit:cost"
        return None

    def tool_calls_left(self, state: RunState) -> int | None:
        """How many more tool calls may run; None without a limit."""
        return None if self.tool_calls is None else max(0, self.tool_calls - state.usage.tool_calls)


def prompt_estimate(state: RunState, price: Price | None, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Spending:
    """The prompt of the next call, with these messages: its tokens, and what it costs at least."""
    known, added = state.context_tokens, _added_bytes(state) // BYTES_PER_TOKEN
    if not known:
        added += _bytes_of_tools(tools) // BYTES_PER_TOKEN
    if messages is not state.messages:
        most = (sum(map(bytes_of, messages)) + _bytes_of_tools(tools)) // BYTES_PER_TOKEN
        known = min(known, most)
        added = min(added, most - known)
    return Spending(Usage(input_tokens=known + added), price.of_prompt(known, added) if price else 0.0)


def _added_bytes(state: RunState) -> int:
    """The bytes of the messages that are not in `context_tokens`."""
    added = takewhile(lambda message: not isinstance(message, Assistant), reversed(state.messages))
    return sum(map(bytes_of, added if state.context_tokens else state.messages))


def _bytes_of_tools(tools: Sequence[ToolSpec]) -> int:
    from pydantic_core import to_json

    return sum(len(to_json(tool.parameters)) + len(tool.name) + len(tool.description) for tool in tools)
