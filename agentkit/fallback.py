"""Another model when one fails."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from .errors import AuthError, CircuitOpen, ContextTooLong, InsufficientBalance, ModelError, SettingsError
from .events import Retrying
from .limiter import Limiter
from .model import DeltaSink, Lost, Model, ModelReply, ModelRequest
from .retry import Retry

__all__ = ["Fallback", "may_help"]


def may_help(error: ModelError) -> bool:
    """Whether another server may answer what this one did not: not where the request itself is wrong, or was filtered."""
    return error.retryable or isinstance(error, AuthError | InsufficientBalance | ContextTooLong)


class Fallback:
    """Models in order: the next is asked when one fails, after its own retries. `Fallback(ChatModel("a"), ChatModel("b"))`.

    Each request begins with the first model. One whose server wants to be left alone for more than `patience` seconds (it
    asked for a wait, or failed again and again) is passed over, unless it is the last. The transcript is written for each
    model's own profile. `when` decides by the error whether the next may help. Watchers are told by a `Retrying` event, as
    text of the failed model may have been shown. Raises the last model's error, with a note of those before it; the agent
    makes no retries of its own. The settings are the same for all: one that a server does not know is a `SettingsError` when
    the agent is made.
    """

    makes_retries = True

    def __init__(
        self,
        *models: Model,
        retry: Retry | None = Retry(attempts=3),  # noqa: B008  a frozen value
        when: Callable[[ModelError], bool] = may_help,
        patience: float = 2.0,
    ) -> None:
        wrong = [model for model in models if isinstance(model, type) or not hasattr(model, "reply")]
        if wrong or len(models) < 2:
            found = f"a {type(wrong[0]).__name__}" if wrong else f"{len(models)} model"
            raise SettingsError(f"fallback has {found}; allowed: two or more models with `reply`, such as ChatModel(...)")
        self.models: Sequence[Model] = models
        hasty = retry and replace(retry, longest_asked=min(retry.longest_asked, patience))
        retries = [*[hasty] * (len(models) - 1), retry]
        self._asked = [one.wrap(model) if one else model for one, model in zip(retries, models, strict=True)]
        self._when, self._patience = when, patience

    @property
    def profile(self) -> Any:
        """The first model's profile, by which an agent chooses how typed output is asked for; None if it has none."""
        return getattr(self.models[0], "profile", None)

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The reply of the first model that gives one."""
        lost, before = Lost(), list[str]()
        for number, model in enumerate(self._asked, 1):
            try:
                if number < len(self._asked):
                    self._check_patience(self.models[number - 1])
                return lost.beside(await model.reply(request, on_delta))
            except ModelError as error:
                lost.add(error)
                if number == len(self._asked) or not self._when(error):
                    for text in before:
                        error.add_note(text)
                    raise
                if request.again:
                    request.again(lost.spent)
                before.append(f"asked before: {self.models[number - 1]!r}: {type(error).__name__}: {error}")
                if on_delta:
                    await on_delta(Retrying(number, 0.0, f"{type(error).__name__}: {error}; the next model is asked"))
            except BaseException as error:
                lost.add(error)
                raise
        raise AssertionError("there is a model")

    def _check_patience(self, model: Model) -> None:
        limiter: Limiter | None = getattr(model, "limiter", None)
        seconds = limiter.closed_for if limiter else 0.0
        if seconds > self._patience:
            raise CircuitOpen("the server wants to be left alone", retry_after=seconds)

    async def aclose(self) -> None:
        """Close the models that can be closed."""
        async with contextlib.AsyncExitStack() as stack:
            for model in self.models:
                close: Callable[[], Awaitable[None]] | None = getattr(model, "aclose", None)
                if close:
                    stack.push_async_callback(close)
