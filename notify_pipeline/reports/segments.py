"""Segments: the immutable files that hold a day's rows, and the sorted hashes by which a notification's is found.

Belongs here: writing a day's rows that were computed anew beside those that stay, and telling whether anything changed.
Does not belong here: which days (``build``), reading (``reading_versions``, ``reading_hashes``).

Rows come from the database attached as ``report``, where the models have put them, by the tables ``stage.affected``
(notification_id), ``stage.affected_days`` (day), ``stage.placed`` (tenant, notification_id, day) and
``stage.frozen_names`` (notification_id: those of rows that stay whatever is computed).
"""

import uuid
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import duckdb

from notify_pipeline.core.sql import quoted
from notify_pipeline.reports.composed import Fact
from notify_pipeline.reports.database import OPTIONS, first_row, schema_digest
from notify_pipeline.reports.manifests import Segment

HASHES: Final = ".ids"
# Half of an MD5, which SQL and Python compute alike; whom it leads to the wrong segment finds nothing there.
HASH: Final = "md5_number_lower(tenant || chr(0) || notification_id)"
_WRONG_CHECKSUM: Final = "Corrupt database file"
_PLACED: Final = (
    "CREATE OR REPLACE TABLE stage.placed AS"
    " SELECT tenant, notification_id, accepted_at::DATE AS day FROM report.facts.notifications"
)
_STATS: Final = (
    "SELECT count(*), max(ended_at), max(greatest(last_attempt_at, last_accepted_at)) FROM made.facts.notifications"
)


@dataclass(frozen=True, slots=True)
class Day:
    """A day to write: its rows among those computed anew, beside those of its segment before, if there is one."""

    day: date
    before: Segment | None


def place(connection: duckdb.DuckDBPyConnection) -> None:
    """Put into ``stage.placed`` which day each notification computed anew belongs to."""
    connection.execute(_PLACED)


def days_of_rows(connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact]) -> set[date]:
    """Return the days that have rows among those computed anew."""
    queries = [f"SELECT day FROM report.facts.{fact.name}" for fact in facts if not fact.is_by_notification]  # noqa: S608
    rows = connection.execute(" UNION ".join(["SELECT day FROM stage.placed", *queries])).fetchall()
    return {day for (day,) in rows}


def names_in(connection: duckdb.DuckDBPyConnection, segment: Segment, root: Path) -> list[str]:
    """Return the notification ids that a published segment has rows of."""
    tables = [name for name in ("notifications", "foreign_beacons") if name in segment.tables]
    if not tables:
        return []
    query = " UNION ".join(f"SELECT notification_id FROM old.facts.{name}" for name in tables)  # noqa: S608
    with _attached(connection, segment, root):
        return [name for (name,) in connection.execute(query).fetchall()]


def write_all(connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact], folder: Path) -> tuple[Segment, ...]:
    """Write segments of all that ``report`` holds, which nobody has computed from a lake: for tests and benchmarks."""
    connection.execute(
        "CREATE SCHEMA IF NOT EXISTS stage; CREATE OR REPLACE TABLE stage.affected (notification_id VARCHAR);"
        " CREATE OR REPLACE TABLE stage.affected_days (day DATE);"
        " CREATE OR REPLACE TABLE stage.frozen_names (notification_id VARCHAR)"
    )
    place(connection)
    days = sorted(days_of_rows(connection, facts))
    made = (write(connection, facts, Day(day, None), folder, folder) for day in days)
    return tuple(segment for segment in made if segment is not None)


def write(
    connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact], day: Day, root: Path, folder: Path
) -> Segment | None:
    """Write a day's segment, unless that would say the same as the one before.

    Args:
        connection: With the tables that the module names.
        facts: The tables of facts.
        day: Which, and its segment before.
        root: The reports root, where that one lies.
        folder: Where the new one is put, by its name relative to the root.

    Returns:
        The new segment; the one before, if nothing changed; None if the day has no rows any more.
    """
    with _attached(connection, day.before, root):
        if day.before is not None and not _differs(connection, facts, day):
            return day.before
        name = day.day.isoformat()
        file = f"segments/{name}/{uuid.uuid4().hex}.duckdb"
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(f"ATTACH {quoted(str(path))} AS made ({OPTIONS})")
        try:
            tables = _fill(connection, facts, day)
            stats = _stats(connection, tuple(tables))
            segment = Segment(name, file, schema_digest(), tuple(tables), *stats, tuple(tables.values()))
            if "notifications" in tables:
                _write_hashes(connection, path)
            connection.execute("CHECKPOINT made")
        finally:
            connection.execute("DETACH made")
        if not tables:
            path.unlink()
        return segment if tables else None


@contextmanager
def _attached(connection: duckdb.DuckDBPyConnection, segment: Segment | None, root: Path) -> Iterator[None]:
    if segment is None:
        yield
        return
    try:
        connection.execute(f"ATTACH {quoted(str(root / segment.file))} AS old (READ_ONLY)")
        try:
            yield
        finally:
            connection.execute("DETACH old")
    except duckdb.Error as error:
        if _WRONG_CHECKSUM not in str(error):
            raise
        # DuckDB says neither that it is an error of reading nor of which file: only published ones are read here.
        raise duckdb.IOException(f"{segment.file}: {error}") from error


def _fill(connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact], day: Day) -> dict[str, int]:
    """Copy a day's rows into ``made`` and return the tables that have some, with how many."""
    connection.execute("CREATE SCHEMA made.facts")
    tables = {}
    for fact in facts:
        parts = [_computed(fact, day.day)]
        if day.before is not None and fact.name in day.before.tables:
            parts.append(_before(fact, "ANTI"))
        query = " UNION ALL BY NAME ".join(f"({part})" for part in parts)
        connection.execute(f"CREATE TABLE made.facts.{fact.name} AS FROM ({query}) ORDER BY {fact.order}")
        row = first_row(connection, f"SELECT count(*) FROM made.facts.{fact.name}")  # noqa: S608 - our own names
        if row is not None and row[0]:
            tables[fact.name] = int(row[0])
        else:
            connection.execute(f"DROP TABLE made.facts.{fact.name}")
    return tables


def _differs(connection: duckdb.DuckDBPyConnection, facts: Sequence[Fact], day: Day) -> bool:
    """Tell whether what was computed anew of a day is not what its segment has."""
    if day.before is None or day.before.schema != schema_digest():
        return True
    for fact in facts:
        computed = _computed(fact, day.day)
        before = _before(fact, "SEMI") if fact.name in day.before.tables else f"FROM ({computed}) LIMIT 0"
        row = first_row(
            connection,
            f"SELECT EXISTS (({computed}) EXCEPT ALL ({before})) OR EXISTS (({before}) EXCEPT ALL ({computed}))",
        )
        if row is None or row[0]:
            return True
    return False


def _computed(fact: Fact, day: date) -> str:
    """Return the query of a table's rows of a day among those computed anew."""
    rows = f"SELECT * FROM report.facts.{fact.name}"  # noqa: S608 - our own names, and so below
    if not fact.is_by_notification:
        but = " ANTI JOIN stage.frozen_names USING (notification_id)" if fact.names_notifications else ""
        return f"{rows}{but} WHERE day = DATE '{day.isoformat()}'"
    # Tables that are in order of acceptance are read in that day's part only.
    since = f"TIMESTAMPTZ '{day.isoformat()} 00:00:00Z'"
    part = f" WHERE accepted_at >= {since} AND accepted_at < {since} + INTERVAL 1 DAY"
    mine = f"(FROM stage.placed WHERE day = DATE '{day.isoformat()}') AS mine"
    return f"{rows} SEMI JOIN {mine} USING (tenant, notification_id)" + (part if "accepted_at" in fact.columns else "")


def _before(fact: Fact, join: str) -> str:
    """Return the query of the segment's rows that were computed anew (SEMI) or stay (ANTI)."""
    table, key = ("affected", "notification_id") if fact.names_notifications else ("affected_days", "day")
    return f"SELECT * FROM old.facts.{fact.name} {join} JOIN stage.{table} USING ({key})"  # noqa: S608


def _stats(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[str]
) -> tuple[int, int, int, datetime | None, datetime | None]:
    count, ended, active = (first_row(connection, _STATS) if "notifications" in tables else None) or (0, None, None)
    foreign = None
    if "foreign_beacons" in tables:
        foreign = first_row(
            connection, "SELECT sum(deliveries)::BIGINT, sum(hits)::BIGINT FROM made.facts.foreign_beacons"
        )
    deliveries, hits = foreign or (0, 0)
    return count, deliveries, hits, ended, active


def _write_hashes(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    rows = connection.execute(f"SELECT {HASH} AS hash FROM made.facts.notifications ORDER BY hash").fetchall()  # noqa: S608
    path.with_suffix(HASHES).write_bytes(array("Q", [hashed for (hashed,) in rows]).tobytes())
