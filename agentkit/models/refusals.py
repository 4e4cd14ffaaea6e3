"""Server errors as typed errors: a refused request, or an error inside a reply. Pure.

Servers report the same problem with different statuses, codes and texts. The tables here list the known ones, by kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pydantic_core import from_json

from ..errors import (
    AuthError,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    InsufficientBalance,
    ModelError,
    Overloaded,
    RateLimited,
    StreamBroken,
    error_for_status,
)
from ..redact import redact
from .finish import normal
from .http.transports import Response
from .retry_after import wait_in_headers, wait_in_text
from .usage import count

__all__ = ["add_request", "asked", "cut_text", "is_error", "read_error", "refused", "request_id_in"]

_VERSION = re.compile(r"/v\d|/beta|/api(?:/|$)")
_PROXY_STATUSES = (403, 502, 503, 504)
"""Statuses with which a proxy answers in place of the server."""

_CONTEXT_TEXTS = re.compile(
    r"maximum context length|max context length|model's context length|context length of only|context length exceeded"
    r"|context window|context size|context limit|context_length|greater than the context length|input length exceeds"
    r"|input is too long|maximum model length|max_seq_len|model token limit|range of input length|prompt (?:is )?too long"
    r"|prompt exceeds max length|reduce the length of the (?:messages|input|prompt)|maximum prompt length"
    r"|exceeds the maximum number of (?:input )?tokens|max tokens allowed|too many input tokens|too large for model with"
    r"|input tokens exceed|input length .{0,60}exceed|input token count .{0,80}only supports|`?inputs`? tokens ?\+ ?`?max_new"
    r"|exceeds? the (?:token )?limit of \d+|too many tokens(?! per)|token limit exceeded|exceeds? the model's limit of"
    r"|inputs?`? must have less than \d+ tokens|'inputs' tokens ?\+|input tokens \d+ cannot exceed|exceed max message tokens"
    r"|(?:prompt|input) \(\d+ tokens\) is too long|(?:prompt|input)(?: tokens)? too long|(?:prompt|input) exceeds? (?:the )?max"
    r"|length of (?:the )?(?:input|prompt|messages)[a-z ]{0,20} exceeds?|(?:prompt|sequence) length .{0,40}exceeds?"
    r"|context overflow|reached context length|上下文(?:长度|窗口)|输入.{0,10}(?:超过|超出|超长|过长)"
)
"""Texts for a prompt that does not fit, in lower case. Most come with status 400; llama.cpp also sends 500."""
_ABOUT_MAX_TOKENS = re.compile(r"max_(?:\w{1,20}_)?tokens\W{1,3}(?:must|should|can|may|has to|is too)")
_ABOUT_PROMPT = re.compile("prompt|input|message")
_CONTEXT_CODES = frozenset(
    {"context_length_exceeded", "1261", "exceed_context_size_error", "context_window_exceeded", "request_too_large"}
)

_FILTER_TEXTS = re.compile(
    r"content exists risk|content management policy|content filtering policy|responsibleaipolicyviolation|inappropriate content"
    r"|(?<!name )violates? (?:our |the )?(?:usage|content|safety) (?:guidelines|polic)|considered high risk"
    r"|violated guardrail|content blocked:|(?:prompt|input) was blocked"
    r"|violating our usage policy|flagged by (?:our )?(?:moderation|content|safety)|requires moderation"
)
"""Texts for a prompt that a filter refused, in lower case."""
_FILTER_CODES = frozenset({
    "content_filter", "content_filtered", "content_policy_violation", "moderation_blocked", "responsibleaipolicyviolation",
    "invalid_prompt", "data_inspection_failed", "datainspectionfailed", "sensitivecontentdetected",
    "inputtextsensitivecontentdetected", "outputtextsensitivecontentdetected", "censorship_blocked",
    "content_safety_violation", "prohibited_content", "1301", "1026", "1027",
})  # fmt: skip
"""OpenAI, Azure (also inside `innererror`), DashScope, Volcengine, StepFun, Gemini, Zhipu (1301), MiniMax (1026, 1027)."""

_QUOTA_CODES = frozenset({
    "insufficient_quota", "exceeded_current_quota_error", "1113", "insufficient_balance", "billing_error", "billing_not_active",
    "billing_hard_limit_reached", "insufficient_user_quota", "pre_consume_token_quota_failed", "accountoverdueerror",
    "arrearage",
})  # fmt: skip
"""Codes of an empty account, with status 400, 401, 403 or 429: OpenAI, Moonshot, Zhipu, the new-api gateways (AnyFast),
Volcengine, DashScope."""
_QUOTA_TEXTS = re.compile(r"credit balance is too low|balance is (?:insufficient|not enough)|insufficient (?:account )?balance")
"""Texts of a 400 or 403 for an empty account, in lower case: Anthropic, SiliconFlow, gateways."""
_RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error"})
"""Codes of a 413 that means a rate limit: Groq, for a request with more tokens than it allows per minute."""
_TEMPLATE_TEXTS = re.compile(
    r"jinja|chat template|chat_template|(image|audio) input is not supported|unsupported content part type"
)
"""Texts of a 500 that means a bad request: llama.cpp's template does not accept the messages, or its model takes text only."""
_MODEL_FAULTS = frozenset({"tool_use_failed"})
"""Codes of a 400 that is the model's fault and not the request's: Groq, for a call that it could not parse."""
_STATUS_OF_WORD = tuple((status, re.compile(words)) for status, words in (
    (402, "insufficient_(?:user_)?(?:quota|balance|credit)|arrearage|overdue|billing|payment"),
    (429, "rate_?limit|throttl|too_many_requests|resource_exhausted"),
    (401, "unauth|authentication|invalid_api_key|incorrect_api_key"),
    (403, "permission|forbidden|access_denied"),
    (404, "not_found"),
    (451, "content_filter"),
    (503, "overload|unavailable|timeout"),
    (400, "invalid_(?:request|argument|param)|bad_request|unprocessable|failed_precondition"),
))  # fmt: skip
"""The status that a code or a type of an error stands for, by the first pattern in the word as `finish.normal` returns it."""
_STATUS_OF_MINIMAX = {1002: 429, 1039: 429, 1004: 401, 2049: 401, 1008: 402, 2013: 400, 1026: 451, 1027: 451}
_PERMANENT = (501, 505)
"""Statuses of server errors that a retry cannot fix."""
_TEXTS = ("message", "detail", "msg", "error_msg", "errorMessage", "error_description", "Message")
"""Fields with the text of an error."""
_WRAPPERS = ("error", "errors", "detail")
"""Fields in which the object that describes an error may be, at any depth."""
_NUMBERS = ("status", "code", "status_code", "error_code")
_MAX_DEPTH = 5
_MAX_MESSAGE = 300
_MAX_SEARCHED = 8_000
"""Characters of an error that are searched for known words."""


def read_error(
    status: int | None,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    clock: Callable[[], datetime] | None = None,
) -> ModelError:
    """The typed error of a refused request, or of an error inside a reply (`status` None).

    The body may be an object with `error` as an object or a text, a flat object, a list, or no JSON at all. The header
    `x-should-retry: false` is obeyed, as in OpenAI's SDK. `retry_after` is the wait that the headers (with `clock`) or the text
    ask for.
    """
    headers = headers or {}
    details = _details(body)
    message = _message(details, body)
    codes = _codes(details)
    if status is None:
        status = _status_inside(details)
    kind = _refined(error_for_status(status) if status else Overloaded, status, details, message.lower()[:_MAX_SEARCHED], codes)
    code = details.get("code") or details.get("type") or details.get("status")
    where = f"HTTP {status}" if status else "an error inside the reply"
    error = kind(
        f"{where}: {message}",
        status=status,
        body=cut_text(body),
        code=None if code is None else str(code),
        request_id=request_id_in(headers),
        retryable=False if status in _PERMANENT or headers.get("x-should-retry", "").lower() == "false" else None,
    )
    wait = wait_in_headers({**_upstream_headers(details), **headers}, clock) if clock else None
    error.retry_after = wait_in_text(body) if wait is None and error.retryable else wait
    return error


def refused(response: Response, body: bytes, clock: Callable[[], datetime], url: str) -> ModelError:
    """The typed error of a refused request to this URL, with what to do about a wrong address and an unknown model."""
    status, headers = response.status_code, response.headers
    if 300 <= status < 400:
        target = ascii(redact(headers.get("location", "nowhere")))[1:-1][:300]  # it is the server's text
        return BadRequest(f"HTTP {status}: the server redirects to {target}; set base_url to where it is now", status=status)
    error = read_error(status, body, headers, clock)
    if status in (404, 405):
        error.args = (f"{error}; {_remedy(url, str(error))}",)
    if response.via and status in _PROXY_STATUSES:
        error.args = (f"{error} (it came through {response.via}, which may have answered in place of the server)",)
    return error


def _remedy(url: str, text: str) -> str:
    if "model" in text.lower():
        return "check the model's name, and whether the key may use it"
    if not _VERSION.search(url):
        return "most servers want a base_url that ends in /v1"
    return "check base_url and the model's name"


def add_request(error: ModelError, url: str, model: str) -> None:
    """Note on an error what was asked, once, and without what the error says itself."""
    if not any(note.startswith("asked: ") for note in getattr(error, "__notes__", ())):
        error.add_note(f"asked: {asked(url if url not in str(error) else '', model, error.request_id)}")


def asked(url: str, model: str, request_id: str | None) -> str:
    """What was asked, in words. Without a `url`, only of which model."""
    parts = [f"POST {url}"] * bool(url), [f"model {model}"], [f"request id {request_id}"] * bool(request_id)
    return ", ".join(part for listed in parts for part in listed)


def request_id_in(headers: Mapping[str, str]) -> str | None:
    """The id to quote to the provider, in a response's headers."""
    return headers.get("x-ds-trace-id") or headers.get("x-request-id")


def is_error(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk or a whole reply is an error. MiniMax sends its own status with HTTP 200 and empty `choices`."""
    if chunk.get("error") or ("choices" not in chunk and ("message" in chunk or "detail" in chunk)):
        return True
    if "choices" not in chunk and any(chunk.get(name) for name in ("msg", "errors", "error_msg", "errorMessage")):
        return chunk.get("code") not in (0, 200, "0", "200")
    return bool(_mapping(chunk.get("base_resp")).get("status_code")) and not chunk.get("choices")


def _message(details: Mapping[str, Any], body: bytes) -> str:
    """The server's text. For a gateway, the text of its upstream server is added."""
    text = _text_in(details) or cut_text(body, _MAX_MESSAGE) or "no text"
    upstream = _mapping(details.get("metadata")).get("raw")
    if isinstance(upstream, str) and upstream and upstream not in text:
        text += f": {upstream[: 2 * _MAX_MESSAGE]}"
    return text


def _upstream_headers(details: Mapping[str, Any]) -> dict[str, str]:
    """The headers that a gateway puts into its error: OpenRouter says only there when a limit is restored."""
    headers = _mapping(_mapping(details.get("metadata")).get("headers"))
    return {name.lower(): str(value) for name, value in headers.items()}


def _codes(details: Mapping[str, Any]) -> frozenset[str]:
    """All codes and types in an error, in lower case."""
    inner = _mapping(details.get("innererror"))
    words = (details.get("type"), inner.get("code"), *(details.get(name) for name in _NUMBERS))
    return frozenset(str(word).lower() for word in words if isinstance(word, str | int))


def _refined(
    kind: type[ModelError], status: int | None, details: Mapping[str, Any], text: str, codes: frozenset[str]
) -> type[ModelError]:
    """The kind of error by its text and codes, if the status is not specific enough."""
    if _is_unpaid(kind, status, text, codes):
        return InsufficientBalance
    if status == 413 and codes & _RATE_CODES:
        return RateLimited
    if status in (None, 400) and codes & _MODEL_FAULTS:
        return StreamBroken
    if kind is ContentFiltered or _is_filtered(status, details, text, codes):
        return ContentFiltered
    if (kind is BadRequest or status in (None, 500)) and (codes & _CONTEXT_CODES or _mentions_context(text)):
        return ContextTooLong  # not for other statuses: an overloaded server may mention its window as well
    if kind is Overloaded and _TEMPLATE_TEXTS.search(text):
        return BadRequest
    return kind


def _is_unpaid(kind: type[ModelError], status: int | None, text: str, codes: frozenset[str]) -> bool:
    if codes & _QUOTA_CODES:
        return status in (None, 400, 401, 403, 429)
    return kind in (AuthError, BadRequest) and status in (400, 403) and bool(_QUOTA_TEXTS.search(text))


def _mentions_context(text: str) -> bool:
    """Whether a text says that a prompt does not fit, rather than which values `max_tokens` may have."""
    return bool(_CONTEXT_TEXTS.search(text)) and not (_ABOUT_MAX_TOKENS.search(text) and not _ABOUT_PROMPT.search(text))


def _is_filtered(status: int | None, details: Mapping[str, Any], text: str, codes: frozenset[str]) -> bool:
    if status not in (None, 400, 403, 422, 451):
        return False
    flagged = "flagged_input" in _mapping(details.get("metadata"))  # OpenRouter's moderation
    return bool(flagged or codes & _FILTER_CODES or _FILTER_TEXTS.search(text))


def _status_inside(details: Mapping[str, Any]) -> int | None:
    """The HTTP status of an error inside a reply: its own number, else by its type."""
    for name in _NUMBERS:
        number = count(details.get(name))
        if 400 <= number < 600:
            return number
    if (number := count(details.get("status_code"))) in _STATUS_OF_MINIMAX:
        return _STATUS_OF_MINIMAX[number]
    words = (normal(word) for name in ("type", "code", "status") if isinstance(word := details.get(name), str))
    return next((status for word in words for status, known in _STATUS_OF_WORD if known.search(word)), None)


def _details(body: bytes) -> Mapping[str, Any]:
    """The object that describes the error, wherever it is in the body."""
    try:
        data = from_json(body)
    except ValueError:
        return {}
    details = _described(data)
    status = _mapping(details.get("base_resp"))
    return {"message": status.get("status_msg"), **status} if status else details


def _described(data: Any, depth: int = 0) -> Mapping[str, Any]:
    """The object that describes the error. A gateway may put it into a list, or into a field of another object."""
    if isinstance(data, list) and data:
        data = data[0]
    if isinstance(data, str):
        return {"message": data}
    outer = _mapping(data)
    own = _text_in(outer)
    for name in _WRAPPERS if depth < _MAX_DEPTH else ():
        inner = outer.get(name)
        if not inner or not isinstance(inner, str | dict | list) or (own and (depth or name != "error")):
            continue
        if isinstance(inner, str):
            codes = {name: outer[name] for name in ("type", *_NUMBERS) if name in outer}
            return {**codes, "message": f"{inner}: {own}" if own and own not in inner else inner}
        return _described(inner, depth + 1)
    return outer


def _text_in(details: Mapping[str, Any]) -> str:
    """The text of an error, in whichever field it is."""
    return next((text for name in _TEXTS if (text := details.get(name)) and isinstance(text, str)), "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def cut_text(body: bytes, limit: int = 2000) -> str:
    """The beginning of a body as text."""
    return body[:limit].decode("utf-8", "replace").strip()
