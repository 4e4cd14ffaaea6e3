"""Shortens long conversations where a view of the messages is not enough.

It has summaries, files for large results, and a shorter retry when a prompt does not fit the context window.
"""

from __future__ import annotations

import asyncio
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from .._dataclass import frozen_dataclass
from .._renamed import renamed
from ..agent import Agent
from ..errors import ContextTooLong, LimitReached, ModelRetry, SettingsError
from ..history import DropToolResults, History, are_whole, repaired_history
from ..messages import BYTES_PER_TOKEN, Assistant, Message, System, ToolCall, ToolResult, Usage, User, message_text
from ..model import Model, ModelReply, ModelRequest
from ..names import wire_name
from ..parts import ToolReturn
from ..run.execute import render, shorten
from ..run.middleware import Middleware, NextModelCall, NextToolCall
from ..run.run import Scope
from ..tools.context import RunContext
from ..tools.tool import AnyTool, tool

__all__ = ["ShortenOnOverflow", "SpillOutputs", "Summarise", "Summary"]

_TASK = """Summarise the conversation so that another assistant can go on with it without having read it. Keep what was asked,
what was decided and done, open points, and every name, number, path and id that may be needed again. Write no preamble."""
_MAX_RESULT = 4_000
"""Max characters of a tool's result that a summary is made from."""
_MIN_CHUNK = 1_000
"""Characters below which a chunk is not halved."""
_READ_SIZE = 1_000_000
"""Characters of a file that are read in one step."""
_REQUEST = User("Summarise our conversation so far.")
"""The summary is the answer to this message: some servers require alternating user and assistant messages."""


@frozen_dataclass
class Summary:
    """A shortened conversation, for the next run's `messages=`, and the usage and cost of the summary."""

    messages: list[Message]
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0


@renamed(most="max_chars", at_once="chunk_chars")
@frozen_dataclass
class Summarise:
    """Between two runs, lets a model summarise all turns except for the last `keep`.

        summary = await Summarise(model)(result.messages)
        result = await agent.run("And now?", messages=summary.messages)

    A conversation of at most `max_chars` characters is not changed, and no model is called. A turn is a user message and all
    messages up to the next one. Turns are kept whole, and system messages are kept.

    The model may be smaller than the agent's. A text longer than `chunk_chars` characters, or than the context window, is
    summarised in chunks, each together with the summary so far. Of long tool results, the model gets only the head and tail.
    Raises the errors of a run, and `LimitReached` if the summary was cut off, so that half a summary never replaces a
    conversation.
    """

    model: Model | str | None = None
    max_chars: int = 200_000
    keep: int = 2
    instructions: str = _TASK
    chunk_chars: int = 100_000

    def __post_init__(self) -> None:
        given = self.max_chars, self.keep, self.chunk_chars
        if not are_whole(*given) or self.max_chars < 0 or self.keep < 0 or self.chunk_chars < 1:
            raise SettingsError(
                f"Summarise: max_chars, keep and chunk_chars are {given!r}; allowed: whole numbers, max_chars and keep at "
                "least 0, chunk_chars at least 1"
            )

    async def __call__(self, messages: Sequence[Message], *, within: RunContext[Any] | None = None) -> Summary:
        """The conversation with its older turns summarised. With `within`, the summary is a child run of that tool call."""
        starts = [index for index, message in enumerate(messages) if isinstance(message, User)]
        cut = starts[-self.keep] if 0 < self.keep <= len(starts) else len(messages) if self.keep == 0 else 0
        older = [message for message in messages[:cut] if not isinstance(message, System)]
        if not older or sum(map(_length, messages)) <= self.max_chars:
            return Summary(list(messages))
        text, usage, cost = await self._summary(_as_text(older), within)
        kept: list[Message] = [message for message in messages[:cut] if isinstance(message, System)]
        return Summary([*kept, _REQUEST, Assistant(text), *messages[cut:]], usage, cost)

    async def _summary(self, text: str, within: RunContext[Any] | None) -> tuple[str, Usage, float | None]:
        agent, size, summary = Agent(self.model, instructions=self.instructions), self.chunk_chars, ""
        usage = Usage()
        cost: float | None = 0.0
        while text:
            chunk = text if len(text) <= size else text[: max(text.rfind("\n\n", 0, size), 0) or size]
            prompt = f"The summary so far:\n{summary}\n\nWhat came then, to be put into it:\n{chunk}" if summary else chunk
            try:
                result = await agent.run(prompt, within=within)
            except ContextTooLong:
                if len(chunk) <= _MIN_CHUNK:
                    raise
                size = len(chunk) // 2
                continue
            if result.stop_reason != "answer":
                error = LimitReached(result.stop_reason)
                error.state = result.state
                raise error
            summary, text = result.output, text[len(chunk) :]
            usage += result.usage
            cost = None if cost is None or result.cost is None else cost + result.cost
        return summary, usage, cost


def _length(message: Message) -> int:
    match message:
        case Assistant():
            return len(message.text) + sum(len(call.arguments) for call in message.tool_calls)
        case _:
            return len(message_text(message)) + sum(part.tokens * BYTES_PER_TOKEN for part in message.parts)


def _as_text(messages: Sequence[Message]) -> str:
    """The messages as one text. Given as messages, the model would continue the conversation and not summarise it."""
    lines = []
    for message in messages:
        match message:
            case Assistant():
                lines += [f"assistant: {message.text}"] if message.text else []
                lines += [f"assistant calls {call.name} {call.arguments}" for call in message.tool_calls]
            case ToolResult():
                lines.append(f"{message.name} returns: {shorten(message.content, _MAX_RESULT)}")
            case _:
                lines.append(f"{message.role}: {message_text(message)}")
    return "\n\n".join(lines)


class ShortenOnOverflow(Middleware):
    """Sends a shorter view if the server says that the prompt does not fit its context window.

    The refused request costs nothing. From then on, prompts of at least the refused length are shortened before they are sent.
    `view` is a `History`. It gets all messages as earlier turns, so it may also shorten the current run.
    """

    def __init__(self, view: History | None = None) -> None:
        self._view = view or DropToolResults(50_000)
        self._refused: int | None = None

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        """The reply to the request or, if that is too long, to the shorter one."""
        length = sum(map(_length, request.messages))
        if self._refused is None or length < self._refused:
            try:
                return await next(request)
            except ContextTooLong:
                shorter = self._shortened(request)
                if shorter is None:
                    raise
                self._refused = length if self._refused is None else min(length, self._refused)
                return await next(shorter)
        return await next(self._shortened(request) or request)

    def _shortened(self, request: ModelRequest) -> ModelRequest | None:
        view = self._view(request.messages, len(request.messages))
        if view is request.messages:
            return None
        reason = "the prompt was too long for the model, so it was shortened"
        return replace(request, messages=repaired_history(view), reason=reason)


@renamed(most="max_chars")
class SpillOutputs(Middleware):
    """Writes large tool results to files. The model gets the head, and a tool that reads the rest.

        spill = SpillOutputs("outputs")
        agent = Agent(..., tools=[..., spill.tool], middleware=[spill])

    A result of more than `max_chars` characters is written to a file in `folder`, which is created if it is missing. Only the
    current user can access the files, and they are never removed here. A file is named after the run and the call, so the same
    call writes the same file, also after a resume. The tool reads only outputs of its own run: other runs cannot read them, not
    even the next run of the conversation. The tool may have another name (`registry.prefix`), and its results are never written
    to files. If a file cannot be written, the model gets the whole result, and a RuntimeWarning says why.
    """

    changes_requests = False

    def __init__(self, folder: str | Path, *, max_chars: int = 20_000, head: int = 2_000) -> None:
        if not are_whole(head, max_chars) or not 0 <= head < max_chars:
            raise SettingsError(
                f"SpillOutputs: head is {head!r} and max_chars {max_chars!r}; allowed: whole numbers, head from 0 below "
                "max_chars"
            )
        self.folder, self._max_chars, self._head = Path(folder), max_chars, head
        self.tool: AnyTool = tool(
            self._read, name="read_output", read_only=True, destructive=False, idempotent=True, open_world=False
        )

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """The value or, if it is long, its head and the name of the file with all of it."""
        value = returned = await next(call)
        readers = self._readers(ctx)
        if isinstance(value, ToolReturn):
            value = value.text
        if call.name in readers or len(text := render(value)) <= self._max_chars:
            return returned
        name = f"{_prefix(ctx.run_id)}-{ctx.position}.txt"
        try:
            await asyncio.to_thread(_write, self.folder / name, text)
        except OSError as error:  # the call has taken effect, so its result must not be lost
            warnings.warn(f"the output of {call.name} is not written to {self.folder}: {error}", RuntimeWarning, stacklevel=2)
            return returned
        how = f", read on with {wire_name(readers[0])}(name={name!r}, start={self._head})" if readers else ""
        head = f"{text[: self._head]}\n[... {self._head:,} of {len(text):,} characters; the whole is in {name}{how}]"
        return replace(returned, text=head) if isinstance(returned, ToolReturn) else head

    def _readers(self, ctx: RunContext[Any]) -> list[str]:
        """The names under which the run offers the reading tool. A registry may have renamed it."""
        tools = ctx.scope.run.spec.tools if isinstance(ctx.scope, Scope) else [self.tool]
        return [offered.name for offered in tools if offered.function == self.tool.function]

    def _read(self, ctx: RunContext[Any], name: str, start: int = 0, length: int = 10_000) -> str:
        """Read a part of a large result.

        Args:
            name: The file that the result names.
            start: The first character, from 0.
            length: How many characters. A call returns a limited number; its last line says which.
        """
        file = self.folder / name
        of_this_run = re.fullmatch(rf"{_prefix(ctx.run_id)}-\d+\.txt", name)
        if not of_this_run or file.is_symlink() or not file.is_file():
            raise ModelRetry(f"there is no output {name!r} of this run; give the name as the result has it")
        start = max(0, start)
        end = start + min(max(0, length), self._max_chars)
        part, total = "", 0
        with file.open(encoding="utf-8", newline="") as opened:
            while text := opened.read(_READ_SIZE):
                part += text[max(0, start - total) : max(0, end - total)]
                total += len(text)
        return f"{part}\n[characters {start:,} to {start + len(part):,} of {total:,}]"


def _prefix(run_id: str) -> str:
    """The prefix of a run's file names. The hash distinguishes runs with similar ids."""
    return f"{re.sub(r'[^A-Za-z0-9-]+', '_', run_id)[:40]}-{sha256(run_id.encode(errors='replace')).hexdigest()[:16]}"


def _write(file: Path, text: str) -> None:
    """Write the file so that only this user can access it, and do not follow a link."""
    file.parent.mkdir(0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="") as opened:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        opened.write(text)
