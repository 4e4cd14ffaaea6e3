"""Long conversations made short: dropped results, summaries, outputs in files, and a prompt that does not fit."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from hashlib import sha256
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import (
    Agent,
    Assistant,
    ContextTooLong,
    KeepTurns,
    LimitReached,
    Limits,
    Message,
    ModelReplied,
    ModelReply,
    ModelRequest,
    Retrying,
    RunContext,
    RunResult,
    ScriptedModel,
    SettingsError,
    System,
    TextDelta,
    ToolCall,
    ToolRegistry,
    ToolResult,
    Usage,
    User,
    tool,
)
from agentkit.events import Event
from agentkit.history import DropToolResults
from agentkit.messages import message_text
from agentkit.middleware import Middleware, NextModelCall
from agentkit.middleware.cache_report import CacheReport
from agentkit.middleware.compaction import ShortenOnOverflow, SpillOutputs, Summarise
from agentkit.names import wire_name
from agentkit.testing import call
from tests.kit import How, Simulate


@tool(read_only=True)
async def fetch(n: int) -> str:
    """Fetch much."""
    return f"{n}" * 1000


def told(messages: Any) -> list[str]:
    return [message.content for message in messages if isinstance(message, ToolResult)]


def transcript(*sizes: int) -> list[Message]:
    messages: list[Message] = [User("go")]
    for number, size in enumerate(sizes):
        asked = ToolCall(f"c{number}", "fetch", "{}")
        messages += [Assistant(tool_calls=(asked,)), ToolResult(asked.id, "fetch", "x" * size)]
    return messages


NOTE = "[this call was made; its result of 1,000 characters is not shown any more]"

# --- results of tools ---------------------------------------------------------------------------------------------------


def test_old_results_are_dropped_in_blocks_and_the_newest_stay() -> None:
    view = DropToolResults(5000, 2500)
    few = transcript(*[1000] * 5)
    assert view(few, 0) is few
    for count, dropped in ((6, 3), (7, 3), (8, 5), (9, 5), (10, 5), (11, 8)):
        sent = view(transcript(*[1000] * count), 0)
        notes = [text == NOTE for text in told(sent)]
        assert sent[2] is view(transcript(*[1000] * 12), 0)[2], "one object, so that it is encoded once"
        assert notes == [True] * dropped + [False] * (count - dropped)


@given(st.lists(st.integers(0, 900), max_size=30))
def test_a_view_of_results_keeps_within_its_size_and_changes_its_prefix_seldom(sizes: list[int]) -> None:
    view, changes = DropToolResults(2000, 1000), 0
    before: list[Message] = []
    messages = transcript(*sizes)
    for end in range(1, len(messages) + 1, 2):
        sent = list(view(messages[:end], 0))
        assert len(sent) == end
        assert sum(len(text) for text in told(sent) if not text.startswith("[this call was made")) <= 2000 + 900 + 200 * len(
            sizes
        )
        changes += before != sent[: len(before)]
        before = sent
    assert changes <= sum(sizes) // 1000 + 1


def test_small_results_stay_and_the_transcript_keeps_all(how: How) -> None:
    @tool(read_only=True)
    async def small() -> str:
        """Say yes."""
        return "yes"

    model = ScriptedModel([[call("small"), *(call("fetch", n=n) for n in range(1, 5))], [call("fetch", n=5)], "Done."])
    result = how(Agent(model, tools=[fetch, small], history=DropToolResults(2000)), "go")
    assert told(model.requests[1].messages) == told(result.messages)[:5], "what is not read yet stays, however long it is"
    sent = told(model.requests[2].messages)
    assert (sent[0], sent[1], sent[-1]) == ("yes", NOTE, "5" * 1000)
    assert told(result.messages)[1] == "1" * 1000


@pytest.mark.parametrize(
    ("sizes", "most", "shown"),
    [
        ([150_000, 150_000], 200_000, [False, True]),
        ([200_000, 10_000], 50_000, [False, True]),
        ([10_000, 200_000], 50_000, [False, True]),
        ([200_000], 50_000, [True]),
        ([100, 100, 200_000], 50_000, [True, True, True]),
    ],
)
def test_one_large_result_is_dropped_when_it_is_read(sizes: list[int], most: int, shown: list[bool]) -> None:
    messages = transcript(*sizes)
    sent = DropToolResults(most)(messages, 0)
    assert [text.startswith("x") for text in told(sent)] == shown
    assert (sent is messages) is all(shown), "what cannot be shortened is the list itself"


@pytest.mark.parametrize(
    "wrong", [{"max_chars": 0}, {"max_chars": 10, "min_chars": 10}, {"max_chars": 10, "small": -1}, {"min_chars": "1"}]
)
def test_wrong_sizes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="DropToolResults"):
        DropToolResults(**wrong)


@pytest.mark.parametrize("wrong", [{"chunk_chars": 0}, {"chunk_chars": 2.5}, {"keep": -1}, {"keep": 1.5}, {"max_chars": None}])
def test_a_summary_of_wrong_sizes_is_refused_and_asks_no_model(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="Summarise: max_chars, keep and chunk_chars"):
        Summarise(ScriptedModel([]), **wrong)


@pytest.mark.parametrize("wrong", [{"head": 1e2}, {"max_chars": 1e4}, {"head": "10"}, {"head": -1}])
def test_wrong_sizes_of_outputs_in_files_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="allowed: whole numbers, head from 0 below max_chars"):
        SpillOutputs(tmp_path, **wrong)


# --- what of the prefix stays -------------------------------------------------------------------------------------------


def test_each_reply_tells_how_much_of_the_prompt_was_the_same(how: How) -> None:
    def steps(history: Any) -> list[tuple[int, int]]:
        model = ScriptedModel([*([call("fetch", n=n)] for n in range(1, 5)), "Done."])
        result = how(Agent(model, tools=[fetch], history=history, instructions="Be short.", middleware=[CacheReport()]), "go")
        return [(e.sent, e.same_prefix) for e in result.events if isinstance(e, ModelReplied)]

    assert steps(None) == [(2, 0), (4, 2), (6, 4), (8, 6), (10, 8)]
    assert steps(DropToolResults(2000, 0)) == [(2, 0), (4, 2), (6, 4), (8, 3), (10, 8)]


def test_the_servers_cache_sees_what_is_told(how: How, simulate: Simulate) -> None:
    from agentkit import ChatModel

    sim = simulate([*([call("fetch", n=n)] for n in range(1, 5)), "Done."])
    result = how(
        Agent(ChatModel(base_url=sim.base_url), tools=[fetch], history=DropToolResults(2000, 0), middleware=[CacheReport()]),
        "go",
    )
    replies = [e for e in result.events if isinstance(e, ModelReplied)]
    hits = [e.usage.cache_read_tokens for e in replies]
    assert [e.same_prefix < before.sent for before, e in pairwise(replies)] == [False, False, True, False]
    assert hits[3] < hits[2] and hits[3] < hits[4], "the step that changed its prefix is the one that missed the cache"


# --- a summary ----------------------------------------------------------------------------------------------------------

TURNS: list[Message] = [
    System("Be short."),
    User("first " + "x" * 500),
    Assistant("", "", (ToolCall("a", "fetch", '{"n": 1}'),)),
    ToolResult("a", "fetch", "1111"),
    Assistant("One."),
    User("second"),
    Assistant("Two."),
    User("third"),
    Assistant("Three."),
]
ASKED = User("Summarise our conversation so far.")


def test_older_turns_become_a_summary_between_two_runs() -> None:
    model = ScriptedModel([ModelReply(Assistant("They said first."), Usage(1, 50, 5), cost=0.01)])
    summary = asyncio.run(Summarise(model, max_chars=100, keep=2)(TURNS))
    assert summary.messages == [TURNS[0], ASKED, Assistant("They said first."), *TURNS[5:]]
    assert (summary.usage.input_tokens, summary.cost) == (50, 0.01)
    (asked,) = model.requests
    (text,) = [message_text(message) for message in asked.messages if isinstance(message, User)]
    assert 'assistant calls fetch {"n": 1}\n\nfetch returns: 1111\n\nassistant: One.' in text
    assert "second" not in text
    answer = Agent(ScriptedModel(["Four."])).run_sync("fourth", messages=summary.messages)
    assert answer.output == "Four."


@pytest.mark.parametrize(("most", "keep"), [(100_000, 2), (100, 3), (100, 9)])
def test_what_is_short_or_kept_is_not_summarised(most: int, keep: int) -> None:
    model = ScriptedModel([])
    assert asyncio.run(Summarise(model, max_chars=most, keep=keep)(TURNS)).messages == TURNS
    assert model.requests == []


def test_everything_can_be_summarised() -> None:
    summary = asyncio.run(Summarise(ScriptedModel(["All."]), max_chars=100, keep=0)(TURNS))
    assert summary.messages == [TURNS[0], ASKED, Assistant("All.")]


@pytest.mark.parametrize(
    "reply", [ModelReply(Assistant("They sa"), finish_reason="length"), ModelReply(Assistant(""), finish_reason="length")]
)
def test_half_a_summary_is_none(reply: ModelReply) -> None:
    with pytest.raises(LimitReached, match="max_tokens") as caught:
        asyncio.run(Summarise(ScriptedModel([reply]), max_chars=100)(TURNS))
    assert caught.value.state is not None


def test_a_summary_beyond_the_budget_of_its_run_is_none(how: How) -> None:
    failed: list[Exception] = []

    @tool
    async def shorten(ctx: RunContext[None]) -> str:
        """Shorten."""
        try:
            await Summarise(ScriptedModel(["Short."]), max_chars=1)(TURNS, within=ctx)
        except LimitReached as error:
            failed.append(error)
            raise
        return "shortened"

    how(Agent(ScriptedModel([call("shorten"), "Done."]), tools=[shorten], limits=Limits(input_tokens=50)), "go")
    assert [str(error) for error in failed] == ["the run stopped at its input_tokens limit"]


def test_what_does_not_fit_is_summarised_piece_by_piece() -> None:
    seen: list[str] = []

    class Small(ScriptedModel):
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            (text,) = [message_text(message) for message in request.messages if isinstance(message, User)]
            if len(text) > 12_000:
                raise ContextTooLong("HTTP 400: maximum context length is exceeded", status=400)
            seen.append(text)
            return ModelReply(Assistant(f"Summary {len(seen)}."), Usage(1, 10, 1), cost=0.01)

    turns = [message for n in range(40) for message in (User(f"turn {n} " + "y" * 1000), Assistant(f"Answer {n}."))]
    summary = asyncio.run(Summarise(Small([]), max_chars=100, keep=1)(turns))
    assert summary.messages[1] == Assistant(f"Summary {len(seen)}.") and len(seen) > 3
    assert "".join(seen).count("Answer ") == 39 and all(f"turn {n} " in "".join(seen) for n in range(39))
    assert seen[1].startswith("The summary so far:\nSummary 1.\n\n")
    assert summary.usage.requests == len(seen)
    assert summary.cost == pytest.approx(0.01 * len(seen))


def test_of_a_long_result_the_summary_reads_head_and_tail() -> None:
    model = ScriptedModel(["Short."])
    asyncio.run(Summarise(model, max_chars=100, keep=0)(transcript(100_000)))
    (text,) = [message_text(message) for message in model.requests[0].messages if isinstance(message, User)]
    assert len(text) < 5000 and "96,000 of 100,000 characters are left out here" in text


def test_what_no_model_takes_is_its_error() -> None:
    with pytest.raises(ContextTooLong):
        asyncio.run(Summarise(Window([], -1), max_chars=100)(TURNS))


def test_a_summary_in_a_tool_is_paid_by_its_run(how: How) -> None:
    @tool
    async def shorten(ctx: RunContext[None]) -> str:
        """Shorten."""
        summary = await Summarise(ScriptedModel(["Short."]), max_chars=1)(TURNS, within=ctx)
        return str(len(summary.messages))

    result = how(Agent(ScriptedModel([call("shorten"), "Done."]), tools=[shorten]), "go")
    assert (told(result.messages), result.usage.requests) == (["7"], 3)


# --- a prompt that does not fit -----------------------------------------------------------------------------------------


class Window(ScriptedModel):
    """A model with a context window of so many characters of results."""

    def __init__(self, script: Any, most: int) -> None:
        super().__init__(script)
        self.most, self.refused = most, 0

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        if sum(map(len, told(request.messages))) > self.most:
            self.refused += 1
            raise ContextTooLong("HTTP 400: maximum context length is exceeded", status=400)
        return await super().reply(request, on_delta)


def test_a_prompt_that_does_not_fit_is_shortened_and_then_at_once(how: How) -> None:
    model = Window([*([call("fetch", n=n)] for n in range(1, 7)), "Done."], 3500)
    shorten = ShortenOnOverflow(DropToolResults(2000, 1000))
    result = how(Agent(model, tools=[fetch], middleware=[shorten]), "go")
    assert (result.output, model.refused) == ("Done.", 1)
    assert told(result.messages) == [str(n) * 1000 for n in range(1, 7)]


def test_what_was_sent_in_the_end_is_told(how: How) -> None:
    model = Window([*([call("fetch", n=n)] for n in range(1, 7)), "Done."], 3500)
    shorten = ShortenOnOverflow(DropToolResults(2000, 1000))
    result = how(Agent(model, tools=[fetch], middleware=[shorten, CacheReport()]), "go")
    told_of = [(event.sent, event.same_prefix) for event in result.events if isinstance(event, ModelReplied)]
    asked = [request.messages for request in model.requests]
    expected = [0, *(len([*takewhile(lambda pair: pair[0] == pair[1], zip(a, b))]) for a, b in pairwise(asked))]  # noqa: B905
    assert told_of == [(len(sent), same) for sent, same in zip(asked, expected, strict=True)]
    assert any(same < len(before) for before, same in zip(asked, expected[1:], strict=False)), "the prefix was broken once"


def test_a_prompt_that_was_too_long_is_the_reason_that_is_told(how: How) -> None:
    model = Window([*([call("fetch", n=n)] for n in range(1, 7)), "Done."], 3500)
    shorten = ShortenOnOverflow(DropToolResults(2000, 1000))
    watched: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Retrying):
            watched.append(event.error)

    result = how(Agent(model, tools=[fetch], middleware=[shorten, CacheReport()], observers=[watch]), "go")
    assert watched == ["the prompt was too long for the model, so it was shortened"]
    assert {event.changed for event in result.events if isinstance(event, ModelReplied)} == {"", *watched}


def test_a_resumed_run_knows_what_it_sent(how: How) -> None:
    report = CacheReport()
    model = ScriptedModel([*([call("fetch", n=n)] for n in range(1, 4)), "Done."])
    agent = Agent(model, tools=[fetch], limits=Limits(steps=2), middleware=[report])
    first = how(agent, "go")
    again = Agent(ScriptedModel([[call("fetch", n=3)], "Done."]), tools=[fetch], limits=Limits(steps=9), middleware=[report])
    result = again.resume_sync(first.state) if hasattr(again, "resume_sync") else asyncio.run(again.resume(first.state))
    assert [(e.sent, e.same_prefix) for e in result.events if isinstance(e, ModelReplied)] == [(1, 0), (3, 1), (5, 3), (7, 5)]


def test_a_middleware_that_answers_itself_has_sent_nothing(how: How) -> None:
    class Own(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
            return ModelReply(Assistant("Mine."))

    result = how(Agent(ScriptedModel([]), middleware=[Own(), CacheReport()]), "go")
    assert [(e.sent, e.same_prefix) for e in result.events if isinstance(e, ModelReplied)] == [(0, 0)]


def test_what_was_shown_of_a_reply_that_did_not_fit_is_taken_back() -> None:
    class Cut(Window):
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            if on_delta and sum(map(len, told(request.messages))) > self.most:
                await on_delta(TextDelta("I think the "))
            return await super().reply(request, on_delta)

    async def watch() -> list[str]:
        model = Cut([[call("fetch", n=1)], [call("fetch", n=2)], "It is 5."], 1500)
        agent = Agent(model, tools=[fetch], middleware=[ShortenOnOverflow(DropToolResults(500))])
        return [type(event).__name__ if isinstance(event, Retrying) else event.text async for event in agent.stream("go")
                if isinstance(event, Retrying | TextDelta)]  # fmt: skip

    shown = asyncio.run(watch())
    assert shown[:2] == ["I think the ", "Retrying"] and "".join(shown[2:]) == "It is 5."


def test_limits_count_what_a_view_sends(how: How) -> None:
    @tool(read_only=True)
    async def much() -> str:
        """Give much."""
        return "x" * 40_000

    def run(history: Any) -> RunResult[Any]:
        def reply(request: ModelRequest) -> ModelReply:
            usage, count = Usage(1, sum(map(len, told(request.messages))) // 4, 5), len(told(request.messages))
            return ModelReply(
                Assistant("Done.") if count == 3 else Assistant(tool_calls=(ToolCall(f"c{count}", "much"),)), usage
            )

        return how(Agent(ScriptedModel(reply), tools=[much], history=history, limits=Limits(input_tokens=40_000)), "go")

    assert run(None).stop_reason == "limit:input_tokens"
    assert run(DropToolResults(1000, 0)).output == "Done."


def test_what_cannot_be_shortened_is_the_error_it_was(how: How) -> None:
    model = Window([[call("fetch", n=1)], "never"], 500)
    with pytest.raises(ContextTooLong) as caught:
        how(Agent(model, tools=[fetch], middleware=[ShortenOnOverflow(DropToolResults(5000))]), "go")
    assert caught.value.state.usage.requests == 1


# --- outputs in files ---------------------------------------------------------------------------------------------------


HASH = sha256(b"r/1").hexdigest()[:16]


def test_a_large_output_goes_to_a_file_that_the_model_can_read(how: How, tmp_path: Path) -> None:
    spill = SpillOutputs(tmp_path / "out", max_chars=900, head=100)

    def read(request: ModelRequest) -> Any:
        last = told(request.messages)
        if not last:
            return [call("fetch", n=7)]
        if len(last) == 1:
            (name,) = re.findall(r"the whole is in (\S+),", last[0])
            return [call("read_output", name=name, start=100, length=5000)]
        return "Done."

    result = how(Agent(ScriptedModel(read), tools=[fetch, spill.tool], middleware=[spill]), "go", run_id="r/1")
    head, rest = told(result.messages)
    assert head.startswith(
        "7" * 100 + f"\n[... 100 of 1,000 characters; the whole is in r_1-{HASH}-0.txt, read on with read_output("
    )
    assert rest == "7" * 900 + "\n[characters 100 to 1,000 of 1,000]"
    assert (tmp_path / "out" / f"r_1-{HASH}-0.txt").read_text(encoding="utf-8") == "7" * 1000


@pytest.mark.parametrize(
    ("rename", "name"),
    [
        (lambda reader: ToolRegistry([reader]).prefix("files_"), "files_read_output"),
        (lambda reader: ToolRegistry([reader]).prefix("files."), "files.read_output"),
        (lambda reader: [tool(reader, name="more", description="Read on.")], "more"),
    ],
    ids=["prefix", "a name that is not sent as it is", "name"],
)
def test_the_tool_that_reads_on_may_have_another_name(how: How, tmp_path: Path, rename: Any, name: str) -> None:
    spill = SpillOutputs(tmp_path, max_chars=100, head=20)

    def read(request: ModelRequest) -> Any:
        last = told(request.messages)
        if len(last) == 2:
            return "Done."
        return [call(name, name=f"r_1-{HASH}-0.txt", length=100) if last else call("fetch", n=7)]

    result = how(Agent(ScriptedModel(read), tools=[fetch, rename(spill.tool)], middleware=[spill]), "go", run_id="r/1")
    head, part = told(result.messages)
    assert head.endswith(f"read on with {wire_name(name)}(name='r_1-{HASH}-0.txt', start=20)]")
    assert part == "7" * 100 + "\n[characters 0 to 100 of 1,000]"
    assert len([*tmp_path.iterdir()]) == 1


def test_a_tool_that_is_not_offered_is_not_named(how: How, tmp_path: Path) -> None:
    @tool(name="read_output")
    async def other() -> str:
        """Read something else."""
        return "x" * 1000

    spill = SpillOutputs(tmp_path, max_chars=900, head=1)
    model = ScriptedModel([[call("fetch", n=7), call("read_output")], "Done."])
    result = how(Agent(model, tools=[fetch, other], middleware=[spill]), "go", run_id="r/1")
    note = f"\n[... 1 of 1,000 characters; the whole is in r_1-{HASH}"
    assert told(result.messages) == [f"7{note}-0.txt]", f"x{note}-1.txt]"]


def test_the_tool_promises_no_length_that_another_bound_cuts(tmp_path: Path) -> None:
    text = str(SpillOutputs(tmp_path, max_chars=100, head=20).tool.schema())
    assert "its last line says which" in text and "20,000" not in text


def test_a_folder_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    spill = SpillOutputs(tmp_path / "file" / "out", max_chars=900, head=100)
    agent = Agent(ScriptedModel([call("fetch", n=7), "Done."]), tools=[fetch], middleware=[spill])
    with pytest.warns(RuntimeWarning, match="the output of fetch is not written to"):
        result = agent.run_sync("go")
    assert told(result.messages) == ["7" * 1000]


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "no.txt", "a/b.txt", "..", "secret.txt\n"])
def test_only_outputs_can_be_read(how: How, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    spill = SpillOutputs(tmp_path / "out")
    (tmp_path / "out").mkdir()
    model = ScriptedModel([call("read_output", name=name), "Done."])
    result = how(Agent(model, tools=[spill.tool], middleware=[spill]), "go")
    assert told(result.messages) == [f"error: there is no output {name!r} of this run; give the name as the result has it"]


def test_a_link_among_the_outputs_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    spill = SpillOutputs(tmp_path / "out")
    (tmp_path / "out").mkdir()
    name = f"r_1-{HASH}-5.txt"
    (tmp_path / "out" / name).symlink_to(tmp_path / "secret")
    model = ScriptedModel([call("read_output", name=name), "Done."])
    result = Agent(model, tools=[spill.tool], middleware=[spill]).run_sync("go", run_id="r/1")
    assert told(result.messages)[0].startswith("error: there is no output")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links")
def test_an_output_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("as it was", encoding="utf-8")
    (tmp_path / f"r_1-{HASH}-0.txt").symlink_to(tmp_path / "victim")
    spill = SpillOutputs(tmp_path, max_chars=900, head=100)
    agent = Agent(ScriptedModel([call("fetch", n=7), "Done."]), tools=[fetch], middleware=[spill])
    with pytest.warns(RuntimeWarning, match="the output of fetch is not written to"):
        result = agent.run_sync("go", run_id="r/1")
    assert told(result.messages) == ["7" * 1000]
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "as it was"


def spilled(spill: SpillOutputs, run_id: str, *more: Any) -> list[str]:
    """What the model is told in a run that fetches a large output, and then does more."""
    model = ScriptedModel([call("fetch", n=7), *more, "Done."])
    return told(Agent(model, tools=[fetch, spill.tool], middleware=[spill]).run_sync("go", run_id=run_id).messages)


def test_a_run_reads_its_own_outputs_only(tmp_path: Path) -> None:
    spill = SpillOutputs(tmp_path, max_chars=900, head=100)
    (first,) = spilled(spill, "r/1")
    (name,) = re.findall(r"the whole is in (\S+),", first)
    again = call("read_output", name=name, start=990)
    assert spilled(spill, "r/1", again)[1] == "7777777777\n[characters 990 to 1,000 of 1,000]"
    for other in ("r/2", "r 1", "r_1"):
        assert spilled(spill, other, again)[1].startswith(f"error: there is no output {name!r} of this run")


@pytest.mark.parametrize(
    ("start", "length", "shown", "span"),
    [
        (-5, 3, "777", "0 to 3"),
        (-(10**30), 2, "77", "0 to 2"),
        (998, 50, "77", "998 to 1,000"),
        (5000, 10, "", "5,000 to 5,000"),
        (0, -1, "", "0 to 0"),
    ],
)
def test_a_part_outside_of_an_output_is_cut_to_what_there_is(
    tmp_path: Path, start: int, length: int, shown: str, span: str
) -> None:
    spill = SpillOutputs(tmp_path, max_chars=900, head=100)
    part = call("read_output", name=f"r_1-{HASH}-0.txt", start=start, length=length)
    assert spilled(spill, "r/1", part)[1] == f"{shown}\n[characters {span} of 1,000]"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_outputs_are_for_this_user_alone(tmp_path: Path) -> None:
    old = tmp_path / "out" / f"r_1-{HASH}-0.txt"
    spill = SpillOutputs(tmp_path / "out", max_chars=900, head=100)
    spilled(spill, "r/1")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (old.parent, old)] == [0o700, 0o600]
    old.chmod(0o644)
    spilled(spill, "r/1")
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


def test_a_part_of_an_output_longer_than_one_read(tmp_path: Path) -> None:
    @tool
    async def long() -> str:
        """Much."""
        return "é" * 1_500_000 + "x" * 700_000

    spill = SpillOutputs(tmp_path)
    part = call("read_output", name=f"r_1-{HASH}-0.txt", start=1_499_995, length=10)
    model = ScriptedModel([call("long"), part, "Done."])
    result = Agent(model, tools=[long, spill.tool], middleware=[spill]).run_sync("go", run_id="r/1")
    assert told(result.messages)[1] == "éééééxxxxx\n[characters 1,499,995 to 1,500,005 of 2,200,000]"


def test_other_values_stay_what_they_are(how: How, tmp_path: Path) -> None:
    @tool
    async def look() -> dict[str, int]:
        """Look."""
        return {"a": 1}

    spill = SpillOutputs(tmp_path)
    result = how(Agent(ScriptedModel([call("look"), "Done."]), tools=[look, spill.tool], middleware=[spill]), "go")
    assert (told(result.messages), [*tmp_path.iterdir()]) == (['{"a":1}'], [])
    with pytest.raises(SettingsError, match="head is 10 and max_chars 10"):
        SpillOutputs(tmp_path, max_chars=10, head=10)


def test_views_are_values() -> None:
    assert KeepTurns(2) == KeepTurns(2) and DropToolResults() == DropToolResults(200_000)
