"""Pacing: how many requests go at once and per minute, over runs, threads and event loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from math import inf
from typing import Any

import pytest

from agentkit import Agent, ChatModel, Limiter, Retry, SettingsError, TextDelta
from agentkit import errors as e
from agentkit._sync import Blocking
from agentkit.models.rate_limit import limiter_for
from agentkit.models.run_identity import as_run
from agentkit.testing import DeepSeekSimulator, Failure
from tests.faults.rows import answer, events, status
from tests.models.calls import ask
from tests.models.raw_server import raw_server, stream_head

BUSY = e.RateLimited("slow down")


class Clock:
    """A clock that a test turns; waiting for time alone turns it too."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()

    async def wait(future: asyncio.Future[None], seconds: float) -> None:
        await asyncio.sleep(0)
        if not future.done():
            made.now += max(0.0, seconds)

    monkeypatch.setattr("agentkit.models.rate_limit._wait", wait)
    return made


async def one(limiter: Limiter, error: Exception | None = None, tokens: int = 1, used: int | None = None) -> float:
    """One request; the seconds that it waited."""
    slot = limiter.slot(tokens)
    await slot.__aenter__()
    slot.used = used
    await slot.__aexit__(None, error, None)
    return slot.waited


async def crowd(limiter: Limiter, count: int, work: Callable[[], Awaitable[None]]) -> int:
    """So many requests at once; the most that were under way together."""
    inside = most = 0

    async def request() -> None:
        nonlocal inside, most
        async with limiter.slot(1):
            inside += 1
            most = max(most, inside)
            await work()
            inside -= 1

    await asyncio.gather(*(request() for _ in range(count)))
    return most


async def nap() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_at_once_bounds_the_requests_in_flight() -> None:
    assert asyncio.run(crowd(Limiter(), 50, nap)) == 50
    assert asyncio.run(crowd(Limiter(concurrency=7), 50, nap)) == 7


async def refused(limiter: Limiter, clock: Clock, count: int, error: Exception = BUSY) -> None:
    """So many requests at once, all refused."""
    slots = [limiter.slot(1) for _ in range(count)]
    for slot in slots:
        await slot.__aenter__()
    clock.now += 0.1
    for slot in slots:
        await slot.__aexit__(None, error, None)
    clock.now += 0.1


@pytest.mark.parametrize("kind", [e.RateLimited, e.Overloaded])
def test_a_pause_that_the_server_asks_for_holds_for_all(clock: Clock, kind: type[e.ModelError]) -> None:
    limiter = Limiter(clock=clock)

    async def main() -> list[float]:
        await refused(limiter, clock, 1, kind("slow down", retry_after=30))
        assert limiter.closed_for == pytest.approx(29.9)
        return [await one(limiter), await one(limiter)]

    assert asyncio.run(main()) == pytest.approx([29.9, 0], abs=0.01)


@pytest.mark.parametrize("error", [e.RateLimited("come back tomorrow", retry_after=3600), e.BadRequest("no", retry_after=30)])
def test_a_long_pause_or_one_of_a_wrong_request_holds_for_nobody(clock: Clock, error: e.ModelError) -> None:
    limiter = Limiter(clock=clock)
    asyncio.run(refused(limiter, clock, 1, error))
    assert limiter.closed_for == 0


def test_a_large_request_is_not_overtaken_by_small_ones(clock: Clock) -> None:
    limiter, order = Limiter(tokens_per_minute=6000, clock=clock), list[int]()

    async def request(tokens: int) -> None:
        async with limiter.slot(tokens):
            order.append(tokens)

    async def main() -> None:
        await one(limiter, tokens=6000)
        await asyncio.gather(*(request(tokens) for tokens in (500, 1, 2, 3)))

    asyncio.run(main())
    assert order == [500, 1, 2, 3]


def test_a_waiter_cancelled_while_it_waits_for_tokens_makes_way() -> None:
    now = 0.0
    limiter = Limiter(tokens_per_minute=6000, clock=lambda: now)

    async def main() -> float:
        nonlocal now
        await one(limiter, tokens=6000)
        large, small = asyncio.create_task(one(limiter, tokens=5000)), asyncio.create_task(one(limiter, tokens=1))
        await asyncio.sleep(0)
        now = 0.1  # ten tokens are there
        large.cancel()
        return await asyncio.wait_for(small, 5)

    assert asyncio.run(main()) == pytest.approx(0.1)


def test_a_waiter_cancelled_with_a_slot_gives_its_tokens_back() -> None:
    limiter = Limiter(concurrency=1, tokens_per_minute=6000, clock=lambda: 0.0)

    async def main() -> float:
        async with limiter.slot(1000):
            waiting = asyncio.create_task(one(limiter, tokens=5000))
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return await asyncio.wait_for(one(limiter, tokens=5000), 5)

    assert asyncio.run(main()) == 0.0


def test_tokens_that_a_reply_did_not_use_go_to_waiters() -> None:
    limiter = Limiter(tokens_per_minute=6000, clock=lambda: 0.0)

    async def main() -> float:
        slot = limiter.slot(6000)
        await slot.__aenter__()
        waiting = asyncio.create_task(one(limiter, tokens=3000))
        await asyncio.sleep(0)
        slot.used = 100
        await slot.__aexit__(None, None, None)
        return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(main()) == 0.0


def test_requests_of_a_run_go_in_order() -> None:
    limiter, order = Limiter(concurrency=1), list[int]()

    async def request(number: int) -> None:
        async with limiter.slot(1):
            order.append(number)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(request(n) for n in range(20)))

    asyncio.run(main())
    assert order == list(range(20))


def test_runs_take_turns_whatever_number_of_requests_they_have() -> None:
    limiter, order = Limiter(concurrency=1), list[str]()

    async def request(name: str) -> None:
        async with limiter.slot(1):
            order.append(name)
            await asyncio.sleep(0)

    async def run(name: str, count: int) -> None:
        with as_run():
            await asyncio.gather(*(inner(name) for _ in range(count)))

    async def inner(name: str) -> None:
        with as_run():  # a run inside is part of the outer one
            await request(name)

    async def main() -> None:
        await asyncio.gather(run("many", 10), run("few", 3))

    asyncio.run(main())
    assert order[:8] == ["many", "many", "few", "many", "few", "many", "few", "many"]


def test_a_run_inside_a_deltas_callback_passes_the_queue() -> None:
    """The request under way waits for its watcher, which waits for a turn that only this one's end would give."""
    limiter = Limiter(concurrency=1)
    with DeepSeekSimulator(lambda request: "ok" if request.messages[-1]["content"] == "judge" else "one two three") as sim:
        model = ChatModel("deepseek-v4-flash", base_url=sim.base_url, limiter=limiter)
        judge, judged = Agent(model), list[str]()

        async def watch(event: Any) -> None:
            if isinstance(event, TextDelta) and not judged:
                judged.append((await judge.run("judge")).output)

        async def main() -> str:
            result = await asyncio.wait_for(Agent(model).run("hi", observers=[watch]), 30)
            await model.aclose()
            return result.output

        assert asyncio.run(main()) == "one two three"
    assert judged == ["ok"]


def test_the_head_of_an_answer_closes_the_circuit_over_http() -> None:
    now = 0.0
    limiter = Limiter(failures=2, pause=10, clock=lambda: now)
    begun = stream_head() + events({"choices": [{"index": 0, "delta": {"content": "he"}}]})

    def reply(number: int) -> list[Any]:
        return status(503) if number < 2 else [begun, inf] if number == 2 else answer()(False)

    async def main() -> str:
        nonlocal now
        async with raw_server(reply) as server:
            model = server.model(limiter=limiter)
            agent = Agent(model, retry=None)
            for _ in range(2):
                with pytest.raises(e.Overloaded):
                    await agent.run("hi")
            now = 11.0
            async with agent.stream("hi") as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        break
                output = (await agent.run("hi")).output
            await model.aclose()
            return output

    assert asyncio.run(main()) == "hello"


def test_errors_say_how_long_the_request_waited() -> None:
    async def main() -> list[float]:
        async with raw_server(lambda _n: [0.05, *status(503)]) as server:
            model = server.model(limiter=Limiter(concurrency=1))
            failed = await asyncio.gather(*(model.reply(ask()) for _ in range(2)), return_exceptions=True)
            await model.aclose()
            return sorted(error.waited for error in failed if isinstance(error, e.Overloaded))

    first, second = asyncio.run(main())
    assert first < 0.05 <= second


@pytest.mark.filterwarnings("ignore:a sync call inside a running event loop")
@pytest.mark.parametrize("waits_for", ["a slot", "the server's pause", "requests per minute"])
def test_run_sync_inside_a_running_loop_passes_the_queue(waits_for: str) -> None:
    """Those in front of it are on the event loop that it blocks."""
    limiter = Limiter(
        concurrency=1 if waits_for == "a slot" else None, requests_per_minute=60 if waits_for == "requests per minute" else None
    )
    with DeepSeekSimulator(lambda request: request.messages[-1]["content"]) as sim:
        agent = Agent(ChatModel("deepseek-v4-flash", base_url=sim.base_url, limiter=limiter))

        async def main() -> str:
            if waits_for == "the server's pause":
                await one(limiter, e.RateLimited("slow down", retry_after=0.5))
            for _ in range(60 if waits_for == "requests per minute" else 0):
                await one(limiter)
            async with limiter.slot(1) if waits_for == "a slot" else contextlib.nullcontext():
                queued = [asyncio.ensure_future(agent.run(f"number {number}")) for number in range(3)]
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                output = agent.run_sync("hi").output
            await asyncio.gather(*queued)
            return output

        assert asyncio.run(main()) == "hi"


def test_tasks_that_a_callback_leaves_behind_wait_again() -> None:
    limiter, left = Limiter(concurrency=1), list[asyncio.Task[float]]()

    async def main() -> tuple[float, bool]:
        async with limiter.slot(1):
            with Blocking():
                waited = await one(limiter)
                left.append(asyncio.create_task(one(limiter)))
            await nap()
            is_waiting = not left[0].done()
        await left[0]
        return waited, is_waiting

    waited, is_waiting = asyncio.run(main())
    assert waited < 5 and is_waiting


def test_a_slot_that_is_silent_for_a_minute_does_not_count_until_bytes_come(clock: Clock) -> None:
    limiter = Limiter(concurrency=1, clock=clock)

    async def main() -> list[float]:
        async with limiter.slot(1) as stalled:
            clock.now += 40
            stalled.renew()
            waits = [await one(limiter), await one(limiter)]
            stalled.renew()
            return [*waits, await one(limiter)]

    assert asyncio.run(main()) == pytest.approx([60, 0, 60], abs=0.01)


def test_received_bytes_renew_the_lease() -> None:
    """A reply of which a piece comes every 50 seconds keeps its slot, for longer than a minute in all."""
    clock, seen, passed = Clock(), list[str](), list[bool]()
    limiter = Limiter(concurrency=1, clock=clock)

    def reply(_n: int) -> Iterator[Any]:
        yield stream_head()
        for number, word in enumerate(["one", "two", "ten"]):
            yield events({"choices": [{"index": 0, "delta": {"content": word}}]})
            while len(seen) <= number:
                yield 0.001
            clock.now += 50
            other = asyncio.ensure_future(one(limiter))
            yield 0.001
            passed.append(other.done())
            other.cancel()
        yield events({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

    def watch(event: Any) -> None:
        if isinstance(event, TextDelta):
            seen.append(event.text)

    async def main() -> None:
        async with raw_server(reply) as server:
            model = server.model(limiter=limiter)
            await Agent(model).run("hi", observers=[watch])
            await model.aclose()

    asyncio.run(main())
    assert (seen, passed) == (["one", "two", "ten"], [False] * 3)


def test_a_slot_on_a_blocked_event_loop_counts_for_a_minute() -> None:
    clock = Clock()
    limiter = Limiter(concurrency=1, clock=clock)

    async def main() -> None:
        async with limiter.slot(1):
            clock.now += 61
            elsewhere = threading.Thread(target=lambda: asyncio.run(one(limiter)))
            elsewhere.start()
            elsewhere.join(timeout=30)
            assert not elsewhere.is_alive()

    asyncio.run(main())


def test_a_cancelled_waiter_leaves_no_gap() -> None:
    limiter = Limiter(concurrency=1)

    async def main() -> None:
        async with limiter.slot(1):
            waiting = [asyncio.create_task(one(limiter)) for _ in range(5)]
            await asyncio.sleep(0)
            for task in waiting[:3]:
                task.cancel()
            await asyncio.gather(*waiting[:3], return_exceptions=True)
        waiting[3].cancel()  # let through already, but it has not noticed yet
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await asyncio.wait_for(one(limiter), 5) < 5

    asyncio.run(main())


def test_a_circuit_opens_after_failures_and_is_probed_by_one_request(clock: Clock) -> None:
    limiter, down = Limiter(failures=3, pause=10, clock=clock), e.Overloaded("HTTP 500")

    async def main() -> None:
        for _ in range(3):
            await one(limiter, down)
        with pytest.raises(e.CircuitOpen, match="failed 3 times in a row and is left alone") as caught:
            await one(limiter)
        asked = caught.value.retry_after
        assert caught.value.retryable and asked is not None and 10 <= asked <= 12
        clock.now += 10.5
        async with limiter.slot(1):  # the one that goes through
            with pytest.raises(e.CircuitOpen):
                await one(limiter)
        await one(limiter)
        for _ in range(3):
            await one(limiter, down)
        clock.now += 10.5
        await one(limiter, down)
        with pytest.raises(e.CircuitOpen, match="failed 4 times"):
            await one(limiter)
        clock.now += 10.5
        await one(limiter)
        await one(limiter)

    asyncio.run(main())


def test_waiters_fail_when_the_circuit_opens() -> None:
    """They would go through one after another, as each one's failure makes room for the next."""
    limiter, asked = Limiter(concurrency=1, failures=2, pause=10, clock=lambda: 0.0), list[int]()

    async def request(number: int) -> None:
        async with limiter.slot(1):
            asked.append(number)
            await asyncio.sleep(0)
            raise e.Overloaded("HTTP 500")

    async def main() -> list[BaseException | None]:
        return await asyncio.gather(*(request(number) for number in range(30)), return_exceptions=True)

    refused = [error for error in asyncio.run(main()) if isinstance(error, e.CircuitOpen)]
    assert (asked, len(refused)) == ([0, 1], 28)
    assert len({error.retry_after for error in refused}) > 20, "they do not come back together"


def test_a_queued_request_may_be_the_probe() -> None:
    now = 0.0
    limiter = Limiter(concurrency=3, failures=1, pause=10, clock=lambda: now)

    async def main() -> None:
        nonlocal now
        held, busy, failing = slots = [limiter.slot(1) for _ in range(3)]
        for slot in slots:
            await slot.__aenter__()
        await busy.__aexit__(None, BUSY, None)
        await failing.__aexit__(None, e.Overloaded("HTTP 500"), None)
        now = 10.5
        waiting = asyncio.create_task(one(limiter))
        await asyncio.sleep(0)
        await held.__aexit__(None, asyncio.CancelledError(), None)
        await waiting

    asyncio.run(main())


def test_the_beginning_of_an_answer_closes_the_circuit(clock: Clock) -> None:
    limiter, down = Limiter(failures=3, pause=10, clock=clock), e.Overloaded("HTTP 500")

    async def main() -> None:
        for _ in range(3):
            await one(limiter, down)
        clock.now += 10.5
        async with limiter.slot(1) as slot:
            slot.answered()
            await one(limiter, down)  # not yet counted as healthy
            with pytest.raises(e.CircuitOpen):
                await one(limiter)

    asyncio.run(main())


def test_threads_and_event_loops_share_a_bound() -> None:
    limiter, lock = Limiter(concurrency=3), threading.Lock()
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            async with limiter.slot(1):
                with lock:
                    inside += 1
                    most = max(most, inside)
                await asyncio.sleep(0)
                with lock:
                    inside -= 1

    async def four() -> None:
        await asyncio.gather(*(work() for _ in range(4)))

    threads = [threading.Thread(target=lambda: asyncio.run(four())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (inside, most) == (0, 3)


@pytest.mark.parametrize("let_through", [False, True])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_waiter_on_a_closed_loop_holds_nobody_up(let_through: bool, cancelled: bool) -> None:
    limiter = Limiter(concurrency=1)
    outer, inner = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def first() -> Any:
        slot = limiter.slot(1)
        return await slot.__aenter__()

    held = outer.run_until_complete(first())
    waiting = inner.create_task(one(limiter))
    inner.run_until_complete(asyncio.sleep(0))
    if let_through:
        outer.run_until_complete(held.__aexit__(None, None, None))
    if cancelled:
        waiting.cancel()
        inner.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    inner.close()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what is tested
    del waiting
    gc.collect()
    if not let_through:
        outer.run_until_complete(held.__aexit__(None, None, None))
    outer.run_until_complete(asyncio.wait_for(one(limiter), 5))
    outer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_its_parents_requests() -> None:
    limiter = Limiter(concurrency=1)

    async def main() -> int:
        async with limiter.slot(1):
            waiting = asyncio.create_task(one(limiter))
            await asyncio.sleep(0)
            child = os.fork()
            if child == 0:
                asyncio._set_running_loop(None)
                signal.alarm(20)
                asyncio.run(one(limiter))
                os._exit(0)
        await waiting
        return child

    assert os.waitpid(asyncio.run(main()), 0)[1] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0}, {"concurrency": 0.5}, {"concurrency": True}, {"concurrency": float("inf")}, {"pause": -1},
        {"pause": None}, {"failures": "many"}, {"tokens_per_minute": 0}, {"requests_per_minute": float("nan")},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"limiter: {next(iter(options))} is .*; allowed: a (whole )?number above 0"):
        Limiter(**options)


def test_models_of_one_name_server_and_key_share_a_limiter() -> None:
    def model(name: str, key: str, **more: Any) -> ChatModel:
        return ChatModel(name, base_url="http://127.0.0.1:9/v1", api_key=key, **more)

    a, b = model("m", "k1"), model("m", "k1")
    assert a.limiter is b.limiter is limiter_for("http://127.0.0.1:9/v1/chat/completions", "m", "k1")
    assert len({id(one.limiter) for one in (a, model("m", "k2"), model("n", "k1"))}) == 3
    own = Limiter(concurrency=2)
    assert model("m", "k1", limiter=own).limiter is own


def test_only_the_limiters_used_last_outlive_their_models() -> None:
    url = "http://127.0.0.1:9/v1/chat/completions"
    made = [weakref.ref(limiter_for(url, "m", f"key {number}")) for number in range(200)]
    gc.collect()
    assert sum(limiter() is not None for limiter in made) == 64
    assert limiter_for(url, "m", "key 199") is made[199]()


def test_concurrent_runs_slow_down_together_on_429s() -> None:
    """Over HTTP: every seventh request gets a 429; the bound comes down for all, and every run ends well."""

    def reply(request: Any) -> Any:
        return "hello" if len(sim.requests) % 7 else Failure(429, "slow down")

    async def main() -> list[Any]:
        model = ChatModel("deepseek-v4-flash", base_url=sim.base_url, limiter=limiter)
        agent = Agent(model, retry=Retry(attempts=20, first=0, longest=0))
        results = await asyncio.gather(*(agent.run(f"hi {n}") for n in range(20)))
        await model.aclose()
        return results

    limiter = Limiter()
    with DeepSeekSimulator(reply) as sim:
        results = asyncio.run(main())
    assert [result.output for result in results] == ["hello"] * 20
    assert limiter.concurrency is not None and limiter.concurrency < 20
    assert any(result.waited > 0 for result in results)


def test_the_result_says_how_long_it_waited() -> None:
    async def main() -> Any:
        async with raw_server(lambda n: status(503) if n == 0 else answer()(False)) as server:
            model = server.model()
            result = await Agent(model, retry=Retry(first=0.05, longest=0.05)).run("hi")
            await model.aclose()
            return result

    result = asyncio.run(main())
    assert result.output == "hello" and 0 < result.waited <= 0.06
