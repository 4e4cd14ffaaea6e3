"""Refusals of servers in their own words: filters, windows, waits, wrong addresses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from agentkit import ChatModel
from agentkit import errors as e
from agentkit.models.refusals import read_error
from agentkit.models.retry_after import wait_in_text

from .calls import ask, replied
from .raw_server import http


def error(status: int | None, body: Any) -> e.ModelError:
    return read_error(status, body if isinstance(body, bytes) else json.dumps(body).encode())


CONTEXT = {
    "OpenAI": {"message": "Your input exceeds the context window of this model. Please adjust your input and try again."},
    "DeepSeek": {"message": "This model's maximum context length is 1048565 tokens. However, you requested 1100000 tokens."},
    "xAI": "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
    "Gemini": {"code": 400, "message": "The input token count (1200293) exceeds the maximum number of tokens allowed."},
    "Anthropic": {"message": "input length and `max_tokens` exceed context limit: 187254 + 20000 > 204798"},
    "Anthropic, older": {"message": "prompt is too long: 213462 tokens > 200000 maximum"},
    "Bedrock": {"message": "Input is too long for requested model."},
    "a gateway": {"message": "tokens in request more than max tokens allowed"},
    "llama.cpp": {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"},
    "LM Studio": "The number of tokens to keep from the initial prompt is greater than the context length.",
    "MiniMax": {"message": "invalid params, context window exceeds limit"},
    "Groq": {"message": "Please reduce the length of the messages or completion."},
    "Copilot": {"message": "prompt token count of 128010 exceeds the limit of 128000"},
    "Moonshot": {"message": "Invalid request: Your request exceeded model token limit: 262144"},
    "Vertex": {"message": "the input token count is 1100000 but model only supports up to 1048576."},
    "TGI": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens",
    "a code only": {"message": "too large", "code": "context_length_exceeded"},
    "behind OpenRouter": {
        "message": "Provider returned error", "code": 400,
        "metadata": {"raw": '{"error":{"message":"prompt is too long: 2 tokens > 1 maximum"}}', "provider_name": "Anthropic"},
    },
}  # fmt: skip


@pytest.mark.parametrize("server", CONTEXT)
def test_a_prompt_that_does_not_fit(server: str) -> None:
    found = error(400, {"error": CONTEXT[server]})
    assert type(found) is e.ContextTooLong
    assert not found.retryable


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens is too large: 50000",
        "messages must not be empty",
        "temperature exceeds the maximum",
        "max_tokens must be smaller than the context window",
        "`max_completion_tokens` must be less than the model's context length",
        "tool name violates the content policy of names",
    ],
)
def test_other_refusals_are_not_taken_for_one(text: str) -> None:
    assert type(error(400, {"error": {"message": text}})) is e.BadRequest


FILTERS: dict[str, tuple[int | None, Any]] = {
    "Azure": (400, {"message": "The response was filtered", "code": "content_filter"}),
    "Azure, inside": (
        400,
        {"message": "The prompt triggered the filter", "code": "400", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
    ),
    "DeepSeek": (400, {"message": "Content Exists Risk", "type": "invalid_request_error", "code": "invalid_request_error"}),
    "DashScope": (400, {"message": "Input data may contain inappropriate content.", "code": "data_inspection_failed"}),
    "DashScope, in a stream": (None, {"message": "Output data is not fit to be shown", "code": "DataInspectionFailed"}),
    "Zhipu": (400, {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容", "code": "1301"}),
    "Moonshot": (400, {"message": "The request was rejected because it was considered high risk", "type": "content_filter"}),
    "OpenAI": (400, {"message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
                     "code": "invalid_prompt"}),
    "xAI": (403, {"message": "Content violates usage guidelines."}),
    "OpenRouter": (403, {"message": "Input was flagged", "code": 403, "metadata": {"reasons": ["x"], "flagged_input": "..."}}),
    "StepFun": (451, {"message": "the request is blocked", "type": "censorship_blocked"}),
    "LiteLLM's guardrails": (400, {"message": "Content blocked: keyword 'kumquat' detected", "code": "400"}),
    "Bedrock's guardrails": (400, {"message": "Violated guardrail policy"}),
    "Vertex": (400, {"message": "The prompt was blocked: PROHIBITED_CONTENT", "status": "INVALID_ARGUMENT"}),
    "Anthropic behind a gateway": (400, {"message": "Output blocked by content filtering policy"}),
}  # fmt: skip


@pytest.mark.parametrize("server", FILTERS)
def test_a_prompt_that_a_filter_refused(server: str) -> None:
    status, details = FILTERS[server]
    found = error(status, {"error": details})
    assert type(found) is e.ContentFiltered
    assert details["message"] in str(found)
    assert not found.retryable


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ({"type": "request_too_large", "message": "Request exceeds the maximum size"}, e.ContextTooLong),
        ({"code": "rate_limit_exceeded", "message": "Request too large: Limit 6000, Requested 9000"}, e.RateLimited),
        ({"message": "Payload too large"}, e.BadRequest),
    ],
)
def test_a_request_that_is_too_large(details: dict[str, str], kind: type[e.ModelError]) -> None:
    """Anthropic's 413 is a prompt that does not fit, Groq's a rate limit, a proxy's neither."""
    assert type(error(413, {"error": details})) is kind


def test_minimax_says_it_with_a_status_of_its_own() -> None:
    assert type(error(None, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}})) is e.ContentFiltered


def test_a_forbidden_key_is_not_taken_for_a_filter() -> None:
    assert type(error(403, {"error": {"message": "Your key may not use this model"}})) is e.AuthError


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "23s"}]}}, 23.0),
        ({"error": {"details": [{"@type": "RetryInfo", "retryDelay": "23.5s"}]}}, 23.5),
        ({"error": {"message": "Rate limit reached. Please try again in 1.242s. Visit our page."}}, 1.242),
        ({"error": {"message": "Please try again in 20s."}}, 20.0),
        ({"error": {"message": "Please try again in 500ms."}}, 0.5),
        ({"error": {"message": "try again in 6m0s"}}, 360.0),
        ({"error": {"message": "try again in 2m30.5s"}}, 150.5),
        ({"error": {"message": "Please retry after 17 seconds."}}, 17.0),
        ({"error": {"message": "Please wait for 2 minutes"}}, 120.0),
        ({"error": {"message": "Try your request again in 1 hour."}}, 3600.0),
        ({"error": {"message": "try again in 2 days"}}, 172_800.0),
        ({"error": {"message": "try again in 1h2m"}}, 3720.0),
        ({"error": {"message": "try again in 1h30m10.5s."}}, 5410.5),
        ({"error": {"message": "Try again in 1 minute and 5 seconds. Limit 30 s"}}, 65.0),
        ({"error": {"message": "Rate limit reached, reset after 5s"}}, 5.0),
        ({"error": {"message": "Limit resets in 12s"}}, 12.0),
        ({"error": {"message": "in 500ms, try again"}}, 0.5),
        ({"error": {"message": "try again in 5 s. Limit 30 requests"}}, 5.0),
        ({"error": {"message": "try again in 2 fortnights"}}, None),
        ({"error": {"message": "resets at 12:00"}}, None),
        ({"error": {"message": "retry after 2025-01-01"}}, None),
        ({"error": {"message": "busy"}, "retry_after": 7}, 7.0),
        ({"error": {"message": "busy", "retry_after_ms": 1500}}, 1.5),
        ({"error": {"message": "busy", "retryAfterSeconds": "9"}}, 9.0),
        ({"error": {"message": "busy, retry after a while"}}, None),
        ({"error": {"message": "You retried 5 times"}}, None),
        ({"error": {"message": "Limit 30000, used 29000, requested 2000"}}, None),
    ],
)
def test_the_wait_that_a_refusal_asks_for_in_its_text(body: Any, seconds: float | None) -> None:
    assert wait_in_text(json.dumps(body).encode()) == seconds
    assert error(429, body).retry_after == seconds
    assert error(400, body).retry_after is None, "what is not asked again needs no wait"


@pytest.mark.parametrize(("header", "seconds"), [("retry-after: 3\r\n", 3.0), ("", 23.0)])
def test_a_header_wins_over_the_text(header: str, seconds: float) -> None:
    with pytest.raises(e.RateLimited) as caught:
        replied([http(b'{"error": {"message": "try again in 23s"}}', "429 Too Many Requests", extra=header)])
    assert caught.value.retry_after == seconds


_UNKNOWN = "check the model's name, and whether the key may use it"


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        ("/openai", b"404 page not found", "most servers want a base_url that ends in /v1"),
        ("/v1", b"<html>Not Found</html>", "check base_url and the model's name"),
        ("/v1", b"", "check base_url and the model's name"),
        (
            "/openai",
            b'{"error": {"message": "The model m does not exist"}}',
            _UNKNOWN,
        ),
        ("/v1", b'{"error": {"message": "model \'m\' not found"}}', _UNKNOWN),
    ],
)
@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
def test_a_wrong_address_and_an_unknown_model_say_what_to_check(status: str, path: str, body: bytes, hint: str) -> None:
    urls: list[str] = []

    async def use(_model: Any, _seen: Any, server: Any) -> Any:
        urls.append(f"POST http://127.0.0.1:{server.port}{path}/chat/completions")
        model = ChatModel("m", base_url=f"http://127.0.0.1:{server.port}{path}")
        try:
            return await model.reply(ask())
        finally:
            await model.aclose()

    with pytest.raises(e.BadRequest) as caught:
        replied([http(body, status, "text/plain")], use)
    assert str(caught.value).endswith(f"; {hint}") and "\n" not in str(caught.value)
    assert "POST" not in str(caught.value) and caught.value.__notes__ == [f"asked: {urls[0]}, model m"]


@pytest.mark.parametrize(
    ("status", "details"),
    [
        (403, {"message": "user quota is not enough", "type": "new_api_error", "code": "insufficient_user_quota"}),
        (403, {"message": "token quota is not enough", "code": "pre_consume_token_quota_failed"}),
        (401, {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": 401}),
        (400, {"message": "Your credit balance is too low to access the Anthropic API."}),
        (400, {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}),
        (429, {"message": "Your account is not active", "code": "billing_not_active"}),
        (403, {"message": "Sorry, your account balance is insufficient", "code": 30001}),
        (403, {"message": "The account has an overdue balance.", "code": "AccountOverdueError"}),
        (400, {"message": "Access denied", "code": "Arrearage"}),
        (None, {"message": "user quota is not enough", "code": "insufficient_user_quota"}),
    ],
)
def test_an_empty_account_is_not_asked_again(status: int | None, details: dict[str, Any]) -> None:
    found = error(status, {"error": details})
    assert type(found) is e.InsufficientBalance
    assert not found.retryable


def test_a_rate_limit_that_names_a_quota_stays_one() -> None:
    text = "You exceeded your current quota, please check your plan and billing details."
    assert type(error(429, {"error": {"message": text, "status": "RESOURCE_EXHAUSTED"}})) is e.RateLimited


def test_the_wait_in_headers_that_a_gateway_puts_into_its_error() -> None:
    now = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(now.timestamp() * 1000) + 42_000)}
    body = {"error": {"code": 429, "message": "Rate limit exceeded", "metadata": {"headers": headers}}}
    assert read_error(429, json.dumps(body).encode(), {}, lambda: now).retry_after == 42.0
