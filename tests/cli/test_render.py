"""The observers of the command line, fed with runs that no server makes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from agentkit import Agent, Assistant, Limits, ModelReply, RunContext, ScriptedModel, ToolCall, Usage, tool
from agentkit.cli.render import AnswerOnly, JsonLines, LiveView
from agentkit.cli.screen import PlainScreen
from agentkit.middleware.cache_report import CacheReport
from agentkit.testing import call


class Whole:
    """A model that tells a watcher nothing before its reply is whole."""

    async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
        return ModelReply(Assistant("The answer.", "Thought."))


class Clock:
    """A clock that goes on by one second whenever it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def live(agent: Agent[Any]) -> str:
    file = io.StringIO()
    agent.run_sync("Hi", observers=[LiveView(PlainScreen(file), clock=Clock())])
    return file.getvalue()


def test_a_model_that_does_not_stream_is_shown_all_the_same() -> None:
    shown = live(Agent(Whole())).splitlines()
    assert shown[:3] == ["thinking: Thought.", "The answer.", ""]
    assert shown[3].endswith(" · 1.0 s")


def test_a_streamed_text_is_shown_once_and_begins_with_a_letter() -> None:
    assert live(Agent(ScriptedModel([Assistant("\n\n  The answer.", "\nThought.\n")]))).splitlines()[:2] == [
        "thinking: Thought.",
        "The answer.",
    ]


def test_a_call_that_is_not_run_has_no_number_and_its_reason() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    agent = Agent(ScriptedModel([[call("look"), call("look")]]), tools=[look], limits=Limits(tool_calls=1))
    lines = live(agent).splitlines()
    assert lines[0] == "→ 1 look()"
    assert lines[1].startswith("✓ 1 look ") and lines[1].endswith("  seen")
    assert lines[2].startswith("✗ look  error: not run")
    assert lines[3] == "! stopped at the limit of tool_calls; this is not a whole answer"


def test_what_the_loop_tells_the_model_is_shown() -> None:
    agent = Agent(ScriptedModel(["no", "no"]), output_type=int, limits=Limits(steps=2))
    assert live(agent).splitlines()[1].startswith("! told the model: ")


def test_progress_that_json_cannot_hold_is_written_as_its_repr() -> None:
    @tool
    async def work(ctx: RunContext[None]) -> str:
        """Work."""
        ctx.progress(float("nan"))
        ctx.progress(object())
        return "worked"

    file = io.StringIO()
    Agent(ScriptedModel([call("work"), "Done."]), tools=[work]).run_sync("Hi", observers=[JsonLines(file)])
    events = [json.loads(line) for line in file.getvalue().splitlines()]
    told = [event["data"] for event in events if event["type"] == "ToolProgress"]
    assert told[0] == "nan" and told[1].startswith("<object object at ")


@pytest.mark.parametrize("view", [AnswerOnly, JsonLines])
def test_a_run_is_watched_piece_by_piece_only_where_pieces_are_shown(view: Any) -> None:
    model = ScriptedModel(["Done."])
    file = io.StringIO()
    Agent(model).run_sync("Hi", observers=[view(file)])
    assert ("TextDelta" in file.getvalue()) is (view is JsonLines)


def test_steps_that_the_cache_did_not_serve_are_named() -> None:
    def fetch(n: int) -> str:
        """Fetch."""
        return f"row {n}"

    asked = [Assistant("", "", (ToolCall(f"c{n}", "fetch", f'{{"n": {n}}}'),)) for n in range(7)]
    reads = [0, 960, 0, 0, 0, 0, 0, 8000]
    replies = [ModelReply(said, Usage(1, 1000 * (n + 1), 5, reads[n])) for n, said in enumerate([*asked, Assistant("Done.")])]
    shown, lines = io.StringIO(), io.StringIO()
    watching = LiveView(PlainScreen(shown), clock=Clock()), JsonLines(lines)
    Agent(ScriptedModel(replies), tools=[fetch], middleware=[CacheReport()]).run_sync("Go.", observers=watching)
    text = shown.getvalue()
    assert "! step 3 read 0 of 2,000 tokens from the cache: the request only grew" in text
    assert text.count("tokens from the cache:") == 3 and "and 2 more steps that the cache did not serve" in text
    assert len(json.loads(lines.getvalue().splitlines()[-1])["cache_misses"]) == 5
