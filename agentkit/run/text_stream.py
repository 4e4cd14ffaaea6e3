"""The text of a run, piece by piece, for programs that show nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Generic

from .._typing import OutputT
from ..events import Event, ModelReplied, Retrying, RunFinished, TextDelta
from .result import RunResult
from .stream import RunStream, SyncRunStream

__all__ = ["SyncTextStream", "TextStream"]


class _Text:
    """The new text of each event. After a retry, the text that was shown before is not given again."""

    def __init__(self) -> None:
        self._shown, self._again, self._needs_break, self._last = "", "", False, ""

    def of(self, event: Event) -> str:
        """What to show now; often nothing."""
        if isinstance(event, Retrying):
            self._again = ""
            return ""
        if isinstance(event, ModelReplied):  # the text of the next step stands apart
            rest = event.message.text if not self._shown else ""  # a model, or a cache, that gave it in one piece
            self._last = event.message.text
            found = self._with_break(rest)
            self._needs_break = self._needs_break or bool(self._shown or rest)
            self._shown = self._again = ""
            return found
        if isinstance(event, RunFinished) and event.result is not None:  # the answer of a hand-off, or of a final tool
            output = event.result.output
            return self._with_break(output) if isinstance(output, str) and output != self._last else ""
        if not isinstance(event, TextDelta) or not event.text:
            return ""
        self._again += event.text
        if self._shown.startswith(self._again):  # a retry repeats it
            return ""
        new = self._again.removeprefix(self._shown) if self._again.startswith(self._shown) else "\n" + self._again
        self._shown = self._again
        return self._with_break(new)

    def _with_break(self, text: str) -> str:
        if text and self._needs_break:
            text, self._needs_break = "\n\n" + text, False
        return text


class TextStream(Generic[OutputT]):
    """The text of the model's replies as it comes; iterate over it with `async for`. See `Agent.stream_text`.

    It ends and is cancelled as a `RunStream` is, and has the same `result`.
    """

    def __init__(self, stream: RunStream[OutputT]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[str]:
        """The pieces."""
        text = _Text()
        async for event in self._stream:
            if piece := text.of(event):
                yield piece

    @property
    def result(self) -> RunResult[OutputT]:
        """The run's result, once it has ended; as `RunStream.result`."""
        return self._stream.result

    async def aclose(self) -> None:
        """Cancel the run if it has not ended, and wait until it has."""
        await self._stream.aclose()

    async def __aenter__(self) -> TextStream[OutputT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class SyncTextStream(Generic[OutputT]):
    """A `TextStream` for sync code: iterate over it with `for`. See `Agent.stream_text_sync`."""

    def __init__(self, stream: SyncRunStream[OutputT]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        """The pieces. Leaving the loop cancels the run."""
        text, is_whole = _Text(), False
        try:
            for event in self._stream:
                if piece := text.of(event):
                    yield piece
            is_whole = True
        finally:
            if not is_whole:
                self._stream.close()

    @property
    def result(self) -> RunResult[OutputT]:
        """The run's result, once it has ended; as `RunStream.result`."""
        return self._stream.result

    def close(self) -> None:
        """Cancel the run if it has not ended, and wait until it has, for at most 5 seconds."""
        self._stream.close()

    def __enter__(self) -> SyncTextStream[OutputT]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
