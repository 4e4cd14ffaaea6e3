"""The event parser: right at every split, by the rules of the HTML standard."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.models.http.sse import SSEParser


def fed(*chunks: bytes) -> list[bytes]:
    parser = SSEParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def by_the_standard(data: bytes) -> list[bytes]:
    """The standard's algorithm, line by line and without regard to speed. What is not closed by a blank line is dropped."""
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, buffer, seen = [], b"", False
    for line in data.split(b"\n")[:-1]:
        name, _colon, value = line.partition(b":")
        if not line:
            if seen:
                events.append(buffer[:-1])
            buffer, seen = b"", False
        elif name == b"data":
            buffer, seen = buffer + value.removeprefix(b" ") + b"\n", True
    return events


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data\ndata\n\n", [b"\n"]),
        (b": keep-alive\n\ndata: a\n\n", [b"a"]),
        (b"event: error\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\n", []),
        (b"database: a\n\n", []),
        (b" data: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: \xef\xbb\xbfa\n\n", [b"\xef\xbb\xbfa"]),
        (b"data: a", []),
        (b"data: a\n", []),
        (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        ("data: \u2028\u0085é€😀\n\n".encode(), ["\u2028\u0085é€😀".encode()]),
        (b"", []),
    ],
)
def test_events(data: bytes, events: list[bytes]) -> None:
    assert fed(data) == events == by_the_standard(data)
    for at in range(len(data) + 1):
        assert fed(data[:at], data[at:]) == events, at
    assert fed(*(data[at : at + 1] for at in range(len(data)))) == events


LINES = st.sampled_from(
    [
        b"data: x",
        b"data:y",
        b"data",
        b"data: \xc3\xa9",
        b": note",
        b"event: e",
        b"",
        b"",
        b"\xef\xbb\xbfdata: z",
        b"dat",
        b"a:b",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.binary(max_size=6), st.lists(st.integers(0, 120), max_size=6))
def test_any_stream_at_any_splits(lines: list[tuple[bytes, bytes]], tail: bytes, cuts: list[int]) -> None:
    data = b"".join(line + end for line, end in lines) + tail
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert fed(*(data[a:b] for a, b in pairwise(edges))) == by_the_standard(data)


def test_an_event_is_given_with_the_byte_that_completes_it() -> None:
    parser = SSEParser()
    assert [parser.feed(piece) for piece in (b"data: a", b"\r\n", b"\r", b"\n", b"data: b\n", b"\n")] == [
        [],
        [],
        [b"a"],
        [],
        [],
        [b"b"],
    ]
