"""The other forms of an agent's runs: for sync code, as text, and over many inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, Unpack, overload

from . import _sync as portal
from ._agent_parts import RunOptions
from ._stored import run_or_go_on
from ._typing import OutputT, T
from .errors import SettingsError
from .mapping import MapItem, MapRun
from .parts import Content
from .run.approvals import Approvals
from .run.result import RunResult
from .run.state import RunState
from .run.stream import RunStream, SyncRunStream
from .run.text_stream import SyncTextStream, TextStream

__all__ = ["AgentForms"]


class AgentForms(Generic[OutputT]):
    """Built on `run`, `stream` and `resume` of `Agent`."""

    run: Any
    stream: Any
    resume: Any
    _resume: Any

    @overload
    def run_sync(self, prompt: Content | None = None, **options: Unpack[RunOptions]) -> RunResult[OutputT]: ...
    @overload
    def run_sync(
        self, prompt: Content | None = None, *, output_type: type[T], **options: Unpack[RunOptions]
    ) -> RunResult[T]: ...
    def run_sync(self, prompt: Content | None = None, **options: Any) -> RunResult[Any]:
        """`run` for sync code: scripts, threads, Jupyter cells, after a fork. Ctrl-C cancels the run."""
        return portal.run(self.run(prompt, **options))

    def stream_sync(self, prompt: Content | None = None, **options: Unpack[RunOptions]) -> SyncRunStream[OutputT]:
        """`stream` for sync code: an iterator with `.result`, `.close()` and `with`. A `break` cancels the run."""
        return SyncRunStream(self.stream(prompt, **options))

    def resume_sync(
        self,
        state: RunState | dict[str, Any] | str | None = None,
        approvals: Approvals | None = None,
        results: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """`resume` for sync code."""
        return portal.run(self.resume(state, approvals, results, **options))

    def resume_stream(
        self,
        state: RunState | dict[str, Any] | str | None = None,
        approvals: Approvals | None = None,
        results: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT]:
        """An asynchronous iterator over the further events of a run. It takes the arguments of `resume`."""
        return RunStream(lambda watcher: self._resume(state, approvals, results, options, watcher))

    def resume_stream_sync(
        self,
        state: RunState | dict[str, Any] | str | None = None,
        approvals: Approvals | None = None,
        results: Mapping[str, Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> SyncRunStream[OutputT]:
        """`resume_stream` for sync code."""
        return SyncRunStream(self.resume_stream(state, approvals, results, **options))

    def stream_text(self, prompt: Content | None = None, **options: Unpack[RunOptions]) -> TextStream[OutputT]:
        """The text of the model's replies, piece by piece: `async for text in agent.stream_text("Hi"): ...`.

        It takes the arguments of `run`. The texts of two steps stand apart by an empty line. After a retry, what was given
        before is not given again; where the new reply begins otherwise, it comes whole, on a new line. Thinking text is not in
        it. `.result` has the result at the end; leaving the loop cancels the run.
        """
        return TextStream(self.stream(prompt, **options))

    def stream_text_sync(self, prompt: Content | None = None, **options: Unpack[RunOptions]) -> SyncTextStream[OutputT]:
        """`stream_text` for sync code: `for text in agent.stream_text_sync("Hi"): print(text, end="")`."""
        return SyncTextStream(SyncRunStream(self.stream(prompt, **options)))

    def map(
        self,
        inputs: Iterable[Any],
        *,
        concurrency: int = 8,
        on_error: Literal["keep", "raise"] = "keep",
        as_completed: bool = False,
        out: str | Path | None = None,
        progress: bool = False,
        on_item: Callable[[MapItem[OutputT]], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> MapRun[OutputT]:
        """Run over many inputs, at most `concurrency` at a time. An input is what `run` takes as its prompt.

        `await agent.map(inputs)` gives a list of `MapItem` in the order of the inputs; `async for item in agent.map(inputs)`
        gives them one by one, with `as_completed=True` as they end. An input may come from an endless iterator: only as many
        are taken as run. With `on_error="keep"` the error of a run is in its item, and the others go on; with "raise" it is
        raised and the others are cancelled. `out` is a file that gets one line of JSON for each run when it ends.
        `progress=True` shows a bar on a terminal (with rich). `on_item` is called with each item when its run ends. `options`
        are those of `run`, for every run.

        With `store=` and `run_id="job"`, the runs have the ids `job-0`, `job-1` and so on. The same call again goes on where
        the first one stopped: runs that have ended give their stored results, and the others go on. `out` is then overwritten.
        """
        begun, store = options.pop("run_id", None), options.get("store")
        for name, given in (("log", options.get("log")), ("run_id", begun if store is None else None)):
            if given is not None:
                raise SettingsError(f"{name} is of one run, and map makes many (with store=, run_id names the job)")
        for name in ("observers", "messages"):
            if isinstance(options.get(name), Iterable):  # it may be a generator, and is read for each run
                options[name] = tuple(options[name])  # type: ignore[literal-required]

        async def run(index: int, given: Any) -> RunResult[OutputT]:
            if begun is not None:
                return await run_or_go_on(self, f"{begun}-{index}", given, options)
            result: RunResult[OutputT] = await self.run(given, **options)
            return result

        how: Any = {"concurrency": concurrency, "on_error": on_error, "as_completed": as_completed}
        return MapRun(run, inputs, **how, out=out, is_new=begun is not None, progress=progress, on_item=on_item)

    def map_sync(self, inputs: Iterable[Any], **options: Any) -> list[MapItem[OutputT]]:
        """`map` for sync code: the list of all items."""

        async def collect() -> list[MapItem[OutputT]]:
            return await self.map(inputs, **options)

        return portal.run(collect())
