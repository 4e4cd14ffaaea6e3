"""Keys that are not one fixed text: functions, headers, and clients that authenticate themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest

from agentkit import Agent, ChatModel, Fallback, Limiter, Retry
from agentkit import errors as e
from agentkit.models.endpoint_check import check_endpoint
from agentkit.testing import DeepSeekSimulator

from .calls import WHOLE, ask, replied
from .raw_server import RawServer, http

KEY, OTHER = "key-0123456789", "other-9876543210"
AUTHORIZATION = f"authorization: Bearer {KEY}".encode()
LIBRARIES = [httpx, httpx2]


def headers_of(server: RawServer, number: int = 0) -> dict[str, str]:
    lines = server.heads[number].decode().split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


# ---- functions


class Provider:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self) -> str:
        self.asked.append(threading.current_thread().name)
        return f"{KEY}-{len(self.asked)}"

    async def token(self) -> str:
        self.asked.append(threading.current_thread().name)
        return f"{KEY}-{len(self.asked)}"


class AsyncProvider(Provider):
    async def __call__(self) -> str:  # type: ignore[override]
        return await self.token()


PROVIDERS: dict[str, Callable[[Provider], Any]] = {
    "object": lambda provider: provider,
    "bound method": lambda provider: provider.__call__,
    "lambda": lambda provider: lambda: provider(),
    "async method": lambda provider: provider.token,
    "partial of an async one": lambda provider: functools.partial(provider.token),
    "function that gives an awaitable": lambda provider: lambda: provider.token(),
    "async object": lambda _provider: AsyncProvider(),
}


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_function_is_asked_for_each_request(kind: str) -> None:
    async def use(model: ChatModel, _seen: Any, server: RawServer) -> None:
        for number in (1, 2, 3):
            await model.reply(ask())
            assert headers_of(server, number - 1)["authorization"] == f"Bearer {KEY}-{number}"

    replied([http(WHOLE)], use, keep_open=True, api_key=PROVIDERS[kind](Provider()))


def test_each_attempt_asks_again_so_that_a_key_can_be_renewed() -> None:
    answers = [[http(b"{}", "503 Busy")], [http(b"{}", "401 Expired")], [http(WHOLE)]]

    async def use(model: ChatModel, _seen: Any, server: RawServer) -> list[str]:
        retry = Retry(first=0, longest=0, when=lambda error: error.retryable or isinstance(error, e.AuthError))
        assert (await Agent(model, retry=retry).run("hi")).output == "hello"
        return [headers_of(server, number)["authorization"] for number in range(3)]

    sent, _, _ = replied(lambda number: answers[number], use, api_key=Provider())
    assert sent == [f"Bearer {KEY}-{number}" for number in (1, 2, 3)]


def test_a_sync_function_keeps_no_event_loop_waiting_and_sees_the_context() -> None:
    released = threading.Event()

    def wait() -> str:
        assert released.wait(20)
        return KEY

    async def use(model: ChatModel, _seen: Any, _server: RawServer) -> str:
        task = asyncio.create_task(model.reply(ask()))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(released.set)
        return (await task).message.text

    text, _, _ = replied([http(WHOLE)], use, api_key=wait)
    assert text == "hello"


def test_a_function_that_never_answers_ends_with_the_deadline() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(e.TimedOut, match="no whole reply within the deadline"):
        replied([http(WHOLE)], api_key=never, deadline=0.05)


def raising(error: Exception) -> Callable[[], str]:
    def ask_for_it() -> str:
        raise error

    return ask_for_it


async def cancelled() -> str:
    raise asyncio.CancelledError("of a closed pool")


@dataclasses.dataclass(frozen=True)
class Vault:
    """A key function that has no hash."""

    names: list[str]

    def __call__(self) -> str:
        return KEY


def test_a_key_function_may_be_an_object_without_a_hash() -> None:
    reply, _, _ = replied([http(WHOLE)], api_key=Vault(["a"]))
    assert reply.message.text == "hello"


@pytest.mark.parametrize(
    ("function", "kind", "match"),
    [
        (cancelled, e.AuthError, "given as api_key failed: CancelledError: of a closed pool"),
        (raising(ConnectionError("token server is down")), e.AuthError, "given as api_key failed: ConnectionError: token se"),
        (raising(ValueError("password=hunter2")), e.AuthError, r"failed: ValueError: password=\[redacted\]"),
        (raising(e.ConnectionFailed("mine")), e.ConnectionFailed, "^mine"),
        (lambda: None, e.SettingsError, "the function given as api_key gave None; allowed: text"),
        (lambda: b"key-0123456789", e.SettingsError, "gave a bytes; allowed: text"),
        (lambda: "", e.SettingsError, "the API key of the function given as api_key is not one word of ASCII characters"),
        (lambda: "key 0123456789", e.SettingsError, "is not one word"),
        (lambda: "'key-0123456789'", e.SettingsError, "is not one word"),
        (lambda: "key-\u200b0123456789", e.SettingsError, "is not one word"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_function_is_told_and_nothing_is_sent(function: Any, kind: type[Exception], match: str) -> None:
    async def use(model: ChatModel, _seen: Any, server: RawServer) -> None:
        with pytest.raises(kind, match=match) as caught:
            await model.reply(ask())
        assert not server.heads and "key-0" not in str(caught.value) and "hunter2" not in str(caught.value)

    replied([http(WHOLE)], use, api_key=function)


def test_where_a_function_failed_is_noted_and_the_next_model_is_asked() -> None:
    def broken() -> str:
        raise LookupError("no such secret")

    with DeepSeekSimulator(["Hi"]) as simulator:
        first = ChatModel("deepseek-v4-flash", base_url=simulator.base_url, api_key=broken)
        with pytest.raises(e.AuthError) as caught:
            asyncio.run(first.reply(ask()))
        cause = caught.value.__cause__
        assert isinstance(cause, LookupError) and "in broken\n    raise LookupError" in cause.__notes__[0]
        second = ChatModel("deepseek-v4-flash", base_url=simulator.base_url, api_key=KEY)
        assert Agent(Fallback(first, second)).run_sync("Hello").output == "Hi"


def test_the_line_end_of_a_key_from_a_file_is_taken_off() -> None:
    async def use(model: ChatModel, _seen: Any, server: RawServer) -> str:
        await model.reply(ask())
        return headers_of(server)["authorization"]

    for key in (f" {KEY}\r\n", lambda: f"{KEY}\n"):
        assert replied([http(WHOLE)], use, api_key=key)[0] == f"Bearer {KEY}"


# ---- headers


def test_headers_are_sent_with_each_request_and_may_carry_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", OTHER)

    async def use(model: ChatModel, _seen: Any, server: RawServer) -> None:
        for number in (0, 1):
            await model.reply(ask())
            sent = headers_of(server, number)
            assert (sent["api-key"], sent["x-team"], sent["user-agent"]) == (KEY, "blue", "mine/1.0")
            assert "authorization" not in sent and sent["content-type"] == "application/json"
        names = [line.partition(b":")[0].lower() for line in server.heads[0].split(b"\r\n")[1:] if line]
        assert len(names) == len({*names}), "each header once"

    headers = {"api-key": f"{KEY}\n", "X-Team": "blue", "User-Agent": "mine/1.0"}
    replied([http(WHOLE)], use, keep_open=True, api_key=None, headers=headers)


@pytest.mark.parametrize("library", LIBRARIES)
def test_headers_go_through_a_client_as_well(library: Any) -> None:
    async def use(model: ChatModel, _seen: Any, server: RawServer) -> dict[str, str]:
        async with library.AsyncClient() as client:
            keyed = ChatModel("m", base_url=model.endpoint.base_url, api_key=KEY, headers={"x-trace": "on"}, client=client)
            await keyed.reply(ask())
        return headers_of(server)

    sent, _, _ = replied([http(WHOLE)], use)
    assert (sent["authorization"], sent["x-trace"]) == (f"Bearer {KEY}", "on")


def test_a_gateways_own_header_goes_beside_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(model: ChatModel, _seen: Any, server: RawServer) -> dict[str, str]:
        await model.reply(ask())
        return headers_of(server)

    monkeypatch.setenv("AGENTKIT_API_KEY", KEY)
    sent, _, _ = replied([http(WHOLE)], use, api_key=None, headers={"x-gateway-token": OTHER})
    assert (sent["authorization"], sent["x-gateway-token"]) == (f"Bearer {KEY}", OTHER)


@pytest.mark.parametrize(
    ("headers", "match"),
    [
        ({"api-key": f"{KEY}\n{KEY}"}, r"the header api-key has a value that is no line of ASCII characters \(it is not shown"),
        ({"api-key": "k\u00e9y"}, "the header api-key has a value"),
        ({"api-key": ""}, "the header api-key has a value"),
        ({"api-key": 5}, "the header api-key has a value"),
        ({"a b": "x"}, "headers has the name 'a b'"),
        ({"": "x"}, "headers has the name ''"),
        ({5: "x"}, "headers has the name 5"),
        ({"Content-Length": "5"}, "headers has Content-Length, which the client sets itself"),
        ({"host": "other"}, "headers has host, which"),
        ({"X-A": "1", "x-a": "2"}, "headers has x-a twice"),
        ([("a", "b")], "headers is a list; allowed: a dict"),
        (False, "headers is a bool; allowed: a dict"),
        ({"Authorization": f"Bearer {OTHER}"}, "headers has Authorization, and api_key is given as well; give one of them"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused_and_not_shown(headers: Any, match: str) -> None:
    with pytest.raises(e.SettingsError, match=match) as caught:
        ChatModel("m", base_url="http://127.0.0.1:9/v1", api_key=KEY, headers=headers)
    assert KEY not in str(caught.value) and OTHER not in str(caught.value)


# ---- clients


class Signed(httpx.Auth):
    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {KEY}"
        yield request


class Signed2(httpx2.Auth):
    def auth_flow(self, request: httpx2.Request) -> Iterator[httpx2.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {KEY}"
        yield request


async def sign(request: Any) -> None:
    request.headers["Authorization"] = f"Bearer {KEY}"


SIGNING: dict[str, dict[str, Any]] = {
    "header": {"headers": {"Authorization": f"Bearer {KEY}"}},
    "api-key": {"headers": {"api-key": KEY}},
    "query": {"params": {"key": KEY}},
    "auth": {},
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", SIGNING)
@pytest.mark.parametrize("is_given", [False, True])
def test_over_a_client_that_authenticates_itself_only_a_key_that_is_given_goes(
    is_given: bool, kind: str, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AGENTKIT_API_KEY", "OPENAI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.setenv(name, OTHER)
    options = SIGNING[kind] or {"auth": Signed() if library is httpx else Signed2()}
    sent = []

    async def main() -> None:
        def answer(request: Any) -> Any:
            sent.append(request)
            return library.Response(200, content=WHOLE)

        async with library.AsyncClient(transport=library.MockTransport(answer), **options) as client:
            key = "given-0123456789" if is_given else None
            model = ChatModel("m", base_url="https://gateway.example/openai/v1", client=client, api_key=key)
            assert (await Agent(model).run("hi")).output == "hello"

    asyncio.run(main())
    (request,) = sent
    shown = str(request.url) + str(request.headers.raw)
    assert OTHER not in shown and (KEY in shown or (is_given and kind == "header"))
    signs = kind == "auth"  # it comes after the headers that the model gives
    own = f"Bearer {KEY}" if signs or (kind == "header" and not is_given) else None
    assert request.headers.get("authorization") == (own or ("Bearer given-0123456789" if is_given else None))


PERHAPS: dict[str, dict[str, Any]] = {
    "hook": {"event_hooks": {"request": [sign]}},
    "cookies": {"cookies": {"__cf_bm": "set by the network in between"}},
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", PERHAPS)
@pytest.mark.parametrize("is_set", [False, True])
def test_a_client_with_a_hook_or_cookies_needs_no_key_and_takes_that_of_the_environment(
    is_set: bool, kind: str, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTKIT_API_KEY", raising=False)
    if is_set:
        monkeypatch.setenv("AGENTKIT_API_KEY", OTHER)
    sent = []

    async def main() -> None:
        def answer(request: Any) -> Any:
            sent.append(request)
            return library.Response(200, content=WHOLE)

        async with library.AsyncClient(transport=library.MockTransport(answer), **PERHAPS[kind]) as client:
            await Agent(ChatModel("m", base_url="https://gateway.example/v1", client=client)).run("hi")

    asyncio.run(main())
    expected = f"Bearer {KEY}" if kind == "hook" else f"Bearer {OTHER}" if is_set else None
    assert sent[0].headers.get("authorization") == expected


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_client_that_only_carries_the_requests_gets_the_key_of_the_environment(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def answer(request: Any) -> Any:
        sent.append(request.headers.get("authorization"))
        return library.Response(200, content=WHOLE)

    async def main() -> None:
        headers = {"x-team": "blue"}
        async with library.AsyncClient(transport=library.MockTransport(answer), headers=headers, params={"v": "1"}) as client:
            with pytest.raises(e.MissingKey):
                await ChatModel("m", base_url="https://gateway.example/v1", client=client).reply(ask())
            monkeypatch.setenv("AGENTKIT_API_KEY", KEY)
            await ChatModel("m", base_url="https://gateway.example/v1", client=client).reply(ask())

    asyncio.run(main())
    assert sent == [f"Bearer {KEY}"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_client_that_may_show_a_certificate_needs_no_key(library: Any) -> None:
    async def main() -> None:
        async with library.AsyncClient() as client:
            ChatModel("m", base_url="https://gateway.example/v1", client=client).endpoint.require_key()
            with pytest.raises(e.MissingKey):
                ChatModel("m", base_url="http://gateway.example/v1", client=client).endpoint.require_key()

    asyncio.run(main())


def test_a_server_that_refuses_a_request_without_a_key_is_explained() -> None:
    async def main() -> None:
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(lambda _request: httpx.Response(401)), auth=("ann", "hunter2")
        ) as client:
            with pytest.raises(e.AuthError) as caught:
                await ChatModel("m", base_url="https://gateway.example/v1", client=client).reply(ask())
            assert caught.value.__notes__[1:] == [
                "No API key was sent: none was given, or the client authenticates itself. See api_key=."
            ]

    asyncio.run(main())


def test_the_checks_of_an_endpoint_go_the_same_way() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(401, json={"error": {"message": f"Incorrect API key: {request.headers['authorization']}"}})

    async def main() -> str:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), auth=Signed()) as client:
            model = ChatModel("m", base_url="https://gateway.example/v1", client=client, headers={"x-team": "blue"})
            report = await check_endpoint(model)
        return report.findings[0].detail

    detail = asyncio.run(main())
    assert sent[0].headers["x-team"] == "blue" and KEY not in detail and "Incorrect API key" in detail


# ---- whose requests are paced together


def test_models_share_a_limiter_by_whatever_stands_for_who_pays() -> None:
    def model(**options: Any) -> Limiter:
        return ChatModel("m", base_url="http://127.0.0.1:9/v1", **options).limiter

    provider, other = Provider(), Provider()
    client, plain = httpx.AsyncClient(auth=Signed()), httpx.AsyncClient()
    azure = {"api-key": KEY}
    assert model(api_key=KEY) is model(api_key=KEY, headers={"x-team": "blue"}) is model(api_key=KEY, client=plain)
    assert model(api_key=provider) is model(api_key=provider) is not model(api_key=other)
    assert model(api_key=provider.token) is model(api_key=provider.token) is not model(api_key=other.token)
    assert model(headers=azure) is model(headers={"API-Key": KEY}) is not model(headers={"api-key": OTHER})
    assert model(client=client) is model(client=client) is not model(client=httpx.AsyncClient(auth=Signed()))
    groups = [
        model(api_key=KEY),
        model(api_key=OTHER),
        model(api_key=provider),
        model(headers=azure),
        model(client=client),
        model(),
    ]
    assert len({id(limiter) for limiter in groups if limiter}) in (5, 6)  # Azure's key is the same text as the first
    assert model(api_key=KEY, headers={"x-gateway-token": OTHER}) is not model(api_key=KEY)


def test_a_function_that_cannot_be_hashed_stands_for_itself() -> None:
    class Unhashable(Provider):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    one, other = Unhashable(), Unhashable()
    made = [ChatModel("m", base_url="http://127.0.0.1:9/v1", api_key=key).limiter for key in (one, one, other)]
    assert made[0] is made[1] is not made[2]
