from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agentkit import ModelRetry, ToolRegistry
from agentkit_tools import sqlite_tools


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "a b?.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript("""
            CREATE TABLE city (id INTEGER PRIMARY KEY, name TEXT, size REAL, flag BLOB);
            CREATE INDEX city_name ON city (name);
            CREATE VIEW big AS SELECT * FROM city WHERE size > 1e6;
            INSERT INTO city VALUES (1, 'Paris', 2e6, x'0001'), (2, 'Zürich', 4e5, NULL), (3, 'Oslo', 7e5, NULL);
        """)
    yield file


@pytest.fixture
def tools(path: Path) -> ToolRegistry:
    return sqlite_tools(path, write=True)


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM city").fetchone()[0])


def test_rows_come_as_json_lists(tools: ToolRegistry) -> None:
    head, first, second = tools["sql_query"]("SELECT name, size, flag FROM city WHERE id < ? ORDER BY id", [3]).split("\n")
    assert json.loads(head) == ["name", "size", "flag"]
    assert json.loads(first) == ["Paris", 2e6, "[2 bytes of binary data]"]
    assert json.loads(second) == ["Zürich", 4e5, None]


def test_values_that_json_lacks(tools: ToolRegistry) -> None:
    shown = tools["sql_query"]("SELECT 9e999, CAST(x'ff41' AS TEXT), -9223372036854775808").split("\n")[1]
    assert json.loads(shown) == ["inf", "�A", -(2**63)]


def test_table_valued_functions_can_be_used(tools: ToolRegistry) -> None:
    query = tools["sql_query"]
    assert query("SELECT value FROM json_each('[1, 2]')") == '["value"]\n[1]\n[2]'
    assert query("SELECT name FROM pragma_table_info('city') LIMIT 1") == '["name"]\n["id"]'
    assert tools["sql_execute"]("INSERT INTO city (name) SELECT value FROM json_each('[\"a\"]')") == "[1 row changed]"


def test_no_rows_are_said(tools: ToolRegistry) -> None:
    assert tools["sql_query"]("SELECT id FROM city WHERE id > 9") == '["id"]\n[no rows]'


def test_the_schema(tools: ToolRegistry, tmp_path: Path) -> None:
    shown = tools["sql_schema"]()
    assert "CREATE TABLE city (" in shown
    assert "CREATE VIEW big" in shown
    assert shown.endswith("CREATE INDEX city_name ON city (name);")
    (tmp_path / "empty.db").touch()
    assert sqlite_tools(tmp_path / "empty.db")["sql_schema"]() == "[the database has no tables]"


def test_a_long_schema_is_cut(path: Path) -> None:
    shown = sqlite_tools(path, max_chars=20)["sql_schema"]()
    assert "[cut: showed 20 of " in shown


@pytest.mark.parametrize(
    ("sql", "shown", "of"),
    [
        ("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1234) SELECT i FROM n", 5, "1,234 rows;"),
        ("SELECT id FROM city UNION ALL SELECT id FROM city", 5, "6 rows;"),
        ("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n", 5, "100,005 rows or more;"),
    ],
)
def test_rows_are_cut_with_a_count(path: Path, sql: str, shown: int, of: str) -> None:
    lines = sqlite_tools(path, max_rows=5)["sql_query"](sql).split("\n")
    assert len(lines) == 1 + shown + 1
    assert lines[-1].startswith(f"[cut: showed {shown} of {of}")


def test_exactly_as_many_rows_as_fit_are_not_cut(path: Path) -> None:
    assert "cut" not in sqlite_tools(path, max_rows=3)["sql_query"]("SELECT id FROM city")


def test_characters_and_cells_are_cut(path: Path) -> None:
    query = sqlite_tools(path, max_chars=200, max_cell=10)["sql_query"]
    long = query(f"SELECT '{'x' * 5000}'").split("\n")
    assert long == [
        '["\'xxxxxxxxx... [cut: showed 10 of 5,002 characters]"]',
        '["xxxxxxxxxx... [cut: showed 10 of 5,000 characters]"]',
    ]
    many = query("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90) SELECT i, 'abcdefgh' FROM n")
    assert "of 90 rows;" in many
    assert len(many) < 300


def test_a_slow_count_does_not_lose_the_rows(path: Path) -> None:
    slow = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 4"
    started = time.monotonic()
    shown = sqlite_tools(path, max_rows=2, timeout=1.0)["sql_query"](slow)
    assert time.monotonic() - started < 5
    assert shown.split("\n") == [
        '["i"]',
        "[1]",
        "[2]",
        "[cut: showed 2 of 2 rows or more; use WHERE, or LIMIT and OFFSET]",
    ]


def test_an_endless_statement_is_stopped(path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ModelRetry, match=r"more than 0.1 seconds"):
        sqlite_tools(path, timeout=0.1)["sql_query"](
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        )
    assert time.monotonic() - started < 5


def test_at_most_four_statements_run_at_once(path: Path) -> None:
    query = sqlite_tools(path, timeout=0.4)["sql_query"]

    def endless() -> None:
        with pytest.raises(ModelRetry, match="took more than"):
            query("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")

    threads = [threading.Thread(target=endless) for _ in range(9)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started > 3 * 0.4, "nine take three turns"


ONE_LONG_STEP = {
    "instr": "instr(printf('%.*c', 4000000, 'a'), printf('%.*c', 1000000, 'a') || 'b')",
    "like": "printf('%.*c', 9000000, 'a') LIKE '%' || printf('%.*c', 990, 'a') || 'b'",
    "glob": "printf('%.*c', 9000000, 'a') GLOB '*' || printf('%.*c', 990, 'a') || 'b'",
    "replace": "replace(printf('%.*c', 4000000, 'a'), printf('%.*c', 1000000, 'a') || 'b', '')",
}


@pytest.mark.parametrize("name", ONE_LONG_STEP)
def test_a_statement_is_stopped_inside_of_a_function(path: Path, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(ModelRetry, match=r"the statement took more than 0\.2 seconds; make it simpler or add a LIMIT"):
        sqlite_tools(path, timeout=0.2)["sql_query"](f"SELECT {ONE_LONG_STEP[name]}")
    assert time.monotonic() - started < 5


def test_a_killed_change_is_undone_at_once(path: Path) -> None:
    tools = sqlite_tools(path, write=True, timeout=1.0)
    tools["sql_execute"]("INSERT INTO city (name) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
                         " SELECT printf('%.*c', 2000, 'x') FROM n")  # fmt: skip
    slow = f"UPDATE city SET name = 'changed' || CASE id WHEN 5000 THEN {ONE_LONG_STEP['instr']} ELSE '' END"
    with pytest.raises(ModelRetry, match="took more than 1 seconds"):
        tools["sql_execute"](slow)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "a journal is left that readers cannot apply"
    assert tools["sql_query"]("SELECT count(*) FROM city WHERE name LIKE 'changed%'").endswith("\n[0]")


ENDLESS = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


@pytest.mark.parametrize(
    "sql",
    [
        f"{ENDLESS} SELECT printf('%.*c', 9000000, 'a') || i AS y FROM n ORDER BY y",
        f"{ENDLESS} SELECT DISTINCT printf('%.*c', 9000000, 'a') || i FROM n",
        f"{ENDLESS} SELECT count(*) FROM n GROUP BY printf('%.*c', 9000000, 'a') || i",
        f"SELECT {', '.join(['zeroblob(9000000)'] * 60)}",
        f"SELECT {', '.join(['randomblob(9000000) AS a'] * 60)} FROM city ORDER BY 1",
    ],
)
def test_a_statement_has_bounded_memory_and_no_temporary_files(path: Path, sql: str) -> None:
    with pytest.raises(ModelRetry, match="the statement needs more than 100,000,000 bytes of memory; sort, group or join"):
        sqlite_tools(path, timeout=60.0, max_rows=1)["sql_query"](sql)


def test_a_large_sort_with_a_limit_needs_little_memory(path: Path) -> None:
    many = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
    query = sqlite_tools(path, timeout=60.0, max_memory_bytes=10_000_000)["sql_query"]
    assert query(f"{many} SELECT i FROM n ORDER BY -i, printf('%.*c', 1000, 'a') LIMIT 1").endswith("\n[300000]")


def test_the_database_grows_so_far_and_no_further(path: Path) -> None:
    tools = sqlite_tools(path, write=True, max_growth_bytes=3_000_000, timeout=30.0)
    size = path.stat().st_size
    numbers = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
    insert = f"INSERT INTO city (flag) {numbers} SELECT zeroblob(900000) FROM n"
    with pytest.raises(ModelRetry, match=f"disk is full; the database may have up to {size + 3_000_000:,} bytes"):
        tools["sql_execute"](insert, [4])
    assert rows(path) == 3
    assert tools["sql_execute"](insert, [3]) == "[3 rows changed]"
    with pytest.raises(ModelRetry, match="disk is full"):
        tools["sql_execute"](insert, [1])
    assert path.stat().st_size < size + 3_000_000
    tools["sql_execute"]("DELETE FROM city WHERE flag = zeroblob(900000)")
    assert tools["sql_execute"](insert, [1]) == "[1 row changed]"


def test_a_wide_row_is_cut(path: Path) -> None:
    query = sqlite_tools(path, max_chars=1000)["sql_query"]
    wide = query(
        f"SELECT {', '.join(f'{number} AS column_{number}' for number in range(1500))} UNION ALL SELECT {'1,' * 1499} 2"
    )
    assert len(wide) < 1300
    assert wide.startswith('["column_0", "column_1"')
    assert "\n[0, 1, 2, 3" in wide
    assert wide.endswith("[cut: showed 1 of 2 rows; use WHERE, or LIMIT and OFFSET]")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT randomblob(900000000)",
        "SELECT hex(zeroblob(900000000))",
        "SELECT replace(hex(zeroblob(4000000)), '0', 'abcd')",
    ],
)
def test_a_huge_value_is_refused(tools: ToolRegistry, sql: str) -> None:
    with pytest.raises(ModelRetry, match="too big"):
        tools["sql_query"](sql)


FORBIDDEN = [
    "ATTACH DATABASE '{other}' AS other",
    "VACUUM INTO '{other}'",
    "VACUUM",
    "DETACH main",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA user_version = 7",
    "SELECT load_extension('evil')",
    "CREATE VIRTUAL TABLE v USING fts5(x)",
    "CREATE TRIGGER t AFTER INSERT ON city BEGIN DELETE FROM city; END",
    "CREATE TEMP TABLE t (x)",
    "BEGIN",
    "SAVEPOINT s",
    "UPDATE sqlite_schema SET sql = ''",
    "DELETE FROM sqlite_master",
]
WRITES = ["DELETE FROM city", "UPDATE city SET id = 9", "INSERT INTO city (name) VALUES ('x')", "DROP TABLE city",
          "ALTER TABLE city ADD y", "CREATE TABLE t (x)", "INSERT INTO city (id) VALUES (9) RETURNING id"]  # fmt: skip


@pytest.mark.parametrize("sql", [*FORBIDDEN, *WRITES])
def test_a_query_cannot_change_or_reach_anything(tools: ToolRegistry, path: Path, tmp_path: Path, sql: str) -> None:
    before = path.read_bytes()
    with pytest.raises(ModelRetry, match=r"^SQLite says: .*(only reading is allowed|cannot|no such)"):
        tools["sql_query"](sql.format(other=tmp_path / "other.db"))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_writing_reaches_only_the_tables(tools: ToolRegistry, path: Path, tmp_path: Path, sql: str) -> None:
    with pytest.raises(ModelRetry, match="SQLite says"):
        tools["sql_execute"](sql.format(other=tmp_path / "other.db"))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_shape_of_a_table_can_be_asked_for(tools: ToolRegistry) -> None:
    assert '"name"' in tools["sql_query"]("PRAGMA table_info(city)")


def test_writing(tools: ToolRegistry, path: Path) -> None:
    assert tools["sql_execute"]("INSERT INTO city (name) VALUES (?), (?)", ["Rome", None]) == "[2 rows changed]"
    assert tools["sql_execute"]("INSERT INTO city (name) VALUES ('Bern') RETURNING id") == '["id"]\n[6]'
    assert tools["sql_execute"]("CREATE TABLE t (x)") == "[0 rows changed]"
    assert tools["sql_execute"]("ALTER TABLE t ADD y") == "[0 rows changed]"
    assert tools["sql_execute"]("DROP TABLE t") == "[0 rows changed]"
    assert tools["sql_execute"]("DELETE FROM city WHERE id = 1") == "[1 row changed]"
    assert rows(path) == 5


def test_a_failed_write_changes_nothing(tools: ToolRegistry, path: Path) -> None:
    with pytest.raises(ModelRetry, match="UNIQUE"):
        tools["sql_execute"]("INSERT INTO city (id) VALUES (10), (1)")
    assert rows(path) == 3


@pytest.mark.parametrize(
    ("sql", "params", "words"),
    [
        ("SELECT * FROM cities", None, "no such table: cities; tables: big, city$"),
        ("SELECT nam FROM city", None, "no such column: nam; tables: big, city$"),
        ("SELEC 1", None, "syntax error"),
        ("SELECT 1; SELECT 2", None, "one statement at a time"),
        ("SELECT ?", None, "binding"),
        ("SELECT ?", [2**70], "too large"),
        ("SELECT '\0'", None, "SQLite says"),
    ],
)
def test_what_is_wrong_is_said(tools: ToolRegistry, sql: str, params: list[int] | None, words: str) -> None:
    with pytest.raises(ModelRetry, match=words):
        tools["sql_query"](sql, params)


def test_a_locked_database_is_waited_for_and_then_said(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ModelRetry, match="locked"):
            sqlite_tools(path, timeout=0.05)["sql_query"]("SELECT * FROM city")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(ModelRetry, match="not a database") as caught:
        sqlite_tools(tmp_path / "x.db")["sql_query"]("SELECT 1 FROM x")
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(ValueError, match="no database file"):
        sqlite_tools(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


def test_through_the_tools(path: Path) -> None:
    tools = sqlite_tools(path)
    assert [item.name for item in tools] == ["sql_schema", "sql_query"]
    assert asyncio.run(tools["sql_query"].call({"sql": "SELECT ?, ?", "params": [1, "a"]})).endswith('[1, "a"]')
    assert all(item.read_only and not item.open_world and item.output == "untrusted" for item in tools)
    written = sqlite_tools(path, write=True)["sql_execute"]
    assert written.destructive
    assert not written.read_only
    assert written.sensitive == ("sql", "params")
