"""Each message becomes bytes once, and what was sent stays the same bytes: a prompt's prefix is what a server's cache knows."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit import Agent, ChatModel, Limits, ModelSettings, Retry, ScriptedModel, User, tool
from agentkit.messages import Message
from agentkit.models.profiles import GENERIC, PROFILES, Profile
from agentkit.testing import DeepSeekSimulator, Failure, SimRequest, call
from tests.kit import reloaded

ROOT = Path(__file__).parents[1]
STEPS = 6


@tool(read_only=True)
def fetch(n: int) -> str:
    """Fetch."""
    return f"row {n}: é \U0001f600 " * 20


@tool(read_only=True)
def clock() -> str:
    """Time."""
    return "noon"


def grows(bodies: list[bytes]) -> None:
    """Each body is the one before with more messages at its end."""
    for before, after in pairwise(bodies):
        assert after.startswith(before.removesuffix(b"]}") + b",")


def answer(request: httpx.Request) -> httpx.Response:
    body = json.loads(request.content)
    done = sum(message["role"] == "tool" for message in body["messages"])
    function = {"name": "fetch", "arguments": json.dumps({"n": done})}
    calls = [{"index": 0, "id": f"call{done:05}", "type": "function", "function": function}]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "Done." if done == STEPS else f"Step {done}: é.",
        "reasoning_content": "So?",
    }
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if done == STEPS else "tool_calls"}
    if done < STEPS:
        message["tool_calls"] = calls
    if not body.get("stream"):
        return httpx.Response(200, json={"model": "m", "choices": [{**choice, "message": message}]})
    events = [{"model": "m", "choices": [{**choice, "delta": message}]}, "[DONE]"]
    text = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("profile", [*PROFILES, GENERIC], ids=lambda profile: profile.name)
def test_the_prefix_of_a_run_stays_in_every_profile(profile: Profile, stream: bool) -> None:
    bodies: list[bytes] = []

    def noted(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return answer(request)

    async def main() -> str:
        async with httpx.AsyncClient(transport=httpx.MockTransport(noted)) as client:
            model = ChatModel(
                "m", base_url="https://models.example/v1", api_key="key-0123456789", profile=profile, client=client
            )
            agent = Agent(model, tools=[fetch, clock], instructions="Be brief.", settings=ModelSettings(stream=stream))
            return (await agent.run("Go.")).output

    assert asyncio.run(main()) == "Done."
    assert len(bodies) == STEPS + 1
    grows(bodies)


def test_each_message_is_encoded_once() -> None:
    encoded: Counter[int] = Counter()
    kept: list[Message] = []
    with DeepSeekSimulator([*([call("fetch", n=n), call("clock")] for n in range(40)), "Done.", "Later."]) as simulator:
        model = ChatModel(base_url=simulator.base_url)
        encode = model._encode

        def counted(message: Any) -> bytes:
            encoded[id(message)] += 1
            kept.append(message)  # so that no other gets its id
            return encode(message)

        model._encode = counted
        agent = Agent(model, tools=[fetch, clock], instructions="Be brief.", limits=Limits(steps=None))
        result = agent.run_sync("Go.")
        again = agent.run_sync("And now?", messages=result.messages)
        assert len(model._heads) == 1, "and the head, with the tools, once"
        assert simulator.errors == []
    sent = again.messages[:-1]  # the last answer was not sent
    assert set(encoded.values()) == {1}
    assert {id(message) for message in sent} <= {*encoded} and len(encoded) <= len(sent) + 1
    assert len(result.messages) == 3 + 40 * 3


def later(requests: int) -> Any:
    def reply(request: SimRequest) -> Any:
        done = sum(message["role"] == "tool" for message in request.body["messages"])
        return [call("fetch", n=done)] if done < requests else "Done."

    return reply


RESUMED = """
    import json, sys
    from agentkit import Agent, ChatModel, Limits, RunState
    from tests.test_bytes_once import clock, fetch

    agent = Agent(ChatModel(base_url=sys.argv[1]), tools=[clock, fetch], instructions="Be brief.", limits=Limits(steps=9))
    print(agent.resume_sync(RunState.from_json(json.load(sys.stdin))).output)
"""


@pytest.mark.parametrize("watched", [False, True])
def test_the_prefix_stays_in_another_process(watched: bool) -> None:
    with DeepSeekSimulator(later(6)) as simulator:
        agent = Agent(
            ChatModel(base_url=simulator.base_url), tools=[fetch, clock], instructions="Be brief.", limits=Limits(steps=3)
        )
        if watched:
            stream = agent.stream_sync("Go.")
            assert [*stream]
            state = stream.result.state
        else:
            state = agent.run_sync("Go.").state
        resumed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(RESUMED), simulator.base_url],
            input=json.dumps(state.to_json()), capture_output=True, text=True, timeout=60, check=False,
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
        )  # fmt: skip
        assert resumed.stdout == "Done.\n", resumed.stderr
        whole = [
            request.raw.replace(b',"stream":true,"stream_options":{"include_usage":true}', b"")
            for request in simulator.requests
        ]
    assert len(whole) == 7
    grows(whole)


def test_the_prefix_stays_after_another_agent_had_the_conversation() -> None:
    with DeepSeekSimulator(later(2)) as simulator:
        model = ChatModel(base_url=simulator.base_url)
        mine = Agent(model, tools=[fetch, clock], instructions="Be brief.")
        other = Agent(model, tools=[clock], instructions="Be long.")
        first = mine.run_sync("Go.")
        second = other.run_sync("You now.", messages=first.messages)
        mine.run_sync("And I again.", messages=second.messages)
        bodies = [request.raw for request in simulator.requests]
        assert len(bodies) == 5
        grows([*bodies[:3], bodies[4]])
        assert not bodies[3].startswith(bodies[2][:-2]), "the other has tools and instructions of its own"


def test_the_prefix_stays_over_retries() -> None:
    with DeepSeekSimulator(
        [Failure(503), [call("fetch", n=1)], Failure(500), Failure(429), [call("clock")], "Done."]
    ) as simulator:
        agent = Agent(ChatModel(base_url=simulator.base_url), tools=[fetch, clock], retry=Retry(first=0, longest=0))
        assert agent.run_sync("Go.").output == "Done."
        bodies = [request.raw for request in simulator.requests]
    assert bodies[0] == bodies[1] and bodies[2] == bodies[3] == bodies[4]
    grows([bodies[1], bodies[4], bodies[5]])


def test_tools_in_another_order_are_the_same_bytes() -> None:
    with DeepSeekSimulator(["One.", "Two."]) as simulator:
        for first, second in ((fetch, clock), (clock, fetch)):
            Agent(ChatModel(base_url=simulator.base_url), tools=[first, second]).run_sync("Go.")
        assert simulator.requests[0].raw == simulator.requests[1].raw


def test_a_state_is_replayed_to_the_same_bytes() -> None:
    model = ScriptedModel([[call("fetch", n=1)], "Done."])
    state = Agent(model, tools=[fetch]).run_sync("Go.").state
    again = reloaded(state)
    encode = ChatModel(base_url="http://127.0.0.1:9/v1")._encode
    assert [encode(message) for message in again.messages] == [encode(message) for message in state.messages]
    assert isinstance(again.messages[0], User)
