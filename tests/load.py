"""Many runs at once in one process, against a simulator in another that fails one request in twenty: `python -m tests.load`.

Prints how many ended right, what they took, and what was left behind; whole and streamed, each in a process of its own.
`--runs 500` for fewer, `--seed 7` for other faults. Exits with 1 if anything is otherwise than it should be, and says what.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import random
import resource
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from agentkit import Agent, ChatModel, Retry, RunContext, tool
from agentkit.testing import Cut, DeepSeekSimulator, Failure, Hangup, Reply, call
from tests.memory import peak

__all__ = ["KINDS", "Client", "Server", "wrong"]

SEED = 20261123
FAULTS = 0.05
KINDS = "503", "500", "429", "hangup", "cut"
SAMPLE = 8
"""The server looks at its connections with every eighth request."""
MOST_KB = 20_000, 100
"""Memory that a part may take: for itself, and for each run."""


@dataclass(frozen=True)
class Server:
    """What the server saw."""

    requests: int
    faults: dict[str, int]
    """How many it made of each kind."""
    at_once: int
    """Most connections at a time; each request has one of its own. 0 where the system does not tell."""
    refused: list[str]
    """What it found wrong with requests."""


@dataclass(frozen=True)
class Client:
    """What came of the runs, and what they took and left."""

    right: int
    errors: dict[str, int]
    calls: int
    seconds: float
    cpu: float
    kilobytes: int
    tasks: int
    threads: int
    sockets: int
    """Files and sockets that are open after the runs, before any garbage is collected."""
    unclosed: list[str]
    """What was closed by the collection of garbage only."""


def serve(pipe: Any, seed: int) -> None:
    """The server process: each run calls a tool twice, then answers; one request in twenty fails."""
    chance, kinds, faults = random.Random(seed), cycle(KINDS), Counter(dict.fromkeys(KINDS, 0))
    seen = most = before = 0

    def answer(request: Any) -> Any:
        nonlocal seen, most
        seen += 1
        if seen % SAMPLE == 0:
            most = max(most, descriptors() - before)
        last = request.last
        asked = sum(message["role"] == "tool" for message in request.messages)
        number = next(message["content"] for message in request.messages if message["role"] == "user")
        reply: Any = call("look", key=number) if asked < 2 else f"answer {number}: {last['content']}"
        if chance.random() >= FAULTS:
            return reply
        kind = next(kinds)
        faults[kind] += 1
        match kind:
            case "hangup":
                return Hangup()
            case "cut":
                return Cut(Reply(reply), after=1)
        return Failure(int(kind), "not now")

    with DeepSeekSimulator(answer) as simulator:
        before = descriptors()
        pipe.send(simulator.base_url)
        pipe.recv()
        pipe.send(Server(len(simulator.requests), dict(faults), most, [failure.message for failure in simulator.errors[:3]]))


@tool(read_only=True)
async def look(key: str, ctx: RunContext[Counter[str]]) -> str:
    """Look something up."""
    ctx.deps[key] += 1
    await asyncio.sleep(0)
    return f"{key} seen"


def descriptors() -> int:
    """How many files and sockets this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else 0  # noqa: PTH208  much quicker, with thousands


async def load(base_url: str, runs: int, *, watched: bool) -> dict[str, Any]:
    """Start so many runs at once, wait for all, and count."""
    model = ChatModel("deepseek-v4-flash", base_url=base_url, api_key="k", timeout=120)
    agent = Agent(model, tools=[look], retry=Retry(attempts=12, first=0.05, longest=1))
    calls: Counter[str] = Counter()

    async def one(number: int) -> bool:
        if watched:
            stream = agent.stream(str(number), deps=calls)
            async for _event in stream:
                pass
            result: Any = stream.result
        else:
            result = await agent.run(str(number), deps=calls)
        return bool(result.output == f"answer {number}: {number} seen" and result.usage.tool_calls == 2)

    before = {asyncio.current_task()}
    began, used = time.perf_counter(), time.process_time()
    ended = await asyncio.gather(*(one(number) for number in range(runs)), return_exceptions=True)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    errors = Counter(f"{type(error).__name__}: {error}"[:120] for error in ended if isinstance(error, BaseException))
    await agent.aclose()
    await asyncio.sleep(0)
    return {
        "right": sum(one is True for one in ended),
        "errors": dict(errors),
        "calls": sum(calls.values()),
        "seconds": seconds,
        "cpu": used,
        "tasks": len(asyncio.all_tasks() - before),
    }


def part(pipe: Any, base_url: str, runs: int, watched: bool) -> None:
    """The client process: nothing else has taken memory in it, or left a thread."""
    unclosed: list[str] = []
    warnings.simplefilter("error", ResourceWarning)
    sys.unraisablehook = lambda broken: unclosed.append(f"{broken.exc_value}"[:120])
    memory, threads, files = peak(), threading.active_count(), descriptors()
    found = asyncio.run(load(base_url, runs, watched=watched))
    sockets = descriptors() - files
    gc.collect()
    pipe.send(
        Client(
            **found, kilobytes=peak() - memory, threads=threading.active_count() - threads, sockets=sockets,
            unclosed=unclosed[:3],
        )
    )  # fmt: skip


def wrong(client: Client, server: Server, runs: int) -> list[str]:
    """What is otherwise than it should be."""
    rules: dict[str, bool] = {
        "a run did not end right": client.right == runs and not client.errors,
        "a tool ran twice, or not": client.calls == 2 * runs,
        "the server refused a request": not server.refused,
        "a kind of fault was not made": set(server.faults) == {*KINDS} and all(server.faults.values()),
        "not each fault was followed by one more request": server.requests == 3 * runs + sum(server.faults.values()),
        "the runs were not at once": not descriptors() or server.at_once >= runs / 4,
        "tasks, threads or sockets are left": not (client.tasks or client.threads or client.sockets > 0),
        "something was closed by the garbage collector only": not client.unclosed,
        "the memory is not bounded": client.kilobytes <= MOST_KB[0] + MOST_KB[1] * runs,
    }
    return [text for text, holds in rules.items() if not holds]


def started(target: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """A process of its own, and the pipe to it."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(there, *arguments))
    process.start()
    there.close()  # so that its end is seen here
    return process, here


def report(client: Client, server: Server, runs: int) -> None:
    """Print the figures."""
    again, kinds = server.requests - 3 * runs, ", ".join(f"{count} {kind}" for kind, count in server.faults.items())
    print(f"ended right   {client.right:,}   errors {client.errors or 'none'}")
    print(f"faults        {sum(server.faults.values()):,} ({kinds})")
    print(f"requests      {server.requests:,} ({again:,} again), tool calls {client.calls:,} of {2 * runs:,}")
    print(f"at once       {server.at_once:,} connections at most")
    print(f"time          {client.seconds:.1f} s, {client.cpu / runs * 1e3:.1f} ms of processor time each")
    print(f"peak memory   {client.kilobytes / runs:.0f} KB a run")
    print(f"left behind   {client.tasks} tasks, {client.threads} threads, {client.sockets} files and sockets")


def main() -> None:
    """Run it streamed and not, and print the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=2000)
    options.add_argument("--seed", type=int, default=SEED)
    given = options.parse_args()
    runs, seed = given.runs, given.seed
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))
    failed = False
    for watched in (False, True):
        print(f"== {runs:,} runs at once, {'streamed' if watched else 'whole'}, seed {seed}, {os.cpu_count()} processors")
        serving, server = started(serve, seed)
        running, client = started(part, server.recv(), runs, watched)
        found: Client = client.recv()
        running.join()
        server.send("stop")
        seen: Server = server.recv()
        serving.join()
        report(found, seen, runs)
        for text in wrong(found, seen, runs):
            failed = True
            print(f"WRONG         {text}")
        for text in found.unclosed + seen.refused:
            print(f"              {text}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
