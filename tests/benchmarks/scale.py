"""What a step costs by the length of its history, and a run by how many go at once: `python -m tests.benchmarks.scale`.

The model: the processor time of a step is a + b * bytes sent, whatever goes on beside it. `a` and `b` are fitted to the
shortest and the longest run, and the one between is predicted by them. Each measurement has a process of its own, and the
lengths take turns.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from agentkit import Agent, ChatModel, Limits, tool

from .worker import add

LENGTHS = (50, 400, 1600)
AT_ONCE = (10, 100, 1000)
ROUNDS = 7
CERTIFICATE = Path(__file__).parents[1] / "data" / "self_signed.pem"

T = TypeVar("T")
Measure: TypeAlias = Callable[[str, int], Coroutine[Any, Any, T]]


def add_much(a: int, b: int) -> str:
    """Add, and say so in 1 KB."""
    return str(a + b) * 1024


def agent(base_url: str, steps: int, function: Callable[[int, int], object] = add) -> Agent[str]:
    """An agent whose run calls the function so many times."""
    model = ChatModel(f"steps-{steps}", base_url=base_url, api_key="k", profile="generic")
    return Agent(model, tools=[tool(function, name="add", parallel=True)], limits=Limits(steps=None))


async def length(base_url: str, steps: int) -> tuple[float, float]:
    """Microseconds of processor time per step, and bytes sent per step, of a run of this length."""
    made = agent(base_url, steps)
    result, samples = await made.run("Go."), []
    for _ in range(max(2, 1600 // steps)):
        used = time.process_time()
        result = await made.run("Go.")
        samples.append(time.process_time() - used)
    encode = made.spec.model.model._encode  # type: ignore[attr-defined]
    size = sum(len(encode(message)) + 1 for message in result.messages)
    await made.aclose()
    return statistics.median(samples) / (steps + 1) * 1e6, size / 2


async def at_once(base_url: str, runs: int) -> float:
    """Milliseconds of processor time per run of ten requests with results of 1 KB."""
    made = agent(base_url, 9, add_much)
    await asyncio.gather(*(made.run("Go.") for _ in range(min(runs, 50))))
    used = time.process_time()
    await asyncio.gather(*(made.run("Go.") for _ in range(runs)))
    used = time.process_time() - used
    await made.aclose()
    return used / runs * 1e3


async def held(base_url: str, runs: int) -> tuple[float, float]:
    """KB of memory that such a run takes at its peak, and that its end leaves in its result."""
    made = agent(base_url, 9, add_much)
    await made.run("Go.")
    tracemalloc.start()
    kept = await asyncio.gather(*(made.run("Go.") for _ in range(runs)))
    held, peak = tracemalloc.get_traced_memory()
    await made.aclose()
    return peak / len(kept) / 1024, held / len(kept) / 1024


async def seconds(base_url: str, runs: int) -> float:
    """Wall time of so many such runs, fifty at once."""
    made = agent(base_url, 9, add_much)
    began = time.perf_counter()
    for _ in range(runs // 50):
        await asyncio.gather(*(made.run("Go.") for _ in range(50)))
    await made.aclose()
    return time.perf_counter() - began


def _run(measure: Measure[T], base_url: str, number: int) -> T:
    return asyncio.run(measure(base_url, number))


def alone(measure: Measure[T], base_url: str, number: int) -> T:
    """The measurement in a process of its own."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(_run, measure, base_url, number).result()


@contextmanager
def served(scheme: str) -> Iterator[str]:
    """The base URL of the benchmarks' server."""
    command = [sys.executable, "-m", "tests.benchmarks.server", *([str(CERTIFICATE)] if scheme == "https" else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdin
        yield f"{scheme}://127.0.0.1:{server.stdout.readline().strip()}/v1"
        server.stdin.close()


def print_lengths(base_url: str, lengths: tuple[int, int, int], rounds: int) -> None:
    """The first table, and what is fitted to its first and last line."""
    seen: dict[int, list[tuple[float, float]]] = {steps: [] for steps in lengths}
    for _ in range(rounds):
        for steps in lengths:
            seen[steps].append(alone(length, base_url, steps))
    found = {steps: statistics.median(used for used, _size in rows) for steps, rows in seen.items()}
    sizes = {steps: rows[0][1] for steps, rows in seen.items()}
    short, _between, long = lengths
    slope = (found[long] - found[short]) / (sizes[long] - sizes[short])
    start = found[short] - slope * sizes[short]
    print("| steps in the run | bytes of a request (mean) | us a step, median | least to most | us a step, by the model |")
    print("|---:|---:|---:|---:|---:|")
    for steps, rows in seen.items():
        spread = f"{min(rows)[0]:.0f} - {max(rows)[0]:.0f}"
        print(f"| {steps} | {sizes[steps]:,.0f} | {found[steps]:.0f} | {spread} | {start + slope * sizes[steps]:.0f} |")
    print(f"\na = {start:.0f} us, b = {slope * 1024:.2f} us a KB, medians of {rounds} rounds\n")


def main(
    lengths: tuple[int, int, int] = LENGTHS, together: tuple[int, ...] = AT_ONCE, rounds: int = ROUNDS, runs: int = 500
) -> None:
    """Print the tables; the last is of so many runs in each process."""
    os.environ["SSL_CERT_FILE"] = str(CERTIFICATE)
    with served("http") as plain, served("https") as tls:
        print_lengths(plain, lengths, rounds)
        print("| runs at once | ms of processor time a run | over TLS |\n|---:|---:|---:|")
        for number in together:
            print(f"| {number} | {alone(at_once, plain, number):.2f} | {alone(at_once, tls, number):.2f} |")
        peak, left = alone(held, plain, together[-1])
        print(f"\nmemory of each of {together[-1]}: {peak:.0f} KB at the peak, {left:.0f} KB in its result\n")
        print("| processes | runs a second (the server takes a share) |\n|---:|---:|")
        for workers in (1, 2):
            with ProcessPoolExecutor(workers) as pool:
                longest = max(pool.map(partial(_run, seconds, plain), [runs] * workers))
            print(f"| {workers} of {os.cpu_count()} processors | {workers * runs / longest:.0f} |")


if __name__ == "__main__":
    main(*(((2, 4, 8), (2,), 1, 50) if "--small" in sys.argv else ()))
