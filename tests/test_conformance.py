"""`check-endpoint`: what is found in the strict simulator, and in servers with one fault each."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from agentkit import AgentError, Assistant, ChatModel, ToolCall
from agentkit.models.endpoint_check import CHECKS, Report, check_endpoint, estimate
from agentkit.models.profiles import DEEPSEEK, GENERIC, Profile
from agentkit.testing import DeepSeekSimulator, Failure, Raw, Reply, call
from agentkit.testing.simulator.request import SimRequest
from tests.cli.helpers import cli


def good(request: SimRequest) -> Any:
    """A model that does what the checks ask for."""
    last = request.last
    if last["role"] == "tool":
        return "It is 18 degrees in Paris."
    prompt = str(last["content"])
    if request.body.get("response_format", {}).get("type") == "json_object":
        return '{"city": "Paris"}'
    wanted = request.body.get("tool_choice", "auto")
    if request.tools and wanted != "none" and ("Use the tool" in prompt or "Call the tool" in prompt or wanted != "auto"):
        cities = ["Paris", "Rome"] if "Rome" in prompt else ["Paris"]
        thought = "I ask the tool." if request.body.get("thinking", {}).get("type") == "enabled" else ""
        name = wanted["function"]["name"] if isinstance(wanted, dict) else "get_weather"
        return Assistant("", thought, tuple(call(name, city=city) for city in cities))
    return "one two three four five six seven eight nine ten eleven" if "Count" in prompt else "Hello."


def checked(answer: Any, profile: Profile = DEEPSEEK) -> tuple[Report, DeepSeekSimulator]:
    with DeepSeekSimulator(answer) as sim:
        model = ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile=profile)
        return asyncio.run(check_endpoint(model)), sim


def verdicts(report: Report) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in report.findings}


def test_a_strict_deepseek_server_fits_its_profile() -> None:
    report, _sim = checked(good)
    assert verdicts(report) == {
        "answers": "yes",
        "streaming": "yes",
        "tools": "yes",
        "tool results": "yes",
        "thinking": "yes",
        "parallel calls": "yes",
        "streamed arguments": "yes",
        "tool_choice required": "yes",
        "tool_choice by name": "yes",
        "tool_choice none": "yes",
        "JSON mode": "yes",
        "JSON schema": "no",
        "strict functions": "no",
        "prompt cache": "yes",
        "max_tokens": "yes",
    }
    assert report.settings == {} and report.fitting.name == "deepseek"
    assert report.usage.requests <= sum(count for _check, count, _tokens in CHECKS)
    assert report.cost is not None and report.cost > 0


def test_the_estimate_is_not_less_than_what_was_used() -> None:
    report, sim = checked(good)
    requests, usage, cost = estimate(ChatModel("deepseek-v4-flash", base_url="http://127.0.0.1/v1", profile=DEEPSEEK))
    assert requests >= report.requests == len(sim.requests)
    assert usage.input_tokens >= report.usage.input_tokens and usage.output_tokens >= report.usage.output_tokens
    assert cost is not None and report.cost is not None and cost >= report.cost


def test_the_profile_that_fits_is_found_from_a_generic_one() -> None:
    thinking = replace(GENERIC, thinking_on={"thinking": {"type": "enabled"}}, thinking_off={"thinking": {"type": "disabled"}})
    report, _sim = checked(good, thinking)
    assert report.settings == {"reasoning_back": "reasoning_content", "forced_choice_while_thinking": False}
    again, _sim = checked(good, report.fitting)
    assert again.settings == {}


def only(kind: str, reply: Any) -> Any:
    """As `good`, but with this reply where `kind` stands in the request."""
    return lambda request: reply if kind in json.dumps(request.body) else good(request)


AS_TEXT = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
A_CALL = call("get_weather", city="Paris")
CUT_CALL = ToolCall("", "get_weather", '{"city": "Ro')
AT_ONE_INDEX = Reply([A_CALL, call("get_weather", city="Rome")], calls="index_zero")
NO_OPTIONS = only('"stream_options"', Failure(400, "unknown field stream_options"))
NINE = only("call_00_a", Failure(400, "Tool call id was call_00_a but must be a-z"))


@pytest.mark.parametrize(
    ("answer", "check", "verdict", "says", "settings"),
    [
        (NO_OPTIONS, "streaming", "yes", "with usage", "stream_usage"),
        (only("Use the tool", AS_TEXT), "tools", "broken", "chat template", ""),
        (only("Use the tool", "I cannot."), "tools", "unknown", "no call came", ""),
        (NINE, "tool results", "yes", "nine", "nine_character_ids"),
        (only("Rome", AT_ONE_INDEX), "parallel calls", "yes", "all at one index", ""),
        (only('"required"}', "Hello."), "tool_choice required", "broken", "not enforced", ""),
        (only('"tool_choice": "none"', A_CALL), "tool_choice none", "broken", "a call came", ""),
        (only("json_object", "Sure: Paris"), "JSON mode", "broken", "Sure", ""),
        (
            only("Count", Reply("one two three four five six seven eight", "stop")),
            "max_tokens",
            "broken",
            "a cut answer passes",
            "",
        ),
        (only("Count", Reply("one two", "stop")), "max_tokens", "unknown", "after 2 tokens, before the limit of 8", ""),
        (only("json_object", Reply('{"city": "Par', "length")), "JSON mode", "unknown", "the answer was cut", ""),
        (only("Rome", Reply([A_CALL, CUT_CALL], "length")), "parallel calls", "unknown", "the answer was cut", ""),
    ],
)
def test_a_fault_is_found(answer: Any, check: str, verdict: str, says: str, settings: str) -> None:
    report, _sim = checked(answer)
    found = next(finding for finding in report.findings if finding.check == check)
    assert (found.verdict, says in found.detail) == (verdict, True), found
    assert set(found.settings) == ({settings} if settings else set())


def test_a_server_that_does_not_answer_ends_the_checks_at_once() -> None:
    report, _sim = checked("no_balance")
    (finding,) = report.findings
    assert finding.verdict == "broken" and "Insufficient Balance" in finding.detail
    with pytest.raises(AgentError, match=r"http://127\.0\.0\.1:1/v1/chat/completions"):
        asyncio.run(check_endpoint(ChatModel("m", base_url="http://127.0.0.1:1/v1")))


def test_the_command_prints_cost_before_and_after_and_the_profile() -> None:
    with DeepSeekSimulator(good) as sim:
        result = cli("check-endpoint", "--base-url", sim.base_url, "--model", "deepseek-v4-flash")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].endswith("profile deepseek") and lines[1].startswith("at most 26 requests")
    assert "✓ tools" in result.stdout and "– JSON schema" in result.stdout
    assert lines[-1] == "the profile deepseek fits"


def test_the_command_as_json_and_as_a_dry_run() -> None:
    with DeepSeekSimulator(good) as sim:
        found = json.loads(cli("check-endpoint", "--json", "--base-url", sim.base_url, "-m", "deepseek-v4-flash").stdout)
        assert (found["profile"], found["settings"], len(found["findings"])) == ("deepseek", {}, len(CHECKS))
        sent = len(sim.requests)
        dry = cli("check-endpoint", "--dry-run", "--base-url", sim.base_url)
        assert (dry.exit_code, len(sim.requests)) == (0, sent) and "at most 26 requests" in dry.stdout


def test_the_command_fails_where_something_is_broken_and_names_the_settings() -> None:
    with DeepSeekSimulator(lambda request: "Hello." if "required" in json.dumps(request.body) else NO_OPTIONS(request)) as sim:
        result = cli("check-endpoint", "--base-url", sim.base_url, "-m", "deepseek-v4-flash")
    assert result.exit_code == 1
    assert "dataclasses.replace(agentkit.models.profiles.profile_named('deepseek'), stream_usage=False, " in result.stdout
    assert "forced_choice='auto')" in result.stdout
    assert cli("check-endpoint", "--base-url", "https://example.com/v1", "-m", "x").exit_code == 2


def test_a_busy_server_changes_nothing_in_the_profile() -> None:
    busy = only('"call_00_a"', Failure(503, "busy"))
    report, _sim = checked(busy)
    assert report.settings == {} and verdicts(report)["takes results"] == "unknown"


def test_the_key_is_not_printed() -> None:
    key = "sk-very-secret-0123456789"
    with DeepSeekSimulator(lambda request: Failure(401, f"wrong key {key}")) as sim:
        report = asyncio.run(check_endpoint(ChatModel("deepseek-v4-flash", base_url=sim.base_url, api_key=key)))
    assert "wrong key [api key]" in report.findings[0].detail


ODD = [
    b'data: {"choices":[{"delta":{"content":"x","reasoning_content":"y"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    b"data: {broken\n\n",
    b'{"choices": [{"message": null}]}',
    b'{"choices": [{"message": {"content": "x", "tool_calls": [null]}, "finish_reason": "stop"}]}',
    b'{"data": {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}, "success": true}',
]


@pytest.mark.parametrize("kind", ["Use the tool", '"enabled"'])
@pytest.mark.parametrize("odd", ODD)
def test_odd_replies_are_findings_and_not_crashes(kind: str, odd: bytes) -> None:
    report, _sim = checked(only(kind, Raw(odd)))
    assert len(report.findings) == len(CHECKS)
