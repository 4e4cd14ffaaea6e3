"""`check-endpoint` on servers that are odd in themselves: connections that break, marks, and what is accepted but not done."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import AgentError, ChatModel
from agentkit.messages import Assistant, ToolCall, User
from agentkit.model import ModelRequest, ModelSettings, ToolSpec
from agentkit.models import wire
from agentkit.models.endpoint_check import CHECKS, Finding, Report, check_endpoint
from agentkit.models.endpoint_check.asking import Server, TemporaryFailure
from agentkit.models.profiles import DEEPSEEK, GENERIC, PROFILES, Profile, profile_named
from agentkit.testing import Cut, DeepSeekSimulator, Failure, Late, Raw, Reply, SimRequest, call
from tests.cli.helpers import cli
from tests.test_conformance import good, only, verdicts


class Around:
    """An HTTP server round a simulator, as real ones behave: it keeps connections, and closes them when it likes.

    `breaks(n)`: whether the nth POST gets no answer. `headers` are sent with each response; `pages` are answered at GET.
    """

    def __init__(
        self,
        sim: DeepSeekSimulator,
        *,
        breaks: Callable[[int], bool] = lambda n: False,
        headers: dict[str, str] | None = None,
        pages: dict[str, Any] | None = None,
    ) -> None:
        self._sim, self._breaks, self._headers, self._pages = sim, breaks, headers or {}, pages
        self.posts = self.connections = 0
        self.serving: set[asyncio.Task[Any]] = set()
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.seen.append((method, path, headers))
            writer.write(self._answer(method, path, headers, body))
            await writer.drain()
            await reader.read(1)  # the client closes, or asks again
        writer.close()  # without a word: a second request on this connection gets no answer

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        if method == "GET" and self._pages is not None:
            found = path in self._pages
            return _response(200 if found else 404, json.dumps(self._pages.get(path, {})).encode(), self._headers)
        self.posts += 1
        if self._breaks(self.posts):
            raise ConnectionError
        answer = self._sim.respond(method, path, headers, body)
        content = b"".join(part for part in answer.parts if isinstance(part, bytes))
        return _response(answer.status, content, {**answer.headers, "x-ds-trace-id": "", **self._headers})


def _response(status: int, content: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in headers.items() if value)]
    return "\r\n".join([*lines, f"content-length: {len(content)}", "keep-alive: timeout=5", "", ""]).encode() + content


def checked(around: Around, name: str = "some-model", profile: Profile | str | None = GENERIC, base: str = "/v1") -> Report:
    async def main() -> Report:
        server = await asyncio.start_server(around.serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{base}"
            try:
                return await check_endpoint(ChatModel(name, base_url=url, api_key="sk-a-key-of-16-ch", profile=profile))
            finally:
                await asyncio.wait_for(asyncio.gather(*around.serving), 10)

    return asyncio.run(main())


def simulator(answer: Any = good) -> DeepSeekSimulator:
    return DeepSeekSimulator(answer, models={"some-model": "some-model", "deepseek-flash": "deepseek-flash"})


def found(report: Report, check: str) -> Finding:
    return next(finding for finding in report.findings if finding.check == check)


# --- connections --------------------------------------------------------------------------------------------------------


def test_a_server_that_closes_kept_connections_is_not_broken() -> None:
    around = Around(simulator(), pages={})
    report = checked(around, profile=DEEPSEEK)
    assert (len(report.findings), report.sent_again) == (len(CHECKS), 0)
    assert {*verdicts(report).values()} <= {"yes", "no"}
    assert around.connections == len(around.seen) == report.requests


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_connection_that_breaks_now_and_then_is_no_finding(every: int) -> None:
    quiet = checked(Around(simulator()), profile=DEEPSEEK)
    report = checked(Around(simulator(), breaks=lambda n: n % every == 0), profile=DEEPSEEK)
    assert verdicts(report) == verdicts(quiet)
    assert report.sent_again == report.requests // every
    assert report.requests == quiet.requests + report.sent_again


def test_a_feature_whose_connection_always_breaks_is_broken() -> None:
    sim = simulator()

    class Breaking(Around):
        def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
            if b"json_object" in body:
                raise ConnectionError
            return super()._answer(method, path, headers, body)

    report = checked(Breaking(sim), profile=DEEPSEEK)
    broken = [finding for finding in report.findings if finding.verdict == "broken"]
    assert [finding.check for finding in broken] == ["answers json"]
    assert "failed twice" in broken[0].detail and report.sent_again == 1


def test_a_server_that_never_answers_is_not_reached() -> None:
    around = Around(simulator(), breaks=lambda _n: True, pages={})
    with pytest.raises(AgentError, match=r"127\.0\.0\.1:\d+/v1/chat/completions"):
        checked(around)
    assert around.posts == 2


def test_a_server_that_is_slow_says_nothing_of_what_it_can() -> None:
    async def main(base_url: str) -> None:
        server = Server(ChatModel("deepseek-flash", base_url=base_url, timeout=0.1), DEEPSEEK)
        with pytest.raises(TemporaryFailure, match=r"no byte came within 0\.1 seconds"):
            await server.ask("Hi")
        assert (server.sent, server.sent_again) == (1, 0)

    with DeepSeekSimulator([Late("Hello.", 60)]) as sim:
        asyncio.run(main(sim.base_url))


def once(broken: Callable[[Any], Any]) -> Callable[[SimRequest], Any]:
    """As `good`, but the reply to the first sending of each request is `broken`."""
    seen: set[bytes] = set()

    def answer(request: SimRequest) -> Any:
        is_first = request.raw not in seen
        seen.add(request.raw)
        return broken(good(request)) if is_first else good(request)

    return answer


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("after", range(1, 9))
def test_a_reply_that_is_cut_once_is_no_finding(after: int, clean: bool) -> None:
    """Wherever it is cut, by a connection that breaks or by one that ends as if the reply were whole."""
    quiet = checked(Around(simulator()), profile=DEEPSEEK)
    with simulator(once(lambda reply: Cut(reply, after, clean=clean))) as sim:
        report = asyncio.run(check_endpoint(ChatModel("some-model", base_url=sim.base_url, profile=DEEPSEEK)))
    assert verdicts(report) == verdicts(quiet) and report.settings == quiet.settings
    assert report.sent_again or after > 5


@pytest.mark.parametrize(
    "cut", [b"", b'{"choices": [{"mess', b'data: {"choices": [{"index": 0, "delta": {"content": "He"}}]}\n\n']
)
def test_a_reply_that_is_always_cut_is_broken_and_not_whole(cut: bytes) -> None:
    sim = simulator(only('"stream": true', Raw(cut)))
    report = checked(Around(sim), profile=DEEPSEEK)
    assert [f.check for f in report.findings if "not whole, twice" in f.detail] == [
        "streams", "calls in parallel", "streams arguments"
    ]  # fmt: skip
    assert report.sent_again == 3 and "came whole" not in str(report.findings)
    first = checked(Around(simulator(lambda _request: Raw(cut))), profile=DEEPSEEK).findings
    assert [(f.check, f.verdict) for f in first] == [("answers", "broken")]


ONE_CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
ONE_OBJECT = b'\xef\xbb\xbf{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize(
    ("body", "verdict", "says"),
    [
        (ONE_CHUNK, "broken", "1 chunks, no usage, and no [DONE]"),
        (ONE_CHUNK + b"data: [DONE]\n\n", "broken", "1 chunks, no usage"),
        (b"data: waiting\n\n" + ONE_CHUNK + b'data: "[done]"\n\n', "broken", "1 chunks, no usage"),
        (ONE_OBJECT, "no", "came whole"),
    ],
)
def test_only_one_json_object_is_a_reply_that_came_whole(body: bytes, verdict: str, says: str) -> None:
    finding = found(checked(Around(simulator(only('"stream": true', Raw(body)))), profile=DEEPSEEK), "streaming")
    assert (finding.verdict, says in finding.detail) == (verdict, True), finding


# --- marks --------------------------------------------------------------------------------------------------------------


def models(owner: str) -> dict[str, Any]:
    return {"/v1/models": {"object": "list", "data": [{"id": "x", "object": "model", "owned_by": owner}]}}


@pytest.mark.parametrize(
    ("headers", "pages", "name", "mark"),
    [
        ({"Server": "llama.cpp"}, {}, "llama.cpp", "server: llama.cpp"),
        ({}, models("llamacpp"), "llama.cpp", "owned_by: llamacpp"),
        ({}, {"/props": {"default_generation_settings": {}}}, "llama.cpp", "GET /props"),
        ({"Server": "uvicorn"}, models("vllm"), "vllm", "owned_by: vllm"),
        ({"Server": "uvicorn"}, {"/version": {"version": "0.11.0"}}, "generic", ""),
        ({}, {**models("local"), "/version": {"version": "v2.20"}}, "generic", ""),
        ({}, {**models("vllm"), "/version": {"version": "0.11.0"}}, "vllm", "owned_by: vllm"),
        ({}, {"/version": {"version": "1"}, "/props": {"default_generation_settings": {}}}, "llama.cpp", "GET /props"),
        ({}, {"/version": {"version": "1"}, "/get_server_info": {"tokenizer_path": "x"}}, "sglang", "GET /get_server_info"),
        ({}, {"/version": {"version": "1"}, "/api/version": {"version": "0.12"}}, "ollama", "GET /api/version"),
        ({"Server": "uvicorn"}, models("sglang"), "sglang", "owned_by: sglang"),
        ({}, {"/get_server_info": {"tokenizer_path": "x"}}, "sglang", "GET /get_server_info"),
        ({}, models("library"), "ollama", "owned_by: library"),
        ({}, {"/api/version": {"version": "0.12"}}, "ollama", "GET /api/version"),
        ({}, models("organization_owner"), "lmstudio", "owned_by: organization_owner"),
        ({"X-DS-Trace-Id": "7"}, {}, "deepseek", "header x-ds-trace-id"),
        ({"Server": "uvicorn"}, models("me"), "generic", ""),
        ({}, {"/version": "1.0", "/props": [1]}, "generic", ""),
        ({}, {"/v1/models": [1, None]}, "generic", ""),
        ({}, {"/v1/models": {"data": [None, {"owned_by": ["x"]}]}}, "generic", ""),
    ],
)
def test_a_server_names_its_profile(headers: dict[str, str], pages: dict[str, Any], name: str, mark: str) -> None:
    around = Around(simulator(), headers=headers, pages=pages)
    report = checked(around, profile=None)
    assert (report.profile.name, report.mark) == (name, mark)
    assert report.requests == len([1 for method, _path, _headers in around.seen if method == "POST"])
    outside = [given for method, path, given in around.seen if method == "GET" and path != "/v1/models"]
    assert all("authorization" not in given for given in outside), "the key is sent to the API only"


def test_a_profile_that_was_given_is_kept() -> None:
    around = Around(simulator(), headers={"Server": "llama.cpp"}, pages={})
    report = checked(around, profile="vllm")
    assert (report.profile.name, report.mark) == ("vllm", "")
    assert all(method == "POST" for method, _path, _headers in around.seen)


def test_every_mark_has_a_known_form_and_one_profile() -> None:
    marks = [mark for profile in PROFILES for mark in profile.marks]
    assert len({*marks}) == len(marks)
    assert all(mark.startswith(("server: ", "owned_by: ", "header ", "GET /")) for mark in marks)


def test_the_command_names_the_profile_of_the_mark() -> None:
    with DeepSeekSimulator(good, models={"some-model": "some-model"}) as sim:
        result = cli("check-endpoint", "--base-url", sim.base_url, "-m", "some-model")
        data = json.loads(cli("check-endpoint", "--json", "--base-url", sim.base_url, "-m", "some-model").stdout)
    assert "profile generic" in result.stdout.splitlines()[0]
    assert "the server says what it is (header x-ds-trace-id): profile='deepseek'" in result.stdout
    assert result.stdout.splitlines()[-1] == "the profile deepseek fits"
    assert (data["profile"], data["mark"], data["sent_again"]) == ("deepseek", "header x-ds-trace-id", 0)


# --- the choice of a tool ---------------------------------------------------------------------------------------------

REFUSED = Failure(400, "Invalid tool_choice")
WEATHER, TIME = call("get_weather", city="Paris"), call("get_time", city="Paris")


@pytest.mark.parametrize(
    ("required", "named", "verdicts_", "forced"),
    [
        (TIME, TIME, ("yes", "yes"), None),
        (WEATHER, REFUSED, ("yes", "no"), "required"),
        (WEATHER, "Hello.", ("yes", "broken"), "required"),
        (WEATHER, WEATHER, ("yes", "broken"), "required"),
        (REFUSED, TIME, ("no", "yes"), "named only"),
        ("Hello.", "Hello.", ("broken", "broken"), "auto"),
        (Reply("", "length"), TIME, ("unknown", "yes"), None),
        (WEATHER, Reply("", "length"), ("yes", "unknown"), None),
        (Reply("Hello Hello", "length"), TIME, ("broken", "yes"), "named only"),
    ],
)
def test_what_a_server_enforces_of_a_choice_is_a_setting(
    required: Any, named: Any, verdicts_: tuple[str, str], forced: str | None
) -> None:
    def answer(request: SimRequest) -> Any:
        choice = request.body.get("tool_choice")
        return required if choice == "required" else named if isinstance(choice, dict) else good(request)

    report = checked(Around(simulator(answer)), profile=DEEPSEEK)
    assert tuple(found(report, f"tool_choice {kind}").verdict for kind in ("required", "by name")) == verdicts_
    assert report.settings.get("forced_choice") == forced


def test_a_choice_by_name_is_sent_to_llama_cpp_as_one_that_it_enforces() -> None:
    spec = ToolSpec("get_time", "Time.", {"type": "object", "properties": {}})
    request = ModelRequest([User("Hi")], (spec,), "get_time", ModelSettings())
    head = wire.head(request, profile_named("llama.cpp"), "m", stream=False)
    assert b'"tool_choice":"required"' in head


# --- accepted, and enforced ---------------------------------------------------------------------------------------------

KELVIN, CELSIUS = call("get_weather", city="Paris", unit="kelvin"), call("get_weather", city="Paris", unit="c")
EXTRA = call("get_weather", city="Paris", unit="c", sky="blue")


def strictly(strict: Any, plain: Any, loose: Any) -> Callable[[SimRequest], Any]:
    """A server that answers a strict function, one without it, and a schema that strict mode forbids."""

    def answer(request: SimRequest) -> Any:
        if "kelvin" not in str(request.last["content"]):
            return good(request)
        (function,) = request.tools
        if "city" not in function["parameters"]["properties"]:
            return loose
        return strict if function.get("strict") else plain

    return answer


NO_STRICT = Failure(400, "unknown field strict")
NOT_CLOSED = Failure(400, "additionalProperties is required to be supplied and to be false")


class NoRules(DeepSeekSimulator):
    """A server that takes every request; its answer decides."""

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        given = json.loads(body or b"{}")
        strict = [tool["function"].pop("strict", None) for tool in given.get("tools", ())]
        given["response_format"] = {"type": "text"} if "response_format" in given else None
        self.strict = strict
        return super().respond(method, path, headers, json.dumps({k: v for k, v in given.items() if v is not None}).encode())


def strict_finding(*answers: Any) -> Any:
    """What the check of strict functions finds at a server that takes any schema, and answers with these."""
    sim = NoRules(lambda request: "", models={"some-model": "some-model"})

    def answer(request: SimRequest) -> Any:
        for function, strict in zip(request.tools, sim.strict, strict=True):
            function["strict"] = strict
        return strictly(*answers)(request)

    sim._answer_to = answer
    return found(checked(Around(sim), profile=GENERIC), "strict functions")


@pytest.mark.parametrize(
    ("answers", "verdict", "says", "settings"),
    [
        ((NO_STRICT, KELVIN, "no"), "no", "unknown field strict", {}),
        ((KELVIN, KELVIN, KELVIN), "no", "accepted, but not enforced", {}),
        ((EXTRA, KELVIN, KELVIN), "no", "accepted, but not enforced", {}),
        ((call("get_weather", city="Paris"), KELVIN, KELVIN), "no", "accepted, but not enforced", {}),
        ((CELSIUS, KELVIN, KELVIN), "yes", "enforced: without it the model broke the schema", {"strict": True}),
        ((CELSIUS, CELSIUS, NOT_CLOSED), "yes", "checked: a schema that is not strict is refused", {"strict": True}),
        ((CELSIUS, CELSIUS, CELSIUS), "unknown", "whether it is enforced was not seen", {}),
        (("I cannot.", KELVIN, "I cannot."), "unknown", "whether it is enforced was not seen", {}),
        (("I cannot.", KELVIN, NOT_CLOSED), "yes", "checked", {"strict": True}),
    ],
)
def test_strict_functions_that_are_accepted_may_not_be_enforced(
    answers: tuple[Any, Any, Any], verdict: str, says: str, settings: dict[str, Any]
) -> None:
    finding = strict_finding(*answers)
    assert (finding.verdict, finding.settings) == (verdict, settings), finding
    assert says in finding.detail


def test_deepseeks_beta_address_checks_strict_schemas() -> None:
    sim = simulator(strictly(CELSIUS, CELSIUS, "The simulator refuses the schema before it asks for an answer."))
    finding = found(checked(Around(sim), profile=DEEPSEEK, base="/beta"), "strict functions")
    assert (finding.verdict, finding.settings) == ("yes", {"strict": True})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [('{"city": "Paris"}', "yes"), ('{"capital": "Paris"}', "no"), ("Paris", "no"), ("[1]", "no")],
)
def test_a_json_schema_that_is_accepted_may_not_be_enforced(text: str, verdict: str) -> None:
    sim = NoRules(only("only key capital", text), models={"some-model": "some-model"})
    finding = found(checked(Around(sim), profile=GENERIC), "JSON schema")
    assert finding.verdict == verdict
    assert finding.detail.startswith("enforced" if verdict == "yes" else "accepted, but not enforced")


# --- answers that are cut -----------------------------------------------------------------------------------------------

THOUGHT = "I think of it. " * 200


class AlwaysThinking(NoRules):
    """A server whose model thinks in whatever mode, also where a choice is forced, and is cut while it does."""

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> Any:
        given = {**json.loads(body or b"{}"), "thinking": {"type": "enabled"}}
        if given.get("tool_choice") not in (None, "none"):
            given["tool_choice"] = "auto"
        given["messages"] = [
            {"reasoning_content": "", **m} if m["role"] == "assistant" else m for m in given.get("messages", ())
        ]
        return super().respond(method, path, headers, json.dumps(given).encode())


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_an_answer_that_is_cut_while_the_model_thinks_says_nothing(reason: str) -> None:
    cut = Reply(Assistant("", THOUGHT), reason)
    report = checked(Around(AlwaysThinking(lambda _request: cut, models={"some-model": "some-model"})), profile=GENERIC)
    checks = ["answers", "tool_choice required", "tool_choice by name", "tool_choice none", "JSON mode", "JSON schema"]
    findings = [found(report, check) for check in checks]
    assert [(finding.verdict, finding.detail) for finding in findings] == [("unknown", "the answer was cut")] * len(checks)
    assert found(report, "strict functions").verdict == "unknown"
    broken = [finding.check for finding in report.findings if finding.verdict == "broken"]
    assert broken == ([] if reason == "length" else ["max_tokens"])
    assert not {"strict", "forced_choice"} & report.settings.keys()


@pytest.mark.parametrize("cut", ["strict", "plain"])
def test_a_cut_call_is_no_proof_of_what_is_enforced(cut: str) -> None:
    half = Reply(ToolCall("", "get_weather", '{"city": "Paris", "un'), "length")
    answers = (half, KELVIN, KELVIN) if cut == "strict" else (CELSIUS, half, CELSIUS)
    finding = strict_finding(*answers)
    assert (finding.verdict, finding.settings) == ("unknown", {}), finding
