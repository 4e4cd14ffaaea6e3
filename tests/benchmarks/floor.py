"""The floor: a loop written by hand over httpx, without checks, retries or events."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

__all__ = ["Floor"]


class Floor:
    """Asks, calls, and asks again."""

    def __init__(self, base_url: str, model: str, tools: Mapping[str, Callable[..., Any]], *, streamed: bool) -> None:
        self._client = httpx.AsyncClient(base_url=base_url, headers={"authorization": "Bearer k"}, timeout=60)
        self._model, self._tools, self._streamed = model, tools, streamed
        schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
        self._schemas = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in tools]

    async def run(self, prompt: str, on_text: Callable[[str], None] | None = None) -> str:
        """The answer."""
        messages: list[Any] = [{"role": "user", "content": prompt}]
        while True:
            body = {"model": self._model, "messages": messages, "tools": self._schemas}
            message = await (self._read(body, on_text) if self._streamed else self._whole(body))
            messages.append(message)
            calls = message.get("tool_calls") or []
            if not calls:
                text: str = message["content"]
                return text
            results = await asyncio.gather(*(self._call(call["function"]) for call in calls))
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": result}
                for call, result in zip(calls, results, strict=True)
            ]

    async def _whole(self, body: dict[str, Any]) -> Any:
        response = await self._client.post("/chat/completions", json=body)
        response.raise_for_status()
        return response.json()["choices"][0]["message"]

    async def _read(self, body: dict[str, Any], on_text: Callable[[str], None] | None) -> Any:
        text, calls = [], []
        async with self._client.stream("POST", "/chat/completions", json={**body, "stream": True}) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                delta = json.loads(line[6:])["choices"][0]["delta"]
                if delta.get("content"):
                    text.append(delta["content"])
                    if on_text:
                        on_text(delta["content"])
                for piece in delta.get("tool_calls") or ():
                    if piece.get("id"):
                        calls.append(
                            {
                                "id": piece["id"],
                                "type": "function",
                                "function": {"name": piece["function"]["name"], "arguments": ""},
                            }
                        )
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
        return {"role": "assistant", "content": "".join(text), **({"tool_calls": calls} if calls else {})}

    async def _call(self, function: dict[str, Any]) -> str:
        fn, arguments = self._tools[function["name"]], json.loads(function["arguments"])
        if function["name"] == "nap_in_thread":
            return str(await asyncio.to_thread(fn, **arguments))
        result = fn(**arguments)
        return str(await result if inspect.isawaitable(result) else result)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()
