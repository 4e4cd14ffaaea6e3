"""For the whole suite: no network but loopback, no settings of whoever runs it; and the four ways to run an agent."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import hypothesis
import pytest

from agentkit import Agent, RunFinished, RunPaused, RunResult
from agentkit.testing import DeepSeekSimulator
from tests.kit import How, Simulate
from tests.store.postgres import postgres_address as postgres_address

SETTINGS = ("AGENTKIT_", "DEEPSEEK_", "OPENAI_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if not isinstance(host, str):
        return host is None
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host in ("", "localhost")


def _refuse_network(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook, so that nothing gets past it, whichever library opens the connection."""
    if event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple) and not _is_local(args[1][0]):
        sys.stderr.write(f"\ntests: a connection to {args[1]!r} was refused; tests use loopback only\n")
        raise RuntimeError(f"tests use loopback only: {event} to {args[1]!r}")


sys.addaudithook(_refuse_network)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as under nohup; the processes that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=1000, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> Iterator[None]:
    """No key, server, model or proxy of a developer reaches a test, nor the processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if (name.startswith(SETTINGS) and not name.startswith("AGENTKIT_TEST_")) or name.upper() in PROXIES:
                patch.delenv(name)
        yield


def by_run(agent: Agent[Any], prompt: str | None = None, **options: Any) -> RunResult[Any]:
    return asyncio.run(agent.run(prompt, **options))


def by_run_sync(agent: Agent[Any], prompt: str | None = None, **options: Any) -> RunResult[Any]:
    return agent.run_sync(prompt, **options)


def by_stream(agent: Agent[Any], prompt: str | None = None, **options: Any) -> RunResult[Any]:
    async def main() -> RunResult[Any]:
        stream = agent.stream(prompt, **options)
        last = None
        async for event in stream:
            last = event
        assert isinstance(last, RunFinished | RunPaused)
        result: RunResult[Any] = last.result
        assert result is stream.result
        return result

    return asyncio.run(main())


def by_stream_sync(agent: Agent[Any], prompt: str | None = None, **options: Any) -> RunResult[Any]:
    last = None
    for event in agent.stream_sync(prompt, **options):
        last = event
    assert isinstance(last, RunFinished | RunPaused)
    result: RunResult[Any] = last.result
    return result


@pytest.fixture(params=[by_run, by_run_sync, by_stream, by_stream_sync], ids=["run", "run_sync", "stream", "stream_sync"])
def how(request: pytest.FixtureRequest) -> How:
    """One of the four ways to run an agent; each takes the arguments of `Agent.run` after the agent."""
    way: How = request.param
    return way


@pytest.fixture
def simulate() -> Iterator[Simulate]:
    """Start a `DeepSeekSimulator`, with its arguments. At the end it must have had nothing to refuse."""
    started: list[DeepSeekSimulator] = []
    with ExitStack() as stack:

        def start(*answers: Any, **options: Any) -> DeepSeekSimulator:
            started.append(stack.enter_context(DeepSeekSimulator(*answers, **options)))
            return started[-1]

        yield start
    assert [failure.message for sim in started for failure in sim.errors] == []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of faults by group, if it was run."""
    verdicts: dict[tuple[str, str], set[str]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "fault":
                    verdicts.setdefault(tuple(value), set()).add(outcome)
    if verdicts:
        from tests.faults.table import lines

        terminalreporter.section("faults")
        for line in lines(verdicts):
            terminalreporter.line(line)
