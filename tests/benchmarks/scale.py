"""What a step costs by the length of its history, and a run by how many go at once: `python -m tests.benchmarks.scale`.

The model: the processor time of a step is a + b * bytes sent, whatever goes on beside it. `a` and `b` are fitted to the
shortest and the middle run, and the longest is predicted by them and then measured.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor

from agentkit import Agent, ChatModel, Limits, tool

from .worker import add

LENGTHS = (50, 400, 1600)
AT_ONCE = (10, 100, 1000)


def agent(port: str, steps: int) -> Agent[str]:
    """An agent whose run has so many steps."""
    model = ChatModel(f"steps-{steps}", base_url=f"http://127.0.0.1:{port}/v1", api_key="k", profile="generic")
    return Agent(model, tools=[tool(add, parallel=True)], limits=Limits(max_steps=None))


async def _length(port: str, steps: int) -> tuple[float, float]:
    """Microseconds of processor time per step, and bytes sent per step, of a run of this length."""
    made = agent(port, steps)
    result, samples = await made.run("Go."), []
    for _ in range(max(3, 400 // steps)):
        used = time.process_time()
        result = await made.run("Go.")
        samples.append(time.process_time() - used)
    used = statistics.median(samples)
    encode = made.spec.model.model._encode  # type: ignore[attr-defined]
    size = sum(len(encode(message)) + 1 for message in result.messages)
    await made.aclose()
    return used / (steps + 1) * 1e6, size / 2


async def _at_once(port: str, runs: int) -> tuple[float, float]:
    """Milliseconds of processor time per run of five requests, and KB of memory that its end leaves in its result."""
    made = agent(port, 4)
    await asyncio.gather(*(made.run("Go.") for _ in range(min(runs, 50))))
    used = time.process_time()
    await asyncio.gather(*(made.run("Go.") for _ in range(runs)))
    used = time.process_time() - used
    tracemalloc.start()
    kept = await asyncio.gather(*(made.run("Go.") for _ in range(50)))
    size = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    await made.aclose()
    return used / runs * 1e3, size / 1024


def _worker(port: str, runs: int) -> float:
    async def main() -> float:
        made = agent(port, 4)
        began = time.perf_counter()
        for _ in range(runs // 50):
            await asyncio.gather(*(made.run("Go.") for _ in range(50)))
        await made.aclose()
        return time.perf_counter() - began

    return asyncio.run(main())


def main(lengths: tuple[int, int, int] = LENGTHS, at_once: tuple[int, ...] = AT_ONCE, runs: int = 1000) -> None:
    """Print the three tables; the last is of so many runs in each process."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout and server.stdin
    port = server.stdout.readline().strip()
    try:
        found = [asyncio.run(_length(port, steps)) for steps in lengths]
        (first, small), (second, more), _last = found
        slope = (second - first) / (more - small)
        print("| steps in the run | bytes of a request (mean) | us a step, measured | us a step, by the model |")
        print("|---:|---:|---:|---:|")
        for steps, (used, size) in zip(lengths, found, strict=True):
            print(f"| {steps} | {size:,.0f} | {used:.0f} | {first + slope * (size - small):.0f} |")
        print(f"\na = {first - slope * small:.0f} us, b = {slope * 1024:.2f} us a KB\n")
        print("| runs at once | ms of processor time a run | KB that a result holds |")
        print("|---:|---:|---:|")
        for beside in at_once:
            used, held = asyncio.run(_at_once(port, beside))
            print(f"| {beside} | {used:.2f} | {held:.1f} |")
        print("\n| processes | runs a second (the server takes a share) |\n|---:|---:|")
        for workers in (1, 2):
            with ProcessPoolExecutor(workers) as pool:
                seconds = max(pool.map(_worker, [port] * workers, [runs] * workers))
            print(f"| {workers} of {os.cpu_count()} processors | {workers * runs / seconds:.0f} |")
    finally:
        server.stdin.close()
        server.wait()


if __name__ == "__main__":
    main(*(((2, 4, 8), (2,), 50) if "--small" in sys.argv else ()))
