"""The client over real HTTP: refusals, the key, redirects, clients and event loops."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from typing import Any

import httpx
import httpx2
import pytest

from agentkit import ChatModel, ModelSettings, Retry, SettingsError, Usage, User
from agentkit import errors as e
from agentkit.models.retry_after import wait_in_headers
from agentkit.testing import DeepSeekSimulator

from .calls import GOOD, KEY, WHOLE, Seen, ask, replied
from .raw_server import RawServer, Step, chunked, http, raw_server, stream_head

# --- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", e.BadRequest),
        ("401 Unauthorized", e.AuthError),
        ("402 Payment Required", e.InsufficientBalance),
        ("404 Not Found", e.BadRequest),
        ("408 Request Timeout", e.Overloaded),
        ("409 Conflict", e.Overloaded),
        ("413 Too Large", e.BadRequest),
        ("422 Unprocessable", e.BadRequest),
        ("429 Too Many", e.RateLimited),
        ("500 Error", e.Overloaded),
        ("529 Busy", e.Overloaded),
    ],
)
def test_statuses(status: str, kind: type[e.ModelError]) -> None:
    body = json.dumps({"error": {"message": "because", "code": "c"}}).encode()
    with pytest.raises(e.ModelError, match="because") as caught:
        replied([http(body, status, extra="x-ds-trace-id: t1\r\nretry-after: 3\r\n")])
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id, error.retry_after) == (int(status[:3]), "c", "t1", 3.0)


def test_a_refusal_whose_body_is_cut_is_still_that_refusal() -> None:
    with pytest.raises(e.AuthError, match="HTTP 401: no entry"):
        replied([b"HTTP/1.1 401 No\r\ncontent-length: 100\r\n\r\nno entry"])


def test_a_refusal_with_an_endless_body_is_cut_off() -> None:
    with pytest.raises(e.Overloaded, match="HTTP 503"):
        replied([b"HTTP/1.1 503 No\r\nconnection: close\r\n\r\n", *([b"x" * 10_000] * 20), 30.0])


NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "-5", "retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30 -0000"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:30 +0100"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 09:59:00 GMT"}, None),
        ({"retry-after": str(1795428042)}, 42.0),
        ({"retry-after": str(1795428042000)}, 42.0),
        ({"retry-after": "2026-11-23T10:00:30Z"}, 30.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795428042000"}, 42.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795438042"}, None),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "1795428042"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "42"}, 42.0),
        (
            {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-11-23T10:00:30Z"},
            30.0,
        ),
        ({"retry-after": "Mon, 99 Nov 2026 09:59:00 GMT"}, None),
        ({"retry-after": "Mon, 23 Nov 99999999999999999999 10:00:00 GMT"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:00 +9999999999999999999999"}, None),
    ],
)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_in_headers(httpx.Headers(headers), lambda: NOW) == seconds


@pytest.mark.parametrize("place", ["status", "body", "chunk"])
def test_a_server_that_repeats_the_key_does_not_bring_it_into_an_error(place: str) -> None:
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    steps = {"status": [http(body, "401 No")], "body": [http(body)], "chunk": [stream_head() + b"data: " + body + b"\n\n"]}
    with pytest.raises(e.ModelError, match=r"Incorrect API key provided: \[api key\]") as caught:
        replied(steps[place])
    assert KEY not in caught.value.body + str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)


def test_the_key_is_in_the_request_and_in_no_repr() -> None:
    async def use(model: ChatModel, seen: Seen, server: RawServer) -> str:
        await model.reply(ask(), seen.add)
        return repr(model) + repr(model.endpoint)

    shown, _, server = replied([http(WHOLE)], use)
    assert f"authorization: Bearer {KEY}".encode() in server.heads[0]
    assert KEY not in shown


def test_no_key_no_header() -> None:
    _, _, server = replied([http(WHOLE)], api_key=None)
    assert b"authorization" not in server.heads[0].lower()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("own", [False, True])
def test_a_redirect_is_refused_and_the_key_goes_nowhere(status: str, own: bool) -> None:
    async def main() -> None:
        async with raw_server(lambda _n: [http(WHOLE)]) as target:
            moved = http(b"", status, extra=f"location: http://127.0.0.1:{target.port}/v1/x\r\n")
            async with raw_server(lambda _n: [moved]) as server, httpx.AsyncClient(follow_redirects=True) as client:
                model = server.model(client=client if own else None)
                with pytest.raises(
                    e.BadRequest, match=f"redirects to http://127.0.0.1:{target.port}/v1/x; set base_url"
                ) as caught:
                    await model.reply(ask())
                await model.aclose()
            assert (caught.value.status, caught.value.retryable, target.heads) == (int(status[:3]), False, [])

    asyncio.run(main())


# --- clients and loops ---------------------------------------------------------------------------------------------------


def test_a_connection_is_used_again_after_streams_and_whole_replies() -> None:
    ended = stream_head(extra="transfer-encoding: chunked\r\n").replace(b"connection: close\r\n", b"") + chunked(GOOD)
    answers: list[list[Step]] = [[ended], [ended[:-5], 0.05, ended[-5:]], [http(WHOLE)]]

    async def use(model: ChatModel, seen: Seen, server: RawServer) -> int:
        for _ in range(6):
            await model.reply(ask(), seen.add)
        return server.connections

    assert replied(lambda n: answers[n % 3], use, keep_open=True)[0] == 1


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("watched", [False, True])
def test_a_client_of_ones_own_is_used_and_left_open(library: Any, watched: bool) -> None:
    async def use(_model: ChatModel, seen: Seen, server: RawServer) -> tuple[str, bool]:
        async with library.AsyncClient(headers={"x-mine": "1"}) as client:
            model = server.model(client=client)
            reply = await model.reply(ask(), seen.add if watched else None)
            await model.aclose()
            return reply.message.text, client.is_closed

    result, _, server = replied([stream_head() + GOOD], use)
    assert result == ("hello", False)
    assert b"x-mine: 1" in server.heads[0]


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([-1.0], e.ConnectionFailed),
        ([stream_head() + GOOD[:40], -1.0], e.StreamBroken),
        ([stream_head(), 30.0], e.ConnectionFailed),
        ([stream_head(extra="content-encoding: gzip\r\n") + b"no"], e.StreamBroken),
    ],
)
def test_errors_of_both_libraries_are_ours(library: Any, steps: list[Step], kind: type[e.ModelError]) -> None:
    async def use(_model: ChatModel, seen: Seen, server: RawServer) -> None:
        async with library.AsyncClient() as client:
            with pytest.raises(kind):
                await server.model(client=client, timeout=0.5).reply(ask(), seen.add)

    replied(steps, use)


@pytest.mark.parametrize("client", [object(), "x", httpx.Client])
def test_a_client_of_another_kind_is_refused_at_once(client: Any) -> None:
    given = client() if isinstance(client, type) else client
    with pytest.raises(SettingsError, match=r"client is an? .*; allowed: httpx\.AsyncClient or httpx2\.AsyncClient"):
        ChatModel(api_key=KEY, client=given)


def test_where_a_server_redirects_to_is_shown_without_secrets_or_control_characters() -> None:
    target = "http://user:pass1234@host/v1?token=abcdef\x1b[2J&x=" + "y" * 9_000
    moved = f"HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n".encode()
    with pytest.raises(e.BadRequest, match="redirects to http://") as caught:
        replied([moved])
    text = str(caught.value)
    assert "pass1234" not in text and "abcdef" not in text and text.isprintable() and len(text) < 500


def test_a_missing_key_is_raised_before_anything_is_sent() -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError("it was sent")

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as client:
            with pytest.raises(e.MissingKey, match="AGENTKIT_API_KEY"):
                await ChatModel("m", base_url="https://api.example/v1", api_key="", client=client).reply(ask())
            with pytest.raises(SettingsError, match="max_tokens is 393217"):
                model = ChatModel("deepseek-v4-flash", api_key=KEY, client=client)
                await model.reply(ask(settings=ModelSettings(max_tokens=393_217)))

    asyncio.run(main())


def test_many_replies_at_once_and_one_model_over_many_loops() -> None:
    async def main(model: ChatModel) -> list[str]:
        replies = await asyncio.gather(*(model.reply(ask([User(f"say {n}")])) for n in range(30)))
        return [reply.message.text for reply in replies]

    with DeepSeekSimulator(lambda request: request.body["messages"][-1]["content"]) as sim:
        model = ChatModel(base_url=sim.base_url)
        for _ in range(3):
            assert asyncio.run(main(model)) == [f"say {n}" for n in range(30)]


PROGRAM = """
import asyncio, gc, logging, sys
from agentkit import ChatModel, User
from agentkit.model import ModelRequest

logging.getLogger("asyncio").setLevel(logging.ERROR)  # debug mode tells of slow steps

async def nothing(delta):
    pass

async def main(model):
    await asyncio.gather(*(model.reply(ModelRequest([User("hi")]), on) for on in (None, nothing) for _ in range(3)))

kept = ChatModel(base_url=sys.argv[1])
for turn in range(3):
    asyncio.run(main(kept))
    asyncio.run(main(ChatModel(base_url=sys.argv[1])))
gc.collect()
print("done")
"""


def test_a_forgotten_close_leaks_nothing_over_loops_and_at_exit() -> None:
    with DeepSeekSimulator("echo") as sim:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, sim.base_url],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")


def test_usage_counts_one_request_for_the_reply_that_came() -> None:
    async def use(model: ChatModel, _seen: Seen, _server: RawServer) -> Usage:
        async def sleep(_seconds: float) -> None:
            return None

        return (await Retry(sleep=sleep).wrap(model).reply(ask())).usage

    assert replied(lambda n: [http(WHOLE)] if n == 2 else [http(b"", "503 Busy")], use)[0] == Usage(requests=1)


def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with DeepSeekSimulator(["here"]) as simulator:
        assert asyncio.run(ChatModel(base_url=simulator.base_url).reply(ask())).message.text == "here"


@pytest.mark.parametrize("first", ["agent", "program"])
def test_an_own_client_on_another_loop_is_an_error_that_says_so(simulate: Any, first: str) -> None:
    """httpx's connections belong to the loop in which they were made; what it raises there is a bare RuntimeError."""
    base_url = simulate(["one", "two"]).base_url

    async def use(model: ChatModel, client: httpx.AsyncClient) -> None:
        if first == "agent":
            assert (await model.reply(ask())).message.text == "one"
        else:
            await client.get(f"{base_url}/models")

    def twice() -> None:
        client = httpx.AsyncClient()
        model = ChatModel(base_url=base_url, client=client)
        asyncio.run(use(model, client))
        with pytest.raises(
            e.ConnectionFailed, match="belongs to another event loop; give each loop a client of its own"
        ) as failed:
            asyncio.run(model.reply(ask()))
        assert not failed.value.retryable

    with warnings.catch_warnings():  # the connection cannot be closed any more: its loop has ended
        warnings.simplefilter("ignore", ResourceWarning)
        twice()
        gc.collect()
