"""Answers questions about a SQLite database, with queries that only read, and draws charts from what they return.

Run: AGENTKIT_API_KEY=... python examples/data_analyst/analyst.py "Which region sold most in 2025? Draw it."
"""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from contextlib import closing
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from agentkit import Agent, Limits, ModelRetry, RunContext, ToolRegistry, ToolStarted, tool
from agentkit_tools import calculator, sqlite_tools

SALES = Path(__file__).with_name("sales.csv")
INSTRUCTIONS = """You answer questions about the sales of a shop, which are in a SQLite database.
Look at the schema first. Compute with SQL or with the calculator, never in your head.
Give the numbers that your answer rests on. Draw a chart if the question asks for one, and name its file."""


def create_database(path: Path, source: Path = SALES) -> None:
    """Make the database from the CSV file. There must be none yet."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = [
            (row["month"], row["region"], row["product"], int(row["pieces"]), float(row["euros"]))
            for row in csv.DictReader(file)
        ]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE sales (month TEXT, region TEXT, product TEXT, pieces INTEGER, euros REAL)")
        database.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?)", rows)


class Workplace:
    """What the tools of a run work with: the database, and the folder for charts."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        create_database(database)
        self.tools: ToolRegistry = sqlite_tools(database, max_rows=200)


@tool(destructive=False, open_world=False)
def draw_bars(ctx: RunContext[Workplace], file: str, title: str, sql: str) -> str:
    """Draw a bar chart of a query's result, and return the path of the SVG file.

    Args:
        file: A name for the file, such as sales_by_region.
        title: What the bars show, with the unit.
        sql: A SELECT of two columns: the label of a bar, and its value. It gives 1 to 30 rows.
    """
    if not file.replace("_", "").isalnum():
        raise ModelRetry("file: use letters, digits and underscores")
    _names, *lines = str(ctx.deps.tools["sql_query"](sql=sql)).splitlines()
    rows = [json.loads(line) for line in lines if not line.startswith(("[no rows]", "[cut:"))]
    if not 1 <= len(rows) <= 30 or any(len(row) != 2 or not isinstance(row[1], int | float) or row[1] < 0 for row in rows):
        raise ModelRetry(f"{len(rows)} rows, the first: {rows[:1]}; give 1 to 30 rows of a label and a number of at least 0")
    path = ctx.deps.folder / f"{file}.svg"
    try:
        with path.open("x", encoding="utf-8") as chart:  # never over a file that is there
            chart.write(svg_of(title, [(str(label), value) for label, value in rows]))
    except FileExistsError:
        raise ModelRetry(f"{path} is there already; give another name") from None
    return str(path)


def svg_of(title: str, bars: list[tuple[str, float]]) -> str:
    """A bar chart, one bar a line, with its label on the left and its value on the right."""
    longest = max(value for _, value in bars) or 1
    shapes = [f'<text x="10" y="24" font-size="16">{escape(title)}</text>']
    for number, (label, value) in enumerate(bars):
        y, width = 40 + 28 * number, 380 * value / longest
        shapes += [
            f'<text x="140" y="{y + 15}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="150" y="{y}" width="{width:.1f}" height="20" fill="steelblue"/>',
            f'<text x="{156 + width:.1f}" y="{y + 15}">{value:,.12g}</text>',
        ]
    size = f'width="640" height="{50 + 28 * len(bars)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">{"".join(shapes)}</svg>\n'


def build_analyst(workplace: Workplace) -> Agent[str]:
    """The agent. What it can write is one kind of file: a chart in the folder."""
    return Agent(
        name="data_analyst",
        instructions=INSTRUCTIONS,
        tools=[workplace.tools, calculator(), draw_bars],
        limits=Limits(steps=20, tool_calls=40, output_tokens=50_000, on_limit="answer"),
        deps_type=Workplace,
    )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit('usage: analyst.py "question"')
    with TemporaryDirectory() as temporary:
        workplace = Workplace(Path.cwd(), Path(temporary) / "sales.db")
        with build_analyst(workplace).stream_sync(sys.argv[1], deps=workplace) as events:
            for event in events:
                if isinstance(event, ToolStarted):
                    print(f"  {event.call.name} {event.call.arguments}")
    print(events.result.output)


if __name__ == "__main__":
    main()
