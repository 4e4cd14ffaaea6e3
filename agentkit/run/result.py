"""The result of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic

from .._dataclass import frozen_dataclass
from .._typing import OutputT
from ..events import LastingEvent, ToolFinished
from ..messages import Message, ToolCall, Usage
from .prefix import CacheMiss, cache_misses
from .state import RunState

__all__ = ["RunResult"]


@frozen_dataclass
class RunResult(Generic[OutputT]):
    """The result of a run.

    `output` is the answer. If the run ended without an answer (a limit, a pause, a cancellation), it is None or, for the
    output type `str`, the text so far. `state` has everything else, and can be stored and resumed.
    """

    output: OutputT
    state: RunState

    def __repr__(self) -> str:
        failed = sum(event.result.is_error for event in self.state.events if isinstance(event, ToolFinished))
        calls = f", {failed} of {self.state.calls_made} tool calls failed" if failed else ""
        return f"RunResult({self.output!r:.200}, {self.stop_reason!r}, {self.steps} steps{calls})"

    @property
    def stop_reason(self) -> str:
        """Why the run ended: "answer", `limit:<which>`, "pending_approval", "cancelled", "error", or "left" (see `leave`).

        It is "pending_result" if all calls that it waits for are calls of outside tools.
        """
        if not self.state.pending:
            return self.state.stop_reason or "left"
        outside = {call.id for call in self.state.outside}
        return "pending_result" if all(call.id in outside for call in self.state.pending) else "pending_approval"

    @property
    def messages(self) -> list[Message]:
        """The whole transcript. Pass it to the next run as `messages=` to continue the conversation."""
        return list(self.state.messages)

    @property
    def new_messages(self) -> list[Message]:
        """The messages that this run added."""
        return self.state.messages[self.state.new_from :]

    @property
    def usage(self) -> Usage:
        """Tokens, cache hits and calls of the whole run. For single steps, see the `ModelReplied` events."""
        return self.state.usage

    @property
    def cost(self) -> float | None:
        """Cost in US dollars: as the server reports it, or else estimated from the price table. None if a price is unknown."""
        return self.state.cost

    @property
    def price_note(self) -> str:
        """Whose prices `cost` is based on, if not the server's own; else empty."""
        return self.state.price_note

    @property
    def uncounted(self) -> Usage:
        """Estimated usage that the server did not count: replies that broke off, and replies of a server that counts nothing.

        It is not in `usage` and `cost`, but limits include it.
        """
        return self.state.estimated_usage

    @property
    def waited(self) -> float:
        """Seconds that model calls waited: for a slot (see `Limiter`), between retries, and for room under shared limits."""
        return self.state.waited

    @property
    def steps(self) -> int:
        """Number of model calls that were answered."""
        return self.state.steps

    @property
    def cache_misses(self) -> list[CacheMiss]:
        """The steps for which the server's cache missed a part of the prompt that was sent before.

        The reason is known if the agent's last middleware is a `CacheReport` (`agentkit.middleware.cache_report`).
        """
        return cache_misses(self.state.events)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What was given with `run(..., metadata=)`."""
        return self.state.metadata

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.state.run_id

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """The calls that wait for an approval. Answer them with `agent.resume(result.state, approvals={id: True})`."""
        return self.state.pending

    @property
    def uncertain(self) -> tuple[ToolCall, ...]:
        """The calls that may or may not have taken effect: abandoned, or lost in a crash, while they ran.

        Those of child runs are among them. The id of such a call is made of both calls' ids, as in `pending`.
        """
        return self.state.uncertain

    @property
    def events(self) -> list[LastingEvent]:
        """The lasting events of the run."""
        return list(self.state.events)

    def save(self, path: str | Path) -> None:
        """Write the whole run to a file, as JSON. `load_messages(path)` gives the conversation, `RunState.load(path)` the run.

        A crash leaves the earlier file or the new one, and only its owner can read it. Raises OSError.
        """
        self.state.save(path)
