"""A model that follows the plan in its task, over real HTTP: `r7: read keyed plain+note helper pay`.

The words of a plan are steps, and a step calls the tools that `+` joins. After the last step comes the answer: "done" and the
first word of each tool result. The endpoint refuses a history in which a call is not answered once, in order, right after its
message.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

__all__ = ["CHILD_PLAN", "Endpoint", "steps_of"]

CHILD_PLAN = "keyed plain+note"


def steps_of(task: str) -> list[list[str]]:
    """The tools that each step of a task calls."""
    return [step.split("+") for step in task.partition(": ")[2].split()]


def _problem(messages: list[Mapping[str, Any]]) -> str:
    asked: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if not asked or message["tool_call_id"] != asked.pop(0):
                return f"the answer {message['tool_call_id']} is out of place"
        elif asked:
            return f"{message['role']} instead of the answers to {asked}"
        asked = asked or [call["id"] for call in message.get("tool_calls") or ()]
    return f"no answers to {asked}" if asked else ""


def _reply(messages: list[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The task, and the next message."""
    task = next(message["content"] for message in messages if message["role"] == "user")
    plan, who = steps_of(task), task.partition(": ")[0]
    at = sum(message["role"] == "assistant" for message in messages)
    if at >= len(plan):
        words = [message["content"].split()[0] for message in messages if message["role"] == "tool"]
        return task, {"role": "assistant", "content": " ".join(["done", *words])}
    calls = []
    for index, word in enumerate(plan[at]):
        n = f"{at}.{index}"
        name, _, child = word.partition("~")
        inner = child.replace("/", "+").replace(",", " ") or CHILD_PLAN
        arguments = {"task": f"{who}/{n}: {inner}"} if name == "helper" else {"who": who, "n": n}
        function = {"name": name, "arguments": json.dumps(arguments)}
        calls.append({"id": f"{name}-{n}", "type": "function", "function": function})
    return task, {"role": "assistant", "content": None, "tool_calls": calls}


class Endpoint:
    """The server. `requests` counts the requests of each task; `problems` has what was wrong with them."""

    def __init__(self, delay: float = 0.0) -> None:
        self.requests: Counter[str] = Counter()
        self.problems: list[str] = []
        self.delay = delay
        endpoint, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                task, message = _reply(body["messages"])
                problem = _problem(body["messages"])
                with lock:
                    endpoint.requests[task] += 1
                    endpoint.problems += [f"{task}: {problem}"] if problem else []
                time.sleep(endpoint.delay)
                reason = "tool_calls" if "tool_calls" in message else "stop"
                usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
                reply = {"id": "x", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": reason}]}
                data = json.dumps({**reply, "usage": usage}).encode()
                head = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
                self.wfile.write(f"HTTP/1.1 {400 if problem else 200} X\r\n{head}".encode() + data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 200

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A worker was killed while it waited."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
