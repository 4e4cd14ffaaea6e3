"""Cassettes: what is recorded is replayed without a network, streams included, and a difference is shown."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, ChatModel, Retry, tool
from agentkit.events import Retrying, TextDelta
from agentkit.models.profiles import DEEPSEEK
from agentkit.testing import Cassette, CassetteMismatch, Cut, DeepSeekSimulator, Reply, call

KEY = "sk-very-secret-0123456789"
NOWHERE = "http://127.0.0.1:9/v1"


@tool
def clock() -> str:
    """The time."""
    return "noon"


def run(tape: Cassette, base_url: str, prompt: str = "When?", *, watched: bool = False) -> tuple[Any, list[Any]]:
    async def main() -> tuple[Any, list[Any]]:
        seen: list[Any] = []
        async with tape.client() as client:
            model = ChatModel("deepseek-v4-flash", base_url=base_url, api_key=KEY, profile=DEEPSEEK, client=client)
            agent = Agent(model, tools=[clock], retry=Retry(first=0, longest=0))
            if not watched:
                return await agent.run(prompt), seen
            stream = agent.stream(prompt)
            async for event in stream:
                seen.append(event)  # noqa: PERF401  also what came before an error
            return stream.result, seen

    return asyncio.run(main())


def record(path: Path, answers: Any, *, watched: bool) -> tuple[Any, list[Any]]:
    with DeepSeekSimulator(answers, api_key=KEY) as sim:
        return run(Cassette(path, record=True), sim.base_url, watched=watched)


@pytest.mark.parametrize("watched", [False, True])
def test_a_recorded_run_is_replayed_without_a_network(tmp_path: Path, watched: bool) -> None:
    path = tmp_path / "deep" / "noon.jsonl"
    recorded, first = record(path, [call("clock"), "It is nöön 😀."], watched=watched)
    tape = Cassette(path)
    replayed, second = run(tape, NOWHERE, watched=watched)
    assert replayed.output == recorded.output == "It is nöön 😀."
    assert replayed.messages == recorded.messages and replayed.usage == recorded.usage
    texts = [[event.text for event in seen if isinstance(event, TextDelta)] for seen in (first, second)]
    assert texts[0] == texts[1] and bool(texts[0]) is watched
    assert tape.unused == []


def test_a_broken_stream_and_its_retry_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    recorded, first = record(path, [Cut(Reply("It is noon."), after=3), "It is noon."], watched=True)
    replayed, second = run(Cassette(path), NOWHERE, watched=True)
    assert replayed.output == recorded.output == "It is noon."
    assert [sum(isinstance(event, Retrying) for event in seen) for seen in (first, second)] == [1, 1]


def test_no_secret_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "secret.jsonl"
    with DeepSeekSimulator([f"your key is {KEY}"], api_key=KEY) as sim:
        run(Cassette(path, record=True), sim.base_url, f"my key is {KEY}")
    text = path.read_text(encoding="utf-8")
    assert KEY not in text and "authorization" not in text and "my key is [api key]" in text
    assert run(Cassette(path), NOWHERE, f"my key is {KEY}")[0].output == "your key is [api key]"


def test_the_first_difference_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "noon.jsonl"
    record(path, [call("clock"), "noon"], watched=False)
    with pytest.raises(CassetteMismatch, match=r"request 1 differs at body\.messages\[0\]\.content: recorded \"When\?\", now"):
        run(Cassette(path), NOWHERE, "Why?")
    tape = Cassette(path)
    with pytest.raises(CassetteMismatch, match=r"request 1 differs at body\.stream: recorded nothing, now true"):
        run(tape, NOWHERE, watched=True)
    assert [len(body["messages"]) for body in tape.unused] == [1, 3]


def test_more_requests_than_recorded_and_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "noon.jsonl"
    record(path, ["noon"], watched=False)
    tape = Cassette(path)
    run(tape, NOWHERE)
    with pytest.raises(CassetteMismatch, match="all recorded requests are used, and one more is made"):
        run(tape, NOWHERE)
    with pytest.raises(CassetteMismatch, match=r"there is no cassette .*none\.jsonl; make it with record=True"):
        Cassette(tmp_path / "none.jsonl")
    path.write_text("{broken\n", encoding="utf-8")
    with pytest.raises(CassetteMismatch, match="line 1 is not JSON"):
        Cassette(path)


def test_runs_side_by_side_find_their_own_answers(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"

    def echo(request: Any) -> str:
        return str(request.last["content"])[::-1]

    async def many(tape: Cassette, base_url: str) -> list[str]:
        async with tape.client() as client:
            agent = Agent(ChatModel("deepseek-v4-flash", base_url=base_url, api_key=KEY, client=client))
            results = await asyncio.gather(*(agent.run(f"word {n}") for n in range(20)))
        return [result.output for result in results]

    with DeepSeekSimulator(echo, api_key=KEY) as sim:
        recorded = asyncio.run(many(Cassette(path, record=True), sim.base_url))
    assert asyncio.run(many(Cassette(path), NOWHERE)) == recorded == [f"word {n}"[::-1] for n in range(20)]


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    record(path, ["😀" * 50], watched=True)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for exchange in lines:  # as if the network had cut inside a character
        data = "".join(exchange["body"]).encode()
        exchange["body"] = [{"base64": base64.b64encode(data[at : at + 7]).decode()} for at in range(0, len(data), 7)]
    path.write_text("".join(json.dumps(exchange) + "\n" for exchange in lines), encoding="utf-8")
    assert run(Cassette(path), NOWHERE, watched=True)[0].output == "😀" * 50


PLUGIN = """
import os
from agentkit import Agent, ChatModel

def test_greeting(cassette):
    model = ChatModel("deepseek-v4-flash", base_url=os.environ["SERVER"], api_key="{key}", client=cassette.client())
    assert Agent(model).run_sync("Hi").output == "Hello!"
"""


def test_the_fixture_records_and_replays(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(test_it=PLUGIN.format(key=KEY))
    monkeypatch.setenv("SERVER", NOWHERE)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*there is no cassette*make it with record=True*")
    with DeepSeekSimulator(["Hello!"], api_key=KEY) as sim:
        monkeypatch.setenv("SERVER", sim.base_url)
        pytester.runpytest_subprocess("--record-cassettes").assert_outcomes(passed=1)
    monkeypatch.setenv("SERVER", NOWHERE)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    assert (pytester.path / "cassettes" / "test_it" / "test_greeting.jsonl").is_file()
