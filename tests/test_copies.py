"""Copies and pickles: of agents, models, tools and the context; and that what belongs to a run stays with it."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import json
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit import (
    Agent,
    ChatModel,
    Fallback,
    KeepTurns,
    Limiter,
    Limits,
    Middleware,
    ModelSettings,
    RunContext,
    RunFinished,
    ScriptedModel,
    Tool,
    ToolCall,
    ToolProgress,
    ToolRegistry,
    Toolset,
    as_tool,
    guardrail,
    tool,
)
from agentkit.team import handoff
from agentkit.testing import call


@tool
def decorated(x: int = 1) -> int:
    """Decorated."""
    return x + 1


def plain(x: int = 1) -> int:
    """Plain."""
    return x + 2


named = tool(plain, name="named", timeout=5, sensitive=["x"])


class Kit:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def method(self, x: int = 1) -> int:
        """Method."""
        self.seen.append(x)
        return x

    @staticmethod
    @tool
    def static(x: int = 1) -> int:
        """Static."""
        return x + 3


class Server:
    """Answers each request with the text "hi"; knows by which connections they came."""

    def __init__(self) -> None:
        self.connections: list[tuple[str, int]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.connections.append(self.client_address)
                choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
                body = json.dumps({"id": "x", "model": "m", "choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


# ---- agents and models


def test_a_deep_copy_of_an_agent_has_connections_of_its_own(server: Server) -> None:
    agent = Agent(ChatModel("m", base_url=server.url), tools=[decorated], limits=Limits(steps=3), history=KeepTurns(2))

    async def go() -> list[str]:
        async with agent, copy.deepcopy(agent) as other:
            results = [await one.run("hi") for one in (agent, other, agent, other)]
        return [result.output for result in results]

    assert asyncio.run(go()) == ["hi"] * 4
    assert len({*server.connections}) == 2, "each has kept one connection"
    other = copy.deepcopy(agent)
    assert other.model.limiter is agent.model.limiter, "they share what the server allows"  # type: ignore[attr-defined]
    assert list(other.spec.tools) == [decorated] and other.spec.limits == agent.spec.limits


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_model_keeps_what_it_was_given(copied: Any, server: Server) -> None:
    async def go() -> None:
        async with httpx.AsyncClient() as client:
            limiter, key = Limiter(concurrency=3), "k" * 20
            model = ChatModel("m", base_url=server.url, api_key=key, profile="vllm", limiter=limiter, client=client, timeout=7)
            other = copied(model)
            assert (other.name, other.endpoint, other.profile, other.limiter) == ("m", model.endpoint, model.profile, limiter)
            assert other is not model and (await Agent(other).run("go")).output == "hi"

    asyncio.run(go())


def test_a_deep_copy_of_a_fallback_asks_models_of_its_own(server: Server) -> None:
    first, second = ChatModel("a", base_url=server.url), ChatModel("b", base_url=server.url)
    model = Fallback(first, second, patience=9)
    other = copy.deepcopy(model)
    assert all(one not in (first, second) for one in other.models)
    assert Agent(other).run_sync("go").output == "hi"


class Counting(Middleware):
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def tool_call(self, call: ToolCall, ctx: Any, next: Any) -> Any:
        self.calls.append(call.name)
        return await next(call)


class Named(Agent[str]):
    label = ""


def asked(call: ToolCall) -> bool:
    return True


def test_a_deep_copy_of_an_agent_is_another_one() -> None:
    kit, counting = Kit(), Counting()
    agent = Named(
        ScriptedModel([call("method"), "end"]),
        tools=[kit.method, decorated],
        middleware=[counting],
        approve=asked,
        deps_type=dict,
    )
    agent.label = "mine"
    other = copy.deepcopy(agent)
    assert isinstance(other, Named) and other.label == "mine"
    assert other.run_sync("go", deps={}).output == agent.run_sync("go", deps={}).output == "end"
    assert counting.calls == ["method"], "the copy counts by itself"
    assert kit.seen == [1, 1], "a tool is a function: the copy calls the same"


def test_an_agent_with_an_iterator_of_tools_is_copied_with_all_of_them() -> None:
    agent = Agent(ScriptedModel(["end"]), tools=(one for one in (decorated, plain)))
    for other in (agent.copy(), copy.copy(agent), copy.deepcopy(agent)):
        assert [one.name for one in other.spec.tools] == ["decorated", "plain"]


def test_an_agent_with_a_typed_answer_is_copied() -> None:
    agent = Agent(ScriptedModel([call("final_answer", answer=[1])]), output_type=list[int] | None)
    assert copy.deepcopy(agent).run_sync("go").output == [1]
    agent = Agent(ScriptedModel([call("final_answer")]), output_type=functools.partial(plain, 3))
    assert copy.deepcopy(agent).run_sync("go").output == 5


# ---- pickles


@pytest.mark.parametrize("made", [decorated, Kit.static, named, tool(decorated, name="again", retries=2), tool(Kit().method)])
def test_a_tool_is_pickled_and_copied(made: Any) -> None:
    other = pickle.loads(pickle.dumps(made))
    assert (other.name, other.timeout, other.retries, other.sensitive) == (
        made.name,
        made.timeout,
        made.retries,
        made.sensitive,
    )
    assert other.schema() == made.schema() and other(2) == made(2)
    assert copy.deepcopy(made) is made and copy.copy(made) is made
    if made in (decorated, Kit.static):
        assert other is made, "by its name, as a function"


def test_a_registry_and_the_specs_are_pickled() -> None:
    registry = ToolRegistry([decorated, named])
    other = pickle.loads(pickle.dumps(registry))
    assert [one.name for one in other] == ["decorated", "named"] and "w_named" in registry.prefix("w_")
    assert pickle.loads(pickle.dumps(registry.prefix("w_")["w_decorated"]))(1) == 2
    assert pickle.loads(pickle.dumps(named.spec)) == named.spec == copy.deepcopy(named.spec)


def test_an_agent_whose_parts_can_be_pickled_is() -> None:
    agent = Agent(
        ScriptedModel([call("decorated", x=3), call("final_answer", answer=4)]),
        tools=[decorated, named],
        output_type=int,
        settings=ModelSettings(stop=["END"]),
        limits=Limits(steps=5),
        approve=asked,
    )
    other = pickle.loads(pickle.dumps(agent))
    assert other.run_sync("go").output == 4 and other.spec.limits == agent.spec.limits
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        pickle.dumps(Agent(ScriptedModel([]), tools=[lambda x: x] and [tool(lambda x: x, name="f")]))


def upper(messages: list[Any]) -> list[Any]:
    return messages[-1:]


def done(request: Any) -> str:
    return "Done."


clerk = Agent(ScriptedModel(done), name="clerk", description="Works.")


@Toolset
def by_decorator(ctx: RunContext[Any]) -> list[Any]:
    return [decorated]


@guardrail("input")
def no_cards(text: str) -> str | None:
    return "a card" if "4111" in text else None


def duplicates(agent: Any) -> list[Any]:
    return [copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))]


@pytest.mark.parametrize(
    ("made", "given"),
    [
        (clerk.as_tool(), {"task": "Work."}),
        (handoff(clerk), {}),
        (handoff(clerk, filter=upper, name="give_away", approval=False), {}),
    ],
)
def test_an_agent_with_agents_as_tools_is_copied_and_pickled(made: Any, given: dict[str, str]) -> None:
    agent = Agent(ScriptedModel([call(made.name, **given), "Done."]), tools=[made])
    for other in duplicates(agent):
        result = other.run_sync("go")
        assert result.output == "Done." and next(iter(other.tools)).is_run
        assert [message.content for message in result.messages if message.role == "tool"][:1] == ["Done."]
        assert next(iter(other.tools)).schema() == made.schema()


def test_an_agent_with_an_outside_tool_is_copied_and_pickled() -> None:
    click = Tool.outside("click", "Click.", {"type": "object", "properties": {}}, timeout=5)
    for other in duplicates(Agent(ScriptedModel([call("click"), "Done."]), tools=[click])):
        paused = other.run_sync("go")
        assert paused.stop_reason == "pending_result" and other.tools["click"].timeout == 5
        assert other.resume_sync(paused.state, results={paused.pending[0].id: "yes"}).output == "Done."


class LikeLangchain:
    name, description, args_schema = "theirs", "Theirs.", {"type": "object", "properties": {"x": {"type": "integer"}}}

    async def ainvoke(self, arguments: dict[str, Any]) -> int:
        return int(arguments["x"]) + 1


def test_a_tool_of_another_library_is_pickled_with_it() -> None:
    for other in duplicates(as_tool(LikeLangchain())):
        assert asyncio.run(other.call({"x": 1})) == 2


def test_what_a_decorator_made_is_pickled_by_its_name() -> None:
    agent = Agent(ScriptedModel(["Done."]), tools=[by_decorator], middleware=[no_cards])
    for other in duplicates(agent):
        assert other._parts["tools"] == (by_decorator,) and other._parts["middleware"] == (no_cards,)
        assert other.run_sync("4111").stop_reason == "guardrail:no_cards"
    assert pickle.loads(pickle.dumps(Toolset(upper))).function is upper


def agents_of(boss: Agent[Any]) -> set[Any]:
    functions: list[Any] = [made.function for made in boss.tools]
    return {function.args[0] for function in functions}


def test_a_team_that_is_copied_together_stays_together() -> None:
    def see(ctx: RunContext[Any]) -> str:
        """See."""
        return "seen"

    worker = Agent(ScriptedModel(lambda request: "Done."), name="worker", tools=[see])
    boss = Agent(ScriptedModel(["end"]), tools=[worker.as_tool(), handoff(worker)])
    other_worker, other_boss = copy.deepcopy([worker, boss])
    assert agents_of(other_boss) == {other_worker} != {worker}
    assert all(made.is_run for made in other_boss.tools)
    assert agents_of(copy.deepcopy(boss)) == {worker}, "alone, it keeps its tools"


def test_a_model_is_pickled_without_a_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", "key-of-the-environment")
    data = pickle.dumps(ChatModel("m", base_url=server.url, timeout=7, profile="vllm"))
    assert b"key-of-the-environment" not in data
    other = pickle.loads(data)
    assert (other.name, other.endpoint.base_url, other.profile.name) == ("m", server.url, "vllm")
    assert Agent(other).run_sync("go").output == "hi"
    with pytest.raises(TypeError, match="with its own api_key cannot be pickled"):
        pickle.dumps(ChatModel("m", base_url=server.url, api_key="k" * 20))
    with pytest.raises(TypeError, match="with its own limiter cannot be pickled"):
        pickle.dumps(ChatModel("m", base_url=server.url, limiter=Limiter()))


def test_a_tool_and_an_agent_go_to_another_process(tmp_path: Path) -> None:
    (tmp_path / "kit.py").write_text(
        textwrap.dedent(
            """
            from agentkit import Agent, ScriptedModel, tool
            from agentkit.testing import call

            @tool(read_only=True)
            def look(x: int) -> int:
                "Look."
                return x + 1

            def make():
                return Agent(ScriptedModel([call("look", x=1), "end"]), tools=[look])
            """
        )
    )
    write = "import pickle, sys, kit; sys.stdout.buffer.write(pickle.dumps([kit.look, kit.make()]))"
    read = "import pickle, sys; look, agent = pickle.load(sys.stdin.buffer); print(look(1), agent.run_sync('go').output)"
    env = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}", "PATH": ""}
    data = subprocess.run([sys.executable, "-c", write], env=env, capture_output=True, check=True, timeout=60).stdout
    done = subprocess.run([sys.executable, "-c", read], env=env, input=data, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().split() == ["2", "end"]


# ---- the context


@dataclasses.dataclass
class Deps:
    users: dict[str, int]


def test_the_context_is_copied_without_what_belongs_to_the_run() -> None:
    kept: list[Any] = []

    @tool
    def log(ctx: RunContext[Deps]) -> str:
        """Log."""
        assert ctx.scope is not None
        made = copy.deepcopy(ctx)
        assert (made.run_id, made.call, made.position, made.idempotency_key) == (ctx.run_id, ctx.call, 0, ctx.idempotency_key)
        assert made.deps == ctx.deps and made.deps is not ctx.deps
        assert made.scope is None
        made.progress("nobody is told")
        assert copy.copy(ctx).scope is ctx.scope and dataclasses.replace(ctx).scope is ctx.scope
        kept.extend([dataclasses.asdict(ctx), pickle.loads(pickle.dumps(ctx))])
        ctx.progress("told")
        return "copied"

    stream = Agent(ScriptedModel([call("log"), "end"]), tools=[log]).stream_sync("go", deps=Deps({"a": 1}))
    told = [event.data for event in stream if isinstance(event, ToolProgress)]
    assert [message.content for message in stream.result.messages if message.role == "tool"] == ["copied"]
    assert told == ["told"]
    as_dict, other = kept
    assert json.loads(json.dumps(as_dict)) == {
        "deps": {"users": {"a": 1}},
        "run_id": stream.result.run_id,
        "call": dataclasses.asdict(ToolCall("call_01_0", "log")),
        "position": 0,
        "scope": None,
        "attempt": 0,
    }
    assert other.deps == Deps({"a": 1}) and other.scope is None


# --- objects that hold an agent, and parts that cannot be copied -----------------------------------------------------------


class Service:
    """A tenant with an agent of its own methods."""

    def __init__(self, heard: Any) -> None:
        self.seen: list[str] = []
        script: list[Any] = [call("look"), "Done."]
        self.agent = Agent(ScriptedModel(script), tools=[self.look], observers=[heard], approve=self.ask)

    def look(self) -> str:
        """Look."""
        self.seen.append("looked")
        return "seen"

    def ask(self, call: ToolCall) -> bool:
        return True


def test_a_copied_object_has_an_agent_with_the_methods_of_the_copy() -> None:
    heard: list[Any] = []
    one = Service(heard.append)
    other = copy.deepcopy(one)
    other.agent.run_sync("go")
    assert (one.seen, other.seen) == ([], ["looked"])
    assert other.agent._parts["approve"].__self__ is other
    assert isinstance(heard[-1], RunFinished), "observers are shared"


class Locked(Middleware):
    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_parts_that_cannot_be_copied_are_shared() -> None:
    kept = sqlite3.connect(":memory:")
    try:
        locked = Locked()
        observer = functools.partial(lambda _store, _event: None, kept)
        agent = Agent(ScriptedModel(["Done."]), middleware=[locked], observers=[observer])
        other = copy.deepcopy(agent)
        assert other.run_sync("go").output == "Done." and other._parts["middleware"] == (locked,)
    finally:
        kept.close()


class OfTeam(ChatModel):
    def __init__(self, team: str) -> None:
        super().__init__("m", base_url="http://127.0.0.1:1/v1")
        self.team = team


def test_a_subclass_of_the_chat_model_keeps_what_is_its_own() -> None:
    other = pickle.loads(pickle.dumps(OfTeam("red")))
    assert (type(other), other.team, other.name) == (OfTeam, "red", "m")
