"""Price tables: what the models of known servers cost."""

from __future__ import annotations

from datetime import UTC, datetime

from ..prices import Price, cost_of, price_given

__all__ = ["DEEPSEEK_FLASH", "DEEPSEEK_PRO", "Price", "cost_of", "price_given"]

DEEPSEEK_FLASH = (
    Price(datetime(2026, 4, 26, tzinfo=UTC), 0.0028, 0.14, 0.28),
    Price(datetime(2026, 8, 16, tzinfo=UTC), 0.0044, 0.22, 0.66, peak=2.0),
    Price(datetime(2026, 9, 10, tzinfo=UTC), 0.003, 0.15, 0.60, peak=2.0),
)
"""DeepSeek's price page for `deepseek-flash` and its older name `deepseek-v4-flash`, read 2026-11-23. The rates of August
were reported by users; the cache-hit price among them is inferred from the usual ratio of 50."""

DEEPSEEK_PRO = (
    Price(datetime(2026, 4, 26, tzinfo=UTC), 0.003625, 0.435, 0.87),
    Price(datetime(2026, 8, 16, tzinfo=UTC), 0.022, 0.66, 1.98, peak=2.0),
)
"""DeepSeek's price page for `deepseek-v4-pro`, read 2026-11-23."""
