"""Many inputs: the runs of one agent over them, some at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sized
from pathlib import Path
from typing import Any, Generic, Literal

from ._dataclass import frozen_dataclass
from ._sync import check_loop
from ._typing import OutputT
from .errors import SettingsError
from .redact import redact
from .run.ending import json_value
from .run.result import RunResult

__all__ = ["MapItem", "MapRun", "line_of"]


@frozen_dataclass
class MapItem(Generic[OutputT]):
    """One input, and what came of it: a `result`, or with `on_error="keep"` the `error` that ended its run."""

    index: int
    input: Any
    result: RunResult[OutputT] | None = None
    error: Exception | None = None

    @property
    def output(self) -> OutputT:
        """The run's output. Raises its error."""
        if self.result is None:
            raise self.error or RuntimeError("the run has not ended")
        return self.result.output


class MapRun(Generic[OutputT]):
    """The runs of an agent over many inputs; see `Agent.map`. `await` it for a list, or iterate over it with `async for`."""

    def __init__(
        self,
        run: Callable[[int, Any], Awaitable[RunResult[OutputT]]],
        inputs: Iterable[Any],
        *,
        concurrency: int,
        on_error: Literal["keep", "raise"],
        as_completed: bool,
        out: str | Path | None,
        is_new: bool = False,
        progress: bool,
        on_item: Callable[[MapItem[OutputT]], object] | None = None,
    ) -> None:
        if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
            raise SettingsError(f"concurrency is {concurrency!r}; allowed: a whole number of at least 1")
        if on_error not in ("keep", "raise"):
            raise SettingsError(f"on_error is {on_error!r}; allowed: 'keep' or 'raise'")
        if isinstance(inputs, str | bytes) or not isinstance(inputs, Iterable):
            raise SettingsError(f"inputs is {inputs!r:.80}; allowed: an iterable of prompts")
        self._run, self._inputs, self._concurrency = run, inputs, concurrency
        self._on_error, self._as_completed, self._out, self._progress = on_error, as_completed, out, progress
        self._on_item = on_item
        if out is not None:
            Path(out).open("w" if is_new else "a", encoding="utf-8").close()  # if it fails, then before the first run

    def __await__(self) -> Generator[Any, None, list[MapItem[OutputT]]]:
        return self._list().__await__()

    async def _list(self) -> list[MapItem[OutputT]]:
        items = [item async for item in self._items(as_completed=True)]  # none waits for an earlier one
        return sorted(items, key=lambda item: item.index)

    def __aiter__(self) -> AsyncIterator[MapItem[OutputT]]:
        return self._items(as_completed=self._as_completed)

    async def _items(self, *, as_completed: bool) -> AsyncGenerator[MapItem[OutputT], None]:
        """The items: in the order of the inputs, or with `as_completed` as their runs end. Leaving the loop cancels the others.

        At most `concurrency` inputs are taken ahead of what was given, so that an endless iterator can be mapped over.
        """
        inputs = enumerate(self._inputs)
        running: dict[asyncio.Task[MapItem[OutputT]], int] = {}
        ready: dict[int, MapItem[OutputT]] = {}
        next_index = 0
        bar = _Bar(self._inputs) if self._progress else None
        try:
            while True:
                while len(running) + len(ready) < self._concurrency and (following := next(inputs, None)) is not None:
                    check_loop()
                    running[asyncio.ensure_future(self._one(*following))] = following[0]
                if not running:
                    return
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                self._take(sorted(ended, key=running.__getitem__), ready, bar)
                for task in ended:
                    del running[task]
                while ready and (as_completed or next_index in ready):
                    yield ready.pop(next(iter(ready)) if as_completed else next_index)
                    next_index += 1
        finally:
            if bar:
                bar.close()
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    def _take(self, ended: list[asyncio.Task[MapItem[OutputT]]], ready: dict[int, MapItem[OutputT]], bar: _Bar | None) -> None:
        """Write the items of these runs. Then raise the first error, if there is one: what has ended is not lost for it."""
        failed = [error for task in ended if (error := task.exception()) is not None]
        for task in ended:
            if task.exception() is None:
                item = ready[task.result().index] = task.result()
                self._write(item)
                if bar:
                    bar.advance(item)
        if failed:
            raise failed[0]

    async def _one(self, index: int, given: Any) -> MapItem[OutputT]:
        try:
            return MapItem(index, given, await self._run(index, given))
        except Exception as error:  # of one run among many
            if self._on_error == "raise":
                error.add_note(f"input {index} of the map: {given!r:.80}")
                raise
            return MapItem(index, given, None, error)

    def _write(self, item: MapItem[OutputT]) -> None:
        """One line of JSON in `out`, and the call of `on_item`, when the run has ended."""
        if self._out is not None:
            with Path(self._out).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line_of(item)) + "\n")
        if self._on_item is not None:
            self._on_item(item)


def line_of(item: MapItem[Any]) -> dict[str, Any]:
    """The item as JSON can hold it: a line of `out`."""
    line = {"index": item.index, "input": json_value(item.input)}
    if item.result is not None:
        result = item.result
        line |= {"output": json_value(result.output), "stop_reason": result.stop_reason, "run_id": result.run_id}
        line |= {"cost": result.cost, "tokens": result.usage.total_tokens}
    if item.error is not None:
        line["error"] = redact(f"{type(item.error).__name__}: {item.error}")
    return line


class _Bar:
    """A progress bar on standard error, where that is a terminal."""

    def __init__(self, inputs: Iterable[Any]) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            raise SettingsError("progress=True needs rich: pip install 'agentkit[cli]'") from None
        total = len(inputs) if isinstance(inputs, Sized) else None
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[failed]}")
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._failed = 0
        self._progress.start()
        self._task = self._progress.add_task("", total=total, failed="")

    def advance(self, item: MapItem[Any]) -> None:
        """One more has ended."""
        self._failed += item.error is not None
        self._progress.update(self._task, advance=1, failed=f"{self._failed} failed" if self._failed else "")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()
