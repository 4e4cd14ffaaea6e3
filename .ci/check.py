"""The one check: format, lint, types, docs and tests, the same at hand and in CI.

python .ci/check.py              all of it
python .ci/check.py lint types   only these; the steps are: format, lint, types, docs, tests, table
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOADED = re.compile(
    r"""(?:<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=|@import\s+|[:\s]url\()["']?((?:https?:)?//[\w.-]+)"""
)
"""What a page or a style sheet loads from another server."""


def run(*module: str, env: dict[str, str] | None = None) -> bool:
    """Run a Python module in the project's folder; True if it passed."""
    return subprocess.run([sys.executable, "-m", *module], cwd=ROOT, env=env, check=False).returncode == 0


def check_types() -> bool:
    """Run mypy. It reads no editable install, so `agentkit_tools` is shown to it through a link to `tools`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "agentkit_tools").symlink_to(ROOT / "tools", target_is_directory=True)
        env = {**os.environ, "MYPYPATH": folder}
        embedding = ROOT / "examples" / "embedding"  # Django and Celery have no types
        folders = [ROOT / "examples", *(path for path in sorted((ROOT / "examples").iterdir()) if path.is_dir())]
        examples = [
            [str(path) for path in sorted(folder.glob("*.py")) if "test" not in path.name]
            for folder in folders
            if folder != embedding
        ]
        examples += [[str(embedding / name)] for name in ("fastapi_app.py", "script.py")]
        return run("mypy", env=env) and all(run("mypy", *paths, env=env) for paths in examples if paths)


def build_docs() -> bool:
    """Build the site with warnings as errors. No page may load anything from another server."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a notice that the theme prints
        if not run("mkdocs", "build", "--strict", "--site-dir", folder, env=env):
            return False
        pages = [path for path in Path(folder).rglob("*") if path.suffix in (".html", ".css")]
        loaded = {(page.name, address) for page in pages for address in LOADED.findall(page.read_text(encoding="utf-8"))}
    for name, address in sorted(loaded):
        print(f"docs: {name} loads {address}")
    return not loaded


def print_table() -> bool:
    """Print the lines of each room of `agentkit`, of the tests, and of the longest files."""
    rooms: dict[str, list[int]] = {}
    lengths: list[tuple[int, str]] = []
    for path in sorted(path for folder in ("agentkit", "tools", "tests") for path in (ROOT / folder).rglob("*.py")):
        place = path.relative_to(ROOT)
        room = place.parts[0] if place.parts[0] != "agentkit" else "/".join(place.parts[: min(2, len(place.parts) - 1)])
        lines = len(path.read_text(encoding="utf-8").splitlines())
        rooms.setdefault(room, []).append(lines)
        if room != "tests":
            lengths.append((lines, str(place)))
    for room, counts in rooms.items():
        print(f"{sum(counts):6}  {room}  ({len(counts)} files)")
    print(f"{sum(lines for lines, _ in lengths):6}  without the tests; the longest: ", end="")
    print(", ".join(f"{place} {lines}" for lines, place in sorted(lengths, reverse=True)[:3]))
    return True


STEPS = {
    "format": lambda: run("ruff", "format", "--check", "."),
    "lint": lambda: run("ruff", "check", "."),
    "types": check_types,
    "docs": build_docs,
    "tests": lambda: run("pytest", "-n", "auto", "--durations=10"),
    "table": print_table,
}


def main(wanted: list[str]) -> int:
    """Run the steps, each to its end, and say which failed."""
    unknown = [name for name in wanted if name not in STEPS]
    if unknown:
        print(f"no step {', '.join(unknown)}; the steps are: {', '.join(STEPS)}")
        return 2
    failed = []
    for name in wanted or STEPS:
        print(f"== {name}", flush=True)
        if not STEPS[name]():
            failed.append(name)
    print(f"check: failed: {', '.join(failed)}" if failed else "check: all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
