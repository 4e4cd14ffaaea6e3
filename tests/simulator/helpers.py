"""Requests to a simulator, and a reader of its streams."""

from __future__ import annotations

import json
from typing import Any

import httpx

from agentkit.testing import DeepSeekSimulator, Failure
from agentkit.testing.simulator.request import Behaviour, SimRequest
from agentkit.testing.simulator.rules import refusal

USER = {"role": "user", "content": "Hi"}
OFF = {"thinking": {"type": "disabled"}}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str = "get_weather", **extra: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": CITY, **extra}}


def calls(*ids: str, **extra: Any) -> dict[str, Any]:
    made = [{"id": i, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": made, **extra}


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "21"}


def body(**fields: Any) -> dict[str, Any]:
    """A good body, with `fields` put over it; None takes a field out."""
    whole = {"model": "deepseek-v4-flash", "messages": [USER], **fields}
    return {name: value for name, value in whole.items() if value is not None}


def judged(path: str = "/chat/completions", behaviour: Behaviour | None = None, **fields: Any) -> Failure | None:
    """What the rules say to a good body with `fields` put over it."""
    return refusal(SimRequest(path, {}, json.dumps(body(**fields)).encode()), behaviour or Behaviour())


def said(path: str = "/chat/completions", behaviour: Behaviour | None = None, **fields: Any) -> tuple[int, str] | None:
    """The status and text of the refusal, or None."""
    failure = judged(path, behaviour, **fields)
    return (failure.status, failure.message) if failure else None


def client(sim: DeepSeekSimulator) -> httpx.Client:
    return httpx.Client(transport=sim.transport(), base_url="http://sim/v1")


def post(sim: DeepSeekSimulator, **fields: Any) -> httpx.Response:
    """The response to a good body with `fields` put over it, without a socket."""
    with client(sim) as http:
        return http.post("/chat/completions", json=body(**fields))


def chunks(sim: DeepSeekSimulator, **fields: Any) -> list[dict[str, Any]]:
    """The chunks of a streamed answer; `[DONE]` must be the last event."""
    *events, done = post(sim, stream=True, **fields).text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]


def deltas(sim: DeepSeekSimulator, **fields: Any) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(sim, **fields) if chunk["choices"]]
