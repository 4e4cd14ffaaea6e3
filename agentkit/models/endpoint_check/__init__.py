"""What a chat-completions server really does, found out by small requests; behind `agentkit check-endpoint`.

Each check sends one or a few requests of a few hundred tokens and says what it saw. What differs from the profile in use is
collected, so that the report can name the profile that fits.
"""

from .checks import CHECKS
from .endpoint import check_endpoint, estimate
from .findings import Finding, Report

__all__ = ["CHECKS", "Finding", "Report", "check_endpoint", "estimate"]
