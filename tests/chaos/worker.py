"""The worker process: drives the runs of a queue with one agent, and ends itself at a crash point if it is told to."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from agentkit import Agent, ChatModel, Limits, ModelWrapper, RunContext, tool
from agentkit._threads import Threads
from agentkit.events import LastingEvent
from agentkit.model import DeltaSink, ModelReply, ModelRequest
from agentkit.store import Store, Worker, open_store
from agentkit.store.database import Database, Lazy
from agentkit.store.drive import StoreLog
from agentkit.store.rows import Row

from .ledger import record

__all__ = ["Points", "agent", "main"]

Ctx = RunContext[Any]


class Points:
    """The crash points that a process passes, counted from 1. At `at`, a number or the end of a name, it sends itself `signal`.

    Names: "write <events>" and "written <events>" before and after an append; "inside <event>" inside a transaction of several
    statements, before its commit; "stored" when the worker knows of it; "model" and "replied"; "tool <name>"
    and "did <name>" before and after the effect.
    """

    def __init__(self, at: int | str | None = None, signal_name: str = "SIGKILL", skip: int = 0) -> None:
        self.at, self._signal, self._skip = at, getattr(signal, signal_name), skip
        self.passed: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        with self._lock:
            self.passed.append(name)
            is_here = len(self.passed) == self.at if isinstance(self.at, int) else name == self.at
            if is_here and self._skip:
                self._skip -= 1
            elif is_here:
                self.at = None
                os.kill(os.getpid(), self._signal)


def agent(endpoint: str, ledger: str, points: Callable[[str], None] = lambda name: None) -> Agent[str]:
    """The agent of all workers."""

    def effect(ctx: Ctx, who: str, n: str) -> None:
        points(f"tool {ctx.call.name}")
        key, position = ctx.idempotency_key, str(ctx.position)
        record(ledger, {"tool": ctx.call.name, "who": who, "n": n, "run_id": ctx.run_id, "position": position, "key": key})
        points(f"did {ctx.call.name}")

    @tool(read_only=True)
    def read(ctx: Ctx, who: str, n: str) -> str:
        """Read."""
        effect(ctx, who, n)
        return "read"

    @tool(idempotent=True)
    def keyed(ctx: Ctx, who: str, n: str) -> str:
        """Have an effect that its receiver knows by its key."""
        effect(ctx, who, n)
        return "keyed"

    @tool
    def plain(ctx: Ctx, who: str, n: str) -> str:
        """Have an effect."""
        effect(ctx, who, n)
        return "plain"

    @tool
    async def note(ctx: Ctx, who: str, n: str) -> str:
        """Have an effect, asynchronously."""
        effect(ctx, who, n)
        await asyncio.sleep(0.01)
        return "note"

    @tool(approval=True)
    def pay(ctx: Ctx, who: str, n: str) -> str:
        """Have an effect that somebody approves."""
        effect(ctx, who, n)
        return "pay"

    class Model(ModelWrapper):
        async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
            points("model")
            reply = await super().reply(request, on_delta)
            points("replied")
            return reply

    tools: list[Any] = [read, keyed, plain, note, pay]
    model = Model(ChatModel("chaos", base_url=endpoint, api_key="k", profile="generic"))
    helper = Agent(model, tools=tools, name="helper", limits=Limits(steps=None))
    return Agent(model, tools=[*tools, helper.as_tool("helper", "Helps.")], name="chaos", limits=Limits(steps=None))


def _opened(options: dict[str, Any], points: Points) -> Store:
    """The store of these options, which passes crash points."""
    base: Any = type(open_store(options["address"]))

    class Crashing(base):  # type: ignore[misc]
        async def write(self, work: Callable[[Database | Lazy], bool], threads: Threads) -> bool:
            writing = super().write(work, threads)
            done: bool = await writing if inspect.isawaitable(writing) else writing
            points("stored")
            return done

        def append_rows(
            self, db: Database | Lazy, log: StoreLog, seq: int, events: Sequence[LastingEvent], **more: Any
        ) -> bool:
            names = "+".join(type(event).__name__ for event in events)
            points(f"write {names}")
            done: bool = super().append_rows(db, log, seq, events, **more)
            points(f"written {names}")
            return done

        def _put_blobs(self, db: Database, run_id: str, seq: int, row: Row) -> None:
            points(f"inside {json.loads(row.data)['type']}")
            super()._put_blobs(db, run_id, seq, row)

    given = {"synchronous": "NORMAL"} if options.get("normal") else {}
    opened: Store = Crashing(options["address"], lease=options.get("lease", 30.0), **given)
    return opened


def main(options: dict[str, Any]) -> None:
    """Work until it is stopped, or until nothing is due. `passed`, a path, gets the names of the points."""
    logging.disable(logging.CRITICAL)
    points = Points(options.get("at"), options.get("signal", "SIGKILL"), options.get("skip", 0))
    store = _opened(options, points)
    agents = {"chaos": agent(options["endpoint"], options["ledger"], points)}
    worker = Worker(store, agents, concurrency=options.get("concurrency", 4), poll=0.02, grace=options.get("grace", 10.0))
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    asyncio.run(worker.run(until_idle=options.get("until_idle", False)))
    if "passed" in options:
        for name in points.passed:
            record(options["passed"], {"point": name})
