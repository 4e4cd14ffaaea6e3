"""Keys out of sight: values that no repr shows, and their removal by value."""

from __future__ import annotations

import base64
import copy
import pickle
import pprint
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import AgentError, BadRequest
from agentkit.redact.keys import Hider, Secret, Unseen, clean_error, is_secret_header, secrets_of_header

KEY = "Zx7Qm2Lp9Vw4Kt8Rb3Ny"


@pytest.mark.parametrize("secret", [Secret(KEY), Unseen(KEY), Hider([Secret(KEY)])], ids=["Secret", "Unseen", "Hider"])
def test_no_repr_shows_it(secret: Any) -> None:
    nested = {"a": [secret], "b": SimpleNamespace(c=secret)}
    for shown in (repr(secret), str(secret), f"{secret}", repr(nested), pprint.pformat(nested), repr(copy.deepcopy(nested))):
        assert KEY not in shown


def test_it_is_equal_by_its_text_and_goes_into_no_pickle() -> None:
    assert Secret(KEY) == Secret(KEY) == copy.deepcopy(Secret(KEY)) != Secret("other")
    assert hash(Secret(KEY)) == hash(Secret(KEY)) == hash(KEY)
    assert Secret(KEY) != KEY and copy.copy(Secret(KEY)).reveal() == KEY
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(Secret(KEY))


@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        (KEY, True), ("sk-1234567890", True), ("canaryKEY1", True), ("correcthorsebatterystaple", True),
        ("Correct-Horse", True),
        ("EMPTY", False), ("k", False), ("", False), ("lm-studio", False), ("not-needed", False), ("sk-no-key-required", False),
        ("NOT_NEEDED", False),
    ],
)  # fmt: skip
def test_what_can_be_a_key(text: str, is_key: bool) -> None:
    assert Secret(text).is_worth_hiding is is_key
    assert bool(Hider([Secret(text)])) is is_key
    assert Hider([Secret(text)]).hide(f"<{text}>") == ("<[api key]>" if is_key else f"<{text}>")


@given(before=st.binary(max_size=9), after=st.binary(max_size=9), key=st.text("abXY01+/=_-&?>~", min_size=20, max_size=40))
def test_it_is_found_in_base64_whatever_is_beside_it(before: bytes, after: bytes, key: str) -> None:
    hider = Hider([Secret(key)])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + key.encode() + after).decode()
        shown = hider.hide(f"<{text}>")
        assert "[api key]" in shown and len(shown) <= len(text) + 11 - len(key)


@pytest.mark.parametrize(
    "form",
    [
        "{key}", "{quoted}", "{hex}", "{HEX}", "{slashed}", "Bearer {key}", "{key}{key}", "a{key}b", "{json}",
    ],
)  # fmt: skip
def test_it_is_found_in_every_form(form: str) -> None:
    key = 'ab/12+"cd"=34&ef?56'
    forms = {
        "key": key, "quoted": quote(key, safe=""), "hex": key.encode().hex(), "HEX": key.encode().hex().upper(),
        "slashed": key.replace("/", "\\/"), "json": key.replace('"', '\\"'),
    }  # fmt: skip
    text = form.format(**forms)
    shown = Hider([Secret(key)]).hide(f"it is {text}.")
    assert shown.startswith("it is ") and shown.endswith(".") and "[api key]" in shown
    assert not any(value in shown for value in forms.values())


def test_the_beginning_of_one_at_the_end_of_a_text_that_was_cut() -> None:
    hider = Hider([Secret(KEY)])
    assert hider.hide(f"key {KEY[:15]}") == "key [api key]"
    assert hider.hide(f"key {KEY[:15]}", more_follows=True) == f"key {KEY[:15]}"
    assert hider.hide(f"key {KEY[:5]}") == f"key {KEY[:5]}", "as many words begin"
    assert [hider.partial_at_end(text) for text in ("", "no", KEY[:1], f"x{KEY[:7]}", KEY[:19])] == [0, 0, 1, 7, 19]


LONG = "sk-Zx7Qm2Lp9Vw4Kt8Rb3NyHs1Jd5Gf"


@pytest.mark.parametrize("key", [KEY, LONG])
def test_a_key_without_one_of_its_ends_is_hidden(key: str) -> None:
    hider = Hider([Secret(key)])
    for part in (key[1:], key[:-1]):
        assert hider.hide(f"<{part}>") == "<[api key]>"


@given(start=st.integers(0, len(LONG) - 16), size=st.integers(1, len(LONG)), before=st.text("<ab Z"), after=st.text(">xy "))
def test_a_long_stretch_of_a_key_is_hidden_wherever_it_begins(start: int, size: int, before: str, after: str) -> None:
    part = LONG[start : start + size]
    shown = Hider([Secret(LONG)]).hide(f"{before}<{part}>{after}")
    assert (part not in shown) if len(part) >= 16 else (shown == f"{before}<{part}>{after}" or part in LONG[: len(LONG) // 2])


def test_other_text_with_a_piece_of_a_key_stays() -> None:
    hider = Hider([Secret(LONG)])
    for text in (LONG[5:20], LONG[:12] + "x" + LONG[13:25], LONG[::-1], LONG[4:12] * 5):
        assert hider.hide(f"<{text}>") == f"<{text}>"


def test_the_beginning_of_a_key_in_a_text_that_goes_on_is_left_until_its_end_comes() -> None:
    hider = Hider([Secret(LONG)])
    assert hider.hide(f"<{LONG[:20]}", more_follows=True) == f"<{LONG[:20]}"
    assert hider.partial_at_end(f"<{LONG[:20]}") == 20
    assert hider.hide(f"<{LONG[:20]}>", more_follows=True) == "<[api key]>"


def test_only_the_last_keys_are_known() -> None:
    hider = Hider()
    for number in range(100):
        hider.add(Secret(f"key{number:03}" * 4))
        hider.add(Secret(f"key{number:03}" * 4))
    assert hider.hide("key099" * 4 + " " + "key080" * 4) == "[api key] [api key]"
    assert hider.hide("key000" * 4) == "key000" * 4


@pytest.mark.parametrize(
    ("name", "value", "is_secret"),
    [
        ("Authorization", "x", True), ("api-key", "x", True), ("X-Api-Key", "x", True),
        ("Ocp-Apim-Subscription-Key", "x", True), ("x-goog-api-key", "x", True), ("Cookie", "a=b", True),
        ("cf-access-client-secret", "x", True), ("Helicone-Auth", "x", True),
        ("x-auth-token", "x", True), ("x-portkey-virtual-key", "x", True), ("x-note", "ghp_" + KEY * 2, True),
        ("api-version", "2026-01-01", False), ("x-request-id", "3f2a9c8b1d7e6f50", False), ("user-agent", "x", False),
        ("Idempotency-Key", "x", False), ("sec-websocket-key", "x", False), ("openai-organization", "org-x", False),
        ("x-ratelimit-remaining-tokens", "5", False), ("x-token-count", "5", False), ("author", "Ann", False),
    ],
)  # fmt: skip
def test_headers_that_carry_a_secret(name: str, value: str, is_secret: bool) -> None:
    assert is_secret_header(name, value) is is_secret


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("authorization", f"Bearer {KEY}", [KEY]),
        ("authorization", KEY, [KEY]),
        ("api-key", f" {KEY} ", [KEY]),
        ("authorization", "Basic " + base64.b64encode(f"ann:{KEY}".encode()).decode(), [KEY]),
        ("authorization", "Basic not base64", []),
        ("cookie", f"a=1; session={KEY}==; b", [f"{KEY}=="]),
        ("cookie", f"bearer {KEY}", [KEY]),
        ("cookie", "a= ;", []),
    ],
)
def test_what_of_a_header_is_secret(name: str, value: str, secrets: list[str]) -> None:
    found = {secret.reveal() for secret in secrets_of_header(name, Unseen(value))}
    assert {*secrets} <= found and not any(f"{name}" in one or "Bearer" in one for one in found)


def test_an_error_is_cleaned_with_all_that_is_behind_it() -> None:
    def fail() -> None:
        try:
            try:
                raise httpx.ReadError(f"broke at {KEY}")
            except httpx.ReadError as error:
                raise ExceptionGroup("some", [ValueError(f"in a group: {KEY}"), OSError(5, f"of {KEY}")]) from error
        except ExceptionGroup:
            raise BadRequest(
                f"refused {KEY}", body=f'{{"key": "{KEY}", "password": "hunter2"}}', partial=KEY, code=KEY
            ) from None

    with pytest.raises(BadRequest) as caught:
        fail()
    error = caught.value
    clean_error(error, Hider([Secret(KEY)]))
    assert str(error) == "refused [api key]" and error.partial == error.code == "[api key]"
    assert error.body == '{"key": "[api key]", "password": "[redacted]"}'
    group = error.__context__
    assert isinstance(group, ExceptionGroup) and group.__cause__ and str(group.exceptions[0]) == "in a group: [api key]"
    assert str(group.__cause__) == "broke at [api key]"
    behind = [error, group, group.__cause__, *group.exceptions]
    assert [one.__traceback__ for one in behind] == [None] * 5
    assert KEY not in "".join(str(vars(one)) for one in behind)


def test_where_an_error_came_through_the_programs_own_code_is_noted() -> None:
    def sign() -> None:
        secret = KEY
        raise RuntimeError(f"no signature for {len(secret)}")

    with pytest.raises(RuntimeError) as caught:
        sign()
    clean_error(caught.value, Hider())
    clean_error(caught.value, Hider())
    (note,) = caught.value.__notes__
    assert "in sign" in note and "raise RuntimeError" in note and __file__ in note


def test_what_is_behind_an_interruption_of_the_program_stays() -> None:
    class Stop(BaseException):
        pass

    inner = ValueError("of an observer")
    try:
        try:
            raise inner
        except ValueError as error:
            raise Stop from error
    except Stop as stop:
        clean_error(stop, Hider([Secret(KEY)]))
        assert inner.__traceback__ is not None
    assert issubclass(AgentError, Exception)
