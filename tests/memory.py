"""What a process took at its most."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak"]


def peak() -> int:
    """The most memory that this process has had, in KiB; none of it was that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux it would begin with the parent's
    return most // 1024 if sys.platform == "darwin" else most
