"""Loading tools and agents, and `agentkit tools`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from agentkit import Agent, ScriptedModel
from agentkit.cli.load import load_agent, load_tools
from agentkit.cli.show import type_name

from .helpers import cli, process, tools_file

AGENT = "from agentkit import Agent, ScriptedModel\nagent = Agent(ScriptedModel(['x']))\nother = 3\n"


def test_the_table_has_parameters_with_type_need_and_description_and_the_labels(tmp_path: Path) -> None:
    result = cli("tools", tools_file(tmp_path))
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert (result.exit_code, result.stderr) == (0, "")
    assert rows == [
        "get_weather",
        "Current weather in a city.",
        "parameter type required description",
        "city string yes Name of the city.",
        "unit 'c' | 'f' no: 'c'",
        "only reads · reaches outside systems · its result is not trusted · given up after 5 s",
        "",
        "delete_file",
        "Delete a file.",
        "parameter type required description",
        "name string yes",
        "may write (not labelled) · needs an approval · its result is not trusted",
        "",
    ]


def test_json_is_the_schemas_in_the_form_of_the_api(tmp_path: Path) -> None:
    file = tools_file(tmp_path)
    result = cli("tools", file, "--json")
    assert json.loads(result.stdout) == [tool.schema() for tool in load_tools([file])]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "may write (not labelled)"),
        ("read_only=True", "only reads · reaches outside systems"),
        ("read_only=True, open_world=False", "only reads · reaches nothing outside"),
        ("destructive=False", "writes, destroys nothing · reaches outside systems"),
        ("open_world=False", "may write and destroy · reaches nothing outside"),
        ("idempotent=True", "may write and destroy · may be repeated · reaches outside systems"),
        ("sensitive=('x',)", "may write (not labelled) · chooses a destination with x"),
        ("approval=lambda x: True", "may write (not labelled) · may need an approval"),
    ],
)
def test_the_labels_are_plain_words(tmp_path: Path, options: str, words: str) -> None:
    source = f"from agentkit import tool\n@tool({options})\ndef f(x: str) -> str:\n    'F.'\n    return x\n"
    assert cli("tools", tools_file(tmp_path, source)).stdout.splitlines()[-2] == f"  {words} · its result is not trusted"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("output='trusted'", "its result is trusted"),
        ("trusted_fields=('id',)", "its result is not trusted · but trusted are id"),
        ("sequential=True", "its result is not trusted · runs alone"),
        ("parallel=True", "its result is not trusted · runs beside other calls"),
        ("strict=True", "its result is not trusted · the server enforces the schema"),
    ],
)
def test_how_a_tool_is_run_is_said_too(tmp_path: Path, options: str, words: str) -> None:
    source = f"from agentkit import tool\n@tool({options})\ndef f(x: str) -> str:\n    'F.'\n    return x\n"
    assert cli("tools", tools_file(tmp_path, source)).stdout.splitlines()[-2] == f"  may write (not labelled) · {words}"


NESTED = '''
from typing import Annotated
from pydantic import BaseModel, Field
from agentkit import tool


class Stop(BaseModel):
    city: str
    nights: Annotated[int, Field(ge=1, le=14)] = 1


@tool(returns=True)
def book(stops: list[Stop], budget: Annotated[float, Field(gt=0)]) -> list[int]:
    """Book a journey.

    Returns:
        The numbers of the bookings.
    """
    return []
'''


def test_what_the_model_sees_has_nested_parameters_their_limits_and_the_result(tmp_path: Path) -> None:
    shown = cli("tools", tools_file(tmp_path, NESTED)).stdout
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert {"stops list[Stop] yes", "budget number, > 0 yes", "Stop type required description"} <= {*rows}
    assert "nights integer, >= 1, <= 14 no: 1" in rows
    assert "The JSON Schema of the result" in shown and "The numbers of the bookings." in " ".join(shown.split())


def test_descriptions_are_neither_markup_nor_control_codes(tmp_path: Path) -> None:
    docstring = '"""[red]\\x1b[2J.\n\n    Args:\n        x: [b]\\x07\n    """'
    source = f"from agentkit import tool\n@tool\ndef f(x: str) -> str:\n    {docstring}\n"
    shown = cli("tools", tools_file(tmp_path, source)).stdout
    assert "[red]\\x1b[2J" in shown and "[b]\\x07" in shown and "\x1b" not in shown


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": "integer"}, "integer"),
        ({"type": "array", "items": {"type": "number"}}, "list[number]"),
        ({"type": "array"}, "list[any]"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"enum": [1, "a"]}, "1 | 'a'"),
        ({"const": "x"}, "'x'"),
        ({"$ref": "#/$defs/City"}, "City"),
        ({"$ref": "#/$defs/Unit"}, "'c' | 'f'"),
        ({}, "any"),
    ],
)
def test_types_are_written_as_people_write_them(schema: dict[str, object], name: str) -> None:
    definitions = {"City": {"type": "object"}, "Unit": {"enum": ["c", "f"]}}
    assert type_name(schema, definitions) == name


def test_tools_of_files_and_modules_come_in_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tools_file(tmp_path)
    tools_file(
        tmp_path / "here", "from agentkit import tool\n@tool\ndef third() -> int:\n    'Three.'\n    return 3\n", "cli_third.py"
    )
    found = load_tools([file, "cli_third", file])
    assert [tool.name for tool in found] == ["get_weather", "delete_file", "third"]


def test_a_file_can_import_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    tools_file(tmp_path, "WORD = 'neighbour'\n", "cli_neighbour.py")
    source = (
        "from cli_neighbour import WORD\nfrom agentkit import tool\n@tool(name=WORD)\ndef f() -> int:\n    'F.'\n    return 1\n"
    )
    assert [tool.name for tool in load_tools([tools_file(tmp_path, source)])] == ["neighbour"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def plain(x: int) -> int:\n    return x\n", ["has no tools", "so not offered to a model: plain", "@tool"]),
        ("import json\nx = 1\n", ["has no tools", "@tool"]),
        ("1 / 0\n", ["cannot be loaded: ZeroDivisionError: division by zero (my_tools.py, line 1)\n"]),
        ("import sys\nsys.exit(5)\n", ["cannot be loaded: SystemExit: 5 (my_tools.py, line 2)\n"]),
        ("x = 1\ndef f(:\n", ["cannot be loaded: SyntaxError", "(my_tools.py, line 2)\n"]),
        ("\nimport no_such_module_here\n", ["cannot be loaded: No module named 'no_such_module_here' (my_tools.py, line 2)\n"]),
        (
            "from agentkit import tool\n@tool(name='a\\nb')\ndef f(): ...\n",
            ["cannot be loaded: ToolDefinitionError", "line 2)"],
        ),
        ("import json\n\ndef read():\n    return json.loads('{')\n\nread()\n", ["JSONDecodeError", " (my_tools.py, line 4)\n"]),
    ],
)
def test_a_source_that_cannot_be_used_is_one_message(tmp_path: Path, source: str, told: list[str]) -> None:
    file = tools_file(tmp_path, source)
    result = cli("tools", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert file in result.stderr and "Traceback" not in result.stderr
    for part in told:
        assert part in result.stderr


def test_the_file_is_named_that_cannot_be_loaded(tmp_path: Path) -> None:
    tools_file(tmp_path, "x = 1\n1 / 0\n", "cli_broken_neighbour.py")
    file = tools_file(tmp_path, "import cli_broken_neighbour\n")
    said = f"agentkit: --agent {file}:a: {file} cannot be loaded: ZeroDivisionError: division by zero"
    assert cli("run", "Hi", "--agent", f"{file}:a").stderr == f"{said} (cli_broken_neighbour.py, line 2)\n"
    maker = tools_file(tmp_path, "def make():\n    return 1 / 0\n", "cli_maker.py")
    said = f"agentkit: --agent {maker}:make raised ZeroDivisionError: division by zero (cli_maker.py, line 2)\n"
    assert cli("run", "Hi", "--agent", f"{maker}:make").stderr == said


def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    result = cli("tools", tools_file(tmp_path), tools_file(tmp_path, name="copy.py"))
    assert result.exit_code == 2
    assert "two tools are called 'get_weather'" in result.stderr


def test_a_module_that_is_not_there_is_said_to_be_so() -> None:
    result = cli("tools", "no_such_module_here.deeper")
    assert (result.exit_code, "there is no module no_such_module_here.deeper" in result.stderr) == (2, True)


def test_debug_shows_where_the_users_file_failed(tmp_path: Path) -> None:
    result = cli("tools", tools_file(tmp_path, "x = 1\n1 / 0\n"), "--debug")
    assert result.exit_code == 2
    assert "my_tools.py" in result.stderr and "line 2" in result.stderr


def test_an_agent_is_found_by_file_and_name(tmp_path: Path) -> None:
    agent = load_agent(f"{tools_file(tmp_path, AGENT)}:agent")
    assert isinstance(agent, Agent) and isinstance(agent.model, ScriptedModel)


@pytest.mark.parametrize(
    ("name", "told"),
    [("missing", "has no missing; its agents: agent"), ("other", "is an int, not an Agent; its agents: agent")],
)
def test_another_name_is_refused_with_the_agents_that_there_are(tmp_path: Path, name: str, told: str) -> None:
    result = cli("run", "Hi", "--agent", f"{tools_file(tmp_path, AGENT)}:{name}")
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


def test_an_async_function_is_refused_without_a_word_of_python(tmp_path: Path) -> None:
    file = tools_file(tmp_path, "async def make():\n    return 1\n")
    result = process("run", "Hi", "--agent", f"{file}:make")
    says = f"agentkit: --agent {file}:make: make is an async function; a plain function may return the agent\n"
    assert (result.returncode, result.stderr) == (2, says)
