"""The site of the docs: the reference has every public name, and links out of `docs/` lead to pages that are made for them.

`.ci/check.py docs` builds the site, with warnings as errors.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module, util
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MODULES = (
    "agentkit",
    "agentkit.testing",
    "agentkit.policy",
    "agentkit.store",
    "agentkit.middleware",
    "agentkit.web",
    "agentkit.team",
)
INTERNAL = {"NextModelCall", "NextToolCall", "Verdict", "judged_by", "__version__"}
"""Types of arguments and helpers, which nobody has to look up."""


def shown() -> list[str]:
    """The names in the reference, by their full paths. `tools` is installed as `agentkit_tools`."""
    pages = (ROOT / "docs" / "reference").glob("*.md")
    found = [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)]
    return [re.sub(r"^tools\.", "agentkit_tools.", name) for name in found]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = util.spec_from_file_location("docs_hooks", ROOT / ".ci" / "docs_hooks.py")
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_public_name() -> None:
    there = {name.rpartition(".")[2] for name in shown()}
    public = {name for module in (*MODULES, "agentkit_tools") for name in import_module(module).__all__}
    assert public - there - INTERNAL == set()


def test_no_name_is_in_the_reference_twice() -> None:
    assert sorted(shown()) == sorted({*shown()})


def documented(value: Any) -> list[str]:
    members = [member for name, member in vars(value).items() if not name.startswith("_")] if inspect.isclass(value) else []
    return [text for item in (value, *members) if (text := inspect.getdoc(item))]


@pytest.mark.parametrize("name", shown())
def test_a_docstring_has_no_tags_that_a_page_would_swallow(name: str) -> None:
    texts = documented(resolve_name(name))
    prose = [re.sub(r"`[^`]*`", "", text) for text in texts]
    assert [tag for text in prose for tag in re.findall(r"</?[a-zA-Z][^>]*>", text)] == []


@pytest.mark.parametrize(
    ("link", "page", "there"),
    [
        ("[a](../examples/short)", "agents.md", "[a](source/examples/short.md)"),
        ("[a](../../examples/short)", "providers/x.md", "[a](../source/examples/short.md)"),
        ("[a](../CONTRIBUTING.md#a-log)", "agents.md", "[a](contributing.md#a-log)"),
        ("[a](../README.md)", "agents.md", "[a](index.md)"),
        (
            "[a](tools.md#labels), [b](#here), [c](https://x.org/y)",
            "agents.md",
            "[a](tools.md#labels), [b](#here), [c](https://x.org/y)",
        ),
        ("[a](nowhere.md)", "agents.md", "[a](nowhere.md)"),
        (
            "```python\nx = [a](../README.md)\n```\n[a](../README.md)",
            "agents.md",
            "```python\nx = [a](../README.md)\n```\n[a](index.md)",
        ),
    ],
)
def test_a_link_leads_to_the_page_of_the_site(hooks: ModuleType, link: str, page: str, there: str) -> None:
    assert hooks.relinked(link, ROOT / "docs" / page, page) == there


def test_a_link_of_contributing_leads_into_the_docs(hooks: ModuleType) -> None:
    text = "[a](docs/agents.md#answers) [b](agentkit/errors.py)"
    assert (
        hooks.relinked(text, ROOT / "CONTRIBUTING.md", "contributing.md")
        == "[a](agents.md#answers) [b](source/agentkit/errors.py.md)"
    )


def test_the_page_of_a_file_shows_it_and_that_of_a_folder_all_of_its_programs(hooks: ModuleType) -> None:
    one = ROOT / "examples" / "short" / "image.py"
    assert one.read_text(encoding="utf-8") in hooks.listing(one)
    folder = hooks.listing(one.parent)
    assert all(f"## {path.name}\n" in folder for path in one.parent.glob("*.py"))


def test_a_bar_in_the_code_of_a_table_is_shown_as_a_bar(hooks: ModuleType) -> None:
    html = "<td><code>str \\| None</code></td><p><code>a \\| b</code></p>"
    assert hooks.on_page_content(html) == "<td><code>str | None</code></td><p><code>a \\| b</code></p>"
