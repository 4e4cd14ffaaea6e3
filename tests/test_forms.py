"""Other forms of a run: its text alone, server-sent events, files, and many inputs."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    ModelReply,
    ModelRequest,
    ModelRetry,
    Overloaded,
    Retry,
    RunContext,
    RunState,
    ScriptedModel,
    SettingsError,
    ToolReturn,
    User,
    load_messages,
    tool,
    web,
)
from agentkit.events import PASSING, LastingEvent
from agentkit.testing import Cut, DeepSeekSimulator, Reply, call
from agentkit.web import sse


@tool
def look() -> str:
    """Look."""
    return "seen"


def texts_of(agent: Agent[Any], how: str, **options: Any) -> tuple[list[str], Any]:
    if how == "sync":
        stream = agent.stream_text_sync("go", **options)
        return list(stream), stream.result

    async def main() -> tuple[list[str], Any]:
        stream = agent.stream_text("go", **options)
        return [text async for text in stream], stream.result

    return asyncio.run(main())


# --- text --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sync", "async"])
def test_the_text_of_all_steps_comes_in_pieces(how: str) -> None:
    script: list[Any] = [ModelReply(Assistant("I look.", "thinking", (call("look"),))), "There is much to be seen."]
    pieces, result = texts_of(Agent(ScriptedModel(script), tools=[look]), how)
    assert "".join(pieces) == "I look.\n\nThere is much to be seen." and len(pieces) > 3
    assert result.output == "There is much to be seen."


def test_a_retry_repeats_nothing_that_was_shown() -> None:
    answer = "One two three four five six."
    with DeepSeekSimulator([Cut(Reply(answer), after=4), answer]) as sim:
        agent = Agent(ChatModel(base_url=sim.base_url), retry=Retry(first=0, longest=0))
        pieces, result = texts_of(agent, "async")
    assert "".join(pieces) == answer == result.output


def test_a_retry_that_answers_otherwise_comes_on_a_new_line() -> None:
    class Changing:
        def __init__(self) -> None:
            self.asked = 0

        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            from agentkit import TextDelta

            self.asked += 1
            text = ["Ye", "No."][self.asked - 1]
            await on_delta(TextDelta(text))
            if self.asked == 1:
                raise Overloaded("down", status=503)
            return ModelReply(Assistant(text))

    pieces, _ = texts_of(Agent(Changing(), retry=Retry(first=0, longest=0)), "sync")
    assert "".join(pieces) == "Ye\nNo."


@pytest.mark.parametrize("how", ["sync", "async"])
def test_an_error_comes_after_the_text(how: str) -> None:
    with pytest.raises(LookupError, match="gone"):
        texts_of(
            Agent(ScriptedModel([ModelReply(Assistant("I look.", "", (call("look"),))), LookupError("gone")]), tools=[look]),
            how,
        )


def test_leaving_the_loop_over_a_sync_text_ends_the_run() -> None:
    ended: list[str] = []

    @tool
    async def wait() -> str:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return ""

    script: list[Any] = [ModelReply(Assistant("I wait.", "", (call("wait"),))), "never"]
    stream = Agent(ScriptedModel(script), tools=[wait]).stream_text_sync("go")
    for _ in stream:
        break
    stream.close()
    assert ended in (["cancelled"], [])
    assert stream.result.stop_reason == "cancelled"


# --- server-sent events ------------------------------------------------------------------------------------------------------


def blocks_of(agent: Agent[Any], **options: Any) -> list[tuple[str, Any]]:
    async def main() -> list[str]:
        return [block async for block in sse(agent.stream("go", **options))]

    found = []
    for block in asyncio.run(main()):
        name, data, end, rest = block.split("\n")
        assert (end, rest) == ("", "")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_each_event_is_a_block() -> None:
    blocks = blocks_of(Agent(ScriptedModel([call("look"), "Line one\nline two \u2028 end"]), tools=[look]))
    assert [name for name, _ in blocks][:2] == ["RunStarted", "StepStarted"] and blocks[-1][0] == "RunFinished"
    text = "".join(data["text"] for name, data in blocks if name == "TextDelta")
    assert text == "Line one\nline two \u2028 end"


def test_an_error_is_the_last_block_and_says_its_kind_only(caplog: pytest.LogCaptureFixture) -> None:
    blocks = blocks_of(Agent(ScriptedModel([Overloaded("the key of Ann is wrong", status=503)]), retry=None))
    assert blocks[-1] == ("error", {"type": "error", "error": "Overloaded (HTTP 503)"})
    assert "the key of Ann" in caplog.text


def test_a_client_is_not_shown_what_is_private() -> None:
    @tool
    def fail() -> str:
        """Fail."""
        raise RuntimeError("PRIVATE: the database at 10.0.0.5")

    @tool
    def draw() -> ToolReturn:
        """Draw."""
        return ToolReturn("drawn", artifact="PRIVATE artifact")

    inner = Agent(
        ScriptedModel([call("fail"), "Inner."]), tools=[fail], instructions="PRIVATE rules", name="inner", description="d"
    )
    model = ScriptedModel([Overloaded("PRIVATE text"), [call("fail"), call("draw"), call("inner", task="x")], "No.", "Done."])
    agent = Agent(model, tools=[fail, draw, inner.as_tool()], instructions="PRIVATE rules", retry=Retry(first=0))

    @agent.output_validator
    def check(text: str) -> str:
        if text == "No.":
            raise ModelRetry("PRIVATE rule of the house")
        return text

    blocks = blocks_of(agent, messages=[User("PRIVATE note"), Assistant("ok")], metadata={"note": "PRIVATE"})
    assert {"Retrying", "Nested", "MessageAdded", "ToolFinished"} <= {name for name, _ in blocks}
    assert "PRIVATE" not in json.dumps(blocks) and socket.gethostname() not in json.dumps(blocks)
    (started,) = (data for name, data in blocks if name == "RunStarted")
    assert [message["content"] for message in started["messages"]] == ["go"]
    (drawn,) = (data for name, data in blocks if name == "ToolFinished" and data["call"]["name"] == "draw")
    assert drawn["result"]["content"] == "drawn"


def test_the_docs_list_what_is_sent_of_each_event() -> None:
    page = (Path(__file__).parent.parent / "docs" / "streaming.md").read_text(encoding="utf-8")
    listed = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in re.findall(r"^\| `(\w+)` \| (`.*) \|$", page, re.M)}
    assert listed == {kind.__name__: {*fields} for kind, fields in web._SENT.items()} | {"Nested": {"event", "run"}}
    assert {kind.__name__ for kind in (*LastingEvent.__args__, *PASSING)} == {*listed}


# --- files -------------------------------------------------------------------------------------------------------------------


def test_a_run_is_saved_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert load_messages(path) == []
    first = Agent(ScriptedModel(["Hello, Ann."])).run_sync("I am Ann \U0001f600.")
    first.save(path)
    assert RunState.load(path).events == first.state.events == RunState.loads(first.state.dumps()).events
    second = Agent(ScriptedModel(["Ann."])).run_sync("Who am I?", messages=load_messages(path))
    assert len(second.messages) == 4
    second.save(str(path))
    assert load_messages(path) == second.messages and [file.name for file in tmp_path.iterdir()] == ["run.json"]
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_anything_else_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"run\.json is not .* a run state is what"):
        load_messages(path)
    (tmp_path / "empty.json").touch()
    with pytest.raises(ValueError, match=r"empty\.json is not a saved run or conversation: it is empty"):
        load_messages(tmp_path / "empty.json")
    with pytest.raises(ValueError, match="Expecting value"):
        RunState.loads("")
    with pytest.raises(OSError, match="No such file"):
        Agent(ScriptedModel(["a"])).run_sync("go").save(tmp_path / "no" / "run.json")
    assert path.read_text() == '{"a": 1}'


# --- many inputs -------------------------------------------------------------------------------------------------------------


def echo(**options: Any) -> Agent[str]:
    """Answers "ok" and the prompt; a prompt that begins with "bad" fails."""

    def say(request: ModelRequest) -> Any:
        text = str(getattr(request.messages[-1], "content", ""))
        return LookupError(text) if text.startswith("bad") else f"ok {text}"

    return Agent(ScriptedModel(say), **options)


def test_the_items_come_in_the_order_of_the_inputs() -> None:
    items = echo().map_sync(["a", "bad b", "c"], concurrency=2)
    assert [item.index for item in items] == [0, 1, 2]
    assert [item.result.output if item.result else repr(item.error) for item in items] == [
        "ok a",
        "LookupError('bad b')",
        "ok c",
    ]
    assert (items[0].output, items[0].input) == ("ok a", "a")
    with pytest.raises(LookupError, match="bad b"):
        _ = items[1].output
    assert echo().map_sync([]) == []


def test_an_error_that_is_raised_cancels_the_others() -> None:
    cancelled: list[str] = []

    @tool
    async def wait(ctx: RunContext[None]) -> str:
        """Wait."""
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(ctx.run_id)
        return ""

    def say(request: ModelRequest) -> Any:
        text = str(getattr(request.messages[-1], "content", ""))
        return call("wait") if text == "wait" else LookupError("broken")

    async def main() -> None:
        with pytest.raises(LookupError, match="broken") as caught:
            await Agent(ScriptedModel(say), tools=[wait]).map(["wait", "wait", "bad"], on_error="raise")
        assert caught.value.__notes__ == ["input 2 of the map: 'bad'"]

    asyncio.run(main())
    assert len(cancelled) == 2


def test_items_come_as_they_end_and_an_endless_iterator_is_taken_only_as_far_as_it_runs() -> None:
    taken = itertools.count()
    gates: dict[int, asyncio.Event] = {}

    class Gated:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            number = int(str(getattr(request.messages[-1], "content", "")))
            await gates.setdefault(number, asyncio.Event()).wait()
            return ModelReply(Assistant(str(number)))

    async def main() -> None:
        inputs = (str(next(taken)) for _ in itertools.count())
        gates[2] = asyncio.Event()
        gates[2].set()
        seen = []
        async for item in Agent(Gated()).map(inputs, concurrency=3, as_completed=True):
            seen.append(item.output)
            for gate in gates.values():
                gate.set()
            if len(seen) == 4:
                break
        assert seen[0] == "2" and sorted(seen)[:3] == ["0", "1", "2"]

    asyncio.run(main())
    assert next(taken) <= 8


def test_in_order_no_more_inputs_are_taken_than_were_given_and_run() -> None:
    async def main() -> list[int]:
        return [item.index async for item in echo().map((str(n) for n in range(50)), concurrency=4)]

    assert asyncio.run(main()) == list(range(50))


def test_lines_of_json_are_written_as_runs_end(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    echo().map_sync(["a", "bad b"], out=out, metadata={"job": 7})
    echo().map_sync(["c"], out=out)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["input"] for line in lines) == ["a", "bad b", "c"]
    by_input = {line["input"]: line for line in lines}
    assert by_input["a"]["output"] == "ok a" and by_input["a"]["stop_reason"] == "answer" and by_input["a"]["run_id"]
    assert by_input["bad b"]["error"] == "LookupError: bad b"


@pytest.mark.parametrize(
    ("inputs", "options", "text"),
    [
        ("abc", {}, "inputs is 'abc'"),
        (7, {}, "inputs is 7"),
        ([], {"concurrency": 0}, "concurrency is 0"),
        ([], {"concurrency": True}, "concurrency is True"),
        ([], {"on_error": "skip"}, "on_error is 'skip'"),
    ],
)
def test_what_cannot_be_mapped_over_is_refused(inputs: Any, options: Any, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        echo().map_sync(inputs, **options)


def test_a_progress_bar_is_shown_on_a_terminal_only() -> None:
    code = "from agentkit import Agent, ScriptedModel\nAgent(ScriptedModel(['a', 'b'])).map_sync(['x', 'y'], progress=True)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr.strip()) == ("", "")


def test_the_text_of_a_model_that_streams_nothing_comes_whole() -> None:
    class Whole:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            return ModelReply(Assistant("All at once."))

    assert list(Agent(Whole()).stream_text_sync("go")) == ["All at once."]


def test_a_list_waits_for_no_order() -> None:
    gate, ended = asyncio.Event(), list[str]()

    class Gated:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            said = str(getattr(request.messages[-1], "content", ""))
            if said == "0":
                await gate.wait()
            ended.append(said)
            if len(ended) == 9:
                gate.set()
            return ModelReply(Assistant(said))

    items = Agent(Gated()).map_sync([str(n) for n in range(10)], concurrency=2)
    assert [item.output for item in items] == [str(n) for n in range(10)] and ended[-1] == "0"


def test_options_that_can_be_read_once_are_for_all_runs_and_those_of_one_run_are_refused(tmp_path: Path) -> None:
    seen: list[Any] = []
    echo().map_sync(["a", "b"], observers=(one for one in [seen.append]), messages=iter(()))
    assert sum(type(event).__name__ == "RunStarted" for event in seen) == 2
    for name in ("run_id", "log"):
        with pytest.raises(SettingsError, match=f"{name} is of one run"):
            echo().map_sync(["a"], **{name: "x"})
    with pytest.raises(OSError, match="No such file"):
        echo().map_sync(["a"], out=tmp_path / "no" / "out.jsonl")


def test_halves_of_characters_are_written_too(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    items = echo().map_sync(["a \ud800"], out=out)
    assert items[0].error is None and json.loads(out.read_text())["index"] == 0
