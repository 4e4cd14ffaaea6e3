"""`agentkit map`: one run for each line of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..agent import Agent
from ..mapping import MapItem, line_of
from ..store import open_store
from .exits import Exit, UsageError

__all__ = ["map_file", "read_inputs"]


def read_inputs(path: str) -> list[str]:
    """The inputs in a file, or `-` for the standard input: a line of JSON each (a text, or an object with `input`), or of text.

    Lines of text are the inputs of a file that does not end in `.jsonl` or `.json`. Blank lines are left out. Raises
    `UsageError`.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    is_json = path.endswith((".jsonl", ".json"))
    return list(_inputs(text, path, is_json=is_json))


def _inputs(text: str, path: str, *, is_json: bool) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if not is_json:
            yield line
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: no JSON: {error}") from None
        given = value.get("input", value.get("prompt")) if isinstance(value, dict) else value
        if not isinstance(given, str):
            raise UsageError(f'{path}, line {number}: {line[:60]}; allowed: a text, or an object such as {{"input": "..."}}')
        yield given


def map_file(
    agent: Agent[Any],
    inputs: list[str],
    *,
    out: str | None,
    concurrency: int,
    quiet: bool,
    db: str | None = None,
    run_id: str | None = None,
) -> Exit:
    """Run over the inputs. A line of JSON for each goes to the file or the standard output, in the order of the ends.

    Raises `UsageError` for a file that cannot be written, before the first run.
    """
    if (db is None) != (run_id is None):
        raise UsageError("--db and --run-id go together: the store, and the name of this job in it")
    failed = 0
    if out is not None:
        try:
            Path(out).open("a", encoding="utf-8").close()
        except OSError as error:
            raise UsageError(f"--out {out}: the file cannot be written: {error.strerror or error}") from None

    def write(item: MapItem[Any]) -> None:
        nonlocal failed
        failed += item.result is None or item.result.stop_reason != "answer"
        if out is None:
            sys.stdout.write(json.dumps(line_of(item), ensure_ascii=False) + "\n")
            sys.stdout.flush()

    stored: dict[str, Any] = {"store": open_store(db), "run_id": run_id} if db else {}
    agent.map_sync(inputs, concurrency=concurrency, out=out, progress=not quiet, on_item=write, **stored)
    if not quiet:
        sys.stderr.write(f"{len(inputs)} inputs, {failed} without an answer\n")
    return Exit.FAILED if failed else Exit.ANSWER
