"""Tokens and the prompt cache as simple functions of the text: a token is four bytes, a cache block is 64 tokens."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

__all__ = ["BLOCK_TOKENS", "PrefixCache", "count_tokens", "message_text", "prompt_bytes", "truncated"]

BLOCK_TOKENS = 64
IMAGE_TOKENS = 1024
_BLOCK = BLOCK_TOKENS * 4


def count_tokens(text: str | bytes) -> int:
    """A quarter of the UTF-8 bytes, rounded up."""
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    return -(-len(data) // 4)


def truncated(text: str, tokens: int) -> str:
    """The longest beginning of `text` with at most `tokens` tokens. A character is never split."""
    data = text.encode(errors="surrogatepass")
    return text if len(data) <= tokens * 4 else data[: max(tokens, 0) * 4].decode(errors="ignore")


def message_text(message: Mapping[str, Any]) -> str:
    """One message as the model reads it: role, thinking, content and calls, without the ids of the calls."""
    content = message.get("content")
    text = content if isinstance(content, str) else "".join(map(_part_text, content)) if content else ""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    calls = "".join(f"<call>{function['name']}{function['arguments']}" for function in functions)
    return f"<{message['role']}>{message.get('reasoning_content') or ''}<text>{text}{calls}"


def _part_text(part: Mapping[str, Any]) -> str:
    """A part of a message as text. An image is a text of 1,024 tokens, the max that the server counts, made of its digest."""
    if part["type"] != "image_url":
        return json.dumps(part, ensure_ascii=False)
    digest = sha256(part["image_url"]["url"].encode(errors="surrogatepass")).hexdigest()
    return digest * (IMAGE_TOKENS * 4 // len(digest))


def prompt_bytes(tools: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]]) -> bytes:
    """The whole prompt as the model reads it: tools, then messages."""
    parts = [json.dumps(tools, ensure_ascii=False)] if tools else []
    parts += [message_text(message) for message in messages]
    return "".join(parts).encode(errors="surrogatepass")


@dataclass(slots=True)
class _Scope:
    seen: set[int] = field(default_factory=set)
    units: set[int] = field(default_factory=set)


class PrefixCache:
    """The server's prompt cache, by DeepSeek V4's rule (docs/deepseek.md), in blocks of 64 tokens.

    A prompt hits only if it begins with a complete stored unit. A unit ends where a prompt ended, where an answer ended, or
    where the common beginning of two prompts ended. After A+B, A+C misses, and A+D hits A.
    """

    def __init__(self) -> None:
        self._scopes: dict[Hashable, _Scope] = {}

    def hit(self, scope: Hashable, prompt: bytes, answer: bytes) -> int:
        """The number of cached tokens of `prompt`. Then stores the prompt and the answer after it.

        Prompts of different scopes (user_id, model, thinking) share nothing.
        """
        store = self._scopes.setdefault(scope, _Scope())
        prefixes = _prefixes(prompt + answer)
        inside = len(prompt) // _BLOCK
        hit = _longest(prefixes[:inside], store.units)
        common = _longest(prefixes[:inside], store.seen)
        for length in (common, inside, len(prefixes)):
            if length:
                store.units.add(prefixes[length - 1])
        store.seen.update(prefixes)
        return hit * BLOCK_TOKENS


def _prefixes(data: bytes) -> list[int]:
    """A hash for each beginning of `data` that consists of whole blocks."""
    prefix, prefixes = 0, []
    for at in range(0, len(data) - _BLOCK + 1, _BLOCK):
        prefix = hash((prefix, data[at : at + _BLOCK]))
        prefixes.append(prefix)
    return prefixes


def _longest(prefixes: list[int], known: set[int]) -> int:
    return next((length for length in range(len(prefixes), 0, -1) if prefixes[length - 1] in known), 0)
