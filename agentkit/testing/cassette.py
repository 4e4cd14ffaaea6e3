"""HTTP exchanges in a file, one JSON line each: recorded once, then replayed without a network. Streams are supported."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import httpx

from ..errors import AgentError
from ..redact import redact
from ..redact.keys import HIDDEN, Hider, Unseen, is_secret_header, secrets_of_header

__all__ = ["Cassette", "CassetteMismatch"]

_KEPT = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "x-request-id")
"""Response headers that a client acts on. Only these are stored. Request headers are never stored."""
_OF_THE_WIRE = (b"content-encoding", b"content-length", b"transfer-encoding")
"""Response headers that describe the bytes on the wire. A recorded answer has other bytes."""


class CassetteMismatch(AgentError):
    """A request differs from the recorded one. The message shows the first difference."""


class Cassette(httpx.AsyncBaseTransport):
    """Records a server's answers, or replays them: `ChatModel("m", client=Cassette("greeting.jsonl").client())`.

    With `record=True`, requests go to the server (through `transport`, by default httpx's own), and the file is overwritten.
    Otherwise nothing leaves the process. Each request must then equal a recorded request that was not used yet: the same JSON,
    with keys in any order. If none matches, `CassetteMismatch` is raised with the first difference, and kept as `mismatch`.
    `unused` lists the recorded requests that were not made. A request that failed when recorded fails again.

    Only the user who records can read the file (mode 0600, on systems with modes). Request headers are not stored. Keys in them
    are removed from URLs, bodies and answers, also in base64, and if a server repeats one in pieces of a stream.
    `agentkit.redact` removes secrets of known forms from requests. Answers are stored decompressed.
    """

    def __init__(self, path: str | Path, *, record: bool = False, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.path, self.record = Path(path), record
        self._lock = threading.Lock()
        self._inner = transport or (httpx.AsyncHTTPTransport() if record else None)
        if record:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open("w"):
                pass
        self.mismatch: CassetteMismatch | None = None
        self._unused: list[tuple[int, dict[str, Any]]] = [] if record else list(enumerate(self._read(), 1))

    def client(self, **options: Any) -> httpx.AsyncClient:
        """An httpx client whose requests go through this cassette."""
        return httpx.AsyncClient(transport=self, **options)

    @property
    def unused(self) -> list[dict[str, Any]]:
        """The bodies of the recorded requests that have not been made."""
        return [exchange["request"]["body"] for _number, exchange in self._unused]

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise CassetteMismatch(f"there is no cassette {self.path}; make it with record=True") from None
        for number, line in enumerate(text.split("\n"), 1):  # splitlines also splits at characters that JSON may hold
            try:
                if line:
                    yield json.loads(line)
            except ValueError as error:
                raise CassetteMismatch(f"{self.path}, line {number} is not JSON: {error}") from None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer from the file; when recording, answer from the server and store the exchange."""
        hider = _hider(request)
        actual = _recordable(request, _body(_hidden(hider, await request.aread())), hider)
        if self._inner is None:
            return _replayed(self._matching(actual), request)
        request.headers["accept-encoding"] = "identity"
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.TransportError as error:
            self._append({"request": actual, "failed": type(error).__name__})
            raise
        kept = {name: hider.hide(response.headers[name]) for name in _KEPT if name in response.headers}
        exchange = {"request": actual, "response": {"status": response.status_code, "headers": kept}}
        passed = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_WIRE]
        return httpx.Response(response.status_code, headers=passed, stream=_Recording(response, exchange, hider, self._append))

    def _matching(self, actual: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            for index, (_number, exchange) in enumerate(self._unused):
                if next(_differences(exchange["request"], actual), None) is None:
                    del self._unused[index]
                    return exchange
            if self._unused:
                number, exchange = self._unused[0]
                where, before, now = next(_differences(exchange["request"], actual))
                why = f"request {number} differs at {where}: recorded {before}, now {now}"
            else:
                why = "all recorded requests are used, and one more is made"
            error = CassetteMismatch(f"{self.path}: {why}")
            self.mismatch = self.mismatch or error
        raise error

    def _append(self, exchange: Mapping[str, Any]) -> None:
        with self._lock, self._open("a") as file:
            file.write(json.dumps(exchange, ensure_ascii=False) + "\n")

    def _open(self, mode: str) -> IO[str]:
        """Open the file for writing, readable for its owner only."""
        file = open(self.path, mode, encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600))  # noqa: SIM115
        if hasattr(os, "fchmod"):  # an existing file keeps its mode otherwise
            os.fchmod(file.fileno(), 0o600)
        return file

    async def aclose(self) -> None:
        """Close the transport to the server."""
        if self._inner is not None:
            await self._inner.aclose()


class _Recording(httpx.AsyncByteStream):
    """Passes the body of a response on, decompressed, and records it piece by piece."""

    def __init__(self, response: httpx.Response, exchange: dict[str, Any], hider: Hider, keep: Any) -> None:
        self._response, self._exchange, self._hider, self._keep = response, exchange, hider, keep
        self._pieces: list[bytes] = []
        self._broken: str | None = "ReadTimeout"
        """The recorded error; None after the end of the body. A body that was abandoned replays as a read timeout."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for piece in stream if "content-encoding" not in self._response.headers else self._response.aiter_bytes():
                self._pieces.append(piece)
                yield piece
            self._broken = None
        except (httpx.TransportError, httpx.DecodingError) as error:
            self._broken = type(error).__name__
            raise

    async def aclose(self) -> None:
        await self._response.aclose()
        pieces = [_text(piece) for piece in _without_keys(self._pieces, self._hider)]
        self._keep({**self._exchange, "body": pieces, **({"broken": self._broken} if self._broken else {})})


class _Replay(httpx.AsyncByteStream):
    def __init__(self, pieces: list[Any], broken: str | None) -> None:
        self._pieces, self._broken = pieces, broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield base64.b64decode(piece["base64"]) if isinstance(piece, dict) else piece.encode()
        if self._broken:
            raise getattr(httpx, self._broken, httpx.ReadError)("the connection broke, as recorded")


def _replayed(exchange: Mapping[str, Any], request: httpx.Request) -> httpx.Response:
    if "failed" in exchange:
        raise getattr(httpx, exchange["failed"], httpx.ConnectError)("the request failed, as recorded")
    response = exchange["response"]
    stream = _Replay(exchange["body"], exchange.get("broken"))
    return httpx.Response(response["status"], headers=response["headers"], stream=stream, request=request)


def _hider(request: httpx.Request) -> Hider:
    """A hider for the keys in a request's headers and query."""
    fields = [(name, Unseen(value)) for name, value in (*request.headers.items(), *request.url.params.multi_items())]
    secret = [(name, value) for name, value in fields if is_secret_header(name, value.reveal())]
    return Hider(one for name, value in secret for one in secrets_of_header(name, value))


def _recordable(request: httpx.Request, body: Any, hider: Hider) -> dict[str, Any]:
    path, _, query = redact(hider.hide(f"{request.url.path}?{request.url.query.decode()}")).partition("?")
    return {"method": request.method, "path": path, **({"query": query} if query else {}), "body": _redacted(body)}


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case list():
            return [_redacted(item) for item in value]
        case dict():
            return {name: _redacted(item) for name, item in value.items()}
    return value


def _hidden(hider: Hider, data: bytes) -> bytes:
    """The bytes without the keys. Keys are ASCII."""
    return hider.hide(data.decode("latin-1")).encode("latin-1") if hider else data


def _without_keys(pieces: list[bytes], hider: Hider) -> list[bytes]:
    """The pieces of an answer, unchanged if they contain no key. Otherwise the answer without keys, one event per piece."""
    whole = b"".join(pieces).decode(errors="surrogateescape")
    hidden = hider.hide(_without_split_keys(whole, hider)) if hider else whole
    if hidden == whole:
        return pieces
    return [event.encode(errors="surrogateescape") for event in re.split(r"(?<=\n\n)", hidden) if event]


def _without_split_keys(stream: str, hider: Hider) -> str:
    """The events of a stream without keys that are split over several events, which a client would join."""
    lines = stream.split("\n")
    events = {number: event for number, line in enumerate(lines) if (event := _event(line)) is not None}
    texts: dict[tuple[Any, ...], list[tuple[int, Any, Any]]] = {}
    for number, event in events.items():
        for path, container, key in _texts(event):
            texts.setdefault(path, []).append((number, container, key))
    for pieces in texts.values():
        whole = "".join(container[key] for _number, container, key in pieces)
        spans, at = hider.spans(whole), 0
        for number, container, key in pieces if spans else ():
            before, at = at, at + len(container[key])
            kept_text = _outside(spans, whole, before, at)
            if kept_text != container[key]:
                container[key] = kept_text
                lines[number] = f"data: {json.dumps(events[number], ensure_ascii=False)}"
    return "\n".join(lines)


def _event(line: str) -> Any:
    """The JSON of a stream's line; None if it has none."""
    try:
        found = json.loads(line.removeprefix("data:")) if line.startswith("data:") else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """The texts in a JSON value: the path of each, the object or list that contains it, and its key or index there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        if isinstance(item, str):
            yield (*path, key), value, key
        else:
            yield from _texts(item, (*path, key))


def _outside(spans: list[tuple[int, int]], whole: str, start: int, end: int) -> str:
    """The text from start to end without the spans. A mask replaces each span that begins there."""
    kept_text = list[str]()
    for first, last in spans:
        if start < last and first < end:
            kept_text += [whole[start:first], HIDDEN] if first >= start else []
            start = min(last, end)
    return "".join([*kept_text, whole[start:end]])


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:  # half a character, or compressed
        return {"base64": base64.b64encode(data).decode()}


def _body(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return _text(data)


def _differences(recorded: Any, actual: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """The differences of two JSON values: the path, the recorded value and the actual value, both shortened."""
    if isinstance(recorded, dict) and isinstance(actual, dict):
        for name in [*recorded, *(name for name in actual if name not in recorded)]:
            yield from _differences(recorded.get(name, _ABSENT), actual.get(name, _ABSENT), f"{where}.{name}".lstrip("."))
    elif isinstance(recorded, list) and isinstance(actual, list):
        for index in range(max(len(recorded), len(actual))):
            before, after = (values[index] if index < len(values) else _ABSENT for values in (recorded, actual))
            yield from _differences(before, after, f"{where}[{index}]")
    elif type(recorded) is not type(actual) or recorded != actual:
        yield where, _short(recorded), _short(actual)


_ABSENT = object()


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"
