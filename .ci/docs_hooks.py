"""Hooks of MkDocs: links that leave `docs/` lead to pages that are made of the files they name.

On GitHub such a link shows the file. The site has no repository to point to, so it has a page for each linked source file or
folder (`source/...`), and one for CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
FENCED = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def outside(page: Path) -> set[Path]:
    """The files and folders outside of `docs/` that a page links to, without the pages themselves."""
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = {(page.parent / target).resolve() for target in LINK.findall(prose)}
    return {target for target in targets if target.exists() and target.suffix != ".md" and ROOT / "docs" not in target.parents}


def uri_of(target: Path) -> str:
    """Where the site has a file of the repository."""
    place = target.relative_to(ROOT).as_posix()
    return place.removeprefix("docs/") if place.startswith("docs/") else PAGES.get(place, f"source/{place}.md")


def relinked(markdown: str, source: Path, uri: str) -> str:
    """The text with its links as they have to be on the page `uri`."""

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match[1]).resolve()
        if not target.exists() or not target.is_relative_to(ROOT):
            return match[1]  # MkDocs says so
        return Path(os.path.relpath(uri_of(target), Path(uri).parent)).as_posix()

    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def listing(target: Path) -> str:
    """A page with the text of a source file, or of each Python file in a folder."""
    files = sorted(target.glob("*.py")) if target.is_dir() else [target]
    title = f"# {target.relative_to(ROOT).as_posix()}\n"
    heading = "\n## {}\n" if target.is_dir() else "{:.0}"
    return title + "".join(
        f"{heading.format(path.name)}\n````{path.suffix[1:]}\n{path.read_text(encoding='utf-8').rstrip()}\n````\n"
        for path in files
    )


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages for what is linked."""
    pages = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for target in sorted({ROOT / "examples"}.union(*map(outside, pages))):
        files.append(File.generated(config, uri_of(target), content=listing(target), inclusion=InclusionLevel.NOT_IN_NAV))
    text = relinked((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), ROOT / "CONTRIBUTING.md", "contributing.md")
    files.append(File.generated(config, "contributing.md", content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead the links of a page that stand for a file outside of `docs/` to its page."""
    is_generated = page.file.generated_by is not None
    return markdown if is_generated else relinked(markdown, ROOT / "docs" / page.file.src_uri, page.file.src_uri)


def on_page_content(html: str, **_: Any) -> str:
    """Show `|` in the code of a table, where GitHub needs it as `\\|`."""
    return re.sub(r"<td[ >].*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
