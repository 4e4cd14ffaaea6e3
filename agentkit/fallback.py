"""Another model when one fails."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .errors import AuthError, ContextTooLong, InsufficientBalance, ModelError, SettingsError
from .events import Retrying
from .messages import Spent
from .model import DeltaSink, Model, ModelReply, ModelRequest, with_lost
from .retry import Retry

__all__ = ["Fallback", "may_help"]


def may_help(error: ModelError) -> bool:
    """Whether another server may answer what this one did not: not where the request itself is wrong, or was filtered."""
    return error.retryable or isinstance(error, AuthError | InsufficientBalance | ContextTooLong)


class Fallback:
    """Models in order: the next is asked when one fails, after its own retries. `Fallback(ChatModel("a"), ChatModel("b"))`.

    Each request begins with the first model. The transcript is written for each model's own profile. `when` decides by the
    error whether the next may help. Watchers are told by a `Retrying` event, as text of the failed model may have been
    shown. Raises the last model's error, which the agent does not retry again. The settings are the same for all: one that
    a server does not know is a `SettingsError` when the agent is made.
    """

    def __init__(
        self,
        *models: Model,
        retry: Retry | None = Retry(attempts=3),  # noqa: B008  a frozen value
        when: Callable[[ModelError], bool] = may_help,
    ) -> None:
        wrong = [model for model in models if isinstance(model, type) or not hasattr(model, "reply")]
        if wrong or len(models) < 2:
            found = f"a {type(wrong[0]).__name__}" if wrong else f"{len(models)} model"
            raise SettingsError(f"fallback has {found}; allowed: two or more models with `reply`, such as ChatModel(...)")
        self.models: Sequence[Model] = models
        self._asked = [retry.wrap(model) if retry else model for model in models]
        self._when = when

    @property
    def profile(self) -> Any:
        """The first model's profile, by which an agent chooses how typed output is asked for; None if it has none."""
        return getattr(self.models[0], "profile", None)

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The reply of the first model that gives one."""
        lost = Spent()
        for number, model in enumerate(self._asked, 1):
            try:
                return with_lost(await model.reply(request, on_delta), lost)
            except ModelError as error:
                lost = error.uncounted = lost + (error.uncounted or Spent())
                if number == len(self._asked) or not self._when(error):
                    error.retryable = False
                    raise
                if on_delta:
                    await on_delta(Retrying(number, 0.0, f"{type(error).__name__}: {error}; the next model is asked"))
        raise AssertionError("there is a model")

    async def aclose(self) -> None:
        """Close the models that can be closed."""
        async with contextlib.AsyncExitStack() as stack:
            for model in self.models:
                close: Callable[[], Awaitable[None]] | None = getattr(model, "aclose", None)
                if close:
                    stack.push_async_callback(close)
