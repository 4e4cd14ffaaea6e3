"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from .._typing import OutputT
from ..events import LastingEvent, ToolFinished
from ..messages import Message, ToolCall, Usage
from .prefix import CacheMiss, cache_misses
from .state import RunState

__all__ = ["RunResult"]


@dataclass(frozen=True, slots=True)
class RunResult(Generic[OutputT]):
    """What a run came to.

    `output` is the answer; when the run ended without one (a limit, a pause, a cancellation) it is None, or the text so
    far where a text was asked for. `state` has everything else, and can be stored and resumed.
    """

    output: OutputT
    state: RunState

    def __repr__(self) -> str:
        failed = sum(event.result.is_error for event in self.state.events if isinstance(event, ToolFinished))
        calls = f", {failed} of {self.state.calls_made} tool calls failed" if failed else ""
        return f"RunResult({self.output!r:.200}, {self.stop_reason!r}, {self.steps} steps{calls})"

    @property
    def stop_reason(self) -> str:
        """Why the run ended: "answer", "limit:<which>", "pending_approval", "cancelled", "error", or "left" (see `leave`)."""
        return "pending_approval" if self.state.pending else self.state.stop_reason or "left"

    @property
    def messages(self) -> list[Message]:
        """The whole transcript; pass it to the next run as `messages=` to go on with the conversation."""
        return list(self.state.messages)

    @property
    def new_messages(self) -> list[Message]:
        """What this run added to the messages that it was given."""
        return self.state.messages[self.state.new_from :]

    @property
    def usage(self) -> Usage:
        """Tokens, cache hits and calls of the whole run; for a step, see the `ModelReplied` events."""
        return self.state.usage

    @property
    def cost(self) -> float | None:
        """US dollars: what the server told, else by the price table, an estimate; None where a price is not known."""
        return self.state.cost

    @property
    def price_note(self) -> str:
        """Whose prices `cost` is made with, where they are not the server's own; empty where they are."""
        return self.state.price_note

    @property
    def uncounted(self) -> Usage:
        """What the server did not count, by estimate, and which is not in `usage` and `cost`: replies that broke off, and
        those of a server that counts nothing. Limits hold it as well."""
        return self.state.estimated_usage

    @property
    def waited(self) -> float:
        """Seconds that model calls waited for their turn at the server (see `Limiter`), between retries, or for room beside
        other calls under a limit that they share."""
        return self.state.waited

    @property
    def steps(self) -> int:
        """How many model calls were answered."""
        return self.state.steps

    @property
    def cache_misses(self) -> list[CacheMiss]:
        """The steps whose prompt the server's cache did not serve as far as it was sent before.

        Why is known if the agent has a `CacheReport` (`agentkit.middleware.cache_report`) as its last middleware.
        """
        return cache_misses(self.state.events)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.state.run_id

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The calls that wait for an approval; answer them with `agent.resume(result.state, approvals={id: True})`."""
        return self.state.pending

    @property
    def uncertain(self) -> tuple[ToolCall, ...]:
        """The calls of which nobody knows whether they took effect: given up, or lost in a crash, while they ran."""
        return self.state.uncertain

    @property
    def events(self) -> list[LastingEvent]:
        """The lasting events: the run itself."""
        return list(self.state.events)
