"""The key of a model is in nothing that a program shows of it: no repr, no error, no local variable of a traceback, no log."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pprint
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import rich.console
import rich.traceback
from _pytest._io.saferepr import saferepr_unlimited as saferepr

from agentkit import Agent, ChatModel, Fallback, Limiter, Retry, User
from agentkit import errors as e
from agentkit.events import Delta
from agentkit.models.endpoint import find_endpoint

from .calls import WHOLE, ask, choice, event
from .raw_server import Step, http, raw_server, stream_head

pytest_plugins = ["pytester"]

KEY = "canaryKEY0001112223334445"
MAKE: dict[str, Callable[[], Any]] = {"own": lambda: None, "httpx": httpx.AsyncClient, "httpx2": httpx2.AsyncClient}
REFUSED = json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}).encode()


def behind(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its causes and contexts, shown or not, and the members of groups."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and not any(one is other for other in seen):
            seen.append(one)
            waiting += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
            yield one


def places_of_the_key(error: BaseException) -> list[str]:
    """Where the key is to be seen: texts and attributes of the errors, local variables of their frames but for this file's."""
    found = []
    for one in behind(error):
        if KEY in "".join([str(one), repr(one), *getattr(one, "__notes__", ()), pprint.pformat(vars(one))]):
            found.append(f"{type(one).__name__}: {one}")
        for frame, _line in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename == __file__:
                continue
            for name, value in frame.f_locals.items():
                members = [*value.values()] if isinstance(value, dict) else [*value] if isinstance(value, list | tuple) else []
                if KEY in "".join(map(saferepr, [value, *members])):  # as pytest, Sentry and others write them
                    found.append(f"{frame.f_code.co_filename}: {frame.f_code.co_name}: {name}")
    return found


def shown_by_rich(error: BaseException) -> str:
    console = rich.console.Console(file=io.StringIO(), width=400)
    console.print(rich.traceback.Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True))
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return shown.replace("\n", "")


async def failed(awaitable: Awaitable[Any]) -> BaseException:
    try:
        await awaitable
    except BaseException as error:  # noqa: BLE001  also a cancellation
        return error
    raise AssertionError("it has not failed")


@asynccontextmanager
async def model_with(client: str, port: int, **options: Any) -> Any:
    own = MAKE[client]()
    options = {"api_key": KEY, "timeout": 0.3, "profile": "generic", "limiter": Limiter(), **options}
    model = ChatModel("m", base_url=f"http://127.0.0.1:{port}/v1", client=own, **options)
    yield model
    await model.aclose()
    if own is not None:
        await own.aclose()


GZIP = "content-encoding: gzip\r\n"
ECHO = event(choice(content=f"your key is {KEY}"))
SERVERS: dict[str, Sequence[Step]] = {
    "refused": [http(REFUSED, "401 No")],
    "reset": [-1.0],
    "cut": [stream_head() + ECHO, -1.0],
    "not JSON": [http(f"<html>{KEY}</html>".encode(), content_type="text/html")],
    "chunk not JSON": [stream_head() + b'data: {"x": "' + KEY.encode() + b"\n\n"],
    "silent": [30.0],
    "wrong head": [b"HTTP/1.1 200 OK\r\nx: " + KEY.encode() + b"\x00\r\n\r\n"],
    "not compressed": [http(KEY.encode(), extra=GZIP)],
    "redirect": [http(b"", "302 Found", extra=f"location: http://x/?api_key={KEY}\r\n")],
    "too large": [http(b'{"x": "' + KEY.encode() * 100 + b'"}')],
    "empty": [http(b"")],
}


@pytest.mark.parametrize("client", MAKE)
@pytest.mark.parametrize("server", SERVERS)
def test_no_error_shows_the_key(server: str, client: str) -> None:
    async def main() -> BaseException:
        async with raw_server(lambda _n: SERVERS[server]) as raw, model_with(client, raw.port, max_bytes=2000) as model:
            return await failed(Agent(model, retry=None).run("hi"))

    error = asyncio.run(main())
    assert isinstance(error, e.ModelError)
    assert places_of_the_key(error) == []
    if server == "refused":
        assert KEY not in shown_by_rich(error)


@pytest.mark.parametrize("client", MAKE)
def test_a_failed_connection_and_a_request_that_breaks_while_it_is_sent_show_no_key(client: str) -> None:
    async def main() -> list[BaseException]:
        async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.transport.abort()

        server = await asyncio.start_server(reset, "127.0.0.1", 0, limit=1024)
        errors = []
        async with model_with(client, server.sockets[0].getsockname()[1]) as model:
            errors.append(await failed(model.reply(ask([User("x" * 8_000_000)]))))
        async with model_with(client, 9) as model:
            errors.append(await failed(model.reply(ask())))
        server.close()
        return errors

    for error in asyncio.run(main()):
        assert isinstance(error, e.ConnectionFailed)
        assert places_of_the_key(error) == []


@pytest.mark.parametrize("client", MAKE)
@pytest.mark.parametrize("how", ["cancelled", "timeout", "deadline"])
def test_an_end_from_outside_shows_no_key(how: str, client: str) -> None:
    async def main() -> BaseException:
        arrived = asyncio.Event()

        def answer(_number: int) -> list[Step]:
            arrived.set()
            return [30.0]

        deadline = 0.1 if how == "deadline" else None
        async with raw_server(answer) as raw, model_with(client, raw.port, timeout=20, deadline=deadline) as model:
            task = asyncio.create_task(Agent(model, retry=None).run("hi"))
            if how != "deadline":  # which may be over before the request has arrived
                await arrived.wait()
            if how == "cancelled":
                task.cancel()
            return await failed(asyncio.wait_for(task, 0.1) if how == "timeout" else task)

    error = asyncio.run(main())
    assert isinstance(error, asyncio.CancelledError | TimeoutError | e.TimedOut)
    assert places_of_the_key(error) == []


@pytest.mark.parametrize("client", MAKE)
def test_a_watcher_that_fails_at_a_piece_keeps_its_own_frames(client: str) -> None:
    async def main() -> BaseException:
        async def watch(event: Any) -> None:
            if isinstance(event, Delta.__args__):
                mine = "a local variable"
                raise ValueError(f"no room for {len(mine)}")

        watch.strict = True  # type: ignore[attr-defined]
        answer = [stream_head() + ECHO + event(choice("stop"))]
        async with raw_server(lambda _n: answer) as raw, model_with(client, raw.port) as model:
            return await failed(Agent(model).run("hi", observers=[watch]))

    error = asyncio.run(main())
    assert isinstance(error, ValueError)
    assert "mine" in [*traceback.walk_tb(error.__traceback__)][-1][0].f_locals
    assert places_of_the_key(error) == []


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("kind", ["auth", "basic", "header", "query", "cookie", "line end", "hook", "transport"])
def test_the_secrets_of_a_client_are_the_keys_as_well(kind: str, library: Any) -> None:
    class Signed(library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Iterator[Any]:
            request.headers["x-signature"] = KEY
            yield request

    class Broken(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            secret = dict(request.headers)
            raise library.ReadError(f"broke with {secret['authorization']}")

    async def hook(request: Any) -> None:
        request.headers["authorization"] = f"Bearer {KEY}"
        raise LookupError("no signature today")

    options: dict[str, dict[str, Any]] = {
        "auth": {"auth": Signed()},
        "basic": {"auth": ("ann", KEY)},
        "header": {"headers": {"Authorization": f"Bearer {KEY}"}},
        "query": {"params": {"api_key": KEY}},
        "cookie": {"cookies": {"session": KEY}},
        "line end": {"headers": {"x-api-key": f"{KEY}\n"}},
        "hook": {"event_hooks": {"request": [hook]}},
        "transport": {"transport": Broken(), "headers": {"Authorization": f"Bearer {KEY}"}},
    }

    async def main() -> BaseException:
        async with raw_server(lambda _n: [http(REFUSED, "401 No")]) as raw, library.AsyncClient(**options[kind]) as client:
            model = ChatModel("m", base_url=f"http://127.0.0.1:{raw.port}/v1", client=client, profile="generic")
            return await failed(Agent(model, retry=None).run("hi"))

    error = asyncio.run(main())
    assert places_of_the_key(error) == []
    if kind == "hook":
        assert "in hook" in error.__notes__[0]


WRONG: list[dict[str, Any]] = [
    {"timeout": -1},
    {"model": 5},
    {"profile": "no such"},
    {"client": object()},
    {"api_key": f"{KEY}\nsecond line"},
    {"api_key": KEY.encode()},
    {"headers": {"api-key": f"{KEY}\u200b"}},
    {"headers": {"Authorization": KEY}},
    {"headers": {"Content-Type": KEY}},
    {"headers": {"a b": KEY}},
    {"headers": [("api-key", KEY)]},
    {"base_url": f"http://user:{KEY}@h/v1"},
    {"base_url": f"http://h/v1?key={KEY}"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
@pytest.mark.parametrize("from_environment", [False, True])
def test_the_constructor_shows_no_key(wrong: dict[str, Any], from_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGENTKIT_API_KEY", "DEEPSEEK_API_KEY", "OPENAI_API_KEY") if from_environment else ():
        monkeypatch.setenv(name, KEY)
    options = {"base_url": "http://127.0.0.1:9/v1", **({} if from_environment else {"api_key": KEY}), **wrong}
    try:
        ChatModel(**options)
    except e.SettingsError as error:
        assert places_of_the_key(error) == []
    else:
        assert from_environment and wrong == {"headers": {"Authorization": KEY}}


@pytest.mark.parametrize("name", ["AGENTKIT_API_KEY", "OPENAI_API_KEY"])
def test_the_environment_is_not_shown_where_its_key_is_wrong(name: str) -> None:
    env = {name: f"{KEY} and more", "OTHER": KEY}
    for model in ("m", None):
        try:
            find_endpoint(model, None, None, env)
        except e.SettingsError as error:
            assert places_of_the_key(error) == []


def test_what_belongs_to_a_model_shows_no_key() -> None:
    model = ChatModel("m", base_url="http://127.0.0.1:9/v1", api_key=KEY, headers={"x-api-key": KEY[::-1]})
    agent = Agent(model)
    parts = [model, model.endpoint, model.limiter, model.profile, model.hider, agent, agent.spec, Fallback(model, model)]
    shown = "".join(repr(part) + str(part) + pprint.pformat(getattr(part, "__dict__", "")) for part in parts)
    assert KEY not in shown and KEY[::-1] not in shown
    assert model.endpoint.api_key == KEY


@pytest.mark.parametrize("client", MAKE)
def test_logs_have_no_key(client: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0  # each callback is logged, with its arguments
        answers = [[http(WHOLE)], [http(REFUSED, "401 No")]]
        async with raw_server(lambda number: answers[number]) as raw, model_with(client, raw.port) as model:
            await Agent(model).run("hi")
            logging.getLogger("mine").error("%r %r", model, await failed(Agent(model, retry=None).run("hi")))

    asyncio.run(main(), debug=True)
    assert "mine" in caplog.text and KEY not in caplog.text


def test_the_loops_debug_log_has_no_key_of_a_function(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0
        async with raw_server(lambda _n: [http(WHOLE)]) as raw, model_with("own", raw.port, api_key=lambda: KEY) as model:
            await model.reply(ask())
            assert f"Bearer {KEY}".encode() in raw.heads[0]

    asyncio.run(main(), debug=True)
    assert "Executing" in caplog.text and KEY not in caplog.text


def test_sync_calls_retries_and_other_models_show_no_key() -> None:
    def model() -> ChatModel:
        return ChatModel("m", base_url="http://127.0.0.1:9/v1", api_key=KEY, limiter=Limiter())

    agents = [Agent(model(), retry=Retry(attempts=3, first=0)), Agent(Fallback(model(), model(), retry=None))]
    for agent in agents:
        with pytest.raises(e.ConnectionFailed) as caught:
            agent.run_sync("hi")
        assert places_of_the_key(caught.value) == []
        with pytest.raises(e.ConnectionFailed) as caught:
            list(agent.stream_sync("hi"))
        assert places_of_the_key(caught.value) == []


FAILING = """
from agentkit import Agent, ChatModel

def test_it():
    Agent(ChatModel("m", base_url="http://127.0.0.1:9/v1"), retry=None).run_sync("hi")

def test_that():
    ChatModel("m", base_url="nowhere")
"""


@pytest.mark.parametrize("flags", [[], ["-l", "-vv", "--full-trace"]], ids=" ".join)
def test_pytest_shows_no_key(flags: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", KEY)
    monkeypatch.setenv("AGENTKIT_BASE_URL", "http://127.0.0.1:9/v1")
    pytester.makepyfile(FAILING)
    ended = pytester.runpytest_subprocess("-p", "no:cacheprovider", *flags)
    ended.assert_outcomes(failed=2)
    assert KEY not in ended.stdout.str() + ended.stderr.str()


@pytest.mark.parametrize(
    ("url", "key", "is_warned"),
    [
        ("http://models.example/v1", KEY, True),
        ("http://192.168.0.9:8000/v1", KEY, True),
        ("http://gpu:8000/v1", lambda: KEY, True),
        ("http://gpu:8000/v1", "EMPTY", False),
        ("http://gpu:8000/v1", "not-needed", False),
        ("http://gpu:8000/v1", None, False),
        ("https://models.example/v1", KEY, False),
        ("http://127.0.0.1:8000/v1", KEY, False),
        ("http://[::1]:8000/v1", KEY, False),
        ("http://localhost:8000/v1", KEY, False),
    ],
)
def test_a_key_over_plain_http_to_another_machine_is_a_warning(url: str, key: Any, is_warned: bool) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ChatModel("m", base_url=url, api_key=key)
    assert [warning.category for warning in seen] == [e.EndpointWarning] * is_warned
    assert all(warning.filename == __file__ and KEY not in str(warning.message) for warning in seen)


def test_a_secret_header_over_plain_http_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(e.EndpointWarning, match="goes over HTTP without TLS to another machine"):
        ChatModel("m", base_url="http://gateway.example/v1", headers={"api-key": KEY})
    monkeypatch.setenv("AGENTKIT_API_KEY", KEY)
    with pytest.warns(e.EndpointWarning, match="http://gateway.example/v1"):
        ChatModel("m", base_url="http://gateway.example/v1")


def test_this_file_sees_a_key_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "leak.py"
    file.write_text("def leak(headers):\n    raise ValueError('no')\n", encoding="utf-8")
    names: dict[str, Any] = {}
    exec(compile(file.read_text(encoding="utf-8"), file, "exec"), names)
    for leaked in ({"authorization": KEY}, KEY.encode(), [KEY], f"Bearer {KEY}"):
        with pytest.raises(ValueError, match="no") as caught:
            names["leak"](leaked)
        assert places_of_the_key(caught.value) == [f"{file}: leak: headers"]
        assert KEY in shown_by_rich(caught.value)
