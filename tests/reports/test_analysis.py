"""The lake as tables, in a folder and on S3, and the connection that has them beside the reports."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.lake_columns import COLUMN_COMMENTS, TABLE_COMMENTS
from notify_pipeline.core.schemas import TABLES
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports.analysis import connect
from tests.reports.desk import Desk
from tests.reports.worlds import START, World, put


def test_every_column_of_the_lake_has_its_meaning() -> None:
    assert {name: set(table.schema.names) for name, table in TABLES.items()} == {
        name: set(columns) for name, columns in COLUMN_COMMENTS.items()
    }
    assert set(TABLE_COMMENTS) == set(TABLES)


def test_files_older_than_a_column_tables_without_files_and_partitions(lake: Lake, tmp_path: Path) -> None:
    old = pa.schema([field for field in TABLES["requests"].schema if field.name not in ("revision", "domain")])
    lake.write("requests/date=2026-11-20/hour=23/old.parquet", pa.Table.from_pylist([{"tenant": "t0"}], schema=old))
    world = World()
    world.request("n1", domain="shop.example")
    put(lake, "requests", world.rows["requests"], "new", START)
    settings = Settings(home=tmp_path, lake_root=lake.root, s3_endpoint_url=lake.s3_endpoint_url)
    with connect(settings) as analysis:
        assert analysis.version is None
        rows = analysis.db.execute("SELECT tenant, domain, date, hour FROM lake.requests ORDER BY date").fetchall()
        assert rows == [("t0", None, date(2026, 11, 20), "23"), ("t1", "shop.example", START.date(), "06")]
        only = (
            "SELECT topics FROM lake.requests WHERE date >= DATE '2026-11-21' AND accepted_at >= $1 AND 'uk' IN topics"
        )
        assert analysis.db.execute(only, [START]).fetchall() == [(["uk"],)]
        types = "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = 'lake' AND table_name = $1"
        assert dict(analysis.db.execute(types, ["attempts"]).fetchall())["sent_at"] == "TIMESTAMP WITH TIME ZONE"
        assert analysis.db.execute("SELECT count(*) FROM lake.attempts").fetchone() == (0,)


def test_a_connection_stays_with_its_version_until_it_is_asked_to_move_on(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    desk = Desk(lake, tmp_path / "reports")
    for number in (1, 2):
        world = World()
        world.request(f"n{number}", at=number)
        put(lake, "requests", world.rows["requests"], f"{number}", START + timedelta(hours=number))
        put(lake, "audit", world.rows["audit"], f"{number}", START + timedelta(hours=number))
        if number == 1:
            desk.publish()
            analysis = connect(Settings(home=tmp_path))
    desk.publish()
    with analysis:
        assert analysis.db.execute("SELECT count(*) FROM notifications").fetchone() == (1,)
        # The lake's folder is read as it is now.
        assert analysis.db.execute("SELECT count(*) FROM lake.requests").fetchone() == (2,)
        analysis.refresh()
        assert analysis.db.execute("SELECT count(*) FROM notifications").fetchone() == (2,)
        analysis.db.execute("CREATE TEMP TABLE mine AS SELECT notification_id FROM notifications")
        assert analysis.db.execute("SELECT count(*) FROM mine").fetchone() == (2,)
