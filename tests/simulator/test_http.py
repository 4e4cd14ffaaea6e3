"""The simulator over real HTTP: what httpx sees, raw sockets, and a clean end."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest

from agentkit.errors import AgentError
from agentkit.testing import Cut, DeepSeekSimulator, Hangup, Late

from .helpers import body


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "simulator" in thread.name}


def post(sim: DeepSeekSimulator, path: str = "/chat/completions", **fields: Any) -> httpx.Response:
    return httpx.post(sim.base_url + path, json=body(**fields))


@pytest.mark.parametrize("prefix", ["", "/v1", "/beta", "/beta/v1"])
def test_the_paths(prefix: str) -> None:
    with DeepSeekSimulator("echo") as sim:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", sim.base_url)
        root = sim.base_url.removesuffix("/v1") + prefix
        assert httpx.post(f"{root}/chat/completions", json=body()).json()["object"] == "chat.completion"
        models = httpx.get(f"{root}/models").json()
        assert models["data"][0] == {"id": "deepseek-v4-pro", "object": "model", "owned_by": "deepseek"}
        for answer, status in (
            (httpx.get(f"{root}/nothing"), 404),
            (httpx.get(f"{root}/chat/completions"), 405),
            (httpx.post(f"{root}/models"), 405),
        ):
            assert answer.status_code == status
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert len(sim.requests) == 1


def test_every_response_has_a_trace_id() -> None:
    with DeepSeekSimulator("busy") as sim:
        urls = [sim.base_url + "/models", sim.base_url + "/nothing"]
        answers = [post(sim), post(sim), post(sim, stream=True), post(sim, temperature=9), *map(httpx.get, urls)]
    assert [answer.status_code for answer in answers] == [503, 200, 200, 400, 200, 404]
    ids = [answer.headers["x-ds-trace-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert "x-request-id" not in answers[0].headers


def test_a_stream_is_sent_in_chunks() -> None:
    with DeepSeekSimulator(["Hello"]) as sim:
        answer = post(sim, stream=True)
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_connection_is_used_again() -> None:
    with DeepSeekSimulator("echo") as sim, socket.create_connection(address(sim)) as raw:
        for _ in range(2):
            raw.sendall(request_bytes(body()))
            assert b'"content":"Hi"' in read_response(raw)
        raw.sendall(request_bytes(body()) * 2)
        assert b'"content":"Hi"' in read_response(raw)
        assert b'"content":"Hi"' in read_response(raw)
    assert len(sim.requests) == 4


def address(sim: DeepSeekSimulator) -> tuple[str, int]:
    return "127.0.0.1", int(sim.base_url.removesuffix("/v1").rpartition(":")[2])


def request_bytes(fields: dict[str, Any], *headers: str) -> bytes:
    data = json.dumps(fields).encode()
    lines = ["POST /chat/completions HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


def read_response(raw: socket.socket) -> bytes:
    """One response with a Content-Length, no byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
    found = re.search(rb"content-length: (\d+)", head)
    data, wanted = b"", int(found[1]) if found else 0
    while len(data) < wanted:
        data += raw.recv(wanted - len(data))
    return head + data


def test_a_request_may_come_byte_by_byte() -> None:
    with DeepSeekSimulator("echo") as sim, socket.create_connection(address(sim)) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request_bytes(body()):
            raw.sendall(bytes([byte]))
        assert b'"content":"Hi"' in read_response(raw)


def test_expect_100_continue() -> None:
    with DeepSeekSimulator("echo") as sim, socket.create_connection(address(sim)) as raw:
        head, _, data = request_bytes(body(), "Expect: 100-continue").partition(b"\r\n\r\n")
        raw.sendall(head + b"\r\n\r\n")
        assert read_response(raw) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(data)
        assert b'"content":"Hi"' in read_response(raw)


def test_connection_close_is_honoured() -> None:
    with DeepSeekSimulator("echo") as sim, socket.create_connection(address(sim)) as raw:
        raw.sendall(request_bytes(body(), "Connection: close"))
        assert b'"content":"Hi"' in read_response(raw)
        assert raw.recv(1) == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"431"),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nno header\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"400"),
    ],
)
def test_what_is_not_http_is_refused(sent: bytes, status: bytes) -> None:
    with DeepSeekSimulator("echo") as sim, socket.create_connection(address(sim), timeout=10) as raw:
        raw.sendall(sent)
        assert raw.recv(12) == b"HTTP/1.1 " + status
        assert sim.requests == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost.evil.example:{port}"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "LOCALHOST:{port}"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, 200),
    ],
)
def test_web_pages_are_refused_and_use_up_no_answer(headers: dict[str, str], status: int) -> None:
    with DeepSeekSimulator(["the only answer"]) as sim:
        given = {name: value.format(port=address(sim)[1]) for name, value in headers.items()}
        refused = httpx.post(f"{sim.base_url}/chat/completions", json=body(), headers=given)
        assert refused.status_code == status
        assert "access-control-allow-origin" not in refused.headers
        if status == 200:
            return
        assert refused.json()["error"]["message"]
        assert httpx.options(f"{sim.base_url}/chat/completions").status_code == 405
        assert post(sim).json()["choices"][0]["message"]["content"] == "the only answer"


def test_a_body_that_is_too_long_is_not_kept() -> None:
    with DeepSeekSimulator("echo") as sim, socket.create_connection(address(sim), timeout=10) as raw:
        raw.sendall(b"POST /chat/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
        with suppress(ConnectionError):
            assert raw.recv(12) == b"HTTP/1.1 413"
            while raw.recv(65_536):
                pass
        assert post(sim).status_code == 200


def test_requests_behind_one_that_waits_are_not_read_without_end() -> None:
    with DeepSeekSimulator([Late("Hello", 60)]) as sim, socket.create_connection(address(sim)) as raw:
        raw.sendall(request_bytes(body()))
        raw.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):  # the server reads no more, so the sockets' buffers fill up
            while sent < 256 * 1024 * 1024:
                sent += raw.send(b"x" * 65_536)
        assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_body(stream: bool) -> None:
    with (
        DeepSeekSimulator([Cut("Hello", after=2)]) as sim,
        pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"),
    ):
        post(sim, stream=stream)


def test_a_hangup() -> None:
    with DeepSeekSimulator([Hangup()]) as sim, pytest.raises(httpx.RemoteProtocolError, match="without sending"):
        post(sim)


@pytest.mark.parametrize("after", [0, 1])
def test_late_makes_a_client_wait(after: int) -> None:
    script = [Late("Hello", 60, after=after), Late("Hello", 0.001, after=after)]
    with DeepSeekSimulator(script) as sim:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{sim.base_url}/chat/completions", json=body(stream=True), timeout=0.05)
        assert post(sim, stream=True).text.endswith("data: [DONE]\n\n")


def test_delay_is_before_every_answer() -> None:
    with DeepSeekSimulator("echo", delay=60) as sim, pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{sim.base_url}/chat/completions", json=body(), timeout=0.05)


def test_the_key() -> None:
    with DeepSeekSimulator(["Hi"], api_key="sk-right") as sim:
        url = f"{sim.base_url}/chat/completions"
        wrong = httpx.post(url, json=body(), headers={"Authorization": "Bearer sk-wrong-abcd"})
        assert (wrong.status_code, wrong.json()["error"]) == (
            401,
            {
                "message": "Authentication Fails, Your api key: ****abcd is invalid",
                "type": "authentication_error",
                "param": None,
                "code": "invalid_request_error",
            },
        )
        assert httpx.post(url, json=body()).status_code == 401
        assert httpx.get(f"{sim.base_url}/models").status_code == 401
        assert httpx.post(url, json=body(), headers={"Authorization": "Bearer sk-right"}).status_code == 200


def test_many_connections_at_once() -> None:
    async def ask(port: int, all_open: asyncio.Barrier) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with all_open:
            writer.write(request_bytes(body(stream=True)))
            answer = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return answer

    async def ask_together(port: int, count: int) -> list[bytes]:
        all_open = asyncio.Barrier(count)
        return await asyncio.gather(*(ask(port, all_open) for _ in range(count)))

    with DeepSeekSimulator("echo") as sim:
        answers = asyncio.run(ask_together(address(sim)[1], 200))
    assert all(b"data: [DONE]" in answer for answer in answers)
    assert len(sim.requests) == 200


def test_stopping_is_quick_and_leaves_nothing() -> None:
    before = threads()
    sim = DeepSeekSimulator([Late("Hello", 60)]).start()
    assert threads() - before == {"deepseek-simulator"}
    with socket.create_connection(address(sim), 5) as idle, socket.create_connection(address(sim), 5) as waiting:
        waiting.sendall(request_bytes(body()))
        port = address(sim)
        started = time.perf_counter()
        sim.stop()
        assert time.perf_counter() - started < 1
        for raw in (idle, waiting):
            with suppress(ConnectionResetError):
                assert raw.recv(1) == b""
    assert threads() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(port)
    sim.stop()


def test_connections_that_are_only_just_made_are_closed_too() -> None:
    for _ in range(10):
        sim = DeepSeekSimulator("echo").start()
        made = [socket.create_connection(address(sim), timeout=5) for _ in range(20)]
        sim.stop()
        for raw in made:
            with raw, suppress(ConnectionResetError):
                assert raw.recv(1) == b""


def test_a_stopped_simulator_can_start_again() -> None:
    sim = DeepSeekSimulator(["one", "two"])
    for text in ("one", "two"):
        with sim:
            assert post(sim).json()["choices"][0]["message"]["content"] == text


def test_it_must_run_to_have_an_address_and_runs_once() -> None:
    sim = DeepSeekSimulator(["Hi"])
    with pytest.raises(AgentError, match="the simulator is not running"):
        _ = sim.base_url
    with sim, pytest.raises(AgentError, match="already running"):
        sim.start()


def test_async_with_and_the_async_transport() -> None:
    async def both() -> list[str]:
        async with DeepSeekSimulator(["over HTTP", "inside"]) as sim, httpx.AsyncClient() as http:
            first = await http.post(f"{sim.base_url}/chat/completions", json=body())
            async with httpx.AsyncClient(transport=sim.transport(), base_url="http://sim/beta") as inside:
                second = await inside.post("chat/completions", json=body(stream=True))
            assert [request.path for request in sim.requests] == ["/v1/chat/completions", "/beta/chat/completions"]
            return [first.json()["choices"][0]["message"]["content"], second.text]

    first, second = asyncio.run(both())
    assert first == "over HTTP"
    assert '"content":"inside"' in second


def test_the_async_transport_waits_and_breaks() -> None:
    async def broken() -> list[bytes]:
        sim = DeepSeekSimulator([Cut(Late("Hello", 0.001, after=1), after=2)])
        seen = []
        async with httpx.AsyncClient(transport=sim.transport(), base_url="http://sim") as http:
            with pytest.raises(httpx.RemoteProtocolError):
                async with http.stream("POST", "/chat/completions", json=body(stream=True)) as answer:
                    async for part in answer.aiter_raw():
                        seen.append(part)  # noqa: PERF401  the parts before the break are wanted
        return seen

    assert len(asyncio.run(broken())) == 2
