"""Turns a scripted reply into a complete completion: ids, the cut at `max_tokens`, and the usage."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from uuid import UUID

from ...errors import AgentError
from ...messages import Assistant, ToolCall
from .replies import Reply
from .request import SimRequest
from .scenarios import example_call
from .tokens import PrefixCache, count_tokens, message_text
from .wire import Completion, cut_to, message_dict, usage_of

__all__ = ["Completer", "fixed_id"]

_DEFAULT_MAX_TOKENS = {"none": 8_192, "max": 131_072}
_THINKING_MAX_TOKENS = 65_536


class Completer:
    """Makes completions; the prompt cache is its only memory."""

    def __init__(self, *, obey_tool_choice: bool = False) -> None:
        self._obey_tool_choice = obey_tool_choice
        self._cache = PrefixCache()

    def complete(self, reply: Reply, request: SimRequest, number: int, served_model: str) -> Completion:
        """The completion for the `number`th request. Raises AgentError if the reply cannot answer this request."""
        thinking = request.thinking
        message = _with_ids(_as_message(reply.message), number)
        if message.tool_calls and not request.tools:
            names = ", ".join(call.name for call in message.tool_calls)
            raise AgentError(f"the reply calls {names}, but the request offers no tools; give the agent its tools")
        if not thinking:
            message = replace(message, reasoning="")
        given_reason = reply.finish_reason
        if self._obey_tool_choice:
            scripted, message = message.tool_calls, _with_ids(_fitted_to_choice(message, request), number)
            if message.tool_calls != scripted:
                given_reason = None
        budget = request.body.get("max_tokens") or _DEFAULT_MAX_TOKENS.get(request.effort, _THINKING_MAX_TOKENS)
        message, was_cut = cut_to(message, budget)
        scope = (request.body.get("user_id"), served_model, request.effort)
        answer = message_text(message_dict(message, thinking=thinking)).encode(errors="surrogatepass")
        hit = self._cache.hit(scope, request.prompt, answer)
        return Completion(
            id=str(UUID(fixed_id("completion", number, 32))),
            model=served_model,
            message=message,
            finish_reason=given_reason or _natural_end(message, was_cut),
            usage=usage_of(message, count_tokens(request.prompt), hit, thinking=thinking),
            thinking=thinking,
            calls=reply.calls,
        )


def fixed_id(kind: str, number: int, length: int) -> str:
    """`length` letters and digits: always the same for one kind and number, and different for any other."""
    return hashlib.blake2b(f"{kind} {number}".encode(), digest_size=length // 2).hexdigest()


def _natural_end(message: Assistant, was_cut: bool) -> str:
    return "length" if was_cut else "tool_calls" if message.tool_calls else "stop"


def _as_message(item: object) -> Assistant:
    match item:
        case str():
            return Assistant(item)
        case Assistant():
            return item
        case ToolCall():
            return Assistant(tool_calls=(item,))
        case list() | tuple() if item and all(isinstance(call, ToolCall) for call in item):
            return Assistant(tool_calls=tuple(item))
        case _:
            raise AgentError(f"{item!r} is not a reply: use a text, call(...), calls, an Assistant, Failure, Raw, ...")


def _fitted_to_choice(message: Assistant, request: SimRequest) -> Assistant:
    """The message changed to obey `tool_choice`: without calls, with at least one call, or with calls of one function only."""
    choice = request.body.get("tool_choice")
    if choice in (None, "auto"):
        return message
    if choice == "none":
        return replace(message, tool_calls=())
    name = choice["function"]["name"] if isinstance(choice, dict) else None
    wanted = tuple(call for call in message.tool_calls if name in (None, call.name))
    return replace(message, tool_calls=wanted or (example_call(request, name),))


def _with_ids(message: Assistant, number: int) -> Assistant:
    """Each call without an id gets one like DeepSeek's: `call_00_` and 24 letters and digits."""
    calls = tuple(
        call if call.id else replace(call, id=f"call_{index:02}_{fixed_id(f'call {index}', number, 24)}")
        for index, call in enumerate(message.tool_calls)
    )
    return replace(message, tool_calls=calls)
