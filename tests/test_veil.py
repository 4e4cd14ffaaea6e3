"""The model's own key in a run: whatever brings it in, no event, no stored state and no request of the model has it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from agentkit import Agent, ChatModel, Fallback, ModelInfo, ModelRetry, RunContext, RunState, User, tool
from agentkit.events import (
    Delta,
    ReasoningDelta,
    Retrying,
    RunStarted,
    TextDelta,
    ToolArgsDelta,
    ToolFinished,
    ToolProgress,
    dump_event,
)
from agentkit.messages import Assistant, ToolCall, ToolResult
from agentkit.redact.keys import Hider, Secret
from agentkit.redact.veil import Pieces, Veil
from agentkit.testing import Cut, DeepSeekSimulator, Reply, call
from tests.cli.helpers import cli

KEY = "canaryKEY0001112223334445"
IN_BASE64 = base64.b64encode(f"user:{KEY}".encode()).decode()
FORMS = (KEY, IN_BASE64[8:36], KEY.encode().hex())


@tool
def environment() -> dict[str, str]:
    """The variables."""
    return {"AGENTKIT_API_KEY": KEY, "encoded": IN_BASE64, "hex": KEY.encode().hex()}


@tool
def broken() -> str:
    """It breaks."""
    raise RuntimeError(f"weird: {KEY} and {IN_BASE64}")


@tool
def unsure() -> str:
    """It asks for another call."""
    raise ModelRetry(f"not with {KEY}")


@tool(max_output=100)
def long() -> str:
    """Its output is cut where the key is."""
    return "a" * 60 + KEY + "b" * 500 + KEY + "c" * 10


@tool
async def slow(ctx: RunContext[Any]) -> str:
    """It reports what it does."""
    ctx.progress({"with": [KEY, ("and", KEY)], KEY: 1, "n": 5})
    return "done"


TOOLS: list[Any] = [environment, broken, unsure, long, slow]
CALLS = [call(one.name) for one in TOOLS]


class Seen:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.dumped: list[str] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)
        self.dumped.append(json.dumps(dump_event(event)) + repr(event))

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


MODELS: dict[str, Callable[..., Any]] = {
    "one": lambda **options: ChatModel("deepseek-v4-flash", api_key=KEY, **options),
    "of several": lambda **options: Fallback(
        ChatModel("deepseek-v4-flash", api_key=KEY, **options),
        ChatModel("deepseek-v4-flash", api_key="another-key-1", **options),
    ),
    "header": lambda **options: ChatModel("deepseek-v4-flash", headers={"api-key": KEY}, **options),
}


@pytest.mark.parametrize("chunk", [1, 3, 8, 1000])
@pytest.mark.parametrize("kind", MODELS)
def test_the_key_is_in_nothing_that_leaves_a_run(kind: str, chunk: int) -> None:
    answer = f"It is {KEY}, {IN_BASE64}, and the canary sings."
    with DeepSeekSimulator([CALLS, answer], chunk=chunk) as simulator:
        seen = Seen()
        agent = Agent(MODELS[kind](base_url=simulator.base_url), tools=TOOLS)
        result = asyncio.run(agent.run(f"my key is {KEY}, please", observers=[seen]))
        requests = json.dumps([request.body for request in simulator.requests])
    left = [*seen.dumped, json.dumps(result.state.to_json()), repr(result), repr(result.messages), requests]
    assert [form for form in FORMS for text in left if form in text] == []
    assert result.messages[0] == User("my key is [api key], please")
    assert result.output == seen.text and result.output.startswith("It is [api key], dXNlcjp[api key]")
    assert result.output.endswith(", and the canary sings.")
    finished = {event.call.name: event for event in seen.events if isinstance(event, ToolFinished)}
    assert json.loads(finished["environment"].result.content)["AGENTKIT_API_KEY"] == "[api key]"
    assert finished["broken"].result.content.startswith("error: RuntimeError: weird: [api key] and dXNlcjp[api key]")
    assert finished["broken"].error and "raise RuntimeError" in finished["broken"].error
    assert finished["unsure"].result.content == "error: not with [api key]"
    assert finished["long"].result.content.startswith("a" * 60 + "[api key]")
    (progress,) = (event for event in seen.events if isinstance(event, ToolProgress))
    assert progress.data == {"with": ["[api key]", ("and", "[api key]")], "[api key]": 1, "n": 5}
    again = RunState.from_json(result.state.to_json())
    assert again.messages == result.messages


def test_the_key_of_a_function_is_known_from_the_first_request_on() -> None:
    with DeepSeekSimulator([CALLS, f"It is {KEY}"]) as simulator:
        agent = Agent(ChatModel("deepseek-v4-flash", base_url=simulator.base_url, api_key=lambda: KEY), tools=TOOLS)
        result = agent.run_sync("Hi")
    assert KEY not in json.dumps(result.state.to_json()) and result.output == "It is [api key]"


def test_a_piece_that_waits_is_dropped_with_its_reply_and_shown_at_the_end() -> None:
    with DeepSeekSimulator([Cut(Reply("abc can"), after=3), f"abc {KEY[:6]}"], chunk=4) as simulator:
        seen = Seen()
        agent = Agent(MODELS["one"](base_url=simulator.base_url))
        result = asyncio.run(agent.run("Hi", observers=[seen]))
    last = max(place for place, event in enumerate(seen.events) if isinstance(event, Retrying))
    text = "".join(event.text for event in seen.events[last:] if isinstance(event, TextDelta))
    assert text == result.output == f"abc {KEY[:6]}"


def test_a_watcher_that_fails_at_the_last_piece_ends_the_run_with_its_error() -> None:
    async def watch(event: Any) -> None:
        if isinstance(event, TextDelta) and event.text == KEY[:6]:
            raise LookupError("no room")

    watch.strict = True  # type: ignore[attr-defined]
    with DeepSeekSimulator([f"abc {KEY[:6]}"], chunk=4) as simulator:
        agent = Agent(MODELS["one"](base_url=simulator.base_url))
        with pytest.raises(LookupError, match="no room"):
            asyncio.run(agent.run("Hi", observers=[watch]))


def test_the_command_line_writes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with DeepSeekSimulator([f"It is {KEY}."], chunk=5) as simulator:
        monkeypatch.setenv("AGENTKIT_API_KEY", KEY)
        monkeypatch.setenv("AGENTKIT_BASE_URL", simulator.base_url)
        ended = cli("run", f"my key is {KEY}", "--json")
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert KEY not in ended.stdout + ended.stderr
    assert "".join(line["text"] for line in lines if line["type"] == "TextDelta") == "It is [api key]."


def keyed(*keys: str) -> Any:
    class Model:
        info = ModelInfo(hiders=(Hider([Secret(key) for key in keys]),))

    return Model()


def shown(deltas: list[Delta], *keys: str) -> list[Delta]:
    seen: list[Delta] = []

    async def show(delta: Delta) -> None:
        seen.append(delta)

    async def main() -> None:
        pieces = Pieces(Veil(keyed(*keys)), show)
        for delta in deltas:
            await pieces.show(delta)
        await pieces.end()

    asyncio.run(main())
    return seen


@pytest.mark.parametrize("size", [1, 2, 5, 13, 100])
def test_pieces_of_any_size_come_without_the_key_and_with_all_else(size: int) -> None:
    text = f"{KEY[:4]} no {KEY}{KEY} {KEY[:15]} {KEY}-{KEY[:10]}"
    deltas: list[Delta] = [TextDelta(text[at : at + size]) for at in range(0, len(text), size)]
    said = "".join(delta.text for delta in shown(deltas, KEY) if isinstance(delta, TextDelta))
    assert said == f"{KEY[:4]} no [api key][api key] {KEY[:15]} [api key]-{KEY[:10]}"
    assert shown(deltas) == deltas, "of a model without a key they stay as they are"


def test_pieces_of_other_kinds_do_not_wait_for_each_other() -> None:
    deltas: list[Delta] = [
        ReasoningDelta("a can"), TextDelta("aryKEY00 b can"), ToolArgsDelta(0, "f", "x can"), ToolArgsDelta(1, "g", "ary"),
        ToolArgsDelta(1, "g", KEY), Retrying(1, 0.0, f"no {KEY}"), TextDelta(""),
    ]  # fmt: skip
    came = shown(deltas, KEY)
    assert came[-2:] == [Retrying(1, 0.0, "no [api key]"), TextDelta("")]
    texts = [(type(delta), delta.text) for delta in came[:-2] if not isinstance(delta, Retrying)]
    assert texts == [
        (ReasoningDelta, "a "), (ReasoningDelta, "can"), (TextDelta, "aryKEY00 b "), (TextDelta, "can"), (ToolArgsDelta, "x "),
        (ToolArgsDelta, "can"), (ToolArgsDelta, "ary"), (ToolArgsDelta, "[api key]"),
    ]  # fmt: skip


def test_what_has_no_key_stays_the_same_object() -> None:
    veil = Veil(keyed(KEY))
    messages = (User("hi"), Assistant("a", "b", (ToolCall("1", "f", "{}"),)), ToolResult("1", "f", "c"), User(f"{KEY}!"))
    started = RunStarted("r", messages, 1)
    over = veil.over(started)
    assert over.messages[:3] == messages[:3] and all(a is b for a, b in zip(over.messages[:3], messages[:3], strict=True))
    assert over.messages[3] == User("[api key]!") and over.new_from == 1
    clean = RunStarted("r", messages[:3])
    assert veil.over(clean) is clean and Veil(object()).over(started) is started


def test_a_progress_that_holds_itself_or_is_of_any_kind_is_passed_on() -> None:
    class Odd(NamedTuple):
        name: str

    veil = Veil(keyed(KEY))
    loop: list[Any] = [KEY]
    loop += [loop, loop]
    shown = veil.over(ToolProgress(ToolCall("1", "f"), loop)).data
    assert shown[0] == shown[1][0] == "[api key]"
    for data in (Odd(KEY), object(), {1, 2}, None, 5, b"x"):
        assert veil.over(ToolProgress(ToolCall("1", "f"), data)).data is data
