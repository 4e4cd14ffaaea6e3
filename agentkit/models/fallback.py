"""Another model when one fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import AuthError, CircuitOpen, ContextTooLong, InsufficientBalance, ModelError, SettingsError, kind_of
from ..events import Retrying
from ..model import DeltaSink, FailedAttempts, Model, ModelInfo, ModelReply, ModelRequest, close, info_of
from ..names import with_article
from .retry import Retry

__all__ = ["Fallback", "may_help"]

log = logging.getLogger("agentkit")


def may_help(error: ModelError) -> bool:
    """Whether another server may answer. False if the request itself is wrong, or was filtered."""
    return error.retryable or isinstance(error, AuthError | InsufficientBalance | ContextTooLong)


class Fallback:
    """Models in order: `Fallback(ChatModel("a"), ChatModel("b"))`. If one fails, after its retries, the next is asked.

    Each request begins with the first model. A model is skipped if its server is unavailable for more than `patience` seconds:
    it asked for a wait, or failed repeatedly. The last model is never skipped. The transcript is encoded for each model's own
    profile. `when` decides by the error whether the next model may help. Observers get a `Retrying` event,
    since they may have received text of the failed model. Raises the last model's error, with notes of the earlier ones. The
    agent adds no retries of its own. All models get the same settings: one that a server does not support raises
    `SettingsError` when the agent is made.
    """

    def __init__(
        self,
        *models: Model,
        retry: Retry | None = Retry(attempts=3),  # noqa: B008  a frozen value
        when: Callable[[ModelError], bool] = may_help,
        patience: float = 2.0,
    ) -> None:
        wrong = [model for model in models if isinstance(model, type) or not hasattr(model, "reply")]
        if wrong or len(models) < 2:
            found = with_article(type(wrong[0]).__name__) if wrong else f"{len(models)} model"
            raise SettingsError(f"fallback has {found}; allowed: two or more models with `reply`, such as ChatModel(...)")
        self._options = retry, when, patience
        self.models: Sequence[Model] = [each for model in models for each in _flattened(model, self._options)]
        self._when, self._patience = when, patience
        impatient = retry and replace(retry, when=lambda error: retry.when(error) and not self._passes_over(error))
        retries = [*[impatient] * (len(self.models) - 1), retry]
        self._wrapped = [each.wrap(model) if each else model for each, model in zip(retries, self.models, strict=True)]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle is built anew from its own models."""
        retry, when, patience = self._options
        return partial(type(self), retry=retry, when=when, patience=patience), tuple(self.models)

    @property
    def info(self) -> ModelInfo:
        """The combined info: the output mode of the first model, the price of the most expensive one."""
        first, *_ = infos = [info_of(model) for model in self.models]
        return replace(
            first,
            price=max((info.price for info in infos if info.price), key=lambda price: price.output, default=None),
            unpriced=tuple(name for info in infos for name in info.unpriced),
            makes_retries=True,
            check=self._check,
            closed_for=lambda: min(info.closed_for() for info in infos),
            hiders=tuple(hider for info in infos for hider in info.hiders),
        )

    def _check(self, request: ModelRequest) -> None:
        """Raise `SettingsError` if any of the models would refuse the request: any of them may be asked."""
        for model in self.models:
            info_of(model).check(request)

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The reply of the first model that succeeds."""
        failed_attempts, earlier_errors = FailedAttempts(), list[str]()
        try:
            for number in range(1, len(self._wrapped) + 1):
                is_last = number == len(self._wrapped)
                try:
                    return failed_attempts.add_to(await self._ask(number, request, on_delta, failed_attempts))
                except ModelError as error:
                    if is_last or not self._when(error):
                        for text in earlier_errors:
                            error.add_note(text)
                        raise
                    failed, text = error, f"{type(error).__name__}: {error}"
                if request.before_retry:
                    request.before_retry(failed_attempts.spent)
                earlier_errors.append(f"asked before: {self.models[number - 1]!r}: {text}")
                log.info("the next model is asked: %r failed with %s", self.models[number - 1], kind_of(failed))
                if notify := on_delta or request.on_retry:
                    await notify(Retrying(number, 0.0, f"{text}; the next model is asked"))
        except BaseException as error:
            failed_attempts.attach_to(error)
            raise
        raise AssertionError("there is a model")

    async def _ask(
        self, number: int, request: ModelRequest, on_delta: DeltaSink | None, failed_attempts: FailedAttempts
    ) -> ModelReply:
        """The reply of one model, by its number from 1."""
        report_spent = request.before_retry
        if report_spent:
            request = replace(request, before_retry=lambda spent: report_spent(failed_attempts.spent + spent))
        try:
            if number < len(self._wrapped):
                self._check_patience(self.models[number - 1])
            return await self._wrapped[number - 1].reply(request, on_delta)
        except BaseException as error:
            failed_attempts.add(error)
            raise

    def _check_patience(self, model: Model) -> None:
        error = CircuitOpen("the server wants to be left alone", retry_after=info_of(model).closed_for())
        if self._passes_over(error):
            raise error

    def _passes_over(self, error: ModelError) -> bool:
        """Whether to ask the next model at once, instead of retrying this one after the wait that its server asks for."""
        return (error.retry_after or 0.0) > self._patience and self._when(error)

    async def aclose(self) -> None:
        """Close the models that can be closed."""
        async with contextlib.AsyncExitStack() as stack:
            for model in self.models:
                stack.push_async_callback(close, model)


def _flattened(model: Model, options: tuple[object, ...]) -> Sequence[Model]:
    """The models of a nested fallback with the same options, so that its last model is not waited for."""
    return model.models if isinstance(model, Fallback) and model._options == options else [model]
