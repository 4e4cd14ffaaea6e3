"""What tokens cost: dated prices per million tokens, in US dollars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ._dataclass import frozen_dataclass
from .errors import SettingsError
from .messages import Usage

__all__ = ["Price", "cost_of", "price_given"]

_MILLION = 1_000_000


@frozen_dataclass
class Price:
    """Prices in US dollars per million tokens, in force since `since`. In peak hours they are multiplied by `peak`.

    Peak hours are DeepSeek's: 01:00 to 04:00 and 06:00 to 10:00 UTC, Monday to Friday. Chinese public holidays are off-peak,
    but are not known here, so a cost on these days may be estimated too high.
    """

    since: datetime
    cache_hit: float
    cache_miss: float
    output: float
    peak: float = 1.0

    def cost(self, usage: Usage, at: datetime) -> float:
        """The price of this usage at this time."""
        dollars = (
            usage.cache_read_tokens * self.cache_hit
            + usage.cache_miss_tokens * self.cache_miss
            + usage.output_tokens * self.output
        ) / _MILLION
        return dollars * (self.peak if _is_peak(at) else 1.0)

    def min_prompt_cost(self, cached: int, new: int) -> float:
        """Minimum cost of a prompt with `cached` tokens from the cache and `new` others: the off-peak price."""
        return (cached * self.cache_hit + new * self.cache_miss) / _MILLION

    def max_cost(self, prompt: int, answer: int) -> float:
        """Maximum cost of a call with so many tokens: the peak price, with nothing read from the cache."""
        return (prompt * self.cache_miss + answer * self.output) / _MILLION * max(self.peak, 1.0)


def _is_peak(at: datetime) -> bool:
    at = at.astimezone(UTC)
    return at.weekday() < 5 and (1 <= at.hour < 4 or 6 <= at.hour < 10)


def cost_of(prices: Sequence[Price], usage: Usage, at: datetime) -> float | None:
    """The cost at the newest price in force at that time, or None if there is none."""
    in_force = [price for price in prices if price.since <= at]
    return max(in_force, key=lambda price: price.since).cost(usage, at) if in_force else None


def price_given(price: Any) -> Price:
    """The price that a program gives: a `Price`, or US dollars per million tokens as (in, out).

    With (in, out), cached tokens cost as much as others. Raises SettingsError for anything else.
    """
    if isinstance(price, Price):
        return price
    rates = [*price] if isinstance(price, tuple | list) else []
    if len(rates) != 2 or not all(type(rate) in (int, float) and 0 <= rate < float("inf") for rate in rates):
        raise SettingsError(f"price is {price!r:.80}; allowed: (in, out) in US dollars per million tokens, or a Price")
    return Price(datetime(1970, 1, 1, tzinfo=UTC), rates[0], *rates)
