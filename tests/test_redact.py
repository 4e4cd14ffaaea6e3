"""What counts as a secret, and what must stay readable."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from agentkit.redact import redact

LINES: list[dict[str, Any]] = [
    json.loads(line.replace("¦", ""))
    for line in (Path(__file__).parent / "data" / "secrets.jsonl").read_text(encoding="utf-8").splitlines()
]
SECRET = [line for line in LINES if "hidden" in line]
INNOCENT = [line["text"] for line in LINES if "hidden" not in line]

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://ann:hunter2@db:5432/x", "postgres://[redacted]@db:5432/x"),
        ("redis://:hunter2@cache/0", "redis://[redacted]@cache/0"),
        ("postgres://bob:p@ss/word1@db.example/x", "postgres://[redacted]@db.example/x"),
        ('{"e": "password=\\"abc def\\""}', '{"e": "password=\\"[redacted]\\""}'),
        ("https://ann:p@ss@host/x", "https://[redacted]@host/x"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
        ("{'Authorization': 'Bearer abcdef123456'}", "{'Authorization': '[redacted]'}"),
        ("curl -H 'Bearer abcdef123456'", "curl -H 'Bearer [redacted]'"),
        ("basic dXNlcjpwYXNzd29yZA==", "basic [redacted]"),
        ("token: Bearer abcdef123456", "token: Bearer [redacted]"),
        ("password=hunter2", "password=[redacted]"),
        ("passwd = hunter2;", "passwd = [redacted];"),
        ('password="two words"', 'password="[redacted]"'),
        ('{"api_key": "abc", "x": 1}', '{"api_key": "[redacted]", "x": 1}'),
        ("{'clientSecret': 'abc'}", "{'clientSecret': '[redacted]'}"),
        ("https://h/?api-key=abc&q=cats", "https://h/?api-key=[redacted]&q=cats"),
        ("AGENTKIT_API_KEY=abc", "AGENTKIT_API_KEY=[redacted]"),
        ("access_token=abc, then", "access_token=[redacted], then"),
        ("the key sk-abcdef1234567890 is wrong", "the key [redacted] is wrong"),
        ("ghp_abcdefghijklmnop1234", "[redacted]"),
        ("github_pat_11ABCDEFG0abcdefgh", "[redacted]"),
        ("xoxb-123456789012-abc", "[redacted]"),
        ("hf_abcdefghijklmnop", "[redacted]"),
        ("sk_live_abcdefgh", "[redacted]"),
        ("pk_live_abcdefgh", "[redacted]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("AIzaSyA-1234567890abcdefghijklmnopqrstu", "[redacted]"),
        (f"cookie {JWT};", "cookie [redacted];"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nrest", "[redacted]\nrest"),
        ("AccountName=a;AccountKey=abc==;EndpointSuffix=core", "AccountName=a;AccountKey=[redacted];EndpointSuffix=core"),
        ("https://x/y?sv=1&sig=abc%2F&se=2", "https://x/y?sv=1&sig=[redacted]&se=2"),
        ("https://x/y?X-Amz-Signature=0123abc", "https://x/y?X-Amz-Signature=[redacted]"),
        ("npm_abcdefghijklmnop", "[redacted]"),
        ("Cookie: session=abc; id=5\nHost: x", "Cookie: [redacted]\nHost: x"),
        ("{'Set-Cookie': 'session=abc; Path=/'}", "{'Set-Cookie': '[redacted]'}"),
        ('passphrase="open sesame"', 'passphrase="[redacted]"'),
        ("password=one secret=two", "password=[redacted] secret=[redacted]"),
    ],
)
def test_a_secret_is_replaced(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "division by zero",
        "max_tokens is 999999; allowed: 1 to 393216",
        "max_tokens=999999, temperature=2",
        "Usage(input_tokens=3, output_tokens=4)",
        "https://host:8080/path?q=a@b",
        "mail ann@example.org at 10:30",
        'violates the constraint "pk_customers_id"',
        "task-force-alpha-beta and risk_management",
        "the password was not given",
        "this cookie is stale, and the cookies: none",
        "sign=1, ?design=2&sign=3",
        "an npm package, pypi_ and npm-run-all",
        "a bearer of bad news",
        "basic authentication is needed",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("text", [JWT, "password=[x", "bearer 12345678"])
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize("line", SECRET, ids=lambda line: line["text"][:40])
def test_a_line_with_a_secret_shows_none(line: dict[str, Any]) -> None:
    shown = redact(line["text"])
    assert "[redacted]" in shown and [secret for secret in line["hidden"] if secret in shown] == []
    assert redact(shown) == shown


@pytest.mark.parametrize("text", INNOCENT, ids=lambda text: text[:40])
def test_a_line_without_a_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_lines_stay_and_show_nothing_among_others_as_well() -> None:
    assert len(SECRET) >= 60 and len(INNOCENT) >= 60
    assert redact("\n".join(INNOCENT)) == "\n".join(INNOCENT)
    for line in SECRET:
        shown = redact(f"first line\n{line['text']}\nlast line: of 3")
        assert [secret for secret in line["hidden"] if secret in shown] == []
        assert shown.startswith("first line\n") and shown.endswith("\nlast line: of 3")


def test_an_empty_variable_does_not_take_the_next_line_for_its_value() -> None:
    text = "API_KEY=\nUSER=ann\npassword:\nhost: db"
    assert redact(text) == text


def test_the_end_of_a_long_secret_is_hidden_as_well() -> None:
    secret = "Zx7Qm2Lp" * 1000
    for text in (f"token={secret}", f'"password": "{secret}"', f"Authorization: Bearer {secret}", f"postgres://u:{secret}@h/x"):
        assert "Zx7Qm2Lp" not in redact(f"{text} and more")
        assert redact(f"{text} and more").endswith(" and more")


PIECES = [
    *("a", "a-", "a.", "a_", "ab:", "://", "a://b:", "password", "password ", "password=", "token:", 'token="', "token token "),
    *(
        "eyJ-",
        "eyJaaaaaaaa.",
        "sk-",
        "sk-a1b2c3d4",
        '"',
        "curl -u ",
        "--password ",
        "authorization: digest ",
        "cookie: a=",
        "\\",
    ),
    *("<password ", "<password>", "password: |\n  ", "basic ", "A3-AAAAAA-", "$2a$", "-----BEGIN PRIVATE KEY-----", "key", " "),
]


@pytest.mark.parametrize("piece", PIECES)
def test_a_long_text_takes_time_in_proportion(piece: str) -> None:
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        started = time.process_time()
        redact(text)
        return time.process_time() - started

    seconds(1_000)
    short, long = min(seconds(10_000) for _ in range(3)), min(seconds(80_000) for _ in range(2))
    assert long < 3 and long < 24 * short + 0.05  # 64 times as long, where it takes time with the square
