"""Names in requests: two tools of one registry never share one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentkit import Agent, ScriptedModel, ToolDefinitionError, ToolRegistry, tool
from agentkit.names import wire_name, with_article

ROOT = Path(__file__).parent.parent


def add(x: int, y: int = 2) -> int:
    """Add two numbers."""
    return x + y


@pytest.mark.parametrize("name", ["mail.send", "mail send", "9lives", "_hidden", "x" * 65, "søker"])
def test_two_tools_may_not_share_their_name_in_requests(name: str) -> None:
    named, shadow = tool(add, name=name), tool(add, name=wire_name(name))
    for first, second in ((named, shadow), (shadow, named)):
        registry = ToolRegistry([first])
        with pytest.raises(ToolDefinitionError, match=f"would both be sent as '{wire_name(name)}'; rename one"):
            registry.add(second)
        assert list(registry) == [first]
        with pytest.raises(ToolDefinitionError, match="would both be sent as"):
            _ = ToolRegistry([first]) | [second]
    with pytest.raises(ToolDefinitionError, match="would both be sent as"):
        Agent(ScriptedModel([]), tools=[named, shadow])


def test_a_prefix_that_makes_two_names_one_is_refused() -> None:
    inner = wire_name("a.mail")
    registry = ToolRegistry([tool(add, name="a.mail")])
    with pytest.raises(ToolDefinitionError, match="would both be sent as"):
        registry.add(ToolRegistry([tool(add, name=inner.removeprefix("a_"))]).prefix("a_"))


def test_a_tool_may_be_added_twice_and_a_name_that_servers_refuse_is_no_clash() -> None:
    odd, plain = tool(add, name="mail.send"), tool(add, name="mail_send")
    registry = ToolRegistry([odd, plain, odd])
    assert [item.name for item in registry] == ["mail.send", "mail_send"]
    assert [schema["function"]["name"] for schema in registry.schemas()] == [wire_name("mail.send"), "mail_send"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("int", "an int"), ("str", "a str"), ("NoneType", "None"), ("Agent", "an Agent"), ("UUID", "a UUID"),
        ("User", "a User"), ("Unknown", "an Unknown"), ("UnionType", "a UnionType"), ("object", "an object"),
    ],
)  # fmt: skip
def test_a_type_has_its_article(kind: str, words: str) -> None:
    assert with_article(kind) == words


def test_no_message_has_one_article_for_all_types() -> None:
    for path in [*(ROOT / "agentkit").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        assert not re.search(r"\ban? \{type\(", path.read_text(encoding="utf-8")), path
