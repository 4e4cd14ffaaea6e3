"""How far a run may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import SettingsError
from .state import RunState

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run. None means: no limit. They are checked before the call that would break them.

    A limit that is reached ends the run as a result with everything done so far and `stop_reason` "limit:<name>",
    where the name is the field's (`max_steps` is "steps").
    """

    max_steps: int | None = 20
    """Model calls."""
    tool_calls: int | None = None
    """Tool calls; those beyond it are answered without being run."""
    calls_per_reply: int | None = 256
    """Tool calls of one reply; those beyond it are answered without being run, and the run goes on."""
    calls_at_once: int | None = 64
    """Tool calls of one reply that run at the same time; the others wait for their turn."""
    input_tokens: int | None = None
    """Prompt tokens over all calls. The next prompt is taken to be as long as the last prompt and its answer."""
    output_tokens: int | None = None
    """Answer tokens over all calls, thinking included."""
    cost: float | None = None
    """US dollars, as far as prices are known; an unknown price counts as nothing."""
    seconds: float | None = None
    """Wall-clock time of one drive of the run (a resume starts anew); the call under way is cancelled."""
    repeats: int | None = None
    """The same call with the same result, this often in the run: the model is in a loop. "limit:repeats"."""
    on_limit: Literal["stop", "answer", "raise"] = "stop"
    """"answer": one last model call without tools writes an answer first. "raise": `LimitReached` is raised."""

    def __post_init__(self) -> None:
        for name in self.__slots__[:-1]:
            value, least = getattr(self, name), 1 if name.startswith("calls_") else 0
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= least):
                raise SettingsError(f"limits: {name} is {value!r}; allowed: None or a number of at least {least}")
        if self.on_limit not in ("stop", "answer", "raise"):
            raise SettingsError(f"limits: on_limit is {self.on_limit!r}; allowed: stop, answer, raise")

    def before_model_call(self, state: RunState) -> str | None:
        """The stop reason if one more model call would break a limit."""
        usage = state.usage
        reached = {
            "steps": self.max_steps is not None and state.steps >= self.max_steps,
            "input_tokens": self.input_tokens is not None and usage.input_tokens + state.context_tokens >= self.input_tokens,
            "output_tokens": self.output_tokens is not None and usage.output_tokens >= self.output_tokens,
            "cost": self.cost is not None and (state.cost or 0.0) >= self.cost,
            "repeats": self.repeats is not None and state.repeats >= self.repeats,
        }
        return next((f"limit:{name}" for name, is_reached in reached.items() if is_reached), None)

    def tool_calls_left(self, state: RunState) -> int | None:
        """How many more tool calls may run; None without a limit."""
        return None if self.tool_calls is None else max(0, self.tool_calls - state.usage.tool_calls)
