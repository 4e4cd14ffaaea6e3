"""Ready-made middleware, and the base class for your own."""

from __future__ import annotations

from ..run.middleware import Middleware, NextModelCall, NextToolCall
from .cache_report import CacheReport
from .cancelling import CancellableCalls

__all__ = ["CacheReport", "CancellableCalls", "Middleware", "NextModelCall", "NextToolCall"]
