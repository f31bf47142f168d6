"""What people are told of the tables is what the tables are."""

from collections.abc import Iterator

import duckdb
import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.reports.catalogue import TABLES
from notify_pipeline.reports.composed import describe
from tests.reports.desk import Desk


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The views of a version without anything in it, as an analyst opens them."""
    folder = tmp_path_factory.mktemp("catalogue")
    desk = Desk(Lake(str(folder / "lake")), folder / "reports")
    desk.publish()
    with desk.reader.cursor() as cursor:
        assert cursor is not None
        describe(cursor)
        yield cursor
    desk.reader.close()


def test_every_table_and_column_is_described(database: duckdb.DuckDBPyConnection) -> None:
    found = database.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
        " AND database_name = current_database() ORDER BY table_name, column_index"
    ).fetchall()
    told = [(table.name, column.name, column.type) for table in TABLES for column in table.columns]
    assert sorted(told, key=lambda row: row[0]) == found
    texts = [text for table in TABLES for text in (table.comment, *(column.comment for column in table.columns))]
    assert not [text for text in texts if not text.endswith(".") or len(text) < 10]
    assert not [name for table in TABLES for name in table.own if name not in table.names.split()]


def test_comments_are_on_the_tables(database: duckdb.DuckDBPyConnection) -> None:
    comments = database.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
        " AND database_name = current_database()"
    ).fetchall()
    assert set(comments) == {(table.name, each.name, each.comment) for table in TABLES for each in table.columns}
    views = database.execute(
        "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
        " AND database_name = current_database()"
    ).fetchall()
    assert set(views) == {(table.name, table.comment) for table in TABLES if table.name != "build"}
