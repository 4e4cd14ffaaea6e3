"""Every Python block of the README and the docs is run, and what it prints is compared with the block that follows it."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import pytest

from agentkit import event_types
from agentkit.events import LastingEvent
from agentkit.messages import ToolCall
from agentkit.models.scripted import call
from agentkit.testing import SimRequest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]*)(?:#([^)]*))?\)")
NAMED = re.compile(r"\b(docs/[\w./-]+\.md)(?:#([\w-]+))?")
"""A page of the docs that a module names."""

# what the simulator answers to the prompts in the docs: a call, and then a text with the call's result in it
ANSWERS: dict[str, tuple[ToolCall | None, str]] = {
    "What is the weather in Paris?": (call("get_weather", city="Paris"), "It is {result}."),
    "Where is order A-17?": (call("find_order", number="A-17"), "Order A-17: {result}."),
    "Which is the largest city of Italy?": (None, '{{"name": "Rome", "inhabitants": 2749000}}'),
    "What is this?": (None, "A red dot."),
    "What is on the screen?": (call("screenshot"), "A red dot."),
    "Delete old.log": (call("delete_file", name="old.log"), "Done: {result}."),
}


def answer(request: SimRequest) -> Any:
    asked = (m["content"] for m in reversed(request.messages) if m["role"] == "user")
    prompt = next(p for content in asked if (p := content if isinstance(content, str) else content[0]["text"]) in ANSWERS)
    first, text = ANSWERS[prompt]
    if request.turn and first and "returned by the call" in str(request.last["content"]):
        return text
    if request.last["role"] == "tool":
        return text.format(result=request.last["content"])
    return first or text.format()


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [p for p in PAGES if any(kind == "python" for kind, _ in blocks(p))], ids=name_of)
def test_blocks_print_what_the_page_says(page: Path, deepseek: Callable[..., Any]) -> None:
    deepseek(answer)
    namespace: dict[str, Any] = {"__name__": "docs"}
    found = blocks(page)
    for (kind, code), (next_kind, expected) in zip(found, [*found[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{page.name}", "exec"), namespace)
        assert next_kind == "text", f"{page.name}: a Python block must be followed by its output:\n{code}"
        assert " ".join(printed.getvalue().split()) == " ".join(expected.split())


def test_the_first_python_block_has_at_most_twelve_lines() -> None:
    code = next(code for kind, code in blocks(PAGES[0]) if kind == "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_each_attachment_in_contributing_has_at_most_fifteen_lines() -> None:
    examples = [code for kind, code in blocks(ROOT / "CONTRIBUTING.md") if kind == "python"]
    assert len(examples) == 7
    assert max(len([line for line in code.splitlines() if line.strip()]) for code in examples) <= 15


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_and_module_named_in_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"\b(?:agentkit|tests)/[\w/]+\.py\b", text)
    modules = re.findall(r"^from (agentkit[\w.]*) import|\b(agentkit(?:\.[a-z_]\w*)+)", text, re.MULTILINE)
    missing = [name for name in files if not (ROOT / name).exists()]
    for name in {first or second for first, second in modules}:
        try:
            resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert missing == []


def test_every_link_leads_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "examples").rglob("*.md")]:
        prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).lower() for text in found]
    return {re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-") for text in texts}


def test_every_anchor_of_a_link_is_a_heading() -> None:
    wrong = []
    for page in [*PAGES, *(ROOT / "examples").rglob("*.md")]:
        for _, target, anchor in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
            there = page.parent / target if target else page
            if anchor and there.suffix == ".md" and anchor not in headings(there):
                wrong.append(f"{name_of(page)}: {target}#{anchor}")
    assert wrong == []


def test_a_link_that_names_a_page_leads_to_that_page() -> None:
    links = [
        (name_of(page), *link) for page in PAGES for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    ]
    named = [(page, label, target) for page, label, target, _ in links if re.fullmatch(r"[\w./-]+\.md", label)]
    assert named
    assert [link for link in named if Path(link[1]).name != Path(link[2]).name] == []


def test_every_page_that_the_code_names_exists() -> None:
    sources = [path for folder in ("agentkit", "tools") for path in (ROOT / folder).rglob("*.py")]
    named = [(name_of(path), *found) for path in sources for found in NAMED.findall(path.read_text(encoding="utf-8"))]
    assert named
    missing = [n for n in named if not (ROOT / n[1]).exists() or (n[2] and n[2] not in headings(ROOT / n[1]))]
    assert missing == []


def test_the_tables_have_every_event() -> None:
    lasting = {kind.__name__ for kind in get_args(LastingEvent)}
    kinds = {name for name in event_types.__all__ if inspect.isclass(getattr(event_types, name))} - {"RunInfo"}
    texts = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("runs.md", "streaming.md")}
    assert sorted(name for name in lasting if f"`{name}`" not in texts["runs.md"]) == []
    assert sorted(name for name in kinds - lasting if f"`{name}`" not in texts["streaming.md"]) == []


def test_nothing_tells_people_to_install_from_the_index() -> None:
    examples = [path for kind in ("py", "md", "ipynb") for path in (ROOT / "examples").rglob(f"*.{kind}")]
    sources = [*PAGES, *(ROOT / "agentkit").rglob("*.py"), *examples]
    wrong = re.compile(r"pip install (-U |--upgrade )?agentkit\b")
    assert [str(path) for path in sources if wrong.search(path.read_text(encoding="utf-8"))] == []


def test_the_bash_blocks_are_one_line_each() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    for heading in ("## Run it", "## Test it"):
        block = BLOCK.search(text, text.index(heading))
        assert block
        assert block[1] == "bash"
        assert len(block[2].splitlines()) == 1
