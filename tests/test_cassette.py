"""Cassettes: what is recorded is replayed without a network, streams included, and a difference is shown."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import stat
import sys
import traceback
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit import Agent, ChatModel, ModelSettings, Retry, TimedOut, tool
from agentkit.events import Retrying, TextDelta
from agentkit.models.profiles import DEEPSEEK
from agentkit.testing import Cassette, CassetteMismatch, Cut, DeepSeekSimulator, Late, Reply, call

pytest_plugins = ["pytester"]

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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("before", [None, 0o644])
def test_only_its_user_can_read_a_cassette(tmp_path: Path, before: int | None) -> None:
    path = tmp_path / "mine.jsonl"
    if before is not None:
        path.touch(before)
    mask = os.umask(0o022)
    try:
        record(path, ["noon"], watched=False)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


IN_BASE64 = [base64.b64encode(b"x" * before + KEY.encode() + b"tail").decode() for before in range(3)]


def said(body: list[str]) -> str:
    """The text of a stored answer, as a client joins it."""
    whole = "".join(body)
    if whole.startswith("{"):
        return str(json.loads(whole)["choices"][0]["message"]["content"])
    chunks = [json.loads(line[6:]) for line in whole.splitlines() if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


@pytest.mark.parametrize("chunk", [1, 5, 8, 30, 1000])
@pytest.mark.parametrize("watched", [False, True])
def test_a_key_that_a_server_repeats_in_pieces_is_not_stored(tmp_path: Path, chunk: int, watched: bool) -> None:
    path, hexed = tmp_path / "echo.jsonl", KEY.encode().hex()
    with DeepSeekSimulator([f"ünï {KEY}{KEY}, {' '.join(IN_BASE64)}, {hexed} and {KEY[:12]}"], chunk=chunk, api_key=KEY) as sim:
        run(Cassette(path, record=True), sim.base_url, watched=watched)
    (exchange,) = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    replayed, seen = run(Cassette(path), NOWHERE, watched=watched)
    assert replayed.output.startswith("ünï [api key][api key], ") and replayed.output.endswith(f", [api key] and {KEY[:12]}")
    assert "".join(event.text for event in seen if isinstance(event, TextDelta)) == (replayed.output if watched else "")
    stored = said(exchange["body"]) + "".join(map(str, exchange["body"]))
    assert said(exchange["body"]) == replayed.output
    assert KEY not in stored and hexed not in stored and not any(form[4:36] in stored for form in IN_BASE64)
    if watched and chunk < 30:
        assert len(exchange["body"]) > 10, "it still comes in pieces"


def test_the_key_of_a_function_and_of_a_client_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "echo.jsonl"

    async def main(base_url: str) -> None:
        for key, options in ((lambda: KEY, {}), (None, {"auth": ("ann", KEY)}), (None, {"cookies": {"session": KEY}})):
            async with Cassette(path, record=True).client(**options) as client:
                await Agent(ChatModel("deepseek-v4-flash", base_url=base_url, api_key=key, client=client)).run(f"my {KEY}")
            assert KEY not in path.read_text(encoding="utf-8")

    with DeepSeekSimulator([f"your key is {KEY}"] * 3) as sim:
        asyncio.run(main(sim.base_url))


def test_an_answer_is_stored_decompressed_so_that_no_key_hides_in_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    packed = gzip.compress(f"the key {KEY}".encode())

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip", "x-request-id": KEY})

    came = asyncio.run(post(recorded(path, answer), headers={"api-key": KEY}))
    assert came.text == f"the key {KEY}" and "content-encoding" not in came.headers
    again = asyncio.run(post(Cassette(path), headers={"api-key": KEY}))
    assert (again.text, again.headers["x-request-id"]) == ("the key [api key]", "[api key]")
    with pytest.raises(httpx.DecodingError):
        wrong = httpx.Response(200, stream=httpx.ByteStream(b"no"), headers={"content-encoding": "gzip"})
        asyncio.run(post(recorded(path, lambda _request: wrong)))
    with pytest.raises(httpx.DecodingError, match="as recorded"):
        asyncio.run(post(Cassette(path)))


def test_an_error_of_a_cassette_shows_no_key_in_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    asyncio.run(post(recorded(path, lambda _request: httpx.Response(200)), body={"key": KEY}, headers={"api-key": KEY}))
    with pytest.raises(CassetteMismatch) as caught:
        asyncio.run(post(Cassette(path), body={"key": f"not {KEY}"}, headers={"api-key": KEY}))
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__) if "cassette.py" in frame.f_code.co_filename]
    own = [frame for frame in frames if frame.f_code.co_filename != __file__]
    assert own and KEY not in "".join(repr({**frame.f_locals}) for frame in own) + str(caught.value)


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


@pytest.mark.parametrize("said", ["line\u2028two", "a\x85b", "a\u2029b", "tab\x0bfeed\x0c\x1c\x1d\x1e"])
def test_any_character_is_kept(tmp_path: Path, said: str) -> None:
    path = tmp_path / "lines.jsonl"
    with DeepSeekSimulator([said], api_key=KEY) as sim:
        run(Cassette(path, record=True), sim.base_url, f"say {said}")
    assert run(Cassette(path), NOWHERE, f"say {said}")[0].output == said


async def post(tape: Cassette, path: str = "/v1/chat", body: Any = None, headers: Any = None) -> httpx.Response:
    async with tape.client() as client:
        return await client.post(f"http://models.example{path}", json=body, headers=headers)


def recorded(path: Path, answer: Any) -> Cassette:
    return Cassette(path, record=True, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("header", ["api-key", "x-api-key", "authorization", "cookie"])
@pytest.mark.parametrize("before", ["", "bearer ", "Basic "])
def test_keys_of_any_header_are_stripped_from_addresses_and_bodies(tmp_path: Path, header: str, before: str) -> None:
    path, secret = tmp_path / "t.jsonl", "azure-secret-123456"
    address, body = f"/v1/{secret}/chat?api-version=1&key=query-secret-77", {"user": secret, "note": "password=hunter2222"}
    tape, headers = recorded(path, lambda _request: httpx.Response(401, text=f"{secret} is wrong")), {header: before + secret}
    asyncio.run(post(tape, address, body, headers))
    text = path.read_text(encoding="utf-8")
    assert secret not in text and "query-secret-77" not in text and "hunter2222" not in text and "api-version=1" in text
    assert asyncio.run(post(Cassette(path), address, body, headers)).status_code == 401


def test_true_is_not_one_and_a_query_counts(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    asyncio.run(post(recorded(path, lambda _request: httpx.Response(200)), "/chat?v=1", {"stream": True, "n": 1}))
    with pytest.raises(CassetteMismatch, match=r"body\.stream: recorded true, now 1"):
        asyncio.run(post(Cassette(path), "/chat?v=1", {"stream": 1, "n": True}))
    with pytest.raises(CassetteMismatch, match=r"query: recorded \"v=1\", now \"v=2\""):
        asyncio.run(post(Cassette(path), "/chat?v=2", {"stream": True, "n": 1}))


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError])
def test_a_request_that_failed_fails_again(tmp_path: Path, kind: type[httpx.TransportError]) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise kind("no")

    path = tmp_path / "t.jsonl"
    with pytest.raises(kind):
        asyncio.run(post(recorded(path, fail)))
    with pytest.raises(kind, match="as recorded"):
        asyncio.run(post(Cassette(path)))


def test_a_reply_that_was_not_waited_for_is_late_again(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"

    def ask(tape: Cassette, base_url: str) -> None:
        async def main() -> None:
            async with tape.client() as client:
                model = ChatModel("deepseek-v4-flash", base_url=base_url, api_key=KEY, client=client, deadline=0.3)
                with pytest.raises(TimedOut):
                    await Agent(model, retry=Retry(attempts=1), settings=ModelSettings(stream=True)).run("go")

        asyncio.run(main())

    with DeepSeekSimulator([Late("It is noon.", 5, after=2)], api_key=KEY) as sim:
        ask(Cassette(path, record=True), sim.base_url)
    ask(Cassette(path), NOWHERE)


PLUGIN = """
import os
from agentkit import Agent, ChatModel

def test_greeting(cassette):
    model = ChatModel("deepseek-v4-flash", base_url=os.environ["SERVER"], api_key="{key}", client=cassette.client())
    assert Agent(model).run_sync("Hi").output == "Hello!"
"""


CLASSES = """
import os
import pytest
from agentkit import Agent, ChatModel

def greet(cassette, said):
    model = ChatModel("deepseek-v4-flash", base_url=os.environ["SERVER"], api_key="{key}", client=cassette.client())
    assert Agent(model).run_sync(said).output == f"I am {{said}}"

class TestA:
    def test_greet(self, cassette):
        greet(cassette, "A")

class TestB:
    def test_greet(self, cassette):
        greet(cassette, "B")

@pytest.mark.parametrize("name", ["a b", "a/b"])
def test_names(cassette, name):
    greet(cassette, name)
"""

CAUGHT = """
import os
from agentkit import Agent, ChatModel

def test_greeting(cassette):
    model = ChatModel("deepseek-v4-flash", base_url=os.environ["SERVER"], api_key="{key}", client=cassette.client())
    try:
        Agent(model).run_sync(os.environ["SAY"])
    except Exception:
        pass
"""


def test_each_test_has_its_own_cassette(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(test_it=CLASSES.format(key=KEY))
    with DeepSeekSimulator(lambda request: f"I am {request.last['content']}", api_key=KEY) as sim:
        monkeypatch.setenv("SERVER", sim.base_url)
        pytester.runpytest_subprocess("--record-cassettes").assert_outcomes(passed=4)
    monkeypatch.setenv("SERVER", NOWHERE)
    pytester.runpytest_subprocess().assert_outcomes(passed=4)
    assert len([*pytester.path.glob("cassettes/test_it/*.jsonl")]) == 4


def test_a_difference_that_was_caught_fails_the_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(test_it=CAUGHT.format(key=KEY))
    monkeypatch.setenv("SAY", "one")
    with DeepSeekSimulator(["Hello!"], api_key=KEY) as sim:
        monkeypatch.setenv("SERVER", sim.base_url)
        pytester.runpytest_subprocess("--record-cassettes").assert_outcomes(passed=1)
    monkeypatch.setenv("SERVER", NOWHERE)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    monkeypatch.setenv("SAY", "two")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines('*CassetteMismatch*recorded "one", now "two"*')


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
