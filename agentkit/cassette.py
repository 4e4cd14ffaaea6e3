"""HTTP exchanges in a file, one JSON line each: recorded once, replayed without a network, streams included."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from .errors import AgentError
from .redact import redact

__all__ = ["Cassette", "CassetteMismatch"]

_KEPT = ("content-type", "content-encoding", "retry-after", "retry-after-ms", "x-should-retry", "x-request-id")
"""Headers of a response that a client acts on; no others are stored, and none of a request."""
_HIDDEN = "[api key]"
_SECRET_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie")


class CassetteMismatch(AgentError):
    """A request is not the one that was recorded; the text shows the first difference."""


class Cassette(httpx.AsyncBaseTransport):
    """Records what a server answers, or replays it: `ChatModel("m", client=Cassette("greeting.jsonl").client())`.

    With `record=True` requests go to the server (through `transport`, by default httpx's own) and the file is written anew.
    Without, nothing leaves the process: each request must equal a recorded one that was not used yet (the same JSON, in any
    order of keys), or `CassetteMismatch` is raised, names the first difference and is kept as `mismatch`. See `unused` for
    what was not asked for. A request that failed fails again.

    Headers of requests are not stored, and the keys in them are taken out of addresses and bodies (not where a server repeats
    one in pieces of a stream). Of what requests say, `agentkit.redact` takes out the secrets that it knows by their form.
    """

    def __init__(self, path: str | Path, *, record: bool = False, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.path, self.record = Path(path), record
        self._lock = threading.Lock()
        self._inner = transport or (httpx.AsyncHTTPTransport() if record else None)
        if record:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("", encoding="utf-8")
        self.mismatch: CassetteMismatch | None = None
        self._left: list[tuple[int, dict[str, Any]]] = [] if record else list(enumerate(self._read(), 1))

    def client(self, **options: Any) -> httpx.AsyncClient:
        """An httpx client whose requests go through this cassette."""
        return httpx.AsyncClient(transport=self, **options)

    @property
    def unused(self) -> list[dict[str, Any]]:
        """The bodies of the recorded requests that were not made."""
        return [exchange["request"]["body"] for _number, exchange in self._left]

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
        """Answer from the file, or from the server into the file."""
        keys = _keys(request)
        asked = _asked(request, _body(_without(keys, await request.aread())), keys)
        if self._inner is None:
            return _replayed(self._found(asked), request)
        request.headers["accept-encoding"] = "identity"
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.TransportError as error:
            self._append({"request": asked, "failed": type(error).__name__})
            raise
        headers = {name: response.headers[name] for name in _KEPT if name in response.headers}
        exchange = {"request": asked, "response": {"status": response.status_code, "headers": headers}}
        return httpx.Response(
            response.status_code, headers=response.headers, stream=_Recording(response, exchange, keys, self._append)
        )

    def _found(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            for place, (_number, exchange) in enumerate(self._left):
                if next(_differences(exchange["request"], asked), None) is None:
                    del self._left[place]
                    return exchange
            if self._left:
                number, exchange = self._left[0]
                where, was, now = next(_differences(exchange["request"], asked))
                why = f"request {number} differs at {where}: recorded {was}, now {now}"
            else:
                why = "all recorded requests are used, and one more is made"
            error = CassetteMismatch(f"{self.path}: {why}")
            self.mismatch = self.mismatch or error
        raise error

    def _append(self, exchange: Mapping[str, Any]) -> None:
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(exchange, ensure_ascii=False) + "\n")

    async def aclose(self) -> None:
        """Close the transport to the server."""
        if self._inner is not None:
            await self._inner.aclose()


class _Recording(httpx.AsyncByteStream):
    """The body of a response on its way, noted piece by piece."""

    def __init__(self, response: httpx.Response, exchange: dict[str, Any], keys: list[str], keep: Any) -> None:
        self._response, self._exchange, self._keys, self._keep = response, exchange, keys, keep
        self._pieces: list[bytes] = []
        self._broken: str | None = "ReadTimeout"
        """Until its end has come: who waits no longer for it will not when it is replayed."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for piece in stream:
                self._pieces.append(piece)
                yield piece
            self._broken = None
        except httpx.TransportError as error:
            self._broken = type(error).__name__
            raise

    async def aclose(self) -> None:
        await self._response.aclose()
        whole = b"".join(self._pieces)
        hidden = _without(self._keys, whole)
        pieces = [_text(piece) for piece in (self._pieces if hidden == whole else [hidden])]
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


def _keys(request: httpx.Request) -> list[str]:
    """The keys in a request's headers and query; a short one is no secret, and may be a word of the text."""
    words = [word for name in _SECRET_HEADERS for word in request.headers.get(name, "").split()]
    queried = [value for name, value in request.url.params.multi_items() if "key" in name.lower() or "token" in name.lower()]
    return [key for key in (*words, *queried) if len(key) >= 8]


def _asked(request: httpx.Request, body: Any, keys: list[str]) -> dict[str, Any]:
    address = _without(keys, f"{request.url.path}?{request.url.query.decode()}".encode()).decode()
    path, _, query = redact(address).partition("?")
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


def _without(keys: list[str], data: bytes) -> bytes:
    for key in keys:
        data = data.replace(key.encode(), _HIDDEN.encode())
    return data


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


def _differences(was: Any, now: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """Where two JSON values differ, what stood there and what stands there now; both shortened."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in [*was, *(name for name in now if name not in was)]:
            yield from _differences(was.get(name, _ABSENT), now.get(name, _ABSENT), f"{where}.{name}".lstrip("."))
    elif isinstance(was, list) and isinstance(now, list):
        for place in range(max(len(was), len(now))):
            before, after = (values[place] if place < len(values) else _ABSENT for values in (was, now))
            yield from _differences(before, after, f"{where}[{place}]")
    elif type(was) is not type(now) or was != now:
        yield where, _short(was), _short(now)


_ABSENT = object()


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"
