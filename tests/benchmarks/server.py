"""A server that answers at once, by the model's name: "steps-10", "steps-10-deltas-200", "steps-1-calls-20".

It reads as little of a request as it can, so that what is measured is the client. `python -m tests.benchmarks.server` prints
its port and serves until its input ends; over TLS with the certificate in the file that is named.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from typing import Any

_MODEL = re.compile(rb'"model": ?"steps-(\d+)(?:-deltas-(\d+))?(?:-calls-(\d+))?"')
_LENGTH = re.compile(rb"content-length: ?(\d+)", re.IGNORECASE)
_ASSISTANT = re.compile(rb'"role": ?"assistant"')
_USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def _head(content_type: str, length: int | None) -> bytes:
    body = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{body}\r\n\r\n".encode()


def _whole(calls: int, step: int) -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": None if calls else "The sum is 5."}
    if calls:
        function = {"name": "add" if calls == 1 else "nap", "arguments": '{"a": 2, "b": 3}' if calls == 1 else '{"ms": 100}'}
        message["tool_calls"] = [{"id": f"c{step}_{n}", "type": "function", "function": function} for n in range(calls)]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    body = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": _USAGE}).encode()
    return _head("application/json", len(body)) + body


def _stream(calls: int, step: int, deltas: int) -> bytes:
    pieces: list[dict[str, Any]] = [{"content": "word "} for _ in range(deltas // (2 if calls else 1))]
    if calls:
        start = {"index": 0, "id": f"c{step}", "type": "function", "function": {"name": "add", "arguments": ""}}
        text = '{"a": 2, "b": 3' + " " * max(0, deltas // 2 - 17) + "}"
        pieces += [{"tool_calls": [start]}, *({"tool_calls": [{"index": 0, "function": {"arguments": c}}]} for c in text)]
    chunks = [{"id": "x", "model": "m", "choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
    end = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}
    events = [json.dumps(chunk) for chunk in (*chunks, {"id": "x", "model": "m", "choices": [end], "usage": _USAGE})]
    data = [f"data: {event}\n\n".encode() for event in (*events, "[DONE]")]
    return _head("text/event-stream", None) + b"".join(b"%x\r\n%s\r\n" % (len(d), d) for d in data) + b"0\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            asked = _MODEL.search(body)
            assert asked, "the model's name says what to answer"
            steps, deltas, several = (int(number or 0) for number in asked.groups())
            step = len(_ASSISTANT.findall(body))
            calls = (several or 1) if step < steps else 0
            writer.write(_stream(calls, step, deltas) if deltas else _whole(calls, step))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve until the input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if sys.argv[1:] else None
    if context:
        context.load_cert_chain(sys.argv[1])
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=2**24, backlog=2000, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
