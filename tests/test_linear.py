"""Whatever a model, a server or a page writes is read in time in proportion to its length.

Each row of the table is a parser of outside text, with shapes of text that make such parsers slow: add yours. Ten times the
text may take at most fifteen times the processor time; what grows with the square takes a hundred times.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import pytest
from pydantic import BaseModel, Field

from agentkit import ModelError, ToolArgumentsInvalid, ToolRegistry
from agentkit.models.http.bodies import read_whole
from agentkit.models.http.sse import SSEParser
from agentkit.models.markup import BrokenMarkup, looks_like_a_call, read_markup
from agentkit.models.replies import ReplyReader
from agentkit.names import nearest_names
from agentkit.redact import redact
from agentkit.redact.keys import Hider, Secret
from agentkit.run.output import output_of
from agentkit.schema.docstrings import read_docstring
from agentkit.schema.parse import LONG_TEXT
from agentkit.schema.repair import NotJson, read_json


@dataclass(frozen=True)
class Parser:
    """What reads a text, and by name the shapes of text that it is tried with, each made for about so many characters."""

    read: Callable[[str], object]
    shapes: dict[str, Callable[[int], str]]
    small: int = 4_000
    """Characters of the shorter of two texts."""


class Leaf(BaseModel):
    op: Literal["leaf"]
    value: int = 0


class Both(BaseModel):
    op: Literal["and"]
    of: list[Both | Either | Leaf]


class Either(BaseModel):
    op: Literal["or"]
    of: list[Both | Either | Leaf]


class Chain(BaseModel):
    value: int = 0
    next: Chain | None = None


class Spot(NamedTuple):
    x: int
    y: int


Word = Annotated[str, Field(pattern=r"^(a+)+$")]
tools = ToolRegistry()


@tools.tool
def take(
    text: str = "",
    numbers: list[int] = [],  # noqa: B006
    small: list[Annotated[int, Field(ge=0, le=9)]] = [],  # noqa: B006
    several: set[int] = set(),  # noqa: B006
    names: dict[str, int] = {},  # noqa: B006
    lists: dict[str, list[int]] = {},  # noqa: B006
    keys: dict[int, str] = {},  # noqa: B006
    words: dict[Word, int] = {},  # noqa: B006
    either: list[int | str | None] = [],  # noqa: B006
    spots: list[Spot] = [],  # noqa: B006
    chain: Chain | None = None,
    chains: list[Chain] = [],  # noqa: B006
    tree: Both | Either | Leaf | None = None,
    trees: list[Both | Either | Leaf] = [],  # noqa: B006
) -> None:
    """Take it."""


@tools.tool
def wide(**more: int) -> None:
    """Take it."""


def parse(text: str) -> None:
    for tool in tools:
        with suppress(ToolArgumentsInvalid):
            tool.parse(text)


def read(text: str) -> None:
    with suppress(NotJson):
        read_json(text, name="take", keys=["city"])


def repeated(piece: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda size: before + piece * (size // len(piece)) + after


def numbered(piece: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """The piece again and again, with a number in it that is another each time."""
    return lambda size: before + ",".join(piece.replace("#", str(at)) for at in range(size // (len(piece) + 4))) + after


def in_tree(size: int) -> str:
    leaves = ",".join(['{"op":"leaf","value":"x"}'] * (size // 30))
    return f'{{"tree":{{"op":"or","of":[{leaves}]}}}}'


def deep(before: str, after: str, key: str = "chain") -> Callable[[int], str]:
    """Ten levels for a short text and a hundred for a long one; more cannot be nested."""
    return lambda size: f'{{"{key}":' + before * (size // 400) + "{}" + after * (size // 400) + "}"


BROKEN = {
    "spaces before a word": repeated(" ", '{"x":', "oops}"),
    "line ends before a word": repeated("\n", '{"x":', "oops}"),
    "spaces before a quote": repeated(" ", '{"x":', "'a'}"),
    "spaces before text": repeated(" ", '{"x":1}', "x"),
    "spaces after a fence": repeated(" ", "```", "x"),
    "spaces in a fence": repeated(" ", "```json\n{'x':1}", "```x"),
    "spaces before the end of a fence": repeated(" ", "```json\n{'x':1}", "```"),
    "line ends in a fence": repeated("\n", "```json\n{'x':1}", "```"),
    "fences": repeated("```\n", "", "x"),
    "tokens before": repeated("<|im_start|> ", "", "{'x':1}"),
    "tokens after": repeated(" <|im_end|>", "{'x':1}", ""),
    "tokens after, and a word": repeated(" </s>", "{'x':1}", "x"),
    "open tokens": repeated("<", "{'x':1}", ""),
    "thoughts that do not end": repeated("<think>", "", "{'x':1}"),
    "thoughts": repeated("<think></think>", "", "{'x':1}"),
    "section markup": repeated("<｜DSML｜tool_calls>", "", "{'x':1}"),
    "a long name before": repeated("a", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>{'x':1}"),
    "words before": repeated("here is ", "", ": {'x':1}"),
    "words and spaces before": repeated(" ", "here:", "{'x':1}"),
    "apostrophes before": repeated("here's ", "", ": {'x':1}"),
    "words before, and another": repeated("以下是", "here ", "not: {'x':1}"),
    "backticks before": repeated("`x` `", "", ": {'x':1}"),
    "comments": repeated("/* a */", "{", "'x':1}"),
    "comments that do not end": repeated("/*", "{'x':1", "}"),
    "line comments": repeated("# a\n", "{", "'x':1}"),
    "slashes": repeated("/", "{'x':1}", ""),
    "single quotes": repeated("'", "{", "}"),
    "curly quotes": repeated("“", "{“x”:", "}"),
    "quotes in curly quotes": repeated("\" 'a", "{“x”:“", "”}"),
    "commas in curly quotes": repeated('",   ', "{“x”:“", "”}"),
    "words in curly quotes": repeated("', a-b-c", "{“x”:“", "”}"),
    "backslashes": repeated("\\", '{"x":"', '"}'),
    "escapes": repeated("\\u0041", "{'x':'", "'}"),
    "raw line ends": repeated("\n", '{"x":"', '"}'),
    "no-break spaces": repeated("\u00a0", '{"x":', "1}"),
    "open brackets": repeated("["),
    "open braces": repeated('{"a":'),
    "doubled braces": repeated("{"),
    "closing braces": repeated("}", "{'x':1}"),
    "digits": repeated("7", "{'x':0.", "}"),
    "digits of an integer": repeated("7", "{'x':", "}"),
    "zeros of an exponent": repeated("0", "{'x':1e", "1}"),
    "the same key": repeated("'a':1,", "{", "}"),
    "other keys": numbered("'k#':1", "{", "}"),
    "missing commas": repeated('"a":1 ', "{", "}"),
    "spaces before a colon": repeated(" ", '{"a":1 "b"', "x"),
    "bare words": repeated("a,", "{'x':[", "]}"),
    "lists of lists": repeated("[],", "{'x':[", "]}"),
    "a text without an end, and pieces": repeated('a, "b", ', '{"x": "', ""),
    "a text without an end, and keys": repeated('a, "b": "c, ', '{"x": "', ""),
    "a text in a text": lambda size: json.dumps(json.dumps(json.dumps({"x": "\\" * (size // 8)}))),
}
CALLS = {
    "texts for integers": repeated('"5",', '{"numbers":[', "1]}"),
    "words for integers": repeated('"x",', '{"numbers":[', "1]}"),
    "integers that are too large": repeated("10,", '{"small":[', "1]}"),
    "long numbers": repeated("1", '{"numbers":["', '"]}'),
    "items of a set": numbered("#", '{"several":[', "]}"),
    "the same items of a set": repeated("7,", '{"several":[', "7]}"),
    "texts for items of a set": numbered('"#"', '{"several":[', "]}"),
    "unknown keys": numbered('"k#":1', "{", "}"),
    "keys in another case": numbered('"Numbers#":1', "{", "}"),
    "the same key in many cases": numbered('"Nu_mbers" : 1, "n-u-m-b-e-r-s-#":1', "{", "}"),
    "keys of a dict": numbered('"k#":"x"', '{"names":{', "}}"),
    "numbers as keys": numbered('"#":"x"', '{"keys":{', "}}"),
    "texts that are no numbers as keys": numbered('"0#":"x"', '{"keys":{', "}}"),
    "a key for a slow pattern": repeated("a", '{"words":{"', '!":1}}'),
    "a long key over many items": lambda size: '{"lists":{"' + "k" * (size // 2) + '":[' + '"x",' * (size // 8) + "1]}}",
    "a long key over many keys": lambda size: '{"' + "k" * (size // 2) + '":[' + '"x",' * (size // 8) + "1]}",
    "a union": repeated('"5",[],', '{"either":[', "1]}"),
    "one place of two": repeated("5,", '{"spots":[', "1]}"),
    "chains": repeated('{"value":"1","next":{"value":"x"}},', '{"chains":[', "{}]}"),
    "a deep chain": deep('{"value":"1","next":', "}"),
    "a deep chain with another key": deep('{"Value":1,"next":', "}"),
    "a deep chain that does not fit": deep('{"value":"x","next":', "}"),
    "leaves of a union that holds itself": in_tree,
    "a union that holds itself, deep": deep('{"op":"or","of":[', "]}", "tree"),
    "a union that holds itself, often": repeated('{"op":"or","of":[{"op":"and","of":[]}]},', '{"trees":[', "5]}"),
    "an envelope in an envelope": lambda size: '{"arguments":' * 4 + '{"text":"' + "a" * size + '"}' + "}" * 4,
    "open keys": numbered('"k#":"1"', "{", "}"),
}  # fmt: skip
DOCSTRINGS = {
    "brackets in a field": repeated("[", ":param x: ", ""),
    "brackets in the head of a field": repeated("[", ":param ", ""),
    "brackets and colons": repeated("[:", ":param ", ""),
    "fields": numbered(":param x#: text\n", "Do.\n\n", ""),
    "long fields": repeated("text\n    ", "Do.\n\n:param x: ", ""),
    "headers": repeated("Args:\n", "Do.\n\n", ""),
    "headers without entries": repeated("Returns\n\n", "Do.\n\n", ""),
    "entries": lambda size: "Do.\n\nArgs:\n" + "\n".join(f"    x{at}: text" for at in range(size // 14)),
    "entries that cannot be read": repeated("    x text\n", "Do.\n\nArgs:\n", ""),
    "a list in an entry": repeated("        - a\n          b\n", "Do.\n\nArgs:\n    x: these\n", ""),
    "wrapped lines of a list": repeated("          b\n", "Do.\n\nArgs:\n    x: these\n        - a\n", ""),
    "blank lines": repeated("\n", "Do.\n\nArgs:\n    x: text", "end"),
    "spaces": repeated(" ", "Do.\n\nArgs:\n    x: text\n", "end"),
    "underlines": repeated("Parameters\n----------\n", "Do.\n\n", ""),
    "NumPy entries": lambda size: "\n".join(["Parameters", "-" * 10, *(f"x{at} : int\n    Text." for at in range(size // 24))]),
    "fences": repeated("```\n", "Do.\n\n", ""),
    "one long line": repeated("a ", "Args: ", ""),
    "Epydoc fields": numbered("@param x#: text\n", "Do.\n\n", ""),
}  # fmt: skip
ANSWERS = {
    "line ends round a fence": repeated("\n", "```json", "{}\n```"),
    "line ends before the end": repeated("\n", "```json\n5", "x```"),
    "spaces": repeated(" ", "```", "\n5\n```"),
    "a text": repeated("a", "", ""),
    "integers": repeated("1234567,", '{"answer":[', "1]}"),
}


def event(delta: str, **more: object) -> str:
    """One chunk of a streamed reply, with a `#` where a number may be."""
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': json.loads(delta), **more}]})}\n\n"


def events(delta: str, before: str = "", after: str = "", **more: object) -> Callable[[int], str]:
    piece = event(delta, **more)
    return lambda size: before + "".join(piece.replace("#", str(at)) for at in range(size // (len(piece) + 4))) + after


def called(arguments: str, name: str = "f", **more: object) -> str:
    call = {"id": "c#", "type": "function", "function": {"name": name, "arguments": arguments}, **more}
    return json.dumps({"tool_calls": [call]})


def named(arguments: str) -> str:
    """A piece of one call that names it again."""
    return called(arguments, index=0).replace("c#", "c")


def growing(size: int) -> str:
    """Arguments that are sent whole, and longer, each time: their own length grows with the square root of the text."""
    longest = int((2 * size) ** 0.5 / 4)
    return "".join(event(named('{"a": "' + "x" * (4 * at) + '"}')) for at in range(longest))


def whole_reply(size: int) -> str:
    calls = [{"id": f"c{at}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for at in range(size // 80)]
    return json.dumps({"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]})


REPLIES = {
    "text": events('{"content": "word "}'),
    "thinking": events('{"reasoning_content": "word "}'),
    "calls without an index": events(called("{}")),
    "calls without an index and an id": events(called("{}").replace('"c#"', '""')),
    "calls with an index": events(called("{}", index=1).replace('"index": 1', '"index": "#"')),
    "calls that end whole": events(called('{"a": 1}'), after=event(json.dumps({"content": ""}))),
    "named pieces": events(named("x"), before=event(named('{"a": "')), after=event(named('"}'))),
    "pieces of a name": lambda size: events(called("", name="weather_#" * 30, index=0).replace("c#", "c"))(12 * size),
    "whole objects that grow": lambda size: "".join(
        event(called(json.dumps({"a": "x" * at}), index=0).replace("c#", "c")) for at in range(int(size**0.5))
    ),
    "messages beside calls": events(
        called("{}", index=1).replace('"index": 1', '"index": "#"'),
        message={"tool_calls": [{"id": "m", "function": {"name": "f", "arguments": "{}"}}]},
    ),
    "braces": events(called("{", index=0).replace("c#", "c")),
    "named pieces without an index": events(called("x").replace("c#", "c"), after=event('{"content": ""}')),
    "half characters": events(json.dumps({"content": "\ud83d"})),
    "half characters of arguments": events(named("\udc00\ud83d"), before=event(named('{"a": "')), after=event(named('"}'))),
    "the same call again": events(called('{"a": 1}').replace("c#", "c")),
    "unknown fields": events('{"content": "", "x#": {"a": "#"}}'),
    "signed blocks": events('{"reasoning_details": [{"type": "reasoning.text", "text": "a#", "index": 0}]}'),
    "blank lines": lambda size: "\n" * size + event('{"content": "x"}'),
    "comments": repeated(": keep-alive\n\n", event('{"content": "x"}')),
    "one long line": lambda size: event(json.dumps({"content": "x" * size})),
    "lines of one event": repeated("data: \n", "", event('{"content": "x"}')),
    "arguments that grow": growing,
}
WHOLE = {
    "calls": whole_reply,
    "text": lambda size: json.dumps({"choices": [{"message": {"content": "a" * size}, "finish_reason": "stop"}]}),
    "blocks": lambda size: json.dumps(
        {"choices": [{"message": {"content": [{"type": "text", "text": "a"}] * (size // 32)}, "finish_reason": "stop"}]}
    ),
    "choices": lambda size: json.dumps({"choices": [{"index": at, "message": {"content": "a"}} for at in range(size // 50)]}),
}
MARKUP = {
    "openings": repeated("<｜DSML｜tool_calls>"),
    "openings, one end": repeated("<｜DSML｜tool_calls>", "", "</｜DSML｜tool_calls>"),
    "open calls": repeated('<｜DSML｜invoke name="f">', "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
    "open parameters": repeated(
        '<｜DSML｜parameter name="a" string="true">', '<｜DSML｜tool_calls><｜DSML｜invoke name="f">', "</｜DSML｜tool_calls>"
    ),
    "calls": repeated('<｜DSML｜invoke name="f"></｜DSML｜invoke>', "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
    "spaces": repeated(" ", "<｜DSML｜tool_calls>", "x</｜DSML｜tool_calls>"),
    "brackets": repeated("<｜"),
    "line ends": repeated("\n", "", "x"),
}
SECRETS = {
    "letters": repeated("a"),
    "words": repeated("token "),
    "assignments": repeated("token="),
    "colons": repeated("a:"),
    "logins": repeated("a:b@", "https://"),
    "schemes": repeated("https://"),
    "prefixes": repeated("sk-"),
    "key characters": repeated("aA1-", "sk-"),
    "dots": repeated("eyJ."),
    "quotes": repeated('"', "api_key="),
    "escaped quotes": repeated('\\"', 'api_key=\\"'),
    "private keys that do not end": repeated("-----BEGIN PRIVATE KEY-----\n"),
    "headers": repeated("Authorization: Bearer "),
    "spaces": repeated(" ", "password", "x"),
    "underlines": repeated("_", "api", "key=x"),
    "options": repeated("--password "),
    "queries": repeated("&key=a", "https://h/?a=b"),
    "nested": repeated('{"token":'),
}

NAMES = [f"tool_{at}_{'ab' * (at % 20)}" for at in range(300)]
answer = output_of(list[int], "json_object")


def read_stream(text: str) -> None:
    """As they come from a socket, 1 KB at a time."""
    reader, events, data = ReplyReader(), SSEParser(), text.encode("utf-8")
    with suppress(ModelError):
        for at in range(0, len(data), 1024):
            for one in events.feed(data[at : at + 1024]):
                reader.feed(json.loads(one))
        reader.parts()


def read_body(text: str) -> None:
    with suppress(ModelError):
        read_whole(text.encode())


def find_calls(text: str) -> None:
    looks_like_a_call(text, ["f"])
    with suppress(BrokenMarkup):
        read_markup(text, ["f"])


def read_answer(text: str) -> None:
    with suppress(ToolArgumentsInvalid):
        answer._typed.read_text(text)  # type: ignore[attr-defined]


hider = Hider([Secret("sk-Zx7Qm2Lp9Vw4Kt8Rb3NyHs1Jd5Gf")])
PARSERS: dict[str, Parser] = {
    "keys": Parser(
        hider.hide,
        {
            "blocks of a key": repeated("Zx7Qm2Lp"),
            "stretches of a key": repeated("sk-Zx7Qm2Lp9Vw4Kt8Rb"),
            "beginnings": repeated("sk-"),
            "letters": repeated("a"),
        },
        40_000,
    ),
    "repair": Parser(read, BROKEN),
    "calls": Parser(parse, {**CALLS, **{f"broken: {name}": make for name, make in BROKEN.items()}}),
    "docstrings": Parser(read_docstring, DOCSTRINGS),
    "answers": Parser(read_answer, ANSWERS),
    "streamed replies": Parser(read_stream, REPLIES, 40_000),
    "whole replies": Parser(read_body, WHOLE, 40_000),
    "markup": Parser(find_calls, MARKUP),
    "redaction": Parser(redact, SECRETS),
    "names": Parser(lambda text: nearest_names(text, NAMES), {"letters": repeated("ab"), "other letters": numbered("tool_#")}),
}
ROWS = [(name, shape) for name, parser in PARSERS.items() for shape in parser.shapes]
IN_LOOP = [row for row in ROWS if row[0] in ("repair", "calls", "answers")]
_NOTHING = 5e-4
"""Seconds that do not count: what a longer text needs once may be more than a short one takes."""


def seconds(read: Callable[[str], object], text: str) -> float:
    """Processor time of one reading, without that of the garbage collector, which goes over all objects of this process."""
    gc.disable()
    try:
        begun = time.process_time()
        read(text)
        return time.process_time() - begun
    finally:
        gc.enable()


def growths(name: str, shape: str) -> Iterator[float]:
    """How many times longer a text of ten times the length takes, again and again."""
    parser = PARSERS[name]
    short, long = parser.shapes[shape](parser.small), parser.shapes[shape](10 * parser.small)
    for _ in range(12):
        few = min(seconds(parser.read, short) for _ in range(3))
        many = min(seconds(parser.read, long) for _ in range(2))
        yield many / max(few, _NOTHING)


@pytest.mark.parametrize(("name", "shape"), ROWS)
def test_ten_times_the_text_takes_at_most_fifteen_times_as_long(name: str, shape: str) -> None:
    seen: list[float] = []
    for growth in growths(name, shape):  # the machine may have been busy
        seen.append(growth)
        if growth <= 15:
            return
    pytest.fail(f"{name}, {shape}: ten times the text takes {min(seen):.0f} times as long")


def slowness() -> float:
    """How much slower than the machine of docs/speed.md this one is just now, at least 1."""
    begun = time.process_time()
    sum(number * number for number in range(200_000))
    return max(1.0, (time.process_time() - begun) / 0.013)


@pytest.mark.parametrize(("name", "shape"), IN_LOOP)
def test_what_is_read_on_the_event_loop_holds_it_for_less_than_50_ms(name: str, shape: str) -> None:
    """Longer arguments are read in a thread."""
    parser = PARSERS[name]
    text = parser.shapes[shape](LONG_TEXT)[:LONG_TEXT]
    times: list[float] = []
    for _ in range(30):  # the machine may be busy
        slow = slowness()
        times.append(seconds(parser.read, text) / (len(tools) if name == "calls" else 1) / slow)
        if times[-1] < 0.05:
            return
    pytest.fail(f"{name}, {shape}: {min(times) * 1000:.0f} ms")
