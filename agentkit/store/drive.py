"""A stored run that this process drives: its log, its lease, and the requests to cancel it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._threads import Threads
from ..errors import StoreError
from ..events import LastingEvent, RunFinished, RunStarted
from ..messages import Message
from .database import Database, Driven, Lazy
from .rows import encoded, prefix_of

if TYPE_CHECKING:
    from ..run.result import RunResult

__all__ = ["Drive", "StoreLog", "new_owner"]

T = TypeVar("T")


def new_owner() -> str:
    """Identifies one drive: host name, process id and a random number."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"


class StoreLog:
    """The log of one run in a store. The logs of its child runs belong to the same drive."""

    def __init__(self, drive: Drive, run_id: str, parent_id: str | None = None) -> None:
        self._drive, self.run_id, self._parent_id = drive, run_id, parent_id

    def child(self, run_id: str) -> StoreLog:
        """The log of the child run with this id."""
        return StoreLog(self._drive, run_id, self.run_id)

    def append(self, seq: int, events: Sequence[LastingEvent]) -> Awaitable[bool] | None:
        """Store these events in one transaction. Raises `RunBusy` if another process drives the run."""
        drive, history = self._drive, None
        first = events[0]
        if isinstance(first, RunStarted) and drive.history and self._parent_id is None:
            first, history = prefix_of(first, drive.history)
        rows = [encoded(event) for event in (first, *events[1:])]

        def append(db: Database | Lazy) -> bool:
            return drive.store.append_rows(db, self, seq, events, rows=rows, history=history)

        done = drive.store.write(append, drive.threads)
        if isinstance(done, bool):
            self._appended(events[-1])
            if done:  # not in the middle of what the run does now, which may be its last step
                asyncio.get_running_loop().call_soon(drive.cancel)
            return None

        def appended(appending: asyncio.Future[bool]) -> None:
            if not appending.cancelled() and appending.exception() is None:
                self._appended(events[-1])
                if appending.result():
                    drive.cancel()

        appending = asyncio.ensure_future(done)
        appending.add_done_callback(appended)
        return appending

    def _appended(self, last: LastingEvent) -> None:
        if isinstance(last, RunFinished) and self._parent_id is None:
            self._drive.ended = last.result

    async def load(self) -> Sequence[LastingEvent]:
        """All events so far; none if the run has none yet."""
        return await self._drive.threads.run(self.read)

    def read(self) -> Sequence[LastingEvent]:
        """As `load`. It blocks."""
        return self._drive.store.events_of(self)

    @property
    def known_answers(self) -> Collection[str]:
        """The calls whose answers were in the store when the drive began."""
        return {call_id for given in self._drive.answers.values() for call_id in given}

    @property
    def parent_id(self) -> str | None:
        """The id of the parent run."""
        return self._parent_id

    @property
    def root_id(self) -> str:
        """The id of the run at the top of the tree, which has the lease."""
        return self._drive.run_id

    @property
    def owner(self) -> str:
        """The drive that may append."""
        return self._drive.owner

    @property
    def session(self) -> str | None:
        """The session of the run."""
        return self._drive.session if self._parent_id is None else None


class Drive:
    """The right to drive a stored run. It is renewed until it is left.

    `history` is the conversation so far, `answers` are the stored approvals and results by kind and call id.
    """

    def __init__(
        self,
        store: Driven,
        run_id: str,
        owner: str,
        *,
        session: str | None = None,
        history: Sequence[Message] = (),
        answers: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.store, self.run_id, self.owner, self.session = store, run_id, owner, session
        self.history, self.answers = history, answers or {}
        self.threads = Threads()
        self.log = StoreLog(self, run_id)
        self.is_cancelled = self.is_lost = False
        self.ended: RunResult[Any] | None = None
        """The result with which the run has ended, if its end was stored."""
        self._task: asyncio.Task[Any] | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do the work of the drive. None if it was cancelled through the store."""
        task = self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._renewing = asyncio.create_task(self._renew())
        try:
            if self.is_cancelled:  # before this drive: there is nothing to do but to write its end
                await self.threads.run(partial(self.store.end_cancelled, self))
                return None
            return await work()
        except asyncio.CancelledError:
            if not self.is_cancelled or task.uncancel() > 0:
                raise
            return None
        finally:
            self._task = None
            self._renewing.cancel()
            await self._end()

    def give_back(self) -> None:
        """Give the run back, without driving it. It blocks; an error is passed over, since the lease ends by itself."""
        with contextlib.suppress(StoreError, OSError):
            self.store.release(self.run_id, self.owner)
        self.threads.close()

    async def _end(self) -> None:
        if self.ended is None:  # else the run was given back with its last event
            release = self.threads.run(partial(self.store.release, self.run_id, self.owner))
            with contextlib.suppress(StoreError, OSError):  # the lease ends by itself
                await asyncio.shield(release)
        self.threads.close()

    async def refuse(self, misfits: Mapping[str, str], error: str) -> None:
        """Forget stored answers that do not fit their calls, for these reasons."""
        await self.threads.run(partial(self.store.refuse_answers, self.run_id, self.owner, misfits, error))

    async def describe(self, fingerprint: Mapping[str, str], parts: Mapping[str, Any]) -> None:
        """Keep the parts of the agent that are in no event, so that a replay can show how they changed."""
        new = {f"{name}:{fingerprint[name]}": part for name, part in parts.items()}
        if self.store.noted.issuperset(new):
            return
        self.store.noted.update(new)  # first, so that of a thousand runs that begin at a time only one writes
        try:
            await self.threads.run(partial(self.store.note_parts, new))
        except StoreError:  # the first event shows whether the store is there
            self.store.noted.difference_update(new)

    async def part(self, name: str, digest: str) -> Any:
        """A part of an agent that was kept, by its digest; None if it is not known."""
        return await self.threads.run(partial(self.store.part, name, digest))

    def is_set(self) -> bool:
        """Whether the run must be left, because another process drives it."""
        return self.is_lost

    def cancel(self) -> None:
        """Cancel the run: somebody has asked for it through the store."""
        if not self.is_cancelled and self._task is not None:
            self.is_cancelled = True
            self._task.cancel()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.store.lease / 3)
            try:
                held, is_cancelled = await self.threads.run(partial(self.store.renew, self.run_id, self.owner))
            except StoreError:  # the next append shows it, if it lasts
                continue
            self.is_lost = not held
            if is_cancelled:
                self.cancel()
