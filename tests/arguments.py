"""The page of all arguments, made from the code: `python -m tests.arguments > docs/arguments.md`."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, is_dataclass
from itertools import pairwise
from typing import Any

from agentkit import Agent, ChatModel, Limits, ModelSettings, Retry, Tool
from agentkit._agent_parts import RunOptions
from agentkit._per_run import OVERRIDES
from agentkit.tools.options import ToolOptions

__all__ = ["page"]

BAR = "\\|"
HEAD = """# All arguments

Made from the code by `python -m tests.arguments`; a test compares the two. A meaning is the text under the field, or the
sentence of the docstring that names the argument.
"""


def page() -> str:
    """The whole page."""
    tool = {name: getattr(Tool, name, None) for name in ToolOptions.__annotations__}
    run = {"prompt": "None", **dict.fromkeys([*RunOptions.__annotations__, "output_type"], "")}
    kinds = {**_annotations(Agent), **RunOptions.__annotations__, "output_type": "type", "prompt": "Content | None"}
    run_arguments = {name: (_short(kinds[name]), default) for name, default in run.items()}
    tool_options = {name: (_short(ToolOptions.__annotations__[name]), _default(default)) for name, default in tool.items()}
    run_notes = {**_sentences(Agent.run), **_notes(RunOptions)}
    parts = [
        HEAD,
        _section("Agent(...)", _of_function(Agent.__init__), _sentences(Agent)),
        _section("agent.run(...), run_sync, stream, stream_sync, stream_text", run_arguments, run_notes),
        f"`{'`, `'.join(OVERRIDES)}` replace the agent's own for this run.\n",
        _section("@tool(...)", tool_options, _notes(Tool)),
        _section("ChatModel(...)", _of_function(ChatModel.__init__), _sentences(ChatModel)),
        _section("ModelSettings(...)", _of_fields(ModelSettings), _notes(ModelSettings)),
        _section("Limits(...)", _of_fields(Limits), _notes(Limits)),
        _section("Retry(...)", _of_fields(Retry), _notes(Retry)),
    ]
    return "\n".join(parts)


def _annotations(kind: Any) -> dict[str, Any]:
    return dict(inspect.get_annotations(kind.__init__))


def _of_function(function: Any) -> dict[str, tuple[str, str]]:
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return {p.name: (_short(p.annotation), _default(p.default)) for p in parameters}


def _of_fields(kind: Any) -> dict[str, tuple[str, str]]:
    return {name: (_short(field.type), _default_of(field)) for name, field in kind.__dataclass_fields__.items()}


def _short(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None) or str(annotation)
    return " ".join(text.replace("typing.", "").replace('"', "").split())


def _default_of(field: Any) -> str:
    return f"{field.default_factory.__name__}()" if field.default is MISSING else _default(field.default)


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "needed"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}()"
    return getattr(value, "__qualname__", None) or repr(value)


def _sentences(documented: Any) -> dict[str, str]:
    """For each name in backquotes in a docstring, the first sentence that has it."""
    text = " ".join((inspect.getdoc(documented) or "").split())
    found: dict[str, str] = {}
    for sentence in re.split(r"(?<=[.:]) (?=[A-Z`])", text):
        for name in re.findall(r"`(\w+)`", sentence):
            found.setdefault(name, sentence)
    return found


def _notes(kind: Any) -> dict[str, str]:
    """The texts under the fields of a class, else the sentences of its docstring that name them."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
    notes = _sentences(kind)
    for field, text in pairwise(body):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            notes[field.target.id] = " ".join(text.value.value.split())
    return notes


def _section(title: str, arguments: dict[str, tuple[str, str]], notes: dict[str, str]) -> str:
    lines = [f"## {title}", "", "| argument | type | default | meaning |", "|---|---|---|---|"]
    for name, (kind, default) in arguments.items():
        cells = (
            f"`{name}`",
            f"`{kind}`".replace("|", "\\|"),
            f"`{default}`" if default else "",
            notes.get(name, "").replace("|", "\\|"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(page(), end="")
