"""Many runs at once in one process, against a simulator in another that fails one request in twenty: `python -m tests.load`.

Prints how many ended right, what they took, and what was left behind. `--runs 500` for fewer.
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
import time
from collections import Counter
from pathlib import Path
from typing import Any

from agentkit import Agent, ChatModel, Retry, RunContext, tool
from agentkit.testing import Cut, DeepSeekSimulator, Failure, Hangup, Reply, call

__all__ = ["load"]

SEED = 20261123
FAULTS = 0.05


def serve(pipe: Any) -> None:
    """The server process: each run calls a tool twice, then answers; one request in twenty fails."""
    chance = random.Random(SEED)

    def answer(request: Any) -> Any:
        last = request.last
        asked = sum(message["role"] == "tool" for message in request.messages)
        number = next(message["content"] for message in request.messages if message["role"] == "user")
        reply: Any = call("look", key=number) if asked < 2 else f"answer {number}: {last['content']}"
        if chance.random() >= FAULTS:
            return reply
        faults = (
            Failure(503, "busy"), Failure(500, "broken"), Failure(429, "slow down"), Hangup(), Cut(Reply(reply), after=1),
        )  # fmt: skip
        return chance.choice(faults)

    with DeepSeekSimulator(answer) as simulator:
        pipe.send(simulator.base_url)
        pipe.recv()
        pipe.send((len(simulator.requests), [failure.message for failure in simulator.errors[:3]]))


@tool(read_only=True)
async def look(key: str, ctx: RunContext[Counter[str]]) -> str:
    """Look something up."""
    ctx.deps[key] += 1
    await asyncio.sleep(0)
    return f"{key} seen"


def descriptors() -> int:
    """How many files and sockets this process has open; -1 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else -1


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
        "errors": errors,
        "calls": sum(calls.values()),
        "seconds": seconds,
        "cpu": used,
        "tasks left": len(asyncio.all_tasks() - before),
        "at once": model.limiter.at_once,
    }


def main() -> None:
    """Run it streamed and not, and print the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=2000)
    runs = options.parse_args().runs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))
    failed = False
    for watched in (False, True):
        here, there = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,))
        server.start()
        base_url = here.recv()
        gc.collect()
        open_before = descriptors()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = asyncio.run(load(base_url, runs, watched=watched))
        gc.collect()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
        left = descriptors() - open_before
        here.send("stop")
        requests, refused = here.recv()
        server.join()
        print(f"== {runs:,} runs at once, {'streamed' if watched else 'whole'}, seed {SEED}, {os.cpu_count()} processors")
        print(f"ended right   {found['right']:,}   errors {dict(found['errors']) or 'none'}")
        print(f"requests      {requests:,} ({requests - 3 * runs:,} again), tool calls {found['calls']:,} of {2 * runs:,}")
        print(f"time          {found['seconds']:.1f} s, {found['cpu'] / runs * 1e3:.1f} ms of processor time each")
        print(f"peak memory   {grown / runs:.0f} KB a run")
        print(f"left behind   {found['tasks left']} tasks, {left} files and sockets")
        failed |= found["right"] != runs or bool(found["tasks left"]) or left > 0 or found["calls"] != 2 * runs
        if refused:
            print(f"refused       {refused}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
