"""A worker on DBOS, for many machines: its queues hand out the drives. It needs Postgres, and `agentkit[durable]`.

A workflow is "drive this run until it ends or pauses". The events of the run stay in our store, which makes a workflow safe to
repeat: it claims the run first, and does nothing if another worker has it. A pause ends the workflow, so it holds no slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError, StoreError
from .drive import new_owner
from .queue import Claimed
from .worker import Agents, DepsFunction, Worker, log

if TYPE_CHECKING:
    from .postgres import PostgresStore

__all__ = ["DBOSWorker"]

_VERSION = "agentkit-drives-1"
"""DBOS hands a workflow only to processes of its application version. Ours is that of the workflow, not of the program."""


class DBOSWorker(Worker):
    """A `Worker` whose runs are handed out by DBOS. A process has at most one, since DBOS is one for each process.

    `concurrency` is for this process; `total_concurrency` and `starts_per_minute` are for all workers of the queue together.
    Priorities from -2**30 to 2**30 are told apart.
    """

    store: PostgresStore

    def __init__(
        self,
        store: PostgresStore,
        agents: Agents,
        *,
        deps: DepsFunction | None = None,
        queue: str = "default",
        concurrency: int = 4,
        total_concurrency: int | None = None,
        starts_per_minute: int | None = None,
        allow_changed: bool = False,
        poll: float = 1.0,
        grace: float = 10.0,
    ) -> None:
        from .postgres import PostgresStore

        if not isinstance(store, PostgresStore):
            raise SettingsError(f"a DBOSWorker needs a PostgresStore, not {store!r:.80}; `Worker` drives the runs of any store")
        options: dict[str, Any] = {"deps": deps, "queue": queue, "concurrency": concurrency, "allow_changed": allow_changed}
        super().__init__(store, agents, poll=poll, grace=grace, **options)
        self._total, self._per_minute = total_concurrency, starts_per_minute
        self._driven: dict[str, Claimed] = {}
        self._enqueued: set[str] = set()
        self._count = 0

    async def run(self, *, until_idle: bool = False) -> int:
        """As `Worker.run`."""
        stopped = self._stop_event()
        await asyncio.to_thread(self._launch)
        try:
            while not self._leaving.is_set():
                try:
                    await asyncio.to_thread(self._enqueue_due)
                    if until_idle and await asyncio.to_thread(self.store.is_idle, self.queue):
                        break
                except StoreError as error:  # the database may be back soon
                    log.warning("worker: no run could be handed out: %s", error)
                try:
                    await asyncio.wait_for(stopped.wait(), self.poll)
                except TimeoutError:
                    continue
        finally:
            self._leaving.set()
            await self._leave_driven()
            await asyncio.to_thread(self._destroy)
        return self._count

    def _launch(self) -> None:
        from dbos import DBOS

        DBOS(
            config={
                "name": "agentkit",
                "system_database_url": self.store.address,
                "application_version": _VERSION,
                "executor_id": f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}",
                "serializer": _json_serializer(),
                "log_level": "WARNING",
            }
        )

        async def drive_run(run_id: str) -> str:
            return await self._drive_due(run_id)

        self._workflow = DBOS.workflow(name="agentkit.drive")(drive_run)
        DBOS.launch()
        limiter: Any = {"limit": self._per_minute, "period": 60.0} if self._per_minute else None
        DBOS.register_queue(
            self._queue_name,
            worker_concurrency=self.concurrency,
            concurrency=self._total,
            limiter=limiter,
            polling_interval_sec=min(self.poll, 1.0),
        )

    @property
    def _queue_name(self) -> str:
        return f"agentkit.{self.queue}"

    def _enqueue_due(self) -> None:
        """Enqueue the next due runs, each once. All workers do; the id of the workflow makes it one.

        A workflow that is enqueued again is locked meanwhile, and the queue passes over it, whatever its priority.
        DBOS's async calls replace the default executor of the event loop that they run in, so this is called in a thread.
        """
        from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

        due = {
            f"{run_id}/{when}": (run_id, priority)
            for run_id, priority, when in self.store.due(self.queue, 8 * self.concurrency)
        }
        self._enqueued &= due.keys()
        for workflow_id, (run_id, priority) in due.items():
            if workflow_id not in self._enqueued:
                rank = min(max(1, 2**30 - priority), 2**31 - 1)  # in DBOS, 1 is the first
                with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=rank):
                    DBOS.enqueue_workflow(self._queue_name, self._workflow, run_id)
                self._enqueued.add(workflow_id)

    async def _drive_due(self, run_id: str) -> str:
        """Drive one run, if it is still due."""
        if self._leaving.is_set():
            return "left"
        claimed = await asyncio.to_thread(self.store.claim, self.queue, new_owner(), run_id)
        if claimed is None:
            return "not due"
        self._count += 1
        self._driven[run_id] = claimed
        try:
            await self.drive(claimed)
        finally:
            del self._driven[run_id]
        return "driven"

    async def _leave_driven(self) -> None:
        """Wait for the runs in progress. Those that take too long are given back, so that their end cannot be stored."""
        until = time.monotonic() + self.grace
        while self._driven and time.monotonic() < until:  # noqa: ASYNC110  the drives are on the event loop of DBOS
            await asyncio.sleep(0.05)
        for claimed in [*self._driven.values()]:
            with contextlib.suppress(StoreError):  # the lease ends by itself
                await asyncio.to_thread(self.store.release, claimed.run_id, claimed.owner)
        if self._driven:
            await self._tell_stuck([*self._driven])

    def _destroy(self) -> None:
        from dbos import DBOS

        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=1)


def _json_serializer() -> Any:
    """What DBOS stores of a workflow is JSON, never pickle."""
    from dbos import Serializer

    class Json(Serializer):
        def serialize(self, data: Any) -> str:
            return json.dumps(data, default=str)

        def deserialize(self, serialized_data: str) -> Any:
            return json.loads(serialized_data)

        def name(self) -> str:
            return "agentkit_json"

    return Json()
