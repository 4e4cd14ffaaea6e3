"""The side effects of the tools, as the outside world sees them: a file that survives the process that writes to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

__all__ = ["Effect", "effects", "record"]

Effect = dict[str, str]
"""`tool`, `who` (the task whose call it is), `n` (which call), `run_id`, `position`, `key`."""


def record(path: str, effect: Effect) -> None:
    """Append the effect, and return when it is on the disk."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(effect).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


def effects(path: str) -> list[Effect]:
    """All effects, in order."""
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()] if Path(path).exists() else []
