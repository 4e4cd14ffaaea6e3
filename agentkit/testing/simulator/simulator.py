"""The simulator: how it answers one request, and how it runs as a server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from ...errors import AgentError
from .completing import Completer, fixed_id
from .notes import fields_without_effect, unknown_fields
from .replies import Answers, AnyReply, Cut, Failure, Hangup, Late, Raw, Reply
from .request import CONTEXT_LENGTH, MODELS, Behaviour, Passback, SimRequest
from .response import Response, cut, failed, late, raw, whole
from .rules import refusal
from .scenarios import answer_function
from .server import LoopbackServer
from .thoughts import Thoughts

if TYPE_CHECKING:
    from .transport import SimulatorTransport

__all__ = ["DeepSeekSimulator"]


class DeepSeekSimulator:
    """A strict offline DeepSeek V4 endpoint for tests. It refuses the same requests as the real one, with the same texts.

        with DeepSeekSimulator([call("get_weather", city="Paris"), "Sunny."]) as sim:
            agent = Agent(ChatModel(base_url=sim.base_url), tools=[get_weather])
            assert agent.run_sync("Weather in Paris?").output == "Sunny."
            assert sim.errors == []

    `answers`: replies used in turn, one function of the `SimRequest`, or the name of a scenario (`SCENARIOS`). A reply
    is a text, one or more tool calls, an `Assistant`, or one of `Reply`, `Failure`, `Raw`, `Hangup`, `Cut`, `Late`. A
    refused request uses up no reply. The same requests in the same order get the same bytes: ids and clock are fixed.

    It serves `/chat/completions` and `/models`, under `/`, `/v1` and `/beta`. As a context manager (`with` or
    `async with`), it listens on a free port of 127.0.0.1. `transport()` needs no socket and no `with`.

    `usage_place`: where a stream has its usage: on the "finish" chunk (as today), or "alone" in a chunk without choices.
    `keep_alive`: number of comments (stream) or blank lines (body) before the answer. `chunk`: characters in each delta.
    `api_key`: any other key gets a 401; None accepts any key, or none. `delay`: seconds before each answer.
    `passback`: when thinking text must be sent back. "probe", as measured: on the assistant message before tool results.
    "every", as documented: on all assistant messages of a request with tools. Both require the text that was sent.
    "present" is "probe" with any text.
    `context_length`: max tokens of prompt and `max_tokens` together. A token is four bytes here.
    `deserialize_status`: 422 or 400 for a body of the wrong shape; both have been seen.
    `models`: accepted model names, each with the model name in the answer.
    `refuse_strict_null`: refuse the type null in the schemas of strict functions; it is not documented.
    `obey_tool_choice`: make replies obey `tool_choice`: drop calls, or call the function with simple arguments. If
    that changes the calls, a scripted finish reason is dropped.
    `parts`: what user messages may hold besides text. DeepSeek V4.1 takes images and files, and V4 Pro takes text only, as
    do some resellers: `()`. With "audio", the simulator stands in for another vendor's server.
    `port`: the port to listen on; 0 takes a free one.
    `keep_requests`: False stores no requests, for load tests.

    A mistake in the test itself is answered with status 400 and type "simulator_error", so that clients do not retry it.
    Examples are a script that is used up, a scripted call for a request without tools, or a function that raises. A call
    of a tool that was not offered is sent as it is, since models do that.

    docs/testing.md says what is not simulated, and what is not known.
    """

    def __init__(
        self,
        answers: Answers = "echo",
        *,
        usage_place: Literal["finish", "alone"] = "finish",
        keep_alive: int = 0,
        chunk: int = 8,
        api_key: str | None = None,
        delay: float = 0.0,
        passback: Passback = "probe",
        context_length: int = CONTEXT_LENGTH,
        deserialize_status: Literal[400, 422] = 422,
        models: Mapping[str, str] = MODELS,
        refuse_strict_null: bool = False,
        obey_tool_choice: bool = False,
        parts: Collection[Literal["image", "audio", "file"]] = ("image", "file"),
        keep_requests: bool = True,
        port: int = 0,
    ) -> None:
        self.requests: list[SimRequest] = []
        """All chat requests in order of arrival, including refused ones."""
        self.errors: list[Failure] = []
        """All refusals because a request or the test's script was wrong. Scripted failures are not included."""
        self.warnings: list[str] = []
        """Undocumented fields of all requests, including refused ones, and fields without effect. Each line occurs once."""
        self._behaviour = Behaviour(
            usage_place=usage_place,
            keep_alive=keep_alive,
            chunk=max(chunk, 1),
            api_key=api_key,
            delay=delay,
            passback=passback,
            context_length=context_length,
            deserialize_status=deserialize_status,
            models=models,
            refuse_strict_null=refuse_strict_null,
            obey_tool_choice=obey_tool_choice,
            parts=parts,
        )
        self._answer_to: Callable[[SimRequest], AnyReply] = answer_function(answers)
        self._keep_requests = keep_requests
        self._numbers = count(1)
        self._completer = Completer(obey_tool_choice=obey_tool_choice)
        self._thoughts = Thoughts()
        self._server = LoopbackServer(self.respond, port)

    @property
    def base_url(self) -> str:
        """The base URL, with the `/v1` that most clients expect."""
        return f"http://127.0.0.1:{self._server.port}/v1"

    def transport(self) -> SimulatorTransport:
        """The simulator as an httpx transport, for both `httpx.Client` and `httpx.AsyncClient`. No socket is opened.

        The client's timeouts do not apply to it; test those over real HTTP.
        """
        from .transport import SimulatorTransport

        return SimulatorTransport(self.respond)

    def start(self) -> Self:
        """Listen on a free port. `with` calls it."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Close the port and every open connection at once. Stopping twice is harmless."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def respond(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """The response to one HTTP request. `headers` have lower-case names. The server and the transport call it."""
        number = next(self._numbers)
        response = self._route(method, path, headers, body, number)
        return replace(response, headers={**response.headers, "x-ds-trace-id": fixed_id("trace", number, 32)})

    def _route(self, method: str, path: str, headers: Mapping[str, str], body: bytes, number: int) -> Response:
        short = path.partition("?")[0].removeprefix("/beta").removeprefix("/v1")
        allowed = {"/chat/completions": "POST", "/models": "GET"}.get(short)
        if allowed is None:
            return self._refused(Failure(404, f"Not Found: {path}"))
        if method != allowed:
            return self._refused(Failure(405, f"Method Not Allowed: {method} {path}, use {allowed}"))
        request = SimRequest(path, headers, body)
        if short == "/chat/completions" and self._keep_requests:
            self.requests.append(request)
        if wrong := self._wrong_key(request):
            return self._refused(wrong)
        if short == "/models":
            listed = [{"id": name, "object": "model", "owned_by": "deepseek"} for name in self._behaviour.models]
            return raw(Raw({"object": "list", "data": listed}))
        response = self._completed(request, number)
        request.forget()
        return response

    def _wrong_key(self, request: SimRequest) -> Failure | None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._behaviour.api_key in (None, key):
            return None
        text = f"Authentication Fails, Your api key: ****{key[-4:]} is invalid"
        return Failure(401, text, type="authentication_error")

    def _refused(self, failure: Failure) -> Response:
        self.errors.append(failure)
        return failed(failure)

    def _completed(self, request: SimRequest, number: int) -> Response:
        self._note(unknown_fields(request.body))
        wrong = refusal(request, self._behaviour) or self._thoughts.refusal(request, self._behaviour)
        if wrong:
            return self._refused(wrong)
        self._note(fields_without_effect(request))
        try:
            response = self._rendered(self._answer_to(request), request, number)
        except Exception as error:  # noqa: BLE001  the test's own function may raise anything, and the client must get an answer
            text = str(error) if isinstance(error, AgentError) else f"the answer raised {error!r}"
            return self._refused(Failure(400, f"simulator: {text}", type="simulator_error", code="simulator_error"))
        return late(response, self._behaviour.delay, after=0)

    def _note(self, notes: Iterable[str]) -> None:
        self.warnings += [note for note in dict.fromkeys(notes) if note not in self.warnings]

    def _rendered(self, reply: AnyReply, request: SimRequest, number: int) -> Response:
        match reply:
            case Cut(inner, after, clean):
                return cut(self._rendered(inner, request, number), after, clean=clean)
            case Late(inner, seconds, after):
                return late(self._rendered(inner, request, number), seconds, after)
            case Failure():
                return failed(reply)
            case Raw():
                return raw(reply)
            case Hangup():
                return Response(0, {}, (), hangup=True)
            case Reply():
                served = self._behaviour.models[request.body["model"]]
                completion = self._completer.complete(reply, request, number, served)
                self._thoughts.remember(completion)
                return whole(completion, request, self._behaviour)
            case _:
                return self._rendered(Reply(reply), request, number)
