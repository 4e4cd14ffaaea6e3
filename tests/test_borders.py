"""What a program gives is refused where it is given, or it works and survives being stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    Middleware,
    ModelReply,
    ScriptedModel,
    SettingsError,
    System,
    ToolCall,
    ToolResult,
    User,
    tool,
)
from agentkit.testing import call
from tests.kit import How, reloaded, tool_texts


class Text(str):
    """A text with something that hangs on it, as the nodes of a parsed page have."""

    page: Any = None

    def __str__(self) -> str:
        return "not the text"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"run_id": 123}, "run_id is 123; allowed: a text that is not empty, or None"),
        ({"run_id": ""}, "run_id is ''"),
        ({"run_id": b"x"}, "run_id is b'x'"),
        ({"messages": [User([{"type": "text", "text": "a"}])]}, "messages: User.content has {'type': "),  # type: ignore[list-item]
        ({"messages": [User("a", 5)]}, "messages: User.name is 5"),  # type: ignore[arg-type]
        ({"messages": [System(None)]}, "messages: System.content is None"),  # type: ignore[arg-type]
        ({"messages": [User("a"), Assistant("x", None)]}, "messages: Assistant.reasoning is None"),  # type: ignore[arg-type]
        ({"messages": [User("a"), Assistant("x", tool_calls="y")]}, "messages: Assistant.tool_calls is 'y'"),  # type: ignore[arg-type]
        ({"messages": [Assistant(tool_calls=(ToolCall("a", "f", {}),))]}, "messages: ToolCall.arguments is {}"),  # type: ignore[arg-type]
        ({"messages": [ToolResult("a", "f", None)]}, "messages: ToolResult.content is None"),  # type: ignore[arg-type]
        ({"messages": [{"role": "user", "content": "a"}]}, "messages: .* is no message; allowed: System, User"),
        ({"messages": "go"}, "messages: 'g' is no message"),
        ({"messages": 5}, "messages: 'int' object is not iterable"),
        ({"observers": print}, "observers is "),
        ({"observers": 5}, "observers is 5"),
        ({"observers": 0}, "observers is 0"),
        ({"observers": ""}, "observers is ''"),
        ({"messages": False}, "messages: "),
        ({"observers": [5]}, r"observers is \[5\]"),
    ],
)
def test_options_of_a_run_are_refused_before_it_begins(how: How, options: dict[str, Any], says: str) -> None:
    model = ScriptedModel(["ok"])
    with pytest.raises(SettingsError, match=says):
        how(Agent(model), "go", **options)
    assert model.requests == []


def test_generators_count_wherever_a_list_does(how: How) -> None:
    seen: list[str] = []

    class Watch(Middleware):
        async def tool_call(self, call: ToolCall, ctx: Any, next: Any) -> Any:
            seen.append("middleware")
            return await next(call)

    def note() -> str:
        """Note."""
        return "noted"

    agent = Agent(
        ScriptedModel([call("note"), "ok"] * 2), tools=(fn for fn in [note]), middleware=(layer for layer in [Watch()])
    )
    for each in (agent, agent.copy()):
        seen.clear()
        messages = (message for message in [User("a"), Assistant("b")])
        result = how(each, "go", messages=messages, observers=(seen.append for _ in range(1)))
        assert tool_texts(result) == ["noted"]
        assert len(result.messages) == 6
        assert "middleware" in seen and len(seen) > 5


TEXTS = {"of a subclass": Text("plain"), "of a subclass, cut": Text("half \ud800"), "cut": "half \ud800", "plain": "caf\u00e9"}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_are_plain_and_survive_being_stored(how: How, text: str) -> None:
    @tool
    def page() -> str:
        """Read."""
        return text

    @tool
    def fails() -> str:
        """Fail."""
        raise ValueError(text)

    history = [System(text), User(text, None), Assistant(text, text), User("x")]
    result = how(Agent(ScriptedModel([[call("page"), call("fails")], "ok"]), tools=[page, fails]), text, messages=history)
    texts = [getattr(message, "content", None) or message.text for message in result.messages]  # type: ignore[union-attr]
    assert {type(found) for found in texts} == {str}
    "".join(texts).encode()  # no half of a character is left
    assert reloaded(result.state).messages == result.messages
    json.dumps(result.state.to_json(), ensure_ascii=False).encode()
    plain = str.__str__(text).replace("\ud800", "\ufffd")
    assert [found for found in texts if found not in ("x", "ok", "") and not found.startswith("error")] == [plain] * 5


@pytest.mark.parametrize(
    "message",
    [
        Assistant(None),  # type: ignore[arg-type]
        Assistant("x", None),  # type: ignore[arg-type]
        Assistant(tool_calls=(ToolCall("a", "f", {}),)),  # type: ignore[arg-type]
        Assistant(tool_calls=({"name": "f"},)),  # type: ignore[arg-type]
        "x",
        None,
    ],
)
def test_a_model_that_answers_with_something_else_is_told_so(message: Any) -> None:
    class Odd:
        async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
            return ModelReply(message)

    with pytest.raises(TypeError, match=r"the model .* replied with"):
        Agent(Odd(), retry=None).run_sync("go")
