"""Tests with small requests what a chat-completions server supports; the code of `agentkit check-endpoint`.

Each check sends a few requests of a few hundred tokens, and reports what it found. Differences from the profile in use are
collected, so that the report can give the profile that fits.
"""

from .checks import CHECKS
from .endpoint import check_endpoint, estimate
from .findings import Finding, Report

__all__ = ["CHECKS", "Finding", "Report", "check_endpoint", "estimate"]
