"""A worker: drives the runs of a queue, and takes over those whose worker is gone."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeAlias

from ..agent import Agent
from ..errors import AgentChanged, AgentError, LogFailed, SettingsError, StoreError
from .database import ENDED
from .drive import new_owner
from .management import Management
from .queue import Claimed

__all__ = ["Agents", "DepsFunction", "Worker"]

log = logging.getLogger("agentkit")

Agents: TypeAlias = "Mapping[str, Agent[Any]] | Callable[[str], Agent[Any]]"
"""The agents by the names under which runs are submitted, or a function that gives the agent of a name."""


class DepsFunction(Protocol):
    """Makes the `deps` of a run, sync or async, of the run's id and the JSON value with which it was submitted."""

    def __call__(self, run_id: str, submitted: Any, /) -> Any:
        """The deps, or an awaitable of them."""
        ...


class Worker:
    """Drives the runs of a queue, `concurrency` at a time, for as long as `run` goes on.

    `agents` has the agents by name. `deps` makes the `deps` of each run. When nothing is due, it waits `poll` seconds. When it
    stops, its runs are left: calls in flight get `grace` seconds to end, then the runs are left as after a kill. Other workers
    go on with them at once.
    """

    def __init__(
        self,
        store: Management,
        agents: Agents,
        *,
        deps: DepsFunction | None = None,
        queue: str = "default",
        concurrency: int = 4,
        poll: float = 1.0,
        grace: float = 10.0,
    ) -> None:
        if not isinstance(concurrency, int) or concurrency < 1:
            raise SettingsError(f"concurrency is {concurrency!r}; allowed: a whole number of at least 1")
        self.store, self.queue, self.concurrency, self.poll, self.grace = store, queue, concurrency, poll, grace
        self._agents, self._deps = agents, deps
        self._leaving = threading.Event()
        self._wake: Callable[[], object] = lambda: None

    def stop(self) -> None:
        """Let `run` end: it claims nothing more, and leaves its runs. Any thread or signal handler may call it."""
        self._leaving.set()
        self._wake()

    async def run(self, *, until_idle: bool = False) -> int:
        """Drive runs until `stop` or, with `until_idle`, until no run is due or driven. Returns how many drives it made."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(stopped.set)
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
        if late:
            await asyncio.wait(late, timeout=self.grace)

    async def _claim(self) -> Claimed | None:
        try:
            return await asyncio.to_thread(self.store.claim, self.queue, new_owner())
        except StoreError as error:  # the database may be back soon
            log.warning("worker: no run could be claimed: %s", error)
            return None

    async def drive(self, claimed: Claimed) -> None:
        """Drive one run until it ends, pauses, or is left. It raises nothing: the store and the log say what went wrong."""
        run_id = claimed.run_id
        try:
            await self._drive(claimed)
        except (LogFailed, StoreError) as error:  # another worker has it, or the database is away: the lease says when
            log.warning("worker: run %s is left: %s", run_id, error)
        except AgentChanged as error:
            await self._defer(claimed, str(error))
        except SettingsError as error:
            if (
                await asyncio.to_thread(self.store.get, run_id)
            ).status == "paused":  # an answer did not fit; it waits for another
                log.warning("worker: run %s waits on: %s", run_id, error)
            else:
                await self._defer(claimed, str(error))
        except AgentError as error:
            await self._failed(claimed, error)
        except Exception as error:  # an agent that cannot be loaded, or the program's own code
            log.warning("worker: run %s could not be driven", run_id, exc_info=True)
            await self._defer(claimed, f"{type(error).__name__}: {error}")

    async def _failed(self, claimed: Claimed, error: AgentError) -> None:
        """Note how a run ended. One that has not ended, because its agent could not be loaded or begun, is put back."""
        try:
            status = (await asyncio.to_thread(self.store.get, claimed.run_id)).status
        except StoreError:  # the lease says when another worker has it
            log.warning("worker: run %s is left: %s", claimed.run_id, error)
            return
        if status in ENDED:
            log.info("worker: run %s failed: %s", claimed.run_id, error)
        else:
            await self._defer(claimed, f"{type(error).__name__}: {error}")

    async def _drive(self, claimed: Claimed) -> None:
        agent = self._agent(claimed.agent)
        deps: Any = claimed.deps
        if self._deps is not None:
            deps = self._deps(claimed.run_id, claimed.deps)
            if inspect.isawaitable(deps):
                deps = await deps
        given: Any = {"deps": deps} if deps is not None else {}
        given |= {"store": claimed, "leave": self._leaving}
        if claimed.has_begun:
            await agent.resume(claimed.run_id, **given)
        else:
            await agent.run(claimed.task, run_id=claimed.run_id, **given)

    def _agent(self, name: str) -> Agent[Any]:
        if not isinstance(self._agents, Mapping):
            return self._agents(name)
        if name not in self._agents:
            raise KeyError(f"this worker has no agent {name!r}; it has: {', '.join(self._agents) or 'none'}")
        return self._agents[name]

    async def _defer(self, claimed: Claimed, error: str) -> None:
        seconds = min(60.0, 2.0 ** (claimed.drives + 1))
        log.warning("worker: run %s cannot be driven here, and is put back for %g s: %s", claimed.run_id, seconds, error)
        with_error = partial(self.store.defer, claimed.run_id, claimed.owner, seconds, error)
        try:
            await asyncio.to_thread(with_error)
        except StoreError:
            log.warning("worker: run %s could not be put back", claimed.run_id, exc_info=True)


async def _first(tasks: list[asyncio.Task[None]], stopped: asyncio.Event, seconds: float) -> None:
    """Wait until one of the tasks ends, or the worker is stopped, or so many seconds have passed."""
    waiting = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait([*tasks, waiting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
