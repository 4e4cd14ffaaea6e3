"""`agentkit run`: what it shows, what it sends, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit import Assistant
from agentkit.events import load_event
from agentkit.testing import Cut, DeepSeekSimulator, Failure, call

from .helpers import cli, script, tools_file

AGENT = """
from agentkit import Agent, ScriptedModel, tool
from pydantic import BaseModel

class City(BaseModel):
    name: str
    inhabitants: int

@tool
def look(place: str) -> str:
    "Look somewhere."
    return f"nothing in {place}"

agent = Agent("deepseek-v4-pro", tools=[look], instructions="You look.")
typed = Agent("deepseek-v4-flash", output_type=City)
scripted = Agent(ScriptedModel(["from the script"]))
careless = Agent(ScriptedModel(lambda request: 1 / 0))
not_an_agent = 3
"""
CALLS = (call("get_weather", city="Paris"), call("get_weather", city="Atlantis"))
WEATHER = script(CALLS, "18 degrees.")


def sent(simulator: DeepSeekSimulator) -> dict[str, Any]:
    return simulator.requests[0].body


def test_a_run_shows_thinking_calls_the_answer_and_what_it_took(tmp_path: Path) -> None:
    replies = script(Assistant("", "I ask.\nTwice.", CALLS), "18 degrees.")
    with DeepSeekSimulator(replies) as simulator:
        result = cli("run", "Weather?", "--tools", tools_file(tmp_path), "--base-url", simulator.base_url)
    assert (result.exit_code, result.stderr, simulator.errors) == (0, "", [])
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "thinking: I ask.",
        "Twice.",
        '→ 1 get_weather(city="Paris")',
        '→ 2 get_weather(city="Atlantis")',
    ]
    finished = sorted(lines[4:6])
    assert finished[0].startswith("✓ 1 get_weather ") and finished[0].endswith(" ms  18 degrees in Paris")
    assert finished[1].startswith("✗ 2 get_weather ") and finished[1].endswith("  error: there is no weather under water")
    assert lines[6:8] == ["18 degrees.", ""]
    assert lines[8].startswith("2 steps · 2 tool calls · ") and " tokens in" in lines[8]
    assert " out · $0.000" in lines[8] or " out · < $0.0001" in lines[8]  # twice as much in DeepSeek's peak hours
    assert len(lines) == 9


def test_json_lines_are_all_events_and_then_the_result(tmp_path: Path) -> None:
    with DeepSeekSimulator(WEATHER) as simulator:
        result = cli("run", "Weather?", "--tools", tools_file(tmp_path), "--base-url", simulator.base_url, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    *events, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"TextDelta", "ToolArgsDelta", "StepStarted"} < {event["type"] for event in events}
    passing = {"TextDelta", "ReasoningDelta", "ToolArgsDelta", "StepStarted"}
    lasting = [load_event(event) for event in events if event["type"] not in passing]
    assert (type(lasting[0]).__name__, type(lasting[-1]).__name__) == ("RunStarted", "RunFinished")
    assert (last["type"], last["output"], last["stop_reason"], last["error"]) == ("Result", "18 degrees.", "answer", None)
    assert (last["steps"], last["usage"]["tool_calls"], last["cost"] > 0, last["pending"]) == (2, 2, True, [])


def test_json_of_a_failed_run_ends_with_the_error() -> None:
    with DeepSeekSimulator([Failure(402, "Insufficient Balance")]) as simulator:
        result = cli("run", "Hi", "--json", "--base-url", simulator.base_url)
    last = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, last["stop_reason"], last["output"]) == (1, "error", None)
    assert "Insufficient Balance" in last["error"] and "InsufficientBalance" in result.stderr


def test_a_failed_run_names_the_model_and_the_server_in_one_line() -> None:
    with DeepSeekSimulator([Failure(402, "Insufficient Balance")]) as simulator:
        result = cli("run", "Hi", "--base-url", simulator.base_url)
        asked = f"(asked: POST {simulator.base_url}/chat/completions, model deepseek-v4-flash, request id "
    assert result.stderr.startswith(f"agentkit: InsufficientBalance: HTTP 402: Insufficient Balance {asked}")
    assert result.stderr.count("\n") == 1


def test_each_fact_of_a_failure_is_said_once(tmp_path: Path) -> None:
    with DeepSeekSimulator([Failure(404, "no such page")]) as simulator:
        base_url = simulator.base_url
        lost = cli("run", "Hi", "--base-url", base_url).stderr
    url = f"{base_url}/chat/completions"
    assert lost.startswith(
        "agentkit: BadRequest: HTTP 404: no such page; check base_url and the model's name"
        f" (asked: POST {url}, model deepseek-v4-flash, request id "
    )
    no_server = f"import agentkit as a\nagent = a.Agent(a.ChatModel('m', base_url={base_url!r}), retry=None)"
    refused = cli("run", "Hi", "--agent", f"{tools_file(tmp_path, no_server)}:agent").stderr
    words = "the connection was refused; check that a server runs there (asked: model m)"
    assert refused == f"agentkit: ConnectionFailed: {url}: {words}\n"
    assert lost.count("\n") == 1 == lost.count("asked:") == lost.count("check ")


def test_quiet_is_the_answer_alone(tmp_path: Path) -> None:
    replies = script(Assistant("Let me see.", "Hm.", (call("get_weather", city="Rome"),)), "18 degrees.")
    with DeepSeekSimulator(replies) as simulator:
        result = cli("run", "Weather?", "-q", "-t", tools_file(tmp_path), "--base-url", simulator.base_url)
    assert (result.exit_code, result.stdout) == (0, "18 degrees.\n")
    assert sent(simulator).get("stream") is not True


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ([], "stream", True),
        (["--stream"], "stream", True),
        (["--no-stream"], "stream", None),
        (["--no-thinking"], "thinking", {"type": "disabled"}),
        (["--thinking"], "thinking", {"type": "enabled"}),
        (["--effort", "max"], "reasoning_effort", "max"),
        (["--model", "deepseek-v4-pro"], "model", "deepseek-v4-pro"),
        ([], "model", "deepseek-v4-flash"),
    ],
)
def test_options_reach_the_server(options: list[str], field: str, value: object) -> None:
    with DeepSeekSimulator(["Hello."]) as simulator:
        result = cli("run", "Hi", *options, "--base-url", simulator.base_url)
    assert (result.exit_code, "Hello.\n" in result.stdout) == (0, True)
    assert (sent(simulator).get(field) or None) == value


def test_instructions_are_the_system_message_and_the_task_can_come_from_stdin() -> None:
    with DeepSeekSimulator(["Hello."]) as simulator:
        cli("run", "-", "--instructions", "Be short.", "--base-url", simulator.base_url, input="Say hello.\n")
    assert [m["content"] for m in sent(simulator)["messages"]] == ["Be short.", "Say hello.\n"]


def test_files_gives_tools_that_read_below_the_folder_and_calculate(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("forty-two", encoding="utf-8")
    replies = script([call("read_file", path="a.txt"), call("calculate", expression="6*7")], "42")
    with DeepSeekSimulator(replies) as simulator:
        result = cli("run", "Read", "--files", str(tmp_path), "--base-url", simulator.base_url)
    assert result.exit_code == 0
    assert [m["content"].splitlines()[-1] for m in simulator.requests[1].messages[-2:]] == ["forty-two", "42"]
    assert "write_file" not in {tool["name"] for tool in simulator.requests[0].tools}


def test_an_agent_of_a_file_keeps_what_the_options_do_not_change(tmp_path: Path) -> None:
    place = tools_file(tmp_path, AGENT, "my_agents.py")
    with DeepSeekSimulator(["Looked."]) as simulator:
        more = ("--tools", tools_file(tmp_path), "--base-url", simulator.base_url)
        result = cli("run", "Look", "--agent", f"{place}:agent", *more)
    assert result.exit_code == 0, result.stderr
    assert (sent(simulator)["model"], sent(simulator)["messages"][0]["content"]) == ("deepseek-v4-pro", "You look.")
    assert {tool["name"] for tool in simulator.requests[0].tools} == {"look", "get_weather", "delete_file"}


def test_an_answer_that_is_no_text_is_shown_as_json(tmp_path: Path) -> None:
    place = tools_file(tmp_path, AGENT, "my_agents.py")

    def answer(request: Any) -> Any:
        answering = next(tool["name"] for tool in request.tools if "inhabitants" in tool["parameters"]["properties"])
        return call(answering, name="Rome", inhabitants=2_749_000)

    with DeepSeekSimulator(answer) as simulator:
        command = ("run", "Largest city?", "--agent", f"{place}:typed", "--tools", tools_file(tmp_path))
        shown = cli(*command, "--base-url", simulator.base_url).stdout
        quiet = cli(*command, "--base-url", simulator.base_url, "-q").stdout
    assert json.loads(quiet) == {"name": "Rome", "inhabitants": 2_749_000}
    assert quiet in shown


def test_an_agent_with_its_own_model_needs_neither_server_nor_key(tmp_path: Path) -> None:
    result = cli("run", "Hi", "--agent", f"{tools_file(tmp_path, AGENT, 'my_agents.py')}:scripted")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "from the script")
    assert "cost unknown" in result.stdout


def test_a_broken_stream_is_marked_and_asked_for_again() -> None:
    with DeepSeekSimulator(script(Cut("Wrong beginning of it.", after=3), "The whole answer.")) as simulator:
        result = cli("run", "Hi", "--base-url", simulator.base_url)
    lines = result.stdout.splitlines()
    assert (result.exit_code, len(simulator.requests)) == (0, 2)
    assert "Wrong beginning of it.".startswith(lines[0]) and lines[0]
    assert lines[1].startswith("! StreamBroken: ") and "what came of this reply is dropped; asking again in" in lines[1]
    assert lines[2] == "The whole answer."


def test_each_retry_says_dropped_only_where_something_was_shown() -> None:
    with DeepSeekSimulator(script(Cut("Wrong beginning.", after=3), Failure(503, "busy"), "Now.")) as simulator:
        result = cli("run", "Hi", "--base-url", simulator.base_url)
    notes = [line for line in result.stdout.splitlines() if line.startswith("!")]
    assert ["dropped" in note for note in notes] == [True, False]


def test_quiet_shows_nothing_of_a_run_that_failed(tmp_path: Path) -> None:
    replies = script(Assistant("Let me see.", tool_calls=CALLS[:1]), Failure(402, "Insufficient Balance"))
    with DeepSeekSimulator(replies) as simulator:
        result = cli("run", "Hi", "-q", "-t", tools_file(tmp_path), "--base-url", simulator.base_url)
    assert (result.exit_code, result.stdout) == (1, "")


def test_a_refused_request_is_asked_again_without_talk_of_a_dropped_reply() -> None:
    with DeepSeekSimulator(script(Failure(503, "busy", headers={"Retry-After": "0"}), "Now.")) as simulator:
        result = cli("run", "Hi", "--base-url", simulator.base_url)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("! Overloaded: ") and lines[0].endswith("; asking again") and "dropped" not in lines[0]
    assert lines[1] == "Now."


@pytest.mark.parametrize("status", [400, 401, 402])
def test_a_model_error_is_one_message_and_exit_code_1(status: int) -> None:
    with DeepSeekSimulator([Failure(status, "no [bold]such\x1b[2J thing")]) as simulator:
        result = cli("run", "Hi", "--base-url", simulator.base_url)
    assert result.exit_code == 1
    assert result.stderr.startswith("agentkit: ") and result.stderr.count("\n") == 1
    assert "no [bold]such\\x1b[2J thing" in result.stderr and "Traceback" not in result.stderr


def test_an_unexpected_error_is_one_message_and_debug_shows_where(tmp_path: Path) -> None:
    command = ("run", "Hi", "--agent", f"{tools_file(tmp_path, AGENT, 'my_agents.py')}:careless")
    short, long = cli(*command), cli(*command, "--debug")
    assert (short.exit_code, short.stderr) == (1, "agentkit: ZeroDivisionError: division by zero (--debug shows where)\n")
    assert long.exit_code == 1
    assert "Traceback" in long.stderr and "my_agents.py" in long.stderr


def test_a_limit_is_exit_code_3(tmp_path: Path) -> None:
    with DeepSeekSimulator(WEATHER) as simulator:
        options = ("--tools", tools_file(tmp_path), "--max-steps", "1", "--base-url", simulator.base_url)
        result = cli("run", "Weather?", *options)
    assert result.exit_code == 3
    assert "! stopped at the limit of steps; this is not a whole answer" in result.stdout


def test_a_call_that_nobody_can_approve_is_exit_code_4(tmp_path: Path) -> None:
    options = ("--tools", tools_file(tmp_path))
    with DeepSeekSimulator(lambda _request: call("delete_file", name="old.log")) as simulator:
        shown = cli("run", "Delete", *options, "--base-url", simulator.base_url)
        as_json = cli("run", "Delete", *options, "--json", "--base-url", simulator.base_url)
    assert (shown.exit_code, as_json.exit_code) == (4, 4)
    assert '! waits for an approval: delete_file(name="old.log")' in shown.stdout
    assert "✓" not in shown.stdout
    last = json.loads(as_json.stdout.splitlines()[-1])
    assert (last["stop_reason"], [p["name"] for p in last["pending"]]) == ("pending_approval", ["delete_file"])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["Hi"], "no API key"),
        (["Hi", "--base-url", "https://example.com/v1"], "no API key for https://example.com"),
        (["Hi", "--base-url", "nonsense"], "base_url is 'nonsense'"),
        (["Hi", "--effort", "huge", "--base-url", "http://127.0.0.1:1"], "reasoning_effort is 'huge'"),
        (["Hi", "--effort", "low", "--no-thinking", "--base-url", "http://127.0.0.1:1"], "thinking is off"),
        (["Hi", "--max-steps", "0"], "max-steps"),
        (["Hi", "--no-such-option"], "--no-such-option"),
        (["Hi", "--tools", "missing.py"], "there is no file missing.py"),
        (["Hi", "--files", "missing-folder", "--base-url", "http://127.0.0.1:1"], "missing-folder"),
        (["Hi", "--agent", "nothing"], "write it as module:name"),
        (["   ", "--base-url", "http://127.0.0.1:1"], "the task is empty"),
        ([], "TASK"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(args: list[str], told: str) -> None:
    result = cli("run", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr and "Traceback" not in result.stderr


def test_a_missing_key_names_the_variables_the_option_and_the_demo() -> None:
    result = cli("chat", input="never read\n")
    assert (result.exit_code, result.stdout) == (2, "")
    for name in ("AGENTKIT_API_KEY", "AGENTKIT_BASE_URL", "DEEPSEEK_API_KEY", "OPENAI_API_KEY", "--base-url", "agentkit demo"):
        assert name in result.stderr


def test_what_models_and_tools_say_is_neither_markup_nor_control_codes(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07[bold red]x[/bold red] \x9b31m \u202eabc\r\n"
    source = f"from agentkit import tool\n@tool\ndef leak(x: str) -> str:\n    'Leak.'\n    return {evil!r}\n"
    replies = script(Assistant(evil, evil, (call("leak", x=evil), call("no\x1b[2J", y="[link=x]"))), f"done {evil}")
    with DeepSeekSimulator(replies) as simulator:
        result = cli("run", "Hi", "--tools", tools_file(tmp_path, source, "leaks.py"), "--base-url", simulator.base_url)
    assert result.exit_code == 0
    assert {char for char in result.stdout if not char.isprintable()} == {"\n"}
    assert result.stdout.count("\\x1b]0;owned\\x07[bold red]x[/bold red] \\x9b31m \\u202eabc") >= 4
    assert "[link=x]" in result.stdout


STAMPED = """
from dataclasses import replace

from agentkit import Agent, Assistant, Middleware, ModelReply, ScriptedModel, System, ToolCall, Usage
from agentkit.middleware.cache_report import CacheReport


class Stamp(Middleware):
    calls = 0

    async def model_call(self, request, ctx, next):
        self.calls += 1
        return await next(replace(request, messages=[System(f"Call {self.calls}."), *request.messages]))


def look() -> str:
    'Look.'
    return "seen"


def agent(*more):
    replies = [ModelReply(Assistant("", "", (ToolCall("c1", "look", "{}"),)), Usage(1, 1000, 5))]
    replies.append(ModelReply(Assistant("Done."), Usage(1, 1000, 5)))
    return Agent(ScriptedModel(replies), tools=[look], middleware=[Stamp(), *more])


bare, reporting = agent(), agent(CacheReport())
"""


@pytest.mark.parametrize("name", ["bare", "reporting"])
def test_what_made_the_cache_miss_is_named_whatever_the_agent_has(tmp_path: Path, name: str) -> None:
    result = cli("run", "Hi", "--agent", f"{tools_file(tmp_path, STAMPED, 'stamped.py')}:{name}", "--json")
    misses = json.loads(result.stdout.splitlines()[-1])["cache_misses"]
    assert [miss.partition("from the cache: ")[2] for miss in misses] == [
        "byte 5 of the prompt's text: message 0 (system) was '1.', now '2.'"
    ]
