"""Pacing: how many requests go at once and per minute, over runs, threads and event loops."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentkit import Agent, ChatModel, Limiter, Retry, SettingsError
from agentkit import errors as e
from agentkit.limiter import limiter_for
from agentkit.testing import DeepSeekSimulator, Failure
from tests.faults.rows import answer, status
from tests.models.raw_server import raw_server

BUSY = e.RateLimited("slow down")


class Clock:
    """A clock that a test turns; sleeping turns it too."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        made.now += seconds
        await real(0)

    monkeypatch.setattr("agentkit.limiter.asyncio.sleep", sleep)
    return made


async def one(limiter: Limiter, error: Exception | None = None, tokens: int = 1, used: int | None = None) -> float:
    """One request; the seconds that it waited."""
    turn = limiter.turn(tokens)
    await turn.__aenter__()
    turn.used = used
    await turn.__aexit__(None, error, None)
    return turn.waited


async def crowd(limiter: Limiter, count: int, work: Callable[[], Awaitable[None]]) -> int:
    """So many requests at once; the most that were under way together."""
    inside = most = 0

    async def request() -> None:
        nonlocal inside, most
        async with limiter.turn(1):
            inside += 1
            most = max(most, inside)
            await work()
            inside -= 1

    await asyncio.gather(*(request() for _ in range(count)))
    return most


async def nap() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_as_many_as_come_without_a_bound_and_no_more_with_one() -> None:
    assert asyncio.run(crowd(Limiter(), 50, nap)) == 50
    assert asyncio.run(crowd(Limiter(at_once=7), 50, nap)) == 7


def test_a_429_halves_the_bound_once_for_those_under_way_and_answers_let_it_grow(clock: Clock) -> None:
    limiter = Limiter(at_once=16, clock=clock)

    async def refused() -> None:
        await asyncio.sleep(0)
        clock.now += 0.1
        raise BUSY

    async def main() -> list[float | None]:
        bounds = []
        together = [crowd(limiter, 1, refused) for _ in range(16)]
        await asyncio.gather(*together, return_exceptions=True)
        bounds.append(limiter.at_once)
        for _ in range(3):
            clock.now += 1
            await one(limiter, BUSY)
        bounds.append(limiter.at_once)
        for _ in range(200):
            await one(limiter)
        bounds.append(limiter.at_once)
        return bounds

    first, second, third = asyncio.run(main())
    assert first == 8, "sixteen refusals of one moment say one thing"
    assert second == 1
    assert third is not None and 15 < third <= 16


def test_without_a_bound_the_first_429_sets_one() -> None:
    limiter = Limiter()

    async def main() -> None:
        held = [limiter.turn(1) for _ in range(10)]
        for turn in held:
            await turn.__aenter__()
        await held[0].__aexit__(None, BUSY, None)
        for turn in held[1:]:
            await turn.__aexit__(None, None, None)

    asyncio.run(main())
    assert limiter.at_once is not None and 5 <= limiter.at_once < 8


def test_requests_per_minute_are_spread(clock: Clock) -> None:
    limiter = Limiter(requests_per_minute=60, clock=clock)

    async def main() -> list[float]:
        return [await one(limiter) for _ in range(63)]

    waits = asyncio.run(main())
    assert waits[:60] == [0.0] * 60
    assert waits[60:] == pytest.approx([1.0] * 3, abs=0.01)


def test_tokens_per_minute_are_estimated_then_corrected(clock: Clock) -> None:
    limiter = Limiter(tokens_per_minute=6000, clock=clock)

    async def main() -> list[float]:
        return [
            await one(limiter, tokens=3000, used=6000),  # twice what was thought
            await one(limiter, tokens=3000, used=100),  # must wait for 30 seconds; most is given back
            await one(limiter, tokens=2000),
            await one(limiter, tokens=60_000),  # more than a minute has: waits for a full bucket
        ]

    first, second, third, fourth = asyncio.run(main())
    assert (first, third) == (0.0, 0.0)
    assert second == pytest.approx(30, abs=0.1) and fourth == pytest.approx(60 - 9, abs=0.5)


def test_who_needs_many_tokens_is_not_overtaken_by_those_who_need_few(clock: Clock) -> None:
    limiter, order = Limiter(tokens_per_minute=6000, clock=clock), list[int]()

    async def request(tokens: int) -> None:
        async with limiter.turn(tokens):
            order.append(tokens)

    async def main() -> None:
        await one(limiter, tokens=6000)
        await asyncio.gather(*(request(tokens) for tokens in (500, 1, 2, 3)))

    asyncio.run(main())
    assert order == [500, 1, 2, 3]


def test_who_is_cancelled_while_it_waits_for_tokens_gives_them_back() -> None:
    limiter = Limiter(tokens_per_minute=6000, clock=lambda: 0.0)

    async def main() -> None:
        await one(limiter, tokens=6000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await one(limiter, tokens=500)

    asyncio.run(main())
    assert limiter._take(0, 0) == 0.0
    assert limiter._take(0, 100) == pytest.approx(1.0)


def test_turns_come_in_the_order_of_asking() -> None:
    limiter, order = Limiter(at_once=1), list[int]()

    async def request(number: int) -> None:
        async with limiter.turn(1):
            order.append(number)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(request(n) for n in range(20)))

    asyncio.run(main())
    assert order == list(range(20))


def test_who_gives_up_waiting_leaves_no_gap() -> None:
    limiter = Limiter(at_once=1)

    async def main() -> None:
        async with limiter.turn(1):
            waiting = [asyncio.create_task(one(limiter)) for _ in range(5)]
            await asyncio.sleep(0)
            for task in waiting[:3]:
                task.cancel()
            await asyncio.gather(*waiting[:3], return_exceptions=True)
        waiting[3].cancel()  # let through already, but it has not noticed yet
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await asyncio.wait_for(one(limiter), 5) < 5

    asyncio.run(main())


def test_a_server_that_fails_again_and_again_is_left_alone_then_tried_by_one(clock: Clock) -> None:
    limiter, down = Limiter(failures=3, pause=10, clock=clock), e.Overloaded("HTTP 500")

    async def main() -> None:
        for _ in range(3):
            await one(limiter, down)
        with pytest.raises(e.Overloaded, match="failed 3 times in a row and is left alone") as caught:
            await one(limiter)
        assert caught.value.retryable and caught.value.retry_after == 10
        clock.now += 10.5
        await one(limiter, down)  # the one that goes through
        with pytest.raises(e.Overloaded, match="failed 4 times"):
            await one(limiter)
        clock.now += 10.5
        await one(limiter)
        await one(limiter)

    asyncio.run(main())


def test_a_refused_request_is_no_failure_of_the_server() -> None:
    limiter = Limiter(failures=2)

    async def main() -> None:
        for _ in range(5):
            await one(limiter, e.Overloaded("HTTP 500"))
            await one(limiter, e.BadRequest("HTTP 400"))

    asyncio.run(main())


def test_what_this_process_lacks_is_no_failure_of_the_server() -> None:
    limiter = Limiter(failures=2)

    async def main() -> None:
        for _ in range(5):
            full = e.ConnectionFailed("Too many open files")
            full.__cause__ = OSError(errno.EMFILE, "Too many open files")
            await one(limiter, full)
        await one(limiter)

    asyncio.run(main())


def test_threads_and_event_loops_share_a_bound() -> None:
    limiter, lock = Limiter(at_once=3), threading.Lock()
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            async with limiter.turn(1):
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


def test_a_loop_that_ends_while_it_waits_holds_nobody_up() -> None:
    limiter = Limiter(at_once=1)
    held = limiter.turn(1)
    outer, inner = asyncio.new_event_loop(), asyncio.new_event_loop()
    outer.run_until_complete(held.__aenter__())
    waiting = inner.create_task(one(limiter))
    inner.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    inner.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    inner.close()
    outer.run_until_complete(held.__aexit__(None, None, None))
    outer.run_until_complete(asyncio.wait_for(one(limiter), 5))
    outer.close()


@pytest.mark.parametrize("options", [{"at_once": 0}, {"pause": -1}, {"failures": "many"}, {"tokens_per_minute": 0}])
def test_what_a_limiter_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"limiter: {next(iter(options))} is .*; allowed: a number above 0"):
        Limiter(**options)


def test_models_of_one_server_and_key_share_a_limiter() -> None:
    a, b, c = (ChatModel("m", base_url="http://127.0.0.1:9/v1", api_key=key) for key in ("k1", "k1", "k2"))
    assert a.limiter is b.limiter is limiter_for("http://127.0.0.1:9/v1/chat/completions", "k1") is not c.limiter
    own = Limiter(at_once=2)
    assert ChatModel("m", base_url="http://127.0.0.1:9/v1", limiter=own).limiter is own


def test_runs_at_once_slow_down_together_when_a_server_refuses_some_of_them() -> None:
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
    assert limiter.at_once is not None and limiter.at_once < 20
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
