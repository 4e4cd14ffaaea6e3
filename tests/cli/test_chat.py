"""`agentkit chat`, its lines coming through a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit.testing import DeepSeekSimulator, Failure, SimRequest, call

from .helpers import cli, script, tools_file


def count_users(request: SimRequest) -> str:
    return f"message {sum(m['role'] == 'user' for m in request.messages)}: {request.last['content']}"


def test_the_agent_is_given_what_was_said_before_until_reset() -> None:
    with DeepSeekSimulator(count_users) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="one\n\n  two  \n/reset\nthree\n")
    answers = [line for line in result.stdout.splitlines() if line.startswith(("message", "a new"))]
    assert answers == ["message 1: one", "message 2: two", "a new conversation begins", "message 1: three"]
    assert (result.exit_code, result.stderr, simulator.errors) == (0, "", [])


def test_each_answer_is_followed_by_what_it_took_and_later_ones_by_the_sum() -> None:
    with DeepSeekSimulator(script("Hello.", "Hello again.")) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="one\ntwo\n")
    lines = result.stdout.splitlines()
    assert [line.partition(" · ")[0] for line in lines if " · " in line] == ["1 step", "1 step", "conversation: 2 turns"]
    first, second, total = (int(line.partition(" tokens in")[0].split()[-1]) for line in lines if " · " in line)
    assert total == first + second


def test_tool_calls_of_earlier_turns_go_back_whole(tmp_path: Path) -> None:
    replies = script(call("get_weather", city="Paris"), "18 degrees.", "As I said: 18.")
    with DeepSeekSimulator(replies) as simulator:
        options = ("--tools", tools_file(tmp_path), "--instructions", "Be short.", "--base-url", simulator.base_url)
        result = cli("chat", *options, input="Weather?\nAgain?\n")
    assert (result.exit_code, simulator.errors) == (0, [])
    roles = [message["role"] for message in simulator.requests[-1].messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


@pytest.mark.parametrize("leave", ["/exit", "/quit"])
def test_commands_are_not_sent_to_the_model(leave: str) -> None:
    with DeepSeekSimulator(count_users) as simulator:
        lines = f"/help\n/nonsense\n/etc/hosts is what?\n{leave}\nnot read\n"
        result = cli("chat", "--base-url", simulator.base_url, input=lines)
    assert [request.last["content"] for request in simulator.requests] == ["/etc/hosts is what?"]
    assert result.stdout.count("/reset  forgets the conversation") == 1
    assert "there is no command /nonsense; /help lists the commands" in result.stdout


def test_a_failed_turn_is_told_and_the_conversation_goes_on_without_it() -> None:
    with DeepSeekSimulator(script(Failure(402, "Insufficient Balance"), "Hello.")) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="one\ntwo\n")
    assert "Insufficient Balance" in result.stderr and "Hello." in result.stdout
    assert [message["content"] for message in simulator.requests[-1].messages] == ["two"]
    assert result.exit_code == 0


def test_the_exit_code_is_that_of_the_last_answer() -> None:
    with DeepSeekSimulator(script("Hello.", Failure(402, "Insufficient Balance"))) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="one\ntwo\n")
    assert result.exit_code == 1
