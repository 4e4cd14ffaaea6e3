from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from agentkit import Agent, ChatModel, Limits, RunResult, RunState
from agentkit.cli.text import money
from agentkit.errors import SettingsError
from agentkit.messages import Usage
from agentkit.models.prices import DEEPSEEK_FLASH, DEEPSEEK_PRO, Price, cost_of
from agentkit.models.profiles import ANYFAST, DEEPSEEK, GENERIC

MILLION = Usage(input_tokens=2_000_000, cache_read_tokens=1_000_000, output_tokens=1_000_000, reasoning_tokens=400_000)
"""A million each of hits, misses and answer tokens; the thinking is part of the answer."""


NIGHT = datetime(2026, 11, 23, 22, tzinfo=UTC)
"""Outside of peak hours."""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("prices", "when", "dollars"),
    [
        (DEEPSEEK_FLASH, "2026-04-25T23:59:59", None),
        (DEEPSEEK_FLASH, "2026-04-26T00:00:00", 0.0028 + 0.14 + 0.28),
        (DEEPSEEK_FLASH, "2026-08-14T02:00:00", 0.0028 + 0.14 + 0.28),  # a Friday; there was no peak price yet
        (DEEPSEEK_FLASH, "2026-09-10T00:00:00", 0.003 + 0.15 + 0.60),
        (DEEPSEEK_FLASH, "2026-11-23T02:00:00", 0.006 + 0.30 + 1.20),
        (DEEPSEEK_PRO, "2026-11-23T12:00:00", 0.022 + 0.66 + 1.98),
        (DEEPSEEK_PRO, "2026-11-23T09:00:00", 0.044 + 1.32 + 3.96),
        ((), "2026-11-23T12:00:00", None),
    ],
)
def test_the_price_in_force_at_that_time(prices: tuple[Price, ...], when: str, dollars: float | None) -> None:
    assert cost_of(prices, MILLION, at(when)) == (None if dollars is None else pytest.approx(dollars))
    assert cost_of(prices[::-1], MILLION, at(when)) == cost_of(prices, MILLION, at(when))


@pytest.mark.parametrize(
    ("when", "peak"),
    [
        ("2026-11-23T00:59:59", False),  # Monday
        ("2026-11-23T01:00:00", True),
        ("2026-11-23T03:59:59", True),
        ("2026-11-23T04:00:00", False),
        ("2026-11-23T06:00:00", True),
        ("2026-11-23T09:59:59", True),
        ("2026-11-23T10:00:00", False),
        ("2026-11-27T09:00:00", True),  # Friday
        ("2026-11-28T09:00:00", False),  # Saturday
        ("2026-11-29T02:00:00", False),  # Sunday
    ],
)
def test_peak_hours(when: str, peak: bool) -> None:
    price = Price(at("2026-01-01T00:00:00"), 1.0, 1.0, 1.0, peak=2.0)
    assert cost_of([price], Usage(output_tokens=1_000_000), at(when)) == (2.0 if peak else 1.0)


def test_peak_hours_are_utc_wherever_the_clock_is() -> None:
    beijing = datetime(2026, 11, 23, 9, 30, tzinfo=timezone(timedelta(hours=8)))  # 01:30 UTC
    assert cost_of(DEEPSEEK_FLASH, Usage(output_tokens=1_000_000), beijing) == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("name", "prices"),
    [
        ("deepseek-v4-flash", DEEPSEEK_FLASH),
        ("deepseek-flash", DEEPSEEK_FLASH),
        ("DeepSeek-V4-Flash-ga-260731", DEEPSEEK_FLASH),
        ("deepseek-v4-pro", DEEPSEEK_PRO),
        ("deepseek-next", ()),
    ],
)
def test_prices_by_model(name: str, prices: tuple[Price, ...]) -> None:
    assert DEEPSEEK.price_of(name) == prices
    assert ANYFAST.price_of(name) == prices, "by DeepSeek's list"
    assert GENERIC.price_of(name) == ()


def test_prices_can_be_overridden_and_the_longest_beginning_counts() -> None:
    cheap, special = (Price(at("2026-01-01T00:00:00"), 0, 0, 1),), (Price(at("2026-01-01T00:00:00"), 0, 0, 2),)
    profile = replace(ANYFAST, prices={"deepseek": cheap, "deepseek-v4": special})
    assert profile.price_of("deepseek-v4-flash") == special
    assert profile.price_of("deepseek-flash") == cheap


@pytest.mark.parametrize(
    ("base_url", "note"),
    [("https://www.anyfast.ai/v1", "estimated at DeepSeek's list price"), ("https://api.deepseek.com", "")],
)
def test_money_can_be_capped_in_one_line_on_the_servers_of_the_default_model(base_url: str, note: str) -> None:
    """The servers cannot be reached: a transport answers for them, as each would."""
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "total_tokens": 2_000_000}
    body = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}], "usage": usage}

    async def main() -> RunResult[str]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body))) as client:
            model = ChatModel(base_url=base_url, api_key="key-0123456789", client=client, clock=lambda: NIGHT)
            return await Agent(model, limits=Limits(cost=10)).run("Hi")

    result = asyncio.run(main())
    assert result.cost == pytest.approx(0.15 + 0.60)
    assert result.price_note == note
    assert money(result.cost, result.price_note) == (f"$0.7500 ({note})" if note else "$0.7500")
    assert RunState.from_json(result.state.to_json()).price_note == note


def test_a_price_in_one_line() -> None:
    model = ChatModel("m", base_url="https://llm.example/v1", api_key="k", price=(1, 2.5))
    (price,) = model.profile.price_of(model.name)
    assert price.cost(Usage(1, 1_000_000, 1_000_000, cache_read_tokens=400_000), datetime(1999, 1, 4, 2, tzinfo=UTC)) == 3.5
    own = Price(datetime(2026, 1, 1, tzinfo=UTC), 0.1, 1, 2)
    model = ChatModel("deepseek-v4-flash", base_url="https://www.anyfast.ai/v1", api_key="k", price=own)
    assert (model.profile.price_of(model.name), model.profile.price_note) == ((own,), "")


@pytest.mark.parametrize("price", [1, "1/2", (1,), (1, 2, 3), (1, -2), (1, float("inf")), (1, float("nan")), (True, 1), {1, 2}])
def test_a_price_of_another_form_is_refused(price: Any) -> None:
    with pytest.raises(SettingsError, match=r"allowed: \(in, out\) in US dollars per million tokens"):
        ChatModel("m", base_url="https://llm.example/v1", price=price)
