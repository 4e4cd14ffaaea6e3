"""The commands of a chat, and the conversation that is kept."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from agentkit import Agent, RunState, ScriptedModel, Tool, load_messages
from agentkit.cli.conversation import Kept, chats_folder
from agentkit.messages import message_text
from agentkit.testing import DeepSeekSimulator, Failure, SimRequest, call

from .helpers import cli, process, script, tools_file


def said(request: SimRequest) -> str:
    users = [message["content"] for message in request.messages if message["role"] == "user"]
    return f"{len(users)}: {users[-1]} ({request.body['model']})"


def kept() -> list[Path]:
    return sorted(chats_folder().glob("*.json"))


def test_resume_goes_on_with_the_conversation_of_an_earlier_process() -> None:
    with DeepSeekSimulator(said) as simulator:
        first = process("chat", "--base-url", simulator.base_url, input="one\ntwo\n")
        second = process("chat", "--base-url", simulator.base_url, "--resume", input="three\n/usage\n")
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    assert "a conversation with 2 messages of yours, the last: two" in second.stdout
    assert "3: three (" in second.stdout and "conversation: 3 turns · " in second.stdout
    assert simulator.errors == [] and len(kept()) == 1


def test_tool_calls_and_thinking_text_are_resumed_as_they_were(tmp_path: Path) -> None:
    with DeepSeekSimulator(script(call("get_weather", city="Paris"), "18.", "Still 18.")) as simulator:
        options = ("--tools", tools_file(tmp_path), "--base-url", simulator.base_url)
        cli("chat", *options, input="Weather?\n")
        result = cli("chat", *options, "--resume", input="Again?\n")
    assert (result.exit_code, simulator.errors) == (0, [])
    roles = [message["role"] for message in simulator.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_each_conversation_has_a_file_that_only_its_user_can_read() -> None:
    with DeepSeekSimulator(said) as simulator:
        cli("chat", "--base-url", simulator.base_url, input="one\n/reset\ntwo\n")
        cli("chat", "--base-url", simulator.base_url, "--no-keep", input="three\n")
        resumed = cli("chat", "--base-url", simulator.base_url, "-r", input="four\n")
    assert len(kept()) == 2 and "2: four" in resumed.stdout
    if sys.platform != "win32":
        assert {stat.S_IMODE(path.stat().st_mode) for path in kept()} == {0o600}
        assert stat.S_IMODE(chats_folder().stat().st_mode) == 0o700


def test_without_an_earlier_chat_resume_is_refused() -> None:
    result = cli("chat", "--resume", "--base-url", "http://127.0.0.1:9/v1", input="")
    assert result.exit_code == 2 and "there is no earlier chat to resume in " in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"),
        ("[1]", "not [1]"),
        ('{"messages": []}', "a run state is what"),
        ('{"version": 99, "events": []}', "this agentkit reads up to version"),
        ('{"version": 2, "events": [1]}', "an event is a dict"),
        ('{"version": 2, "events": [{"type": "RunStarted", "messages": []}]}', "RunStarted.run_id: Field required\n"),
        ("[" * 100_000, "nested too deeply"),
        ("\udcff", "can't decode byte"),
    ],
)
def test_a_file_that_is_no_conversation_is_one_message(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "chat.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with DeepSeekSimulator(said) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input=f"/load {file}\none\n/save {file}\n")
    assert result.stderr.count(told) == 2 and "1: one" in result.stdout
    assert f"agentkit: not overwritten: {file} " in result.stderr
    assert file.read_bytes() == text.encode("utf-8", "surrogateescape"), "a file of something else is left alone"


def test_save_and_load(tmp_path: Path) -> None:
    file = tmp_path / "my chat.json"
    with DeepSeekSimulator(said) as simulator:
        lines = f"/save\none\n/save {file}\n/reset\ntwo\n/load {file}\nthree\n/save {file}\n/save\n/load\n/load {tmp_path}/no\n"
        result = cli("chat", "--base-url", simulator.base_url, input=lines)
    assert "nothing is kept so far" in result.stdout and f"saved in {file}" in result.stdout
    assert "1: two" in result.stdout and "2: three" in result.stdout
    assert f"kept in {chats_folder()}" in result.stdout
    assert "/load needs a file" in result.stderr and f"{tmp_path}/no cannot be read" in result.stderr
    assert len(load_messages(file)) == 4


def test_a_chat_and_a_program_read_the_conversations_of_each_other(tmp_path: Path) -> None:
    chats, programs = tmp_path / "chat.json", chats_folder() / "run.json"
    pay = Tool.outside("pay", "Pay.", {"type": "object", "properties": {}})
    result = Agent(ScriptedModel([call("pay")]), tools=[pay]).run_sync("one")
    programs.parent.mkdir(parents=True)
    result.save(programs)
    with DeepSeekSimulator(said) as simulator:
        cli("chat", "--base-url", simulator.base_url, input=f"/load {programs}\ntwo\n/save {chats}\n")
        resumed = cli("chat", "--base-url", simulator.base_url, "--resume", "--no-keep", input="three\n/usage\n")
        assert simulator.errors == []
    assert "3: three" in resumed.stdout and "conversation: 3 turns · " in resumed.stdout
    messages = load_messages(chats)
    assert [type(message).__name__ for message in messages] == ["User", "Assistant", "ToolResult", "User", "Assistant"]
    saved = RunState.load(chats)
    assert saved.messages == messages and saved.usage.requests == 2 and saved.cost is None


def test_retry_asks_the_last_message_again_in_its_place() -> None:
    with DeepSeekSimulator(script("One.", "Two.", "Two, better.")) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="/retry\none\ntwo\n/retry\n")
    assert "there is no message to ask again" in result.stdout and "again: two" in result.stdout
    assert [m["content"] for m in simulator.requests[-1].messages] == ["one", "One.", "two"]
    assert result.stdout.splitlines()[-1].startswith("conversation: 2 turns · ")
    assert result.exit_code == 0


def test_retry_after_a_failure_sends_the_message_that_failed() -> None:
    no_money = Failure(402, "Insufficient Balance")
    with DeepSeekSimulator(script("One.", no_money, "Two.", no_money)) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="one\ntwo\n/retry\n/retry\n/usage\n")
    assert [m["content"] for m in simulator.requests[2].messages] == ["one", "One.", "two"]
    assert result.exit_code == 1 and result.stderr.count("Insufficient Balance") == 2
    assert [message_text(message) for message in load_messages(kept()[0])] == ["one", "One.", "two", "Two."]
    assert "conversation: 2 turns · " in result.stdout.splitlines()[-1]


def test_another_model_goes_on_with_the_conversation() -> None:
    with DeepSeekSimulator(said) as simulator:
        lines = "/model\none\n/model deepseek-v4-pro\ntwo\n/model nonsense\nthree\n"
        result = cli("chat", "--base-url", simulator.base_url, input=lines)
        assert f"model: deepseek-v4-flash at {simulator.base_url}" in result.stdout
    assert "1: one (deepseek-v4-flash)" in result.stdout and "2: two (deepseek-v4-pro)" in result.stdout
    assert "nonsense" in result.stderr and result.exit_code == 1


def test_another_model_of_an_agent_stays_at_its_server(tmp_path: Path) -> None:
    with DeepSeekSimulator(said) as simulator:
        source = f"from agentkit import Agent, ChatModel\nagent = Agent(ChatModel(base_url={simulator.base_url!r}))\n"
        options = ("--agent", f"{tools_file(tmp_path, source)}:agent")
        result = cli("chat", *options, input="/model deepseek-v4-pro\none\n")
    assert result.exit_code == 0 and "1: one (deepseek-v4-pro)" in result.stdout


def test_tools_and_usage(tmp_path: Path) -> None:
    with DeepSeekSimulator(script("One.")) as simulator:
        options = ("--tools", tools_file(tmp_path), "--base-url", simulator.base_url)
        result = cli("chat", *options, input="/tools\none\n/usage\n/usage now\n")
    assert "get_weather: only reads" in result.stdout
    assert "delete_file: may write (not labelled) · needs an approval" in result.stdout
    assert "conversation: 1 turn · " in result.stdout and "/usage takes nothing after it" in result.stdout
    assert len(simulator.requests) == 1


@pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_that_cannot_be_written_ends_no_chat(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o500)
    with DeepSeekSimulator(said) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="one\ntwo\n")
    assert result.exit_code == 0 and result.stdout.count("the conversation is not kept") == 1


def test_a_file_in_the_place_of_the_folder_ends_no_chat(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("", encoding="utf-8")
    with DeepSeekSimulator(said) as simulator:
        result = cli("chat", "--base-url", simulator.base_url, input="one\ntwo\n")
    assert result.exit_code == 0 and result.stdout.count("the conversation is not kept") == 1 and "2: two" in result.stdout


def test_the_oldest_chats_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    for number in range(105):
        (folder / f"{number:03}.json").write_text("{}", encoding="utf-8")
        os.utime(folder / f"{number:03}.json", (number, number))
    from agentkit.cli.conversation import Conversation

    Kept(folder).write(Conversation())
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 100 and left[0] == "006.json"
