"""What a store costs: `python -m tests.benchmarks.store` prints the tables. Each measurement is in a process of its own.

A step is one model reply with one tool call. The model is a script, without HTTP, so that the difference between the stores
shows. Rounds take turns, and the medians count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agentkit import Agent, Limits, ModelReply, ModelRequest, RunResult, ToolCall, Usage, tool
from agentkit.messages import Assistant
from agentkit.store import SQLiteStore, Store, open_store

KINDS = {"none": "no store", "full": "SQLite, FULL", "normal": "SQLite, NORMAL", "postgres": "Postgres"}
PROCESSES = (1, 2, 4)
_USAGE = Usage(1, 100, 10)


@tool(parallel=True)
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Steps:
    """A model that asks for one call in each of its first replies, and then answers."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done = steps, 0

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        """The next reply."""
        self._done += 1
        if self._done > self._steps:
            return ModelReply(Assistant("The sum is 5."), _USAGE)
        call = ToolCall(f"call_{self._done}", "add", '{"a": 2, "b": 3}')
        return ModelReply(Assistant("", "", (call,)), _USAGE, "tool_calls")


def adding(steps: int) -> Agent[str]:
    """An agent for one run of so many steps."""
    return Agent(Steps(steps), name="adder", tools=[add], limits=Limits(steps=None, repeats=None))


def opened(kind: str, address: str) -> Store | None:
    """The store of this kind."""
    if kind == "none":
        return None
    return SQLiteStore(address, synchronous=kind.upper()) if kind in ("full", "normal") else open_store(address)  # type: ignore[arg-type]


async def timed(store: Store | None, steps: int, runs: int, at_once: int = 1) -> dict[str, float]:
    """Processor and wall time per step, in ms."""

    async def run(count: int) -> RunResult[Any]:
        return await adding(count).run("Go.", store=store)

    await run(10)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(runs):
        await asyncio.gather(*(run(steps) for _ in range(at_once)))
    done = steps * runs * at_once
    return {"cpu": (time.process_time() - cpu) / done * 1e3, "wall": (time.perf_counter() - wall) / done * 1e3}


async def resumed(store: Store, steps: int) -> dict[str, float]:
    """How long it takes to go on with a run of so many steps: to load it, ask the model once, and end it.

    A run of one step is resumed before it, since what is needed for the first time takes longer.
    """
    found: dict[str, float] = {}
    for run_id, done in (("short", 1), ("long", steps)):
        limited = Agent(Steps(done), name="adder", tools=[add], limits=Limits(steps=done, repeats=None))
        await limited.run("Go.", store=store, run_id=run_id)
        wall, cpu = time.perf_counter(), time.process_time()
        result = await adding(0).resume(run_id, store=store, allow_changed=True)
        found = {"wall": (time.perf_counter() - wall) * 1e3, "cpu": (time.process_time() - cpu) * 1e3}
        assert result.stop_reason == "answer" and result.steps == done + 1, result
    return found


async def stored_bytes(store: Store) -> dict[str, float]:
    """Characters that step 10 and step 1,000 of a run add to its events."""
    await adding(1001).run("Go.", store=store, run_id="long")
    with store.reading() as db:
        rows = db.execute("SELECT data FROM agentkit_events WHERE run_id = 'long' ORDER BY seq").fetchall()
    steps: list[int] = [0]
    for (data,) in rows:
        steps += [0] if json.loads(data)["type"] == "ModelReplied" else []
        steps[-1] += len(data)
    return {"10": steps[10], "1000": steps[1000]}


COMMITS = 2
"""Transactions of a step."""


def bare(store: Store, steps: int) -> dict[str, float]:
    """What the commits of a step cost by themselves, in ms: one row each, on an open connection, in this thread."""
    insert = "INSERT INTO agentkit_events (run_id, seq, data) VALUES ('bare', {}, '{}')"
    with ExitStack() as opened_here:
        if isinstance(store, SQLiteStore):
            connection: Any = opened_here.enter_context(closing(store.connect()))
        else:
            connection = opened_here.enter_context(store.connection())  # type: ignore[attr-defined]
        wall, cpu = time.perf_counter(), time.process_time()
        for seq in range(COMMITS * steps):
            connection.execute(insert.format(seq, '{"v":2,"text":"' + "x" * 160 + '"}'))
    return {"cpu": (time.process_time() - cpu) / steps * 1e3, "wall": (time.perf_counter() - wall) / steps * 1e3}


async def hop(times: int) -> dict[str, float]:
    """What it costs to wake a thread and to be woken by it, in ms, as with FULL and Postgres at each commit."""
    loop, inbox = asyncio.get_running_loop(), SimpleQueue[asyncio.Future[None] | None]()

    def answer() -> None:
        while (woken := inbox.get()) is not None:
            loop.call_soon_threadsafe(woken.set_result, None)

    thread = threading.Thread(target=answer)
    thread.start()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        woken: asyncio.Future[None] = loop.create_future()
        inbox.put(woken)
        await woken
    found = {"cpu": (time.process_time() - cpu) / times * 1e3, "wall": (time.perf_counter() - wall) / times * 1e3}
    inbox.put(None)
    thread.join()
    return found


async def paused(steps: int) -> dict[str, float]:
    """What waiting costs, in ms: steps without a store that stop twice for half a millisecond, as for a disk or a server.

    What is done after a wait is slower, because the processor's caches hold something else by then.
    """
    waits = False

    class Waiting(Steps):
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            if waits:
                time.sleep(0.0005)  # noqa: ASYNC251  it is what is measured
            return await super().reply(request, on_delta)

    @tool(parallel=True, name="add")
    async def add_later(a: int, b: int) -> int:
        """Add two numbers."""
        if waits:
            time.sleep(0.0005)  # noqa: ASYNC251  it is what is measured
        return a + b

    taken: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(12):
        waits = turn % 2 == 1
        agent = Agent(Waiting(steps), name="adder", tools=[add_later], limits=Limits(steps=None, repeats=None))
        cpu = time.process_time()
        await agent.run("Go.")
        taken[waits].append((time.process_time() - cpu) / steps * 1e3)
    return {"cpu": statistics.median(taken[True]) - statistics.median(taken[False])}


def measure(what: str, kind: str, address: str) -> dict[str, float]:
    """One measurement."""
    store = opened(kind, address)
    measures: dict[str, Callable[[], Any]] = {
        "step": lambda: timed(store, 50, 6),
        "step, 20 runs at once": lambda: timed(store, 50, 1, 20),
        "load": lambda: timed(store, 50, 2, 10),
        "resume": lambda: resumed(store, 500),  # type: ignore[arg-type]
        "bytes": lambda: stored_bytes(store),  # type: ignore[arg-type]
        "hop": lambda: hop(2000),
        "pause": lambda: paused(50),
    }
    found: dict[str, float] = bare(store, 300) if what == "bare" and store else asyncio.run(measures[what]())
    if store is not None:
        store.close()
    return found


class Bench:
    """Starts the measurements, each with a new database."""

    def __init__(self, folder: Path, rounds: int, *, small: bool = False) -> None:
        from tests.store.postgres import Postgres, find_programs

        self.rounds, self.processes, self._folder, self._count = rounds, (1,) if small else PROCESSES, folder, 0
        programs = None if small else find_programs()
        self.server = Postgres(programs) if programs else None
        self.kinds = [kind for kind in KINDS if kind != "postgres" or self.server]

    def address(self, kind: str) -> str:
        """A new database."""
        self._count += 1
        if kind == "postgres" and self.server is not None:
            return self.server.database(f"bench{self._count}")
        return str(self._folder / f"{self._count}.db")

    def start(self, what: str, kind: str, address: str) -> subprocess.Popen[str]:
        """Start one measurement."""
        command = [sys.executable, "-m", "tests.benchmarks.store", "--one", what, kind, address]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def measured(self, what: str, kind: str) -> dict[str, float]:
        """The result of one measurement."""
        found: dict[str, float] = json.loads(self.start(what, kind, self.address(kind)).communicate(timeout=300)[0])
        return found

    def medians(self, what: str, kinds: list[str]) -> dict[str, dict[str, float]]:
        """The medians over the rounds, by kind."""
        seen: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for turn in range(self.rounds):
            for kind in kinds if turn % 2 else kinds[::-1]:
                seen[kind].append(self.measured(what, kind))
        return {
            kind: {name: statistics.median(found[name] for found in several) for name in several[0]}
            for kind, several in seen.items()
        }

    def steps_per_second(self, kind: str, processes: int) -> float:
        """Steps per second of so many processes that work in one database, with 10 runs at once each."""
        address = self.address(kind)
        if kind != "none":
            with suppress(AttributeError):
                opened(kind, address).close()  # type: ignore[union-attr]
        started = [self.start("load", kind, address) for _ in range(processes)]
        walls: list[float] = [json.loads(process.communicate(timeout=300)[0])["wall"] for process in started]
        return float(sum(1e3 / wall for wall in walls))


def _print(bench: Bench) -> None:
    stored = [kind for kind in bench.kinds if kind != "none"]
    names = [KINDS[kind] for kind in bench.kinds]
    print(f"{'':44}" + "".join(f"{name:>16}" for name in names))
    for what in ("step", "step, 20 runs at once"):
        found = bench.medians(what, bench.kinds)
        for part, label in (("cpu", "processor time"), ("wall", "wall time")):
            print(f"{f'{what}, {label} (ms)':44}" + "".join(f"{found[k][part]:16.3f}" for k in bench.kinds), flush=True)
        added = "".join(f"{found[kind]['cpu'] - found['none']['cpu']:16.3f}" for kind in stored)
        print(f"{'  above no store':44}{'':16}{added}", flush=True)
    found = bench.medians("bare", stored)
    commits = "".join(f"{found[kind]['cpu']:16.3f}" for kind in stored)
    print(f"{f'{COMMITS} bare commits, processor time (ms)':44}{'':16}{commits}", flush=True)
    found = bench.medians("resume", stored)
    print(f"{'resume of 500 steps, wall time (ms)':44}{'':16}" + "".join(f"{found[kind]['wall']:16.1f}" for kind in stored))
    for processes in bench.processes:
        rates = [statistics.median(bench.steps_per_second(kind, processes) for _ in range(bench.rounds)) for kind in stored]
        print(f"{f'steps/s, {processes} processes':44}{'':16}" + "".join(f"{rate:16.0f}" for rate in rates), flush=True)
    woken = bench.medians("hop", ["none"])["none"]["cpu"]
    print(f"\na thread is woken and wakes the event loop: {woken:.3f} ms of processor time")
    waited = bench.medians("pause", ["none"])["none"]["cpu"]
    print(f"a step without a store that waits twice for 0.5 ms, above one that does not: {waited:.3f} ms of processor time")
    sizes = bench.measured("bytes", "normal")
    print(f"\nbytes stored by step 10: {sizes['10']:.0f}, by step 1,000: {sizes['1000']:.0f}")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks.store", description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--small", action="store_true", help="one round, without Postgres")
    options.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one)))
        return
    rounds = 1 if given.small else given.rounds
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, rounds: {rounds}, medians\n")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), rounds, small=given.small)
        try:
            _print(bench)
        finally:
            if bench.server is not None:
                bench.server.remove()


if __name__ == "__main__":
    main()
