"""A worker: drives the runs of a queue, and takes over those whose worker is gone."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from .._sync import is_being_cancelled
from .._threads import Threads
from ..agent import Agent
from ..errors import AgentChanged, AgentError, RunBusy, SettingsError, StoreError
from ..messages import plain_text
from ..names import check_name
from .database import ENDED, check_seconds
from .drive import new_owner
from .management import Management
from .queue import Claimed

__all__ = ["Agents", "DepsFunction", "Worker"]

log = logging.getLogger("agentkit")
T = TypeVar("T")

Agents: TypeAlias = "Mapping[str, Agent[Any]] | Callable[[str], Agent[Any]]"
"""The agents by the names under which runs are submitted, or a function that gives the agent of a name.

The function is called in a thread, once at a time.
"""


class DepsFunction(Protocol):
    """Makes the `deps` of a run of the run's id and the JSON value with which it was submitted. A sync one runs in a thread."""

    def __call__(self, run_id: str, submitted: Any, /) -> Any:
        """The deps, or an awaitable of them."""
        ...


class Worker:
    """Drives the runs of a queue, `concurrency` at a time, for as long as `run` goes on.

    `agents` has the agents by name. `deps` makes the `deps` of each run. `allow_changed` is as that of `Agent.resume`. When
    nothing is due, it waits `poll` seconds. When it stops, its runs are left: calls in flight get `grace` seconds to end, then
    the runs are left as after a kill. Other workers go on with them at once. A call that is cancelled then gets `grace` seconds
    once more; a run that has not ended after that is logged, and its task goes on.
    """

    def __init__(
        self,
        store: Management,
        agents: Agents,
        *,
        deps: DepsFunction | None = None,
        queue: str = "default",
        concurrency: int = 4,
        allow_changed: bool = False,
        poll: float = 1.0,
        grace: float = 10.0,
    ) -> None:
        check_name("queue", queue)
        if not isinstance(concurrency, int) or concurrency < 1:
            raise SettingsError(f"concurrency is {concurrency!r}; allowed: a whole number of at least 1")
        check_seconds("poll", poll)
        check_seconds("grace", grace, or_zero=True)
        self.store, self.queue, self.concurrency, self.poll, self.grace = store, queue, concurrency, poll, grace
        self._agents, self._deps, self._allow_changed = agents, deps, allow_changed
        self._loading = threading.Lock()
        self._leaving = threading.Event()
        self._wake: Callable[[], object] | None = None

    def stop(self) -> None:
        """Let `run` end: it claims nothing more, and leaves its runs. Any thread or signal handler may call it."""
        self._leaving.set()
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # its event loop has ended
                self._wake()

    def _stop_event(self) -> asyncio.Event:
        """What `stop` sets in the event loop."""
        if self._wake is not None:
            raise SettingsError("a worker runs once, and this one has run; make another one")
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(stopped.set)
        return stopped

    async def run(self, *, until_idle: bool = False) -> int:
        """Drive runs until `stop` or, with `until_idle`, until no run is due or driven. Returns how many drives it made.

        Raises `SettingsError` if it has run before: make another worker then.
        """
        stopped = self._stop_event()
        tasks: dict[asyncio.Task[None], Claimed] = {}
        count = 0
        try:
            while not self._leaving.is_set():
                claimed = await self._claim() if len(tasks) < self.concurrency else None
                if claimed is not None:
                    tasks[asyncio.create_task(self.drive(claimed))] = claimed
                    count += 1
                    continue
                if until_idle and not tasks and await asyncio.to_thread(self.store.is_idle, self.queue):
                    break
                await _first([*tasks], stopped, self.poll)
                tasks = {task: claimed for task, claimed in tasks.items() if not task.done()}
        finally:
            await self._leave(tasks)
        return count

    async def _leave(self, tasks: Mapping[asyncio.Task[None], Claimed]) -> None:
        """End the drives. Those that take too long lose their runs, so they can store nothing more, and are cancelled."""
        self._leaving.set()
        late = (await asyncio.wait(tasks, timeout=self.grace))[1] if tasks else ()
        for task in late:
            claimed = tasks[task]
            with contextlib.suppress(StoreError):  # the lease ends by itself
                await asyncio.to_thread(self.store.release, claimed.run_id, claimed.owner)
            task.cancel()
        if late and (stuck := (await asyncio.wait(late, timeout=self.grace))[1]):
            await self._tell_stuck([tasks[task].run_id for task in stuck])

    async def _tell_stuck(self, run_ids: Sequence[str]) -> None:
        """Log which runs have not ended, with their calls in flight if the store says so soon."""
        calls: dict[str, str] = {}

        def look() -> None:
            for run_id in run_ids:
                names = [call.call.name for call in self.store.state(run_id).open_calls if call.started]
                calls[run_id] = f"; in flight: {', '.join(names)}" if names else ""

        with contextlib.suppress(Exception):  # it is only for the log
            await asyncio.wait_for(Threads().run(look), 1.0)
        for run_id in run_ids:
            log.warning("worker: run %s is given back, but it has not ended here%s", run_id, calls.get(run_id, ""))

    async def _claim(self) -> Claimed | None:
        try:
            return await asyncio.to_thread(self.store.claim, self.queue, new_owner())
        except StoreError as error:  # the database may be back soon
            log.warning("worker: no run could be claimed: %s", error)
            return None

    async def drive(self, claimed: Claimed) -> None:
        """Drive one run until it ends, pauses, or is left. It raises nothing: the store and the log say what went wrong."""
        has_made = False
        try:
            agent, given = await self._renewed(claimed, self._made(claimed))
            has_made = True
            if claimed.has_begun:
                await agent.resume(claimed.run_id, allow_changed=self._allow_changed, **given)
            else:
                await agent.run(claimed.task, run_id=claimed.run_id, **given)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            is_unfit = not has_made or isinstance(error, AgentChanged | SettingsError)
            await self._stopped(claimed, error, is_broken=not is_unfit)

    async def _stopped(self, claimed: Claimed, error: BaseException, *, is_broken: bool) -> None:
        """Say why a drive ended with an error. A run that neither has ended nor waits is put back, unless another has it."""
        run_id = claimed.run_id
        try:
            status = (await asyncio.to_thread(self.store.get, run_id)).status
            if status in ENDED:
                log.info("worker: run %s failed: %s", run_id, error)
            elif status == "paused":  # an answer did not fit; it waits for another
                log.warning("worker: run %s waits on: %s", run_id, error)
            elif isinstance(error, RunBusy) or isinstance(error.__cause__, RunBusy):
                log.warning("worker: run %s is left: %s", run_id, error)
                await asyncio.to_thread(self.store.release, run_id, claimed.owner)  # if it is still claimed
            else:
                is_known = isinstance(error, AgentChanged | SettingsError)
                text = plain_text(str(error) if is_known else f"{type(error).__name__}: {error}")
                put_back = partial(self.store.defer, claimed, text, is_broken=is_broken)
                seconds = await asyncio.to_thread(put_back)
                log.warning(
                    "worker: run %s cannot be driven here, and is put back for %g s: %s",
                    run_id, seconds, text, exc_info=None if isinstance(error, AgentError) else error,
                )  # fmt: skip
        except StoreError as away:  # the lease says when another worker has it
            log.warning("worker: run %s is left: %s; %s", run_id, error, away)

    async def _renewed(self, claimed: Claimed, making: Coroutine[Any, Any, T]) -> T:
        """Wait for what a drive needs, and renew the lease of its run meanwhile. Raises `RunBusy` if the run is lost."""
        task = asyncio.ensure_future(making)
        try:
            while not (await asyncio.wait({task}, timeout=self.store.lease / 3))[0]:
                held, is_cancelled = True, False
                with contextlib.suppress(StoreError):  # the database may be back soon
                    held, is_cancelled = await asyncio.to_thread(self.store.renew, claimed.run_id, claimed.owner)
                if is_cancelled:
                    await (await asyncio.to_thread(claimed.reopen, claimed.run_id)).run(_nothing)
                if not held or is_cancelled:
                    raise RunBusy("it was cancelled, or another worker has it, before its deps were made")
            return task.result()
        finally:
            task.cancel()

    async def _made(self, claimed: Claimed) -> tuple[Agent[Any], dict[str, Any]]:
        """The agent of a run, and the options of its drive. The program's own functions run in threads: they may block."""
        threads = Threads()
        try:
            agent = await threads.run(partial(self._agent, claimed.agent))
            deps: Any = claimed.deps
            if self._deps is not None:
                deps = await threads.run(partial(self._deps, claimed.run_id, claimed.deps))
                if inspect.isawaitable(deps):
                    deps = await deps
        finally:
            threads.close()
        given: dict[str, Any] = {"deps": deps} if deps is not None else {}
        return agent, given | {"store": claimed, "leave": self._leaving}

    def _agent(self, name: str) -> Agent[Any]:
        if not isinstance(self._agents, Mapping):
            with self._loading:
                return self._agents(name)
        if name not in self._agents:
            raise KeyError(f"this worker has no agent {name!r}; it has: {', '.join(self._agents) or 'none'}")
        return self._agents[name]


async def _nothing() -> None:
    return None


async def _first(tasks: list[asyncio.Task[None]], stopped: asyncio.Event, seconds: float) -> None:
    """Wait until one of the tasks ends, or the worker is stopped, or so many seconds have passed."""
    waiting = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait([*tasks, waiting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
