"""Retries: which errors, how often, how long, and what a watcher is told. No test waits: the sleep is a value."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from agentkit import ModelSettings, Retry, ScriptedModel, SettingsError, User
from agentkit import errors as e
from agentkit.events import Delta, Retrying, TextDelta
from agentkit.model import DeltaSink, ModelReply, ModelRequest
from agentkit.models.retry import RetryingModel
from agentkit.models.scripted import ScriptItem

REQUEST = ModelRequest([User("hi")])
BUSY = e.Overloaded("busy", status=503)


class Waits(list[float]):
    """A sleep that only notes how long it was asked for."""

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)
        await asyncio.sleep(0)


def ask(
    script: Sequence[ScriptItem], on_delta: DeltaSink | None = None, **options: float
) -> tuple[ModelReply, ScriptedModel, Waits]:
    waits, model = Waits(), ScriptedModel(script)
    retry = Retry(sleep=waits.sleep, **options)  # type: ignore[arg-type]
    return asyncio.run(retry.wrap(model).reply(REQUEST, on_delta)), model, waits


RETRYABLE = [e.RateLimited("x"), e.Overloaded("x"), e.ConnectionFailed("x"), e.StreamBroken("x"), e.EmptyReply("x")]
FINAL = [
    e.BadRequest("x"),
    e.ContextTooLong("x"),
    e.AuthError("x"),
    e.InsufficientBalance("x"),
    e.ContentFiltered("x"),
    e.MissingKey("x"),
    SettingsError("x"),
    ValueError("x"),
]


@pytest.mark.parametrize("failure", RETRYABLE, ids=lambda f: type(f).__name__)
def test_what_may_succeed_later_is_asked_again_with_the_same_request(failure: Exception) -> None:
    reply, model, waits = ask([failure, failure, "done"])
    assert reply.message.text == "done"
    assert len(waits) == 2
    assert model.requests == [ModelRequest(tuple(REQUEST.messages))] * 3


def test_five_attempts_are_made() -> None:
    model = ScriptedModel([e.Overloaded(str(n)) for n in range(9)])
    with pytest.raises(e.Overloaded, match="4"):
        asyncio.run(Retry(sleep=Waits().sleep).wrap(model).reply(REQUEST))
    assert len(model.requests) == 5


@pytest.mark.parametrize("failure", FINAL, ids=lambda f: type(f).__name__)
def test_what_would_fail_again_is_not(failure: Exception) -> None:
    waits, model = Waits(), ScriptedModel([failure, "never"])
    with pytest.raises(type(failure)) as caught:
        asyncio.run(Retry(sleep=waits.sleep).wrap(model).reply(REQUEST))
    assert caught.value is failure
    assert (len(model.requests), waits) == (1, [])


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_statuses_that_are_retried(status: int) -> None:
    assert e.error_for_status(status).retryable


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 413, 422])
def test_statuses_that_are_not(status: int) -> None:
    assert not e.error_for_status(status).retryable


def test_the_last_error_is_raised_when_the_attempts_are_used_up() -> None:
    errors = [e.Overloaded(str(n)) for n in range(3)]
    waits, model = Waits(), ScriptedModel([*errors, "never"])
    with pytest.raises(e.Overloaded) as caught:
        asyncio.run(Retry(attempts=3, sleep=waits.sleep).wrap(model).reply(REQUEST))
    assert caught.value is errors[-1]
    assert len(waits) == 2


def test_waits_have_full_jitter_below_a_doubling_bound() -> None:
    rounds = [ask([BUSY] * 6 + ["ok"], attempts=7, first=0.5, longest=4.0)[2] for _ in range(40)]
    for place, bound in enumerate([0.5, 1.0, 2.0, 4.0, 4.0, 4.0]):
        seen = [waits[place] for waits in rounds]
        assert all(0 <= wait <= bound for wait in seen)
        assert max(seen) > bound / 2 > min(seen)  # one in 2**40 that this fails by chance
        assert len(set(seen)) > 30


@pytest.mark.parametrize("asked", [0.0, 7.5, 60.0])
def test_the_wait_that_the_server_asks_for_is_kept(asked: float) -> None:
    assert ask([e.RateLimited("x", retry_after=asked), "ok"])[2] == [asked]


@pytest.mark.parametrize("asked", [60.5, 3600.0, float("inf")])
def test_a_wait_beyond_the_longest_is_not_begun_and_comes_out_with_the_error(asked: float) -> None:
    waits, model = Waits(), ScriptedModel([e.RateLimited("later", retry_after=asked), "never"])
    with pytest.raises(e.RateLimited) as caught:
        asyncio.run(Retry(sleep=waits.sleep).wrap(model).reply(REQUEST))
    assert (caught.value.retry_after, len(model.requests), waits) == (asked, 1, [])


def test_no_wait_begins_that_would_end_after_the_total() -> None:
    waits, model = Waits(), ScriptedModel([e.RateLimited("slow down", retry_after=5.0), "never"])
    with pytest.raises(e.RateLimited, match="slow down"):
        asyncio.run(Retry(total=4.0, sleep=waits.sleep).wrap(model).reply(REQUEST))
    assert (len(model.requests), waits) == (1, [])


def test_watchers_are_told_before_each_wait() -> None:
    told: list[Delta] = []

    async def on_delta(delta: Delta) -> None:
        told.append(delta)

    ask([e.RateLimited("slow", retry_after=2.0), e.EmptyReply("nothing"), "ok"], on_delta, first=0.0)
    assert told == [Retrying(1, 2.0, "RateLimited: slow"), Retrying(2, 0.0, "EmptyReply: nothing"), TextDelta("ok")]


def test_cancelling_a_wait_ends_it_at_once() -> None:
    async def main() -> int:
        waiting = asyncio.Event()

        async def sleep(_seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        model = ScriptedModel([BUSY, "never"])
        task = asyncio.create_task(Retry(sleep=sleep).wrap(model).reply(REQUEST))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(model.requests)

    assert asyncio.run(main()) == 1


def test_a_cancelled_call_is_not_made_again() -> None:
    class Cancelled:
        calls = 0

        async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
            self.calls += 1
            raise asyncio.CancelledError

    async def main() -> int:
        model = Cancelled()
        with pytest.raises(asyncio.CancelledError):
            await Retry().wrap(model).reply(REQUEST)
        return model.calls

    assert asyncio.run(main()) == 1


def test_many_calls_at_once_share_one_retrying_model() -> None:
    """Each counts its own attempts: the first two of every request fail."""
    waits = Waits()
    seen: dict[str, itertools.count[int]] = {}

    def answer(request: ModelRequest) -> ScriptItem:
        name = str(request.messages[0].role) + str(request.settings.user_id)
        return f"{name} done" if next(seen.setdefault(name, itertools.count())) == 2 else BUSY

    async def main() -> list[str]:
        model = RetryingModel(ScriptedModel(answer), Retry(attempts=3, sleep=waits.sleep))
        requests = [ModelRequest([User("hi")], settings=ModelSettings(user_id=str(n))) for n in range(100)]
        return [reply.message.text for reply in await asyncio.gather(*map(model.reply, requests))]

    assert asyncio.run(main()) == [f"user{n} done" for n in range(100)]
    assert len(waits) == 200


@pytest.mark.parametrize("field", ["attempts", "first", "longest", "longest_asked", "total"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_retry_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"retry: {field} is"):
        Retry(**{field: value})  # type: ignore[arg-type]


def test_what_is_retried_is_the_users_to_say() -> None:
    only_limits = {"when": lambda error: isinstance(error, e.RateLimited)}
    assert ask([e.RateLimited("x"), "done"], **only_limits)[0].message.text == "done"  # type: ignore[arg-type]
    with pytest.raises(e.Overloaded):
        ask([BUSY, "never"], **only_limits)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="when is 7"):
        Retry(when=7)  # type: ignore[arg-type]


def test_a_refusal_for_which_nothing_was_sent_is_no_attempt() -> None:
    shut = [e.CircuitOpen("left alone", retry_after=10.0) for _ in range(6)]
    reply, model, waits = ask([BUSY, *shut, BUSY, "done"], attempts=3)
    assert (reply.message.text, len(model.requests), waits[1:7]) == ("done", 9, [10.0] * 6)
    with pytest.raises(e.Overloaded):
        ask([BUSY, *shut, BUSY, BUSY, "never"], attempts=3)


def test_the_total_begins_with_the_first_failure_and_leaves_turns_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, model_waits, first_only = [1000.0], [0.0], [False]
    monkeypatch.setattr("agentkit.models.retry.time.monotonic", lambda: now[0])

    class Silent:
        """Fails after so many seconds, of which it waits some for its turn."""

        def __init__(self, *seconds: float) -> None:
            self.seconds, self.asked = [*seconds], 0

        async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
            self.asked += 1
            now[0] += self.seconds.pop(0)
            error = e.TimedOut("silent")
            error.waited = model_waits[0] if self.asked == 1 or not first_only[0] else 0.0
            raise error

    def asked(*seconds: float, total: float = 180.0) -> int:
        model, waits = Silent(*seconds), Waits()
        with pytest.raises(e.TimedOut):
            asyncio.run(Retry(sleep=waits.sleep, total=total, first=0).wrap(model).reply(REQUEST))
        return model.asked

    assert asked(300.0, 300.0) == 2, "a silent server is asked again, and once"
    assert asked(300.0, 100.0, 100.0) == 3
    assert asked(300.0, 1.0, total=0.5) == 2
    model_waits[0] = 250.0
    assert asked(300.0, 300.0, 300.0, 300.0, 300.0) == 5, "they waited for their turns"
    first_only[0] = True
    assert asked(300.0, 200.0, 200.0) == 2, "what the first waited is no credit for the others"


def test_how_long_was_waited_is_told_whatever_comes() -> None:
    def busy() -> e.Overloaded:
        error = e.Overloaded("busy", retry_after=2.0)
        error.waited = 1.0
        return error

    assert ask([busy(), busy(), "done"])[0].waited == 2 * 1.0 + 2 * 2.0
    with pytest.raises(e.Overloaded) as caught:
        ask([busy(), busy(), busy()], attempts=3)
    assert caught.value.waited == 3 * 1.0 + 2 * 2.0


def test_refusals_for_which_nothing_was_sent_are_bounded() -> None:
    model = ScriptedModel([e.CircuitOpen("left alone", retry_after=1.0) for _ in range(50)])
    with pytest.raises(e.CircuitOpen):
        asyncio.run(Retry(attempts=3, sleep=Waits().sleep).wrap(model).reply(REQUEST))
    assert len(model.requests) == 23
