"""Which server, and which key: a key goes only to the server that it was made for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agentkit import ChatModel
from agentkit.errors import MissingKey, SettingsError
from agentkit.models.endpoint import DEFAULT_BASE_URL, DEFAULT_MODEL, Endpoint, find_endpoint
from agentkit.redact.keys import Secret

DEEPSEEK, OPENAI = "https://api.deepseek.com", "https://api.openai.com/v1"
A, D, P = {"AGENTKIT_API_KEY": "ak"}, {"DEEPSEEK_API_KEY": "dk"}, {"OPENAI_API_KEY": "ok"}
GATE = {"AGENTKIT_BASE_URL": "https://gate.example/v1"}
LOCAL = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("env", "base_url", "model", "found"),
    [
        ({}, None, None, (DEFAULT_BASE_URL, DEFAULT_MODEL, None)),
        (A, None, None, (DEFAULT_BASE_URL, DEFAULT_MODEL, "ak")),
        (A | GATE, None, None, ("https://gate.example/v1", DEFAULT_MODEL, "ak")),
        (GATE, None, None, ("https://gate.example/v1", DEFAULT_MODEL, None)),
        (A | {"AGENTKIT_MODEL": "m"}, None, None, (DEFAULT_BASE_URL, "m", "ak")),
        (A | {"AGENTKIT_MODEL": "m"}, None, "given", (DEFAULT_BASE_URL, "given", "ak")),
        (D, None, None, (DEEPSEEK, DEFAULT_MODEL, "dk")),
        (P, None, "gpt-5", (OPENAI, "gpt-5", "ok")),
        (P | {"AGENTKIT_MODEL": "gpt-5"}, None, None, (OPENAI, "gpt-5", "ok")),
        (P | {"OPENAI_BASE_URL": LOCAL}, None, "m", (LOCAL, "m", "ok")),
        (D | P, None, None, (DEEPSEEK, DEFAULT_MODEL, "dk")),
        (A | D | P, None, None, (DEFAULT_BASE_URL, DEFAULT_MODEL, "ak")),
        (D | GATE, None, None, ("https://gate.example/v1", DEFAULT_MODEL, None)),
        (A, "https://other.example/v1", None, ("https://other.example/v1", DEFAULT_MODEL, "ak")),
        (A | GATE, "https://other.example/v1", None, ("https://other.example/v1", DEFAULT_MODEL, None)),
        (A | GATE, "https://gate.example/v2", None, ("https://gate.example/v2", DEFAULT_MODEL, "ak")),
        (A | GATE | D, DEEPSEEK, None, (DEEPSEEK, DEFAULT_MODEL, "dk")),
        (D, "https://api.deepseek.com/v1", None, ("https://api.deepseek.com/v1", DEFAULT_MODEL, "dk")),
        (D, "https://API.DeepSeek.com:443/beta", None, ("https://API.DeepSeek.com:443/beta", DEFAULT_MODEL, "dk")),
        (D | P, OPENAI, "gpt-5", (OPENAI, "gpt-5", "ok")),
        (D | P, DEFAULT_BASE_URL, None, (DEFAULT_BASE_URL, DEFAULT_MODEL, None)),
        (D | P, LOCAL, None, (LOCAL, DEFAULT_MODEL, None)),
        (
            {"AGENTKIT_BASE_URL": "", "AGENTKIT_API_KEY": "", "AGENTKIT_MODEL": ""} | D,
            None,
            None,
            (DEEPSEEK, DEFAULT_MODEL, "dk"),
        ),
        ({"AGENTKIT_API_KEY": " ak\n"}, None, None, (DEFAULT_BASE_URL, DEFAULT_MODEL, "ak")),
    ],
)
def test_where_and_with_which_key(
    env: dict[str, str], base_url: str | None, model: str | None, found: tuple[str, str, str | None]
) -> None:
    endpoint = find_endpoint(model, base_url, None, env)
    assert (endpoint.base_url, endpoint.model, endpoint.api_key) == found


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.deepseek.com",
        "https://api.deepseek.com:8443",
        "https://api.deepseek.com.",
        "https://api.deepseek.com.evil.example",
        "https://evil-api.deepseek.com",
        "https://evil.example/api.deepseek.com",
        "https://evil.example/v1/https://api.deepseek.com",
        "https://deepseek.com",
        "https://api.deepseek.co",
        "https://api.d\u0435epseek.com",  # a Cyrillic letter
    ],
)
@pytest.mark.parametrize("env", [D, {"AGENTKIT_BASE_URL": DEEPSEEK, "AGENTKIT_API_KEY": "ak"}])
def test_a_server_that_only_looks_like_it_gets_no_key(base_url: str, env: dict[str, str]) -> None:
    endpoint = find_endpoint(None, base_url, None, env)
    assert endpoint.api_key is None
    with pytest.raises(MissingKey):
        endpoint.require_key()


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.deepseek.com@evil.example/v1",
        "https://user:hunter2@api.deepseek.com",
        "https://@api.deepseek.com",
        "http://u:hunter2/x@h/",
        "http://u:hunter2/@h/",
        "http://hunter2/x@h/v1",
        "http://u:p?hunter2@h/",
        "//u:hunter2/x@h/v1",
        "https://api.deepseek.com/v1?key=hunter2",
        "https://api.deepseek.com/v1#hunter2",
        "https://evil.example\\@api.deepseek.com",
        "https://api.deepseek.com\n.evil.example",
        "https://api.deepseek.com /v1",
        "https://api.deepseek.com:99999",
        "https://api.deepseek.com:0",
        "https://api.deepseek.com:x",
        "https://[::1",
        "https:///v1",
        "api.deepseek.com/v1",
        "ftp://api.deepseek.com",
        "file:///etc/passwd",
        "sk-hunter2hunter2",
    ],
)
def test_a_base_url_of_another_form_is_refused_without_showing_secrets(base_url: str) -> None:
    with pytest.raises(SettingsError, match="base_url") as caught:
        find_endpoint(None, base_url, None, D)
    assert "hunter2" not in str(caught.value)
    assert "allowed:" in str(caught.value)


def test_a_given_key_goes_to_the_given_or_the_configured_server() -> None:
    assert find_endpoint(None, "https://x.example/v1", "mine", A | D).api_key == "mine"
    assert find_endpoint(None, None, "mine", D) == Endpoint(DEFAULT_BASE_URL, DEFAULT_MODEL, Secret("mine"))
    assert find_endpoint(None, None, "mine", A | GATE) == Endpoint("https://gate.example/v1", DEFAULT_MODEL, Secret("mine"))
    assert find_endpoint(None, None, "", A).api_key == "ak"


def test_openai_needs_a_model_that_is_named() -> None:
    with pytest.raises(SettingsError, match="OPENAI_API_KEY is set, but no model is named"):
        find_endpoint(None, None, None, P)


@pytest.mark.parametrize("key", ["sk-abc def", "sk-abc\ndef", "sk-abcd\u00e9f", "sk-abc\x00def"])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="the API key is not one word") as caught:
        find_endpoint(None, None, key, {})
    assert "sk-abc" not in str(caught.value)


def test_a_missing_key_says_what_to_set() -> None:
    with pytest.raises(MissingKey) as caught:
        find_endpoint(None, None, None, {}).require_key()
    text = str(caught.value)
    names = (
        "https://www.anyfast.ai",
        "AGENTKIT_API_KEY",
        "AGENTKIT_BASE_URL",
        "DEEPSEEK_API_KEY",
        "OPENAI_API_KEY",
        "api_key=",
    )
    assert [name for name in names if name not in text] == []


def test_the_key_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(find_endpoint(None, None, "hunter2", {}))


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("127.0.0.1:8000", True),
        ("127.9.9.9", True),
        ("[::1]:8000", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("0.0.0.0", False),
        ("192.168.0.1", False),
        ("example.com", False),
    ],
)
def test_only_a_server_on_this_machine_needs_no_key(host: str, local: bool) -> None:
    endpoint = find_endpoint(None, f"http://{host}/v1", None, {})
    assert endpoint.is_loopback is local
    if local:
        endpoint.require_key()
    else:
        with pytest.raises(MissingKey, match=re.escape(host)):
            endpoint.require_key()


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://h", "https://h/v1/chat/completions"),
        ("https://h/", "https://h/v1/chat/completions"),
        ("https://h:1/v1", "https://h:1/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://h/v1//", "https://h/v1/chat/completions"),
        ("https://h/beta", "https://h/beta/chat/completions"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
    ],
)
def test_the_address_from_a_base_with_or_without_its_path(base_url: str, url: str) -> None:
    assert find_endpoint(None, base_url, None, {}).url == url


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("model", 5),
        ("base_url", 123),
        ("api_key", 5),
        ("timeout", -1),
        ("timeout", "5"),
        ("deadline", 0),
        ("profile", 5),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{argument} is .*; allowed: "):
        ChatModel(**{argument: value})
